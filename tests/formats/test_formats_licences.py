"""Licences that exports state; nothing where they state none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detectclf.formats.licences import stated_licences

COCO = "valid/_annotations.coco.json"


@pytest.mark.parametrize(
    ("file", "text", "expected", "why"),
    [
        (COCO, json.dumps({"licenses": [{"id": 1, "name": "CC BY 4.0"}]}), "CC BY 4.0", "COCO"),
        (COCO, json.dumps({"licenses": [{"id": 1}, 7, {"name": None}]}), None, "no name"),
        (COCO, "[1", None, "no JSON"),
        (COCO, '{"licenses": "x"}', None, "no list"),
        ("data.yaml", "roboflow:\n  license: CC BY 4.0\n", "CC BY 4.0", "YOLO"),
        ("README.dataset.txt", "# Title\nLicense: Public Domain\n", "Public Domain", "Roboflow"),
        ("README.md", "License: MIT\n", None, "the README of something else"),
    ],
)
def test_what_is_stated(file: str, text: str, expected: str | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / "export" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert stated_licences([tmp_path / "export"]) == ({} if expected is None else {"export": expected}), why


def test_a_folder_that_is_gone_states_nothing(tmp_path: Path) -> None:
    assert stated_licences([tmp_path / "gone"]) == {}
