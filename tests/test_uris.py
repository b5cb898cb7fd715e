"""What of a URI may be written or printed."""

from __future__ import annotations

import pytest

from detectclf.config import ClassifierRecipe, DataConfig
from detectclf.errors import ConfigError, DataError
from detectclf.storage import read_stored
from detectclf.uris import file_name, has_credentials, is_uri, shown, without_secrets

SIGNED = "https://b.s3.amazonaws.com/d/train-0.tar?X-Amz-Credential=K&X-Amz-Signature=S"


@pytest.mark.parametrize(
    ("name", "said", "kept", "reason"),
    [
        (SIGNED, "https://b.s3.amazonaws.com/d/train-0.tar", "?removed", "a presigned URL"),
        ("https://h/a.tar?TOKEN", "https://h/a.tar", "?removed", "all that HTTP has after ? may be a key"),
        ("https://me:S@h/a.tar", "https://h/a.tar", "?removed", "a password"),
        ("simplecache::https://h/a.tar?t=S", "simplecache::https://h/a.tar", "?removed", "a chain of stores"),
        ("simplecache::ftp://me:S@h/a", "simplecache::ftp://h/a", "?removed", "a password in a chain"),
        ("abfs://c/a.tar?sv=1&sig=S", "abfs://c/a.tar", "?removed", "a signature of Azure"),
        ("s3://b/a.tar?versionId=3", "s3://b/a.tar", "?removed", "a query of S3"),
        ("https://h/a.tar?removed", "https://h/a.tar", "?removed", "what was removed stays so"),
        ("s3://b/a.tar?removed", "s3://b/a.tar", "?removed", "of a store too"),
        ("s3://b/train-0?.tar", "s3://b/train-0?.tar", "", "the sign of a pattern"),
        ("s3://b/train-?/split=a/*.tar", "s3://b/train-?/split=a/*.tar", "", "a pattern, and folders as Hive has them"),
        ("s3://AKIAX:wJal/S@b/x", "s3://b/x", "?removed", "keys of AWS hold slashes"),
        ("https://h:8080/a@2x.tar", "https://h:8080/a@2x.tar", "", "a port is no password"),
        ("https://me:p@S@h/a.tar", "https://h/a.tar", "?removed", "a password with an @"),
        ("https://me:p?S@h/a.tar", "https://h/a.tar", "?removed", "a password with a ?"),
        ("https://me:p@h/a.tar?e=x@S", "https://", "?removed", "which @ ends the password is not known"),
        ("https://me:p@h/a b?e=x@S", "https://", "?removed", "nor in a name with a space"),
        ("https://[::1]:80/a@2x.tar", "https://[::1]:80/a@2x.tar", "", "an address of IPv6"),
        ("zip://a.png::https://h/a@2.zip", "zip://a.png::https://h/a@2.zip", "", "the next store of a chain"),
        ("zip://a.png::s3://me:p/S@b/x", "zip://a.png::s3://b/x", "?removed", "a password at its end"),
        ("HTTP://h/a.tar?TOKENS", "HTTP://h/a.tar", "?removed", "a scheme in upper case"),
        ("https://h/a.tar#access_token=S", "https://h/a.tar", "?removed", "a fragment"),
        ("https://h/a.tar;sig=S", "https://h/a.tar", "?removed", "a parameter of the path"),
        ("https://h/d;sig=S/a.tar", "https://h/d/a.tar", "?removed", "one of a folder"),
        ("https://h/a;b.tar", "https://h/a;b.tar", "", "a name with a semicolon"),
        ("s3://b/a;b=c#1.tar", "s3://b/a;b=c#1.tar", "", "names of S3 hold any sign"),
        ("abfs://c@a.dfs.core.windows.net/x", "abfs://c@a.dfs.core.windows.net/x", "", "a container of Azure"),
        ("Abfs://c@a.net/x?sig=S", "Abfs://c@a.net/x", "?removed", "one with a signature"),
        ("abfss://c:S@a.net/x", "abfss://a.net/x", "?removed", "a password of Azure"),
        ("https://TOKENS@h/x", "https://h/x", "?removed", "a token in the place of a user"),
        ("s3://b/a@2x.tar", "s3://b/a@2x.tar", "", "no password behind the first slash"),
        ("a/b?c=d.tar", "a/b?c=d.tar", "", "a file of this machine"),
        ("C:/a/b?c=d.tar", "C:/a/b?c=d.tar", "", "a drive is no scheme"),
    ],
)
def test_what_is_left_of_a_name(name: str, said: str, kept: str, reason: str) -> None:
    assert shown(name) == said, reason
    sources = ClassifierRecipe(data=DataConfig(sources=(name,))).model_dump(mode="json")["data"]["sources"]
    assert sources == [said + kept], reason
    if is_uri(name):
        assert without_secrets(name) == said + kept
        assert file_name(name) == said.rstrip("/").rpartition("/")[2]
        assert "S" not in str(DataError("is not there", file=name)).removeprefix("https://b.s3.amazonaws")


