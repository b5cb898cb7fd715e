"""The demo starts afresh in a folder of its own, and touches nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectclf.errors import DataError
from detectclf.pipelines.demo import MARKER, _make_room


def test_a_second_run_starts_afresh(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "demo"
    _make_room(out)
    (out / "data").mkdir()
    (out / "data" / "old.jpg").write_bytes(b"old")
    _make_room(out)
    assert [p.name for p in out.iterdir()] == [MARKER]


@pytest.mark.parametrize(
    ("name", "earlier"),
    [
        ("data/scan.jpg", False),  # a project whose export lies in data/: once deleted, it is gone
        ("thesis.txt", True),  # somebody wrote into the demo's folder
    ],
)
def test_what_a_demo_did_not_write_stays(tmp_path: Path, name: str, earlier: bool) -> None:
    if earlier:
        _make_room(tmp_path)
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(DataError, match="choose another --out"):
        _make_room(tmp_path)
    assert mine.read_text() == "mine"


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DataError, match="is a file"):
        _make_room(tmp_path / "out")
