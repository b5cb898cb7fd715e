"""Pseudonyms: the same for the same id and key, different otherwise, never the id, and stable when read again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectclf import pseudonyms
from detectclf.errors import ConfigError
from detectclf.pseudonyms import KEY_VARIABLE, is_hashed, is_pseudonym, key_check, key_file, pseudonym


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user without a key."""
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield tmp_path
    pseudonyms._key_in.cache_clear()


@given(st.text(max_size=40))
def test_a_pseudonym_is_opaque_and_gives_itself(identity: str) -> None:
    name = pseudonym(identity)
    if name is not None:
        assert is_pseudonym(name) and pseudonym(name) == name == pseudonym(f" {identity}\n")
        assert len(identity.strip()) < 4 or identity not in name or is_pseudonym(identity)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("P7", " P7 ", True),  # blanks round an id
        ("P7", "P7\0", True),  # DICOM pads with NUL
        ("Mu\u0308ller", "M\u00fcller", True),  # one letter, two spellings in Unicode
        ("P7", "p7", False),  # case may tell ids apart
        ("07", "7", False),  # an id is no number
        ("figshare-12", "figshare-012", False),  # only the public form is public
    ],
)
def test_what_is_the_same_id(one: str, other: str, same: bool) -> None:
    assert (pseudonym(one) == pseudonym(other)) is same


@pytest.mark.parametrize("text", ["", "  ", "\0", "unknown", "ANONYMOUS", "n/a", "None", "-", "De-Identified"])
def test_where_there_is_no_id_there_is_no_patient(text: str) -> None:
    assert pseudonym(text) is None


@pytest.mark.parametrize("name", ["figshare-229", "anon-0123456789abcdef0123"])
def test_opaque_names_pass(name: str) -> None:
    assert pseudonym(name) == name


def test_another_key_gives_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pseudonym("P7")
    monkeypatch.setenv(KEY_VARIABLE, "another key of sixteen and more")
    assert pseudonym("P7") != first
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(ConfigError, match=f"{KEY_VARIABLE} is shorter than 16"):
        pseudonym("P7")
    assert pseudonym("figshare-3") == "figshare-3", "no key is needed for what is public"


def test_the_key_is_made_once_for_the_user_alone(home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: pseudonym("P7"), range(32)))
    file = key_file()
    assert len(names) == 1 and file.is_relative_to(home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and [p.name for p in file.parent.iterdir()] == [file.name]
    pseudonyms._key_in.cache_clear()
    assert {pseudonym("P7")} == names, "the next command reads the same key"


def test_a_key_that_cannot_be_used_is_an_error_with_its_remedy(home: Path) -> None:
    file = key_file()
    file.parent.mkdir(parents=True)
    file.write_text("")
    with pytest.raises(ConfigError, match="not a key of patients' ids; remove it"):
        pseudonym("P7")
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=f"cannot be read or made .*{KEY_VARIABLE}"):
        pseudonym("P7")


@pytest.mark.skipif(not hasattr(os, "link"), reason="no links here")
def test_a_disk_without_links_has_a_key_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links")

    monkeypatch.setattr(os, "link", refuse)
    assert pseudonym("P7") == pseudonym("P7") and key_file().is_file()


def test_a_check_value_tells_keys_apart_and_tells_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    values = []
    for key in ("one key, long enough", "another key, long enough", "one key, long enough"):
        monkeypatch.setenv(KEY_VARIABLE, key)
        values.append((key_check(), pseudonym("P7")))
        assert key not in key_check()
    assert values[0] == values[2] and values[0][0] != values[1][0]
    name = values[0][1]
    assert name is not None and is_hashed(name) and not is_hashed("figshare-229")
