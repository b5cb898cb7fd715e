"""slices.jsonl: truth and prediction of every evaluated slice, enough to make and pair all figures again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectclf.errors import DataError
from detectclf.evaluation.aligned import Aligned
from detectclf.prediction import Prediction
from detectclf.types import FloatArray, Sample, order_classes

if TYPE_CHECKING:
    from detectclf.evaluation.report import Report


def slice_lines(report: Report) -> str:
    """One JSON object per evaluated slice; pictures are not in it."""
    data, origins = report.aligned, report.origins
    lines = []
    for row, sample, prediction in zip(data.rows, data.samples, data.predictions, strict=True):
        lines.append(
            json.dumps(
                {
                    "image": sample.name,
                    "source": Path(sample.source).name,
                    "group": int(origins.groups[row]),
                    "seen": None if origins.seen is None else bool(origins.seen[row]),
                    "truth": {
                        "class": sample.label,
                        "boxed": sample.boxed,
                        "boxes": [[float(v) for v in box] for box in sample.boxes_xyxy],
                        "box_classes": list(sample.box_labels),
                    },
                    "class": prediction.label,
                    "probabilities": prediction.probabilities,
                    "boxes": [[float(v) for v in box] for box in prediction.boxes_xyxy],
                    "box_classes": list(prediction.box_labels),
                    "scores": [float(score) for score in prediction.scores],
                    "box_threshold": prediction.box_threshold,
                    "negative": data.negative,
                },
                ensure_ascii=False,
            )
        )
    return "".join(line + "\n" for line in lines)


def read_slices(path: Path) -> tuple[Aligned, tuple[int, ...]]:
    """What :func:`slice_lines` wrote, and the source group of each slice, in the same order.

    Raises:
        DataError: not such a file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("no slices of an evaluation", file=path, remedy="run `detectclf evaluate` again") from error
    rows = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]
    samples = tuple(row.sample for row in rows)
    predictions = tuple(row.prediction for row in rows)
    negative = rows[0].negative if rows else None
    names = [c for p in predictions for c in p.probabilities] + [s.label for s in samples if s.label is not None]
    data = Aligned(samples, predictions, np.arange(len(rows), dtype=np.intp), order_classes(names), negative)
    return data, tuple(row.group for row in rows)


class _Row(NamedTuple):
    sample: Sample
    prediction: Prediction
    group: int
    negative: str | None


def _parse(path: Path, number: int, line: str) -> _Row:
    try:
        row = json.loads(line)
        return _Row(_sample(row), _prediction(row), int(row["group"]), row["negative"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "not a slice of an evaluation", file=path, line=number, remedy="run `detectclf evaluate` again"
        ) from error


def _boxes(rows: Sequence[Sequence[float]]) -> FloatArray:
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def _sample(row: dict[str, Any]) -> Sample:
    truth = row["truth"]
    return Sample(
        path=Path(row["image"]),
        name=row["image"],
        split="",
        label=truth["class"],
        boxes_xyxy=_boxes(truth["boxes"]),
        box_labels=tuple(truth["box_classes"]),
        boxed=truth["boxed"],
        source=row["source"],
    )


def _prediction(row: dict[str, Any]) -> Prediction:
    return Prediction(
        image=row["image"],
        label=row["class"],
        probabilities=dict(row["probabilities"]),
        boxes_xyxy=_boxes(row["boxes"]),
        box_labels=tuple(row["box_classes"]),
        scores=np.array(row["scores"], dtype=np.float32),
        box_threshold=float(row["box_threshold"]),
    )
