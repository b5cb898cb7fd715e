"""Figures of each source: a model that is right on one data set may fail on the next, and the mean hides it.

Slices whose tumour type is not known have no class figures, but they are called a tumour or not, boxed or not, and what
the model says of "a tumour" can be calibrated or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from detectclf.boxes import pairwise_iou
from detectclf.evaluation.aligned import Aligned, boxes_of
from detectclf.evaluation.classification import CALIBRATION_BINS
from detectclf.evaluation.detection import ap_figures, map_figures
from detectclf.evaluation.intervals import confidence_intervals
from detectclf.evaluation.leakage import Provenance
from detectclf.evaluation.matching import match_any_class, match_by_class
from detectclf.evaluation.sections import SourceRow
from detectclf.evaluation.trust import called_tumor, is_confident_miss, is_flagged, is_healthy, is_mistake, is_tumor
from detectclf.evaluation.weighted import (
    Bools,
    Floats,
    Indices,
    WeightedFigures,
    divide,
    joined,
    on_slices,
    published,
    ratio,
)
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR, Sample

BOXED_IOU = 0.3
BOXED_SCORE = 0.3
"""A tumour is boxed where a box of this score or more has this IoU or more with a true one, whatever its class. The two
are low because boxes of other sources are drawn by other rules, such as with the oedema."""


def source_rows(data: Aligned, here: Provenance, *, count: int, seed: int) -> tuple[SourceRow, ...]:
    """The figures of each source, with intervals.

    Args:
        data: the slices.
        here: their provenance.
        count: resamples of the bootstrap.
        seed: its seed.
    """
    of_source: dict[str, list[int]] = {}
    for i, sample in enumerate(data.samples):
        of_source.setdefault(sample.source, []).append(i)
    names = source_names(list(of_source))
    return tuple(
        _row(name, data.take(rows), here.take(np.array(rows, dtype=np.intp)), count, seed)
        for name, rows in zip(names, of_source.values(), strict=True)
    )


def source_names(sources: Sequence[str]) -> list[str]:
    """The last part of each folder, which names no person or machine; numbered where two are equal."""
    names = [PurePath(source).name or "unnamed" for source in sources]
    return [f"{name} ({names[:k].count(name) + 1})" if names.count(name) > 1 else name for k, name in enumerate(names)]


def _row(name: str, data: Aligned, here: Provenance, count: int, seed: int) -> SourceRow:
    figures, slices = _figures(data), _proportions(data)
    values = published(figures, len(data))
    intervals, _ = confidence_intervals(figures, values, slices, here.groups, count=count, seed=seed)
    return SourceRow(
        source=name,
        samples=len(data),
        patients=len({s.patient for s in data.samples} - {None}),
        groups=len(np.unique(here.groups)),
        tumor_slices=int(is_tumor(data).sum()),
        healthy_slices=int(is_healthy(data).sum()),
        accuracy=values["accuracy"],
        sensitivity=values.get("sensitivity"),
        specificity=values.get("specificity"),
        mAP=values.get("boxes.mAP"),
        mAP50=values.get("boxes.mAP50"),
        AP50_any_tumor=values.get("any_tumor.AP50"),
        boxed=values["boxed"],
        ece=values["ece"],
        tumor_ece=values.get("tumor_ece"),
        confident_misses=values.get("confident_misses"),
        mistakes=int(is_mistake(data).sum()),
        mistakes_flagged=values["mistakes_flagged"],
        intervals={k.rpartition(".")[2]: v for k, v in intervals.items() if k in _REPORTED},
    )


_REPORTED = frozenset({"accuracy", "sensitivity", "specificity", "boxes.mAP", "boxes.mAP50", "boxed"})


def _proportions(data: Aligned) -> dict[str, Bools]:
    return {
        "accuracy": _typed(data),
        "sensitivity": is_tumor(data),
        "specificity": is_healthy(data),
        "boxed": _has_true_box(data),
        "confident_misses": is_tumor(data),
        "mistakes_flagged": is_mistake(data),
    }


def _figures(data: Aligned) -> WeightedFigures:
    typed, tumors, healthy, wrong = _typed(data), is_tumor(data), is_healthy(data), is_mistake(data)
    called, drawn = called_tumor(data), _has_true_box(data)
    functions = [
        ratio(typed & ~wrong, typed, "accuracy"),
        ratio(drawn & _is_boxed(data), drawn, "boxed"),
        ratio(wrong & is_flagged(data), wrong, "mistakes_flagged"),
        _calibration(data, np.flatnonzero(typed), "ece", binary=False),
    ]
    if data.negative is not None:
        functions += [
            ratio(tumors & called, tumors, "sensitivity"),
            ratio(healthy & ~called, healthy, "specificity"),
            ratio(is_confident_miss(data), tumors, "confident_misses"),
            _calibration(data, np.flatnonzero(tumors | healthy), "tumor_ece", binary=True),
        ]
    return joined([*functions, *_box_figures(data)])


def _typed(data: Aligned) -> Bools:
    """Whether the class of each slice is known."""
    return np.array([s.label not in (None, ANY_TUMOR) for s in data.samples], dtype=np.bool_)


def _box_figures(data: Aligned) -> list[WeightedFigures]:
    """mAP over the slices whose boxes are of known types, and AP50 of all tumours as one class."""
    boxes = boxes_of(data.take(data.boxed.tolist()), fused=True)
    by_class = match_by_class(boxes.of_known_type(), data.tumor_classes)
    every = match_any_class(boxes, (*data.tumor_classes, ANY_TUMOR))
    functions = [map_figures(by_class, "boxes", "per_class")] if by_class else []
    functions += [ap_figures(every, "any_tumor")] if every.truths.any() else []
    return [on_slices(figures, data.boxed) for figures in functions]


def _has_true_box(data: Aligned) -> Bools:
    return np.array(
        [s.boxed and any(name != data.negative for name in s.box_labels) for s in data.samples], dtype=np.bool_
    )


def _is_boxed(data: Aligned) -> Bools:
    pairs = zip(data.samples, data.predictions, strict=True)
    return np.array([_overlaps(sample, said, data.negative) for sample, said in pairs], dtype=np.bool_)


def _overlaps(sample: Sample, prediction: Prediction, negative: str | None) -> bool:
    true = [k for k, name in enumerate(sample.box_labels) if name != negative]
    found = [
        k
        for k, (name, score) in enumerate(zip(prediction.box_labels, prediction.scores, strict=True))
        if name != negative and score >= BOXED_SCORE
    ]
    return bool((pairwise_iou(prediction.boxes_xyxy[found], sample.boxes_xyxy[true]) >= BOXED_IOU).any())


def _calibration(data: Aligned, slices: Indices, key: str, *, binary: bool) -> WeightedFigures:
    """Expected calibration error of the likeliest class, or (``binary``) of "a tumour" against "no tumour"."""
    confidence, right = np.zeros(len(slices)), np.zeros(len(slices), dtype=np.bool_)
    for row, i in enumerate(slices):
        said, label = data.predictions[i].probabilities, data.samples[i].label
        if binary:
            healthy = said.get(str(data.negative), 0.0)
            confidence[row], right[row] = max(healthy, 1 - healthy), (healthy > 0.5) == (label == data.negative)
        else:
            best = max(said, key=lambda name: said[name], default="")
            confidence[row], right[row] = said.get(best, 0.0), best == label
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    gap = np.zeros((len(slices), CALIBRATION_BINS))
    gap[np.arange(len(slices)), bins] = right - confidence

    def figure(weights: Floats) -> dict[str, Floats]:
        w = weights[:, slices]
        return {key: divide(np.abs(w @ gap).sum(axis=1), w.sum(axis=1))}

    return figure
