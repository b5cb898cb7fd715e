"""What the leader board compares: folders written by ``evaluate``, and training runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detectclf.documents import parse_json, read_json
from detectclf.errors import DataError
from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.headlines import figure_at
from detectclf.evaluation.slices import read_digests, read_slices
from detectclf.types import Sample

Key = tuple[str, str, str, int]
"""Source and image, or the digest of the pixels and nothing; truth as text; a number for slices that agree in these.

The truth is part of the key because slices are paired only where both runs were measured against the same truth.
Folders of one name may hold slices of one name, and a set may hold a slice twice, hence the number.
"""


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One line of the leader board, field names as ``compare --json`` has them.

    Attributes:
        run: name on the board.
        kind: ``evaluation``, or ``run`` for a training run.
        explained: whether the speed includes class-activation maps.
        refused: slices that were refused, which are in no figure.
        warnings: what takes the figures back, as the report has it.
        copies: slices that are copies of training slices; ``clean_...`` are the figures without them.
        new_patient_slices: slices of patients that the model has not seen; ``new_patient_...`` are the figures on them.
    """

    run: str
    kind: Literal["evaluation", "run"]
    accuracy: float | None
    mAP: float | None  # noqa: N815 - the name of the figure everywhere in the field
    mAP50: float | None  # noqa: N815
    accuracy_interval: list[float] | None = None
    mAP_interval: list[float] | None = None  # noqa: N815
    joint_accuracy: float | None = None
    images_per_second: float | None = None
    device: str | None = None
    explained: bool = False
    parameters: float | None = None
    slices: int | None = None
    refused: float | None = None
    warnings: tuple[str, ...] = ()
    copies: float | None = None
    clean_accuracy: float | None = None
    clean_mAP: float | None = None  # noqa: N815
    new_patient_slices: float | None = None
    new_patient_accuracy: float | None = None
    new_patient_mAP: float | None = None  # noqa: N815


@dataclass(frozen=True, slots=True)
class Entry:
    """One run to be compared.

    Attributes:
        folder: where it was read from.
        row: its line of the board.
        data: its slices with predictions; ``None`` for a training run, which keeps none.
        groups: independent group of each slice: its patient where known, else its source group.
        seen: whether each slice is a copy of a training slice of the model.
        digests: of the pixels of each slice; ``None`` where it is not known, as in evaluations before 2026-12.
    """

    folder: Path
    row: BoardRow
    data: Aligned | None
    groups: tuple[int, ...]
    seen: tuple[bool, ...] = ()
    digests: tuple[str | None, ...] = ()

    @property
    def knows_content(self) -> bool:
        """Whether the pixels of every slice are known by their digests."""
        return bool(self.digests) and None not in self.digests

    @property
    def name(self) -> str:
        """Its name on the board."""
        return self.row.run

    @property
    def samples(self) -> Sequence[Sample]:
        """Its slices; none where it keeps none."""
        return () if self.data is None else self.data.samples

    def table(self, *, by_content: bool) -> dict[Key, int]:
        """Position of each slice, by its pixels or by its name and folder, and by its true classes."""
        repeats: Counter[tuple[str, str, str]] = Counter()
        rows: dict[Key, int] = {}
        for i, s in enumerate(self.samples):
            named = (self.digests[i] or "", "") if by_content else (s.source, s.name)
            slice_ = (*named, repr((s.label, s.boxed, s.box_labels)))
            rows[(*slice_, repeats[slice_])] = i
            repeats[slice_] += 1
        return rows

    def take(self, keep: Sequence[int]) -> Aligned:
        """Its slices at positions ``keep``, with predictions."""
        if self.data is None:
            raise ValueError(f"{self.name} keeps no slices")
        return self.data.take(keep)


def load_entry(folder: Path) -> Entry:
    """Reads the folder of an evaluation or of a training run.

    Raises:
        DataError: neither, or damaged.
    """
    for evaluation in (folder, folder / "evaluation"):
        if (evaluation / "report.json").is_file():
            return _evaluation(folder, evaluation)
    if (folder / "metrics.jsonl").is_file():
        return _run(folder)
    raise DataError(
        "neither an evaluation nor a run", file=folder, remedy="name folders written by `evaluate` or `train-...`"
    )


def _name(folder: Path) -> str:
    return folder.resolve().name


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except (DataError, ValueError) as error:
        raise DataError("not readable JSON", file=file, remedy="run `detectclf evaluate` again") from error


def _evaluation(folder: Path, evaluation: Path) -> Entry:
    record = _read(evaluation / "report.json")
    if not isinstance(record, dict) or not isinstance(record.get("combined"), dict):
        raise DataError("not a report", file=evaluation / "report.json", remedy="run `detectclf evaluate` again")
    data, groups, seen = read_slices(evaluation)
    intervals, speed = record.get("intervals") or {}, record.get("speed") or {}
    if not (isinstance(intervals, dict) and isinstance(speed, dict)):
        raise DataError("not a report", file=evaluation / "report.json", remedy="run `detectclf evaluate` again")
    row = BoardRow(
        run=_name(folder),
        kind="evaluation",
        accuracy=figure_at(record, "combined.accuracy"),
        mAP=figure_at(record, "combined.mAP"),
        mAP50=figure_at(record, "combined.mAP50"),
        accuracy_interval=_interval(intervals.get("combined.accuracy")),
        mAP_interval=_interval(intervals.get("combined.mAP")),
        joint_accuracy=figure_at(record, "combined.joint_accuracy"),
        images_per_second=figure_at(record, "speed.images_per_second"),
        device=speed.get("device"),
        explained=bool(speed.get("explained")),
        parameters=figure_at(record, "facts.model.parameters"),
        slices=len(data),
        refused=figure_at(record, "data.refused"),
        warnings=tuple(map(str, record.get("warnings") or ())),
        copies=figure_at(record, "leaks.samples"),
        clean_accuracy=figure_at(record, "clean.combined.accuracy"),
        clean_mAP=figure_at(record, "clean.combined.mAP"),
        new_patient_slices=figure_at(record, "new_patients.samples"),
        new_patient_accuracy=figure_at(record, "new_patients.combined.accuracy"),
        new_patient_mAP=figure_at(record, "new_patients.combined.mAP"),
    )
    return Entry(folder, row, data, groups, seen, read_digests(evaluation))


def _interval(value: Any) -> list[float] | None:
    """Its two ends; ``None`` where there are none."""
    whole = isinstance(value, list) and len(value) == 2 and all(isinstance(end, (int, float)) for end in value)
    return value if whole else None


def _or(value: float | None, instead: float) -> float:
    return instead if value is None else value


def _run(folder: Path) -> Entry:
    """A training run, represented by its best epoch."""
    try:
        lines = [parse_json(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        metrics = [{name: figure_at(line["metrics"], name) for name in dict(line["metrics"])} for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("damaged metrics.jsonl", file=folder, remedy="train again") from error
    chosen = "mAP" if any("mAP" in row for row in metrics) else "accuracy"
    best: dict[str, float | None] = max(metrics, key=lambda row: _or(row.get(chosen), -1.0), default={})
    row = BoardRow(_name(folder), "run", best.get("accuracy"), best.get("mAP"), best.get("mAP50"))
    return Entry(folder, row, None, ())
