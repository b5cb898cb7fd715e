"""Figures of predictions on the development set, and the mean by which choices are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from development_predictions import REFUSED, View

from detectclf.boxes import pairwise_iou
from detectclf.evaluation.classification import CALIBRATION_BINS
from detectclf.evaluation.detection import mean_average_precision
from detectclf.evaluation.weighted import Bools
from detectclf.types import (
    ANY_TUMOR,
    CANONICAL_CLASSES,
    LOW_CONFIDENCE,
    NEGATIVE_CLASS,
    NOT_A_BRAIN_MRI,
    Sample,
)

TUMOR_CLASSES = tuple(name for name in CANONICAL_CLASSES if name != NEGATIVE_CLASS)
LEAST_SCORE, LEAST_IOU = 0.3, 0.3
"""A tumour is boxed by a box of any class with at least this score and overlap."""

SURE = 0.9
LOW_TRUST = (LOW_CONFIDENCE, "unusual_input", NOT_A_BRAIN_MRI)
"""Flags that say that a prediction deserves less trust."""

SLICES, BR35H, FLAIR, T1, T1C, STRIPPED = "slices", "br35h", "lgg flair", "lgg t1", "lgg t1c", "stripped"

CHOICE: tuple[tuple[str, str], ...] = (
    (SLICES, "accuracy"),
    (SLICES, "mAP"),
    (BR35H, "boxed"),
    (BR35H, "called"),
    (FLAIR, "boxed"),
    (FLAIR, "called"),
    (T1C, "boxed"),
    (T1C, "called"),
    (SLICES, "specificity"),
    (FLAIR, "specificity"),
    (T1C, "specificity"),
)
"""Set and figure of each part of the mean. All parts count alike."""

OF_BOXES = ("mAP", "AP50", "boxed", "missed")
OF_FLAGS = ("mistakes",)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, and the number of slices (of tumours for ``missed``) that it is of; ``None`` where there is none."""

    value: float | None
    n: int


@dataclass(slots=True)
class Scored:
    """The figures of one view.

    Attributes:
        sets: set -> name -> figure.
        choice: mean of the parts of :data:`CHOICE` that have a value.
        parts: number of these parts.
    """

    sets: dict[str, dict[str, Figure]] = field(default_factory=dict)
    choice: float = float("nan")
    parts: int = 0


def score(
    sets: Mapping[str, tuple[Sequence[Sample], Sequence[View]]], *, boxes: bool = True, flags: bool = True
) -> Scored:
    """All figures of the sets.

    Args:
        sets: name -> slices and what is said of each, in the same order.
        boxes, flags: whether the model finds boxes and raises flags; their figures are left out otherwise.
    """
    scored = Scored({name: figures_of(*pair) for name, pair in sets.items()})
    unknown = (*(() if boxes else OF_BOXES), *(() if flags else OF_FLAGS))
    for figures in scored.sets.values():
        for name in [name for name in figures if name.split()[0] in unknown]:
            del figures[name]
    parts = [scored.sets[name][figure].value for name, figure in CHOICE if figure in scored.sets.get(name, {})]
    known = [value for value in parts if value is not None]
    scored.choice, scored.parts = float(np.mean(known)) if known else float("nan"), len(known)
    return scored


def figures_of(samples: Sequence[Sample], views: Sequence[View]) -> dict[str, Figure]:
    """The figures of one set. Accuracy and AP are of slices whose tumour type is known.

    - ``accuracy``: of tumour slices with the right class; ``accuracy NAME`` by class; ``accuracy with healthy``.
    - ``called``: tumour slices called a tumour of any class; ``specificity``: healthy slices called healthy;
      ``refused``: slices without an answer, which are neither.
    - ``boxed``: tumour slices with a box that reaches :data:`LEAST_SCORE` and :data:`LEAST_IOU`; ``missed``: tumours
      without one, ``missed at any score``: without a box that reaches the IoU.
    - ``mAP``, ``AP50``, ``mAP NAME``, ``AP50 NAME``: COCO, over the tumour classes.
    - ``sure no tumour``: tumour slices with a probability of no tumour above :data:`SURE`.
    - ``ece``: expected calibration error of the class, or of tumour against no tumour where the type is not known.
    - ``mistakes flagged``: mistakes with a flag of :data:`LOW_TRUST`; ``mistakes with any flag``.
    """
    tumor = np.array([s.label != NEGATIVE_CLASS for s in samples])
    typed = np.array([s.label in TUMOR_CLASSES for s in samples])
    refused = np.array([v.label == REFUSED for v in views])
    called = np.array([v.label not in (NEGATIVE_CLASS, REFUSED) for v in views])
    right = np.array([v.label == s.label for s, v in zip(samples, views, strict=True)])
    absent = np.array([v.probabilities.get(NEGATIVE_CLASS, 0.0) for v in views])
    figures = {"called": share(called, tumor), "specificity": share(~called & ~refused, ~tumor)}
    figures["refused"] = share(refused, np.ones(len(views), dtype=np.bool_))
    if typed.any():
        figures |= {"accuracy": share(right, typed), "accuracy with healthy": share(right, typed | ~tumor)}
        for name in TUMOR_CLASSES:
            figures[f"accuracy {name}"] = share(right, np.array([s.label == name for s in samples]))
        figures |= _precisions(samples, views)
    figures |= _found(samples, views, tumor)
    figures["sure no tumour"] = share(absent > SURE, tumor)
    known = right if typed.any() else (called == tumor) & ~refused
    figures["ece"] = Figure(_calibration_error(views, known, typed=bool(typed.any())), len(views))
    for name, flags in (("mistakes flagged", LOW_TRUST), ("mistakes with any flag", None)):
        flagged = np.array([bool(v.flags) if flags is None else not set(v.flags).isdisjoint(flags) for v in views])
        figures[name] = share(flagged, ~known)
    return figures


