"""Fusion of boxes: steps 4 and 5 of :mod:`detectclf.inference.fusion`.

Each box of the detector is combined with the class of the slice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectclf.boxes import cover, iou
from detectclf.models.bundle import FusionParameters
from detectclf.types import Doubles, FloatArray, StageOutputs

SAME_TUMOR_IOU = 0.5
"""Two boxes with a larger IoU than this are about the same tumour."""

SAME_LESION_COVER = 0.5
"""Where more than this share of a box lies inside another, both mark one lesion, and only the better one is drawn."""

LEAST_RAISED_SCORE = 0.2
"""On a tumour slice the best box of its class is drawn if its score, before the class's probability enters, is at least
this."""


def fuse_boxes(
    outputs: StageOutputs,
    label: str,
    probabilities: dict[str, float],
    parameters: FusionParameters,
    negative: str | None,
) -> tuple[FloatArray, tuple[str, ...], FloatArray]:
    """Boxes ``(N, 4)``, their classes and fused scores ``(N,)``, best score first.

    Args:
        outputs: of the stages.
        label: the slice's class.
        probabilities: class -> probability that the slice has it, by all stages.
        parameters: ``box_gamma`` and ``box_threshold``.
        negative: the class whose boxes are not tumours, or ``None``.
    """
    scores = outputs.scores.astype(np.float64)
    boxes, labels, own = _with_slice_class(outputs.boxes_xyxy, outputs.box_labels, scores, label, negative)
    gamma = parameters.box_gamma
    of_slice = np.array([probabilities.get(name, 0.0) for name in labels])
    fused = own ** (1.0 - gamma) * of_slice**gamma
    tumor = np.array([name != negative for name in labels], dtype=bool)
    if label == negative:
        demoted = tumor
    else:
        best = max((i for i, name in enumerate(labels) if name == label), key=lambda i: fused[i], default=None)
        if best is not None and own[best] >= LEAST_RAISED_SCORE:
            fused[best] = max(fused[best], np.nextafter(parameters.box_threshold, 1.0, dtype=np.float32))
        demoted = _duplicates(boxes, fused, tumor & (fused >= parameters.box_threshold))
    # Scaling keeps the order of the demoted boxes, on which mAP depends.
    under = np.nextafter(parameters.box_threshold, 0.0, dtype=np.float32)
    fused = np.where(demoted, np.minimum(fused * parameters.box_threshold, under), fused)
    order = np.argsort(-fused, kind="stable")
    return boxes[order], tuple(labels[i] for i in order), fused[order].astype(np.float32)


def _duplicates(boxes: FloatArray, scores: Doubles, candidates: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``(N,)``: which of the ``candidates`` mark a lesion that a better candidate marks already."""
    duplicate = np.zeros(len(boxes), dtype=bool)
    better: list[int] = []
    for i in sorted(np.flatnonzero(candidates).tolist(), key=lambda i: -scores[i]):
        if better and cover(boxes[i], boxes[better]).max() > SAME_LESION_COVER:
            duplicate[i] = True
        else:
            better.append(i)
    return duplicate


def _with_slice_class(
    boxes: FloatArray, labels: tuple[str, ...], scores: Doubles, label: str, negative: str | None
) -> tuple[FloatArray, tuple[str, ...], Doubles]:
    """The boxes and, where the best tumour box has another class than the slice, a copy of it with that class."""
    tumors = [i for i, name in enumerate(labels) if name != negative]
    best = max(tumors, key=lambda i: scores[i], default=None)
    if best is None or label in (negative, labels[best]):
        return boxes, labels, scores
    overlap = iou(boxes[best], boxes)
    # The copy has the best score of all, so boxes of its class about the same tumour are its duplicates.
    kept = [i for i, name in enumerate(labels) if name != label or overlap[i] <= SAME_TUMOR_IOU]
    # First, so that it wins a tie with the box that it copies.
    rows = [best, *kept]
    return boxes[rows], (label, *(labels[i] for i in kept)), scores[rows]
