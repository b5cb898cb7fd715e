"""Detection figures: COCO mAP (pycocotools is the authority), localisation alone, size thirds, false alarms.

Sources: Lin et al. 2014 and the COCO evaluation code for mAP@[.50:.95] with 101-point interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.evaluation.matching import Boxes, evaluate_coco
from detectclf.types import FloatArray


@dataclass(frozen=True, slots=True)
class MeanAveragePrecision:
    """COCO figures; ``None`` where there is no true box to measure against.

    Attributes:
        mAP: mean over classes and IoU .50:.05:.95.
        mAP50, mAP75: mean over classes at that IoU.
        per_class: class -> ``AP``, ``AP50`` and ``recall`` (at IoU .5, at most 100 boxes per slice).
    """

    mAP: float | None  # noqa: N815 - the name of the figure everywhere in the field
    mAP50: float | None  # noqa: N815
    mAP75: float | None  # noqa: N815
    per_class: dict[str, dict[str, float | None]]


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
    return coco_figures(Boxes(truth_boxes, truth_labels, boxes, labels, scores), classes)


def coco_figures(boxes: Boxes, classes: Sequence[str]) -> MeanAveragePrecision:
    """:func:`mean_average_precision` of :class:`Boxes`."""
    evaluation = evaluate_coco(boxes, classes)
    nothing: dict[str, dict[str, float | None]] = {name: {"AP": None, "AP50": None, "recall": None} for name in classes}
    if evaluation is None:
        return MeanAveragePrecision(None, None, None, nothing)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (IoU, recall point, class), widest area, most boxes
    recall = evaluation.eval["recall"][:, :, 0, -1]
    per_class = {
        name: {
            "AP": mean_known(precision[:, :, k]),
            "AP50": mean_known(precision[0, :, k]),
            "recall": mean_known(recall[0, k]),
        }
        for k, name in enumerate(classes)
    }
    return MeanAveragePrecision(mean_known(precision), mean_known(precision[0]), mean_known(precision[5]), per_class)


def mean_known(values: Any) -> float | None:
    """Mean of the values that pycocotools could compute (it marks the others with -1); ``None`` if none."""
    array: npt.NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    known = array[array > -1]
    return float(known.mean()) if known.size else None
