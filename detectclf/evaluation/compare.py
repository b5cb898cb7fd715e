"""Leader board of runs: accuracy and mAP against speed and size, with paired tests of the evaluations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectclf.config import EvaluateConfig
from detectclf.errors import DataError
from detectclf.evaluation.entries import BoardRow, Entry, load_entry
from detectclf.evaluation.headlines import show
from detectclf.evaluation.pairs import Pair, compare_pairs
from detectclf.evaluation.record import RESEARCH_USE, plain
from detectclf.evaluation.rendering import environment
from detectclf.evaluation.tables import text_table
from detectclf.files import atomic_write


@dataclass(frozen=True, slots=True)
class Board:
    """The leader board: its runs, the best first, every pair of evaluations, and notes, a line each."""

    runs: tuple[BoardRow, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """What ``compare --json`` prints."""
        record: dict[str, Any] = plain(self)
        return record

    def to_json(self) -> str:
        """Valid JSON without NaN."""
        return json.dumps(self.record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    @property
    def table(self) -> str:
        """Runs and verdicts as plain text."""
        rows = [
            [
                run.run,
                show(run.accuracy, percent=True),
                show(run.mAP),
                show(run.mAP50),
                show(run.joint_accuracy, percent=True),
                "–" if run.images_per_second is None else f"{run.images_per_second:.1f}",
                "–" if run.parameters is None else f"{run.parameters / 1e6:.1f} M",
                str(run.slices or "–"),
            ]
            for run in self.runs
        ]
        names = ("run", "accuracy", "mAP", "mAP50", "joint", "slices/s", "parameters", "slices")
        pairs = "".join(
            f"{pair.first} against {pair.second}: accuracy {pair.accuracy.verdict}, mAP {pair.mAP.verdict}\n"
            for pair in self.pairs
        )
        notes = "".join(f"note: {note}\n" for note in self.notes)
        warnings = "".join(f"{run.run}: {warning}\n" for run in self.runs for warning in run.warnings)
        return warnings + text_table("leader board", names, rows) + pairs + notes


def compare_runs(runs: Sequence[Path], config: EvaluateConfig | None = None) -> Board:
    """Reads evaluations (folders of ``evaluate``) and training runs, and compares the evaluations pairwise.

    Args:
        runs: folders; an evaluation may lie in a run's ``evaluation`` folder.
        config: resamples and seed.

    Raises:
        DataError: a folder is neither, or is damaged.
    """
    entries = _named([load_entry(Path(run)) for run in runs])
    pairs, pair_notes = compare_pairs(entries, config or EvaluateConfig())
    notes = (
        *(
            f"{e.name}: a training run; its figures are of its own valid split, not paired"
            for e in entries
            if not e.data
        ),
        *(f"{e.name}: its speed includes class-activation maps" for e in entries if e.row.explained),
        *(
            f"{e.name}: {e.row.refused:.0f} slices were refused; they are in none of its figures and in no test"
            for e in entries
            if e.row.refused
        ),
        *(_copies_note(e.row) for e in entries if e.row.copies),
        *(_patients_note(e.row) for e in entries if e.row.kind == "evaluation"),
        *pair_notes,
    )
    return Board(tuple(sorted((entry.row for entry in entries), key=_merit)), pairs, notes)


def _copies_note(row: BoardRow) -> str:
    clean = f"accuracy {show(row.clean_accuracy, percent=True)}, mAP {show(row.clean_mAP)} without them"
    if row.clean_accuracy is None and row.clean_mAP is None:
        clean = "there are no figures without them"
    return f"{row.run}: {row.copies:.0f} of its slices are copies of its training slices; {clean}"


def _patients_note(row: BoardRow) -> str:
    if row.new_patient_slices is None:
        return f"{row.run}: which of its slices are of new patients is not known"
    if not row.new_patient_slices:
        return f"{row.run}: none of its slices is of a known new patient"
    figures = f"accuracy {show(row.new_patient_accuracy, percent=True)}, mAP {show(row.new_patient_mAP)}"
    return f"{row.run}: {figures} on {row.new_patient_slices:.0f} slices of new patients"


def _merit(row: BoardRow) -> tuple[bool, float, str]:
    """Runs whose figures are of slices that they were trained on come after all others."""
    return (bool(row.copies), -((row.accuracy or 0.0) + (row.mAP or 0.0)), row.run)


def _named(entries: Sequence[Entry]) -> list[Entry]:
    """Adds the name of the parent folder where runs share a name, and a number where that is not enough."""
    names = [entry.name for entry in entries]
    folders = [entry.folder.resolve() for entry in entries]
    longer = [f"{f.parent.name}/{f.name}" if names.count(n) > 1 else n for n, f in zip(names, folders, strict=True)]
    unique = [f"{name} ({k})" if longer.count(name) > 1 else name for k, name in enumerate(longer, start=1)]
    return [replace(e, row=replace(e.row, run=name)) for e, name in zip(entries, unique, strict=True)]


def write_board(board: Board, out: str | Path) -> dict[str, Path]:
    """Writes compare.json and the page compare.html into ``out``; name -> file.

    Raises:
        DataError: ``out`` cannot be written to.
    """
    from detectclf.drawing.plots import LeaderPoint, as_svg, leader_figure

    folder = Path(out)
    plots = {}
    for title, label, costs in (
        ("Against speed", "Slices per second", [run.images_per_second for run in board.runs]),
        ("Against size", "Parameters, millions", [run.parameters and run.parameters / 1e6 for run in board.runs]),
    ):
        points = [
            LeaderPoint(run.run, cost, run.accuracy, run.mAP)
            for run, cost in zip(board.runs, costs, strict=True)
            if cost is not None
        ]
        if points:
            plots[title] = as_svg(leader_figure(points, label))
    page = environment().get_template("compare.html.j2").render(record=board.record, plots=plots, use=RESEARCH_USE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "not writable"
        raise DataError(f"cannot write the page ({reason})", file=folder, remedy="choose another --out") from error
    for name, content in (("compare.json", board.to_json()), ("compare.html", page)):
        atomic_write(folder / name, content)
    return {name: folder / name for name in ("compare.json", "compare.html")}