@pytest.mark.parametrize(
    ("text", "kept", "reason"),
    [
        (f"--data={SIGNED}", "--data=https://b.s3.amazonaws.com/d/train-0.tar?removed", "a flag"),
        ("data.sources=['https://h/a.tar?sig=S', 'b']", "data.sources=['https://h/a.tar?removed', 'b']", "a list"),
        ("https:/h/a.tar?S: no such file", "https:/h/a.tar?removed no such file", "a path made one slash of two"),
        ("cannot open s3://me:S@b/a.tar; try again", "cannot open s3://b/a.tar; try again", "a password"),
        ("s3://b/a b.tar?sig=S", "s3://b/a b.tar?removed", "a name with a space"),
        ("no s3://b/a b.tar?sig=S", "no s3://b/a b.tar?removed", "one in a text"),
        ("row 's3://AKIAX:wJal/S@b/x'", "row 's3://b/x'", "a password with a slash"),
        ("row s3:/AKIAX:wJal/S@b/x", "row s3:/b/x", "with one slash of two"),
        ("no https://me:p@S@h/x", "no https://h/x", "a password with an @"),
        ("no https://me:p'S\"@h/x", "no https://h/x", "a password with quotes"),
        ("no https://tok@S@h/x", "no https://h/x", "a token with an @"),
        ("no https://me:p@h/x?e=a@S now", "no https:// now", "which @ ends the password is not known"),
        ("no https://h/x?sig='x'S", "no https://h/x?removed", "quotes inside of a query"),
        ("no s3://b/x?sig='x'S", "no s3://b/x?removed", "in other schemes too"),
        ("""['https://h/x?sig='x',S']""", "['https://h/x?removed']", "what ends no word ends no query"),
        ("no https://h/it's.tar?S", "no https://h/it's.tar?removed", "a quote in a name"),
        ("no HTTPS://h/x?S", "no HTTPS://h/x?removed", "upper case"),
        ("no https://h/x#access_token=S", "no https://h/x?removed", "a fragment"),
        ("no https://h/x;sig=S", "no https://h/x?removed", "a parameter of the path"),
        ("no abfss://c:S@a.net/x", "no abfss://a.net/x", "a password of Azure"),
        ("no abfss://c@a.net/x", None, "a container of Azure"),
        ("training.rl: unknown setting, did you mean training.lr? see x", None, "no URI"),
        ("s3://b/train-0?.tar: nothing matches", None, "a pattern"),
        ("file:///data/a@2x.tar", None, "no user in a path"),
        ("https://h/a.tar: slice #3 is bad; is it whole?", None, "a message, and no name"),
        ("no C:/data/x?y=2", None, "a drive"),
        ("scp ?x=1 http://h", None, "what stands before any URI"),
        ("is it http://h:80/x@2?", None, "a port, and the end of a question"),
        ("see https://h/x; try again", None, "the end of a part of a sentence"),
    ],
)
def test_what_is_left_of_a_text(text: str, kept: str | None, reason: str) -> None:
    kept = text if kept is None else kept
    assert without_secrets(text) == kept, reason
    assert without_secrets(kept) == kept, "a second time nothing changes"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("https://h/a.tar?removed", "https://h/a.tar: what stood after the name was not kept"),
        ("simplecache::https://me:S@h/a.tar", "simplecache::https://h/a.tar: a name must not hold credentials"),
        ("s3://AKIAX:wJal/S@b/x", "s3://b/x: a name must not hold credentials"),
        ("abfs://c:S@a.net/x", "abfs://a.net/x: a name must not hold credentials"),
    ],
)
def test_names_that_are_not_whole_or_hold_passwords_are_refused(name: str, said: str) -> None:
    pytest.importorskip("fsspec", reason="stores need fsspec (extra cloud)")
    with pytest.raises(ConfigError) as error:
        read_stored(name, 100)
    assert str(error.value).startswith(said) and "; " in str(error.value)


@pytest.mark.parametrize("name", ["MEMORY://upper/a.bin", "SimpleCache::Memory://upper/a.bin"])
def test_schemes_in_upper_case_are_opened(name: str) -> None:
    memory = pytest.importorskip("fsspec", reason="stores need fsspec (extra cloud)").filesystem("memory")
    memory.pipe("/upper/a.bin", b"x")
    try:
        assert read_stored(name, 100) == b"x"
    finally:
        memory.store.clear()


def test_a_container_of_azure_is_no_user() -> None:
    assert not has_credentials("abfs://c@a.dfs.core.windows.net/x") and has_credentials("sftp://me@h/x")
