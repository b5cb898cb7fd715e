"""A report knows that ``data split`` made the split, and what that kept together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detectclf.datasets.splits import SPLIT_FILE, kept_together


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ([{"patients": 3}], "each of 3 known patients"),
        ([{"patients": 3}, {"patients": 4}], "each of 7 known patients"),
        ([{"patients": 0}], "no patient, since none is known"),
        ([{"patients": 3}, None], None),  # one source was split by somebody else
        ([], None),
        (["nonsense"], None),
        ([{"patients": "x"}], None),
        ([[1]], None),
    ],
)
def test_what_a_split_of_ours_keeps_together(contents: list[object], expected: str | None, tmp_path: Path) -> None:
    sources = []
    for number, content in enumerate(contents):
        sources.append(str(tmp_path / str(number)))
        Path(sources[-1]).mkdir()
        if content is not None:
            (Path(sources[-1]) / SPLIT_FILE).write_text(json.dumps(content), encoding="utf-8")
    found = kept_together(sources)
    assert found is None if expected is None else found is not None and expected in found
