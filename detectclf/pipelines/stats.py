"""``data stats``: counts of slices, classes and boxes."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detectclf.files import atomic_write
from detectclf.formats.files import slice_classes
from detectclf.pipelines.opening import open_folder
from detectclf.types import Dataset


def stats(
    folder: Path,
    plot: Path | None = None,
    *,
    any_tumor: Sequence[str] = (),
    patients: Path | None = None,
    pattern: str | None = None,
) -> dict[str, Any]:
    """Counts of slices, classes, boxes and stated patients per split; ``plot`` draws them.

    ``any_tumor``, ``patients`` and ``pattern`` are as ``data.any_tumor``, ``data.patients`` and
    ``data.patient_pattern``. No slice is decoded, so patients that only the atlas knows are not counted.
    """
    dataset = open_folder(folder, negative_boxes="keep", any_tumor=any_tumor, patients=patients, pattern=pattern)
    counts = {
        "samples": len(dataset.samples),
        "classes": slice_classes(dataset),
        "splits": {name: _counts(dataset.split(name), slice_classes(dataset)) for name in dataset.splits},
    }
    if plot is not None:
        from detectclf.drawing.stats import stats_figure

        buffer = io.BytesIO()
        stats_figure(replace(dataset, classes=tuple(slice_classes(dataset)))).savefig(buffer, format="png", dpi=130)
        plot.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(plot, buffer.getvalue())
        counts["plot"] = str(plot)
    return counts


def _counts(part: Dataset, classes: Sequence[str]) -> dict[str, Any]:
    labels = Counter(s.label for s in part.samples)
    sides = np.array([b[2:] - b[:2] for s in part.samples for b in s.boxes_xyxy], dtype=np.float64).reshape(-1, 2)
    return {
        "samples": len(part.samples),
        "boxed": sum(s.boxed for s in part.samples),
        "boxes": len(sides),
        "median_box": [round(float(v), 1) for v in np.median(sides, axis=0)] if len(sides) else None,
        "classes": {name: labels[name] for name in classes},
        "unlabelled": labels[None],
        "patients": len({s.patient for s in part.samples if s.patient is not None}),
        "without_patient": sum(s.patient is None for s in part.samples),
    }


def stats_text(counts: dict[str, Any]) -> str:
    """The counts as a plain table."""
    names = counts["classes"]
    lines = [f"{'split':10} {'slices':>7} {'boxes':>7}  " + " ".join(f"{n:>12}" for n in names)]
    for split, row in counts["splits"].items():
        classes = " ".join(f"{row['classes'][n]:>12}" for n in names)
        lines.append(f"{split:10} {row['samples']:>7} {row['boxes']:>7}  {classes}")
    for split, row in counts["splits"].items():
        if row["patients"]:
            lines.append(f"{split}: {row['patients']} patients; of unknown patient {row['without_patient']} slices")
    if "plot" in counts:
        lines.append(f"figure: {counts['plot']}")
    return "\n".join(lines)
