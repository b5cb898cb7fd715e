"""What of a URI may be written or printed."""

from __future__ import annotations

import pytest

from detectclf.config import ClassifierRecipe, DataConfig
from detectclf.errors import ConfigError, DataError
from detectclf.storage import read_stored
from detectclf.uris import file_name, is_uri, shown, without_secrets

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
        assert file_name(name) == said.rpartition("/")[2]
        assert "S" not in str(DataError("is not there", file=name)).removeprefix("https://b.s3.amazonaws")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"--data={SIGNED}", "--data=https://b.s3.amazonaws.com/d/train-0.tar?removed"),
        ("data.sources=['https://h/a.tar?sig=S', 'b']", "data.sources=['https://h/a.tar?removed', 'b']"),
        ("https:/h/a.tar?S: no such file", "https:/h/a.tar?removed no such file"),
        ("cannot open s3://me:S@b/a.tar; try again", "cannot open s3://b/a.tar; try again"),
        ("s3://b/a b.tar?sig=S", "s3://b/a b.tar?removed"),
        ("training.rl: unknown setting, did you mean training.lr? see x", None),
        ("s3://b/train-0?.tar: nothing matches", None),
        ("file:///data/a@2x.tar", None),
    ],
)
def test_what_is_left_of_a_text(text: str, kept: str | None) -> None:
    assert without_secrets(text) == (text if kept is None else kept)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("https://h/a.tar?removed", "https://h/a.tar: what stood after the name was not kept"),
        ("simplecache::https://me:S@h/a.tar", "simplecache::https://h/a.tar: a name must not hold credentials"),
    ],
)
def test_names_that_are_not_whole_or_hold_passwords_are_refused(name: str, said: str) -> None:
    pytest.importorskip("fsspec", reason="stores need fsspec (extra cloud)")
    with pytest.raises(ConfigError) as error:
        read_stored(name, 100)
    assert str(error.value).startswith(said) and "; " in str(error.value)