def share(true: Bools, among: Bools) -> Figure:
    """Share of ``among`` that is ``true``, both ``(N,)`` bool."""
    count = int(among.sum())
    return Figure(float(true[among].mean()) if count else None, count)


def _precisions(samples: Sequence[Sample], views: Sequence[View]) -> dict[str, Figure]:
    kept = [i for i, sample in enumerate(samples) if sample.label != ANY_TUMOR and sample.boxed]
    found = mean_average_precision(
        [samples[i].boxes_xyxy for i in kept],
        [samples[i].box_labels for i in kept],
        [views[i].boxes_xyxy for i in kept],
        [views[i].box_labels for i in kept],
        [views[i].scores for i in kept],
        TUMOR_CLASSES,
    )
    figures = {"mAP": Figure(found.mAP, len(kept)), "AP50": Figure(found.mAP50, len(kept))}
    for name, row in found.per_class.items():
        count = sum(samples[i].label == name for i in kept)
        figures |= {f"mAP {name}": Figure(row.AP, count), f"AP50 {name}": Figure(row.AP50, count)}
    return figures


def _found(samples: Sequence[Sample], views: Sequence[View], tumor: Bools) -> dict[str, Figure]:
    missed: list[Bools] = []
    missed_at_any_score: list[Bools] = []
    boxed = np.zeros(len(samples), dtype=np.bool_)
    for i, (sample, view) in enumerate(zip(samples, views, strict=True)):
        of_tumors = np.array([name != NEGATIVE_CLASS for name in view.box_labels], dtype=np.bool_)
        hits: Bools = (pairwise_iou(sample.boxes_xyxy, view.boxes_xyxy) >= LEAST_IOU) & of_tumors
        shown = np.asarray(hits[:, view.scores >= LEAST_SCORE].any(axis=1))
        missed.append(~shown)
        missed_at_any_score.append(~np.asarray(hits.any(axis=1)))
        boxed[i] = shown.any()
    every = np.ones(sum(map(len, missed)), dtype=np.bool_)
    none = [np.zeros(0, dtype=np.bool_)]
    return {
        "boxed": share(boxed, tumor & np.array([s.boxed for s in samples])),
        "missed": share(np.concatenate(none + missed), every),
        "missed at any score": share(np.concatenate(none + missed_at_any_score), every),
    }


def _calibration_error(views: Sequence[View], right: Bools, *, typed: bool) -> float | None:
    """Expected calibration error of what was called, in equal bins of its probability (Guo et al. 2017)."""
    sure = []
    for view in views:
        absent = view.probabilities.get(NEGATIVE_CLASS, 0.0)
        binary = absent if view.label == NEGATIVE_CLASS else 1 - absent
        # What is refused says nothing, so it is sure of nothing.
        sure.append(0.0 if view.label == REFUSED else view.probabilities[view.label] if typed else binary)
    confidence = np.array(sure)
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(views)) if views else None


def table(scored: Scored, title: str) -> str:
    """The figures as text: parts of the mean first, then every figure of each set."""
    lines = [f"{title}: figure of choice {_cell(scored.choice)} (mean of {scored.parts} of {len(CHOICE)} parts)"]
    for name, figure in CHOICE:
        if figure in scored.sets.get(name, {}):
            found = scored.sets[name][figure]
            lines.append(f"  {name + ' ' + figure:32}{_cell(found.value):>8}{found.n:>7}")
    names = list(dict.fromkeys(name for figures in scored.sets.values() for name in figures))
    lines += ["", f"  {'(n)':24}" + "".join(f"{name:>15}" for name in scored.sets)]
    for name in names:
        cells = [figures.get(name, Figure(None, 0)) for figures in scored.sets.values()]
        shown = [f"{_cell(f.value)} ({f.n})" if f.value is not None else "-" for f in cells]
        lines.append(f"  {name:24}" + "".join(f"{cell:>15}" for cell in shown))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
