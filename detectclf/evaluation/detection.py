"""COCO average precision (AP) and its mean over classes (mAP), weighted by slice.

Source: Lin et al. 2014 and the COCO evaluation code for mAP@[.50:.95] with 101-point interpolation. With all weights 1
the figures are those of pycocotools, which the tests use as the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detectclf.evaluation.matching import Boxes, Matches, match_by_class
from detectclf.evaluation.sections import ClassAP
from detectclf.evaluation.weighted import Floats, Values, WeightedFigures, divide, known, mean_of_known, published
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR, FloatArray, FusedOutputs, Sample

RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)
IOU50, IOU75 = 0, 5
"""Rows of the COCO thresholds."""


@dataclass(frozen=True, slots=True)
class MeanAveragePrecision:
    """COCO figures; ``None`` where there is no true box to measure against.

    Attributes:
        mAP: mean over classes and IoU .50:.05:.95.
        mAP50, mAP75: mean over classes at that IoU.
        per_class: of each class; recall at IoU .5, at most 100 boxes per slice.
    """

    mAP: float | None  # noqa: N815 - the name of the figure everywhere in the field
    mAP50: float | None  # noqa: N815
    mAP75: float | None  # noqa: N815
    per_class: dict[str, ClassAP]


def mean_average_precision(
    truth_boxes: Sequence[FloatArray],
    truth_labels: Sequence[Sequence[str]],
    boxes: Sequence[FloatArray],
    labels: Sequence[Sequence[str]],
    scores: Sequence[FloatArray],
    classes: Sequence[str],
) -> MeanAveragePrecision:
    """COCO mAP of predicted boxes against true ones, slice by slice in the same order.

    Args:
        truth_boxes: per slice ``(N, 4)`` xyxy pixels.
        truth_labels: class name of each true box.
        boxes, labels, scores: the same for predictions, with ``(N,)`` scores.
        classes: classes that count; boxes of others are left out on both sides. A class without a true box has no
            figure and does not enter the means.

    Raises:
        ValueError: the lists are of different lengths.
    """
    sides = Boxes(truth_boxes, truth_labels, boxes, labels, scores)
    matches = match_by_class(sides, classes)
    values = published(map_figures(matches, "all", "per_class"), len(sides))
    return MeanAveragePrecision(
        values.get("all.mAP"),
        values.get("all.mAP50"),
        values.get("all.mAP75"),
        ap_per_class(matches, classes, values, "all.per_class"),
    )


def mean_average_precision_of(
    samples: Sequence[Sample], outputs: Sequence[FusedOutputs | Prediction], classes: Sequence[str]
) -> MeanAveragePrecision:
    """:func:`mean_average_precision` of what is predicted for ``samples``, in order.

    Slices whose boxes are not known are left out, and those with a tumour of unknown type: no class of a box is right
    or wrong there.
    """
    kept = [i for i, sample in enumerate(samples) if sample.boxed and ANY_TUMOR not in sample.box_labels]
    truth, found = [samples[i] for i in kept], [outputs[i] for i in kept]
    return mean_average_precision(
        [sample.boxes_xyxy for sample in truth],
        [sample.box_labels for sample in truth],
        [each.boxes_xyxy for each in found],
        [each.box_labels for each in found],
        [each.scores for each in found],
        classes,
    )


def ap_per_class(
    matches: Mapping[str, Matches], classes: Sequence[str], values: Values, table: str
) -> dict[str, ClassAP]:
    """AP and recall of each class; all ``None`` for a class without a true box.

    Args:
        matches: of the classes that have a true box, at the COCO thresholds.
        classes: all classes.
        values: published values of :func:`map_figures`.
        table: its dotted key of the per-class table.
    """
    return {
        name: ClassAP(
            values.get(f"{table}.{name}.AP"),
            values.get(f"{table}.{name}.AP50"),
            known(recalls(matches[name], np.ones((1, len(matches[name].truths))))[0]) if name in matches else None,
        )
        for name in classes
    }


def average_precisions(matches: Matches, weights: Floats) -> Floats:
    """COCO average precision at each IoU threshold in each resample.

    Recall rises only at hits and precision is highest there, so looking at hits alone gives the same 101-point envelope
    from arrays a tenth of the size.

    Returns:
        ``(B, T)``; NaN where the resample has no true box of the class.
    """
    each = weights[:, matches.slices]
    total = np.cumsum(each, axis=1)
    truths = weights @ matches.truths
    result = np.full((len(weights), len(matches.hits)), np.nan)
    for t, hits in enumerate(matches.hits):
        if matches.ignored is not None:
            total = np.cumsum(each * ~matches.ignored[t], axis=1)
        where = np.flatnonzero(hits)
        found = np.cumsum(each[:, where], axis=1)
        precision = found / (total[:, where] + np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = divide(found, np.broadcast_to(truths[:, None], found.shape))
        # Each recall point takes the precision of the first hit that reaches it: so many points fall to each hit.
        reached = np.searchsorted(RECALL_POINTS, np.nan_to_num(recall), side="right")
        points = np.diff(reached, axis=1, prepend=0)
        result[:, t] = np.where(truths > 0, (points * envelope).sum(axis=1) / len(RECALL_POINTS), np.nan)
    return result


def recalls(matches: Matches, weights: Floats) -> Floats:
    """``(B,)`` share of the true boxes that are hit at IoU 0.5, whatever the score of the hit."""
    return divide(weights[:, matches.slices[matches.hits[IOU50]]].sum(axis=1), weights @ matches.truths)


def map_figures(matches: Mapping[str, Matches], prefix: str, table: str) -> WeightedFigures:
    """``prefix.mAP``, ``.mAP50``, ``.mAP75`` and, per class, ``prefix.TABLE.NAME.AP`` and ``.AP50``.

    Args:
        matches: of each class, at the COCO thresholds. A class without a true box in a resample is left out of its
            mean.
        prefix: section of the report.
        table: key of the per-class table in that section.
    """

    def figures(weights: Floats) -> dict[str, Floats]:
        per_class = {name: average_precisions(m, weights) for name, m in matches.items()}
        if not per_class:
            return {}
        means = mean_of_known(np.stack(list(per_class.values())), axis=0)  # (B, T)
        out = {
            f"{prefix}.mAP": means.mean(axis=1),
            f"{prefix}.mAP50": means[:, IOU50],
            f"{prefix}.mAP75": means[:, IOU75],
        }
        for name, values in per_class.items():
            out[f"{prefix}.{table}.{name}.AP"] = values.mean(axis=1)
            out[f"{prefix}.{table}.{name}.AP50"] = values[:, IOU50]
        return out

    return figures


def ap_figures(matches: Matches, name: str) -> WeightedFigures:
    """``NAME.AP``, ``.AP50`` and ``.AP75`` of matches at the COCO thresholds."""

    def figures(weights: Floats) -> dict[str, Floats]:
        values = average_precisions(matches, weights)
        return {f"{name}.AP": values.mean(axis=1), f"{name}.AP50": values[:, IOU50], f"{name}.AP75": values[:, IOU75]}

    return figures


def precision_recall(matches: Matches, threshold: int = IOU50) -> tuple[Floats, Floats]:
    """Recall and precision (its COCO envelope) after each predicted box, at one row of IoU thresholds."""
    hits = matches.hits[threshold]
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return found / max(int(matches.truths.sum()), 1), np.asarray(envelope, dtype=np.float64)
