"""slices.jsonl: truth and provenance of every evaluated slice, beside its prediction in predictions.jsonl.

Together the two files hold enough for ``compare`` to recompute and pair all figures without access to the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detectclf.documents import parse_json
from detectclf.errors import DataError
from detectclf.evaluation.aligned import Aligned, last_part
from detectclf.evaluation.report_types import Report
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR, FloatArray, Sample, order_classes

SLICES_FILE = "slices.jsonl"
PREDICTIONS_FILE = "predictions.jsonl"
_REMEDY = "run `detectclf evaluate` again"


def slice_lines(report: Report) -> str:
    """One JSON object per evaluated slice; ``line`` is the line of its prediction in predictions.jsonl, from 1."""
    data, provenance = report.aligned, report.provenance
    patients: dict[str, int] = {}  # numbers, because nobody needs the names
    numbers: dict[int, int] = {}
    for number, prediction in enumerate(report.predictions, start=1):
        numbers.setdefault(id(prediction), number)
    lines = []
    for row, sample, prediction in zip(data.rows, data.samples, data.predictions, strict=True):
        record = {
            "image": sample.name,
            "line": numbers[id(prediction)],
            "source": Path(sample.source).name,
            "pixels": report.pixels[row] if report.pixels else None,
            "group": int(provenance.groups[row]),
            "patient": None if sample.patient is None else patients.setdefault(sample.patient, len(patients)),
            "seen": None if provenance.is_copy is None else bool(provenance.is_copy[row]),
            "new_patient": None if provenance.is_new is None else bool(provenance.is_new[row]),
            "truth": {
                "class": sample.label,
                "boxed": sample.boxed,
                "boxes": [[float(v) for v in box] for box in sample.boxes_xyxy],
                "box_classes": list(sample.box_labels),
            },
            "negative": data.negative,
            "box_threshold": prediction.box_threshold,
        }
        lines.append(json.dumps(record, ensure_ascii=False))
    return "".join(line + "\n" for line in lines)


class EvaluatedSlices(NamedTuple):
    """The evaluated slices with their predictions.

    Attributes:
        data: the slices.
        groups: independent group of each.
        seen: whether each is a copy of a training slice of the model; ``False`` where that is not known.
    """

    data: Aligned
    groups: tuple[int, ...]
    seen: tuple[bool, ...]


def read_slices(folder: Path) -> EvaluatedSlices:
    """The slices of an evaluation, from its folder.

    Patients are numbers here. Evaluations before 2026-12 have none, and groups of copies only.

    Raises:
        DataError: slices.jsonl or predictions.jsonl is missing or damaged.
    """
    path = folder / SLICES_FILE
    lines = _read_lines(path)
    # Evaluations before 2026-11 repeat the predictions in slices.jsonl.
    predictions = _read_lines(folder / PREDICTIONS_FILE) if lines and '"line":' in lines[0] else None
    rows = [_parse(path, number, line, predictions) for number, line in enumerate(lines, start=1)]
    samples = tuple(row.sample for row in rows)
    negative = rows[0].negative if rows else None
    names = [c for row in rows for c in row.prediction.probabilities] + [
        s.label for s in samples if s.label is not None and s.label != ANY_TUMOR
    ]
    data = Aligned(
        samples,
        tuple(row.prediction for row in rows),
        np.arange(len(rows), dtype=np.intp),
        order_classes(names),
        negative,
    )
    return EvaluatedSlices(data, tuple(row.group for row in rows), tuple(row.seen for row in rows))


def read_digests(folder: Path) -> tuple[str | None, ...]:
    """The digest of the pixels of each slice of an evaluation that :func:`read_slices` reads; ``None`` in old ones."""
    found = (json.loads(line).get("pixels") for line in _read_lines(folder / SLICES_FILE))
    return tuple(digest if isinstance(digest, str) else None for digest in found)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("no slices of an evaluation", file=path, remedy=_REMEDY) from error


class _Row(NamedTuple):
    sample: Sample
    prediction: Prediction
    group: int
    seen: bool
    negative: str | None


def _parse(path: Path, number: int, line: str, predictions: Sequence[str] | None) -> _Row:
    try:
        row = parse_json(line)
        threshold = float(row["box_threshold"])
        if predictions is None:
            prediction = _prediction_of_old_line(row, threshold)
        else:
            prediction = _prediction(parse_json(predictions[row["line"] - 1]), threshold)
            if last_part(prediction.image) != last_part(row["image"]):
                raise ValueError("the two files are of different evaluations")
        return _Row(_sample(row), prediction, int(row["group"]), bool(row.get("seen")), _text_or_none(row["negative"]))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise DataError("not a slice of an evaluation", file=path, line=number, remedy=_REMEDY) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _numbers(values: object) -> FloatArray:
    with np.errstate(over="raise"):  # a number beyond float32 would become infinite
        return np.array(values, dtype=np.float32)


def _boxes(rows: Sequence[Sequence[float]]) -> FloatArray:
    return _numbers(rows).reshape(-1, 4)


def _sample(row: dict[str, Any]) -> Sample:
    truth = row["truth"]
    return Sample(
        path=Path(row["image"]),
        name=_text(row["image"]),
        split="",
        label=_text_or_none(truth["class"]),
        boxes_xyxy=_boxes(truth["boxes"]),
        box_labels=tuple(map(_text, truth["box_classes"])),
        boxed=bool(truth["boxed"]),
        source=_text(row["source"]),
        patient=None if row.get("patient") is None else str(int(row["patient"])),
    )


def _prediction(record: dict[str, Any], box_threshold: float) -> Prediction:
    boxes = record["boxes"]
    return Prediction(
        image=_text(record["image"]),
        label=_text_or_none(record["class"]),
        probabilities=dict(record["probabilities"] or {}),
        boxes_xyxy=_boxes([box["xyxy"] for box in boxes]),
        box_labels=tuple(_text(box["class"]) for box in boxes),
        scores=_numbers([box["score"] for box in boxes]),
        box_threshold=box_threshold,
    )


def _prediction_of_old_line(row: dict[str, Any], box_threshold: float) -> Prediction:
    rows = zip(row["boxes"], row["box_classes"], row["scores"], strict=True)
    # As records are rounded: else equal predictions would differ between an old and a new evaluation.
    boxes = [{"xyxy": [round(v, 2) for v in box], "class": name, "score": score} for box, name, score in rows]
    return _prediction({**row, "boxes": boxes}, box_threshold)
