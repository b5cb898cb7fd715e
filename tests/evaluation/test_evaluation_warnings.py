"""What takes the figures back stands above them: in the record, on the terminal, in both pages, on the leader board."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_examples import example

from detectclf.config import EvaluateConfig
from detectclf.evaluation.caveats import warnings_of
from detectclf.evaluation.compare import compare_runs, write_board
from detectclf.evaluation.leakage import Provenance
from detectclf.evaluation.record import Leaks
from detectclf.evaluation.report import build_report, write_report
from detectclf.evaluation.report_types import Report
from detectclf.evaluation.tables import report_table

FAST = EvaluateConfig(bootstrap=20, worst=0)


def provenance(copies: Sequence[int] | None, patients: Sequence[int] | None, count: int = 4) -> Provenance:
    """``count`` slices, each of a patient of its own; ``copies`` of training slices, ``patients`` in training."""

    def at(rows: Sequence[int] | None) -> np.ndarray | None:
        return None if rows is None else np.isin(np.arange(count), rows)

    numbers = np.arange(count)
    return Provenance(numbers, numbers, np.ones(count, dtype=np.bool_), at(copies), at(patients))


@pytest.mark.parametrize(
    ("copies", "patients", "exact", "expected"),
    [
        ([], [], 0, None),
        ([0, 1, 2, 3], None, 0, "TRAINED ON THESE SLICES: each of the 4 slices is a training slice of this model"),
        ([1], [1], 0, "TRAINED ON THESE SLICES: 1 of 4 slices is a training slice"),
        ([1, 2], [0, 1, 2], 0, "TRAINED ON THESE SLICES: 2 of 4 slices are each a training slice"),
        (None, None, 3, "TRAINED ON THESE SLICES: 3 of 4 slices are each"),
        ([1], None, 4, "TRAINED ON THESE SLICES: each of the 4"),
        ([], [0, 2], 0, "TRAINED ON THESE PATIENTS: 2 of 4 slices are each of a patient whom"),
        ([], [0, 1, 2, 3], 0, "TRAINED ON THESE PATIENTS: each of the 4 slices is of a patient whom"),
        (None, None, 0, "PERHAPS TRAINED ON THESE SLICES: the model keeps no record"),
    ],
)
def test_what_is_said_of_slices_that_were_trained_on(
    copies: Sequence[int] | None, patients: Sequence[int] | None, exact: int, expected: str | None
) -> None:
    found = warnings_of(provenance(copies, patients), exact, ())
    assert len(found) == (expected is not None) and all(
        expected is not None and line.startswith(expected) for line in found
    )


def test_one_slice_is_not_all_slices() -> None:
    (line,) = warnings_of(provenance([0], None, count=1), 0, ())
    assert line.startswith("TRAINED ON THESE SLICES: the slice is a training slice")


def seen_report(seen: Collection[int], skill: float = 2.5, seed: int = 0) -> Report:
    """Forty slices of a model that was trained on those at the positions ``seen``."""
    predictions, dataset = example(40, seed, skill=skill)
    report = build_report(predictions, dataset, config=FAST, groups=range(40), held_out=True, exact_copies=len(seen))
    marked = replace(report.provenance, is_copy=np.isin(np.arange(40), list(seen)))
    content = replace(report.content, leaks=Leaks(len(seen), None))
    return replace(report, content=content, provenance=marked)


def test_the_warning_stands_above_all_figures(tmp_path: Path) -> None:
    report = seen_report(range(40))
    (warning,) = report.record["warnings"]
    assert report_table(report).startswith(warning)
    files = write_report(report, tmp_path)
    for name, first_figure in (("report.html", 'class="cards"'), ("report.md", "| slices | number")):
        text = files[name].read_text(encoding="utf-8")
        assert 0 <= text.find("TRAINED ON THESE SLICES") < text.find(first_figure), name


@pytest.mark.parametrize(
    ("seen", "slices", "note"),
    [
        ((), 40, None),
        (range(10), 30, "tests leave out 10 of 40 slices that a run was trained on"),
        (range(40), None, "no winner: each of the 40 slices in every evaluation is one that a run was trained on"),
    ],
)
def test_the_leader_board_names_no_winner_by_slices_that_a_run_was_trained_on(
    seen: Collection[int], slices: int | None, note: str | None, tmp_path: Path
) -> None:
    write_report(seen_report(seen, skill=6.0), tmp_path / "learned")
    write_report(seen_report((), skill=-1.0), tmp_path / "honest")
    board = compare_runs([tmp_path / "learned", tmp_path / "honest"], FAST)
    assert [pair.slices for pair in board.pairs] == ([] if slices is None else [slices])
    assert note is None or any(line.startswith(note) for line in board.notes)
    # Its accuracy is far higher, but where it was learned by heart it does not come first.
    assert board.runs[0].run == ("honest" if seen else "learned")
    assert board.table.startswith("learned: TRAINED ON THESE SLICES") is bool(seen)
    page = write_board(board, tmp_path / "board")["compare.html"].read_text(encoding="utf-8")
    assert (0 <= page.find("TRAINED ON THESE SLICES") < page.find("<table")) is bool(seen)
    if slices is None:
        assert "is better" not in board.table + page
