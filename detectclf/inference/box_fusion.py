"""Fusing boxes: what the detector, the refiner and the slice's class say of each place, as scored boxes.

The rules are steps 4 and 5 of :mod:`detectclf.inference.fusion`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detectclf.boxes import cover, iou
from detectclf.models.bundle import FusionParameters
from detectclf.types import FloatArray, RefinedProposals, StageOutputs

Doubles = npt.NDArray[np.float64]

SAME_PROPOSAL_IOU = 0.5
"""Boxes that overlap more than this are about one place."""

SAME_BOX_IOU = 0.7
"""A box that overlaps the place that was read no more than this has another extent in mind, and keeps it. Gliomas are
often found in two, with and without the oedema; moving both to one would only lose one of them (docs/log.md)."""

SAME_LESION_COVER = 0.5
"""A box of which more than this share lies in a better one (or the other way round) claims the same lesion."""


LEAST_CLAIM = 0.2
"""A slice called a tumour shows where: its best box of that class is drawn if its score, before the class's probability
enters, is at least this."""


def fuse_boxes(
    outputs: StageOutputs,
    label: str,
    probabilities: dict[str, float],
    parameters: FusionParameters,
    negative: str | None,
    *,
    out_of_distribution: bool = False,
) -> tuple[FloatArray, tuple[str, ...], FloatArray]:
    """Boxes ``(N, 4)``, their classes and fused scores ``(N,)``, best score first.

    Args:
        outputs: the detector's own boxes and scores.
        label: the slice's class.
        probabilities: of the slice's class, by both stages.
        parameters: ``box_gamma`` and ``box_threshold``; with a refiner also ``refined_score_weights`` and
            ``refined_box_weight``.
        negative: the class whose boxes are no tumours, or ``None``.
        out_of_distribution: the picture is no brain MRI, so no tumour is claimed.
    """
    boxes, labels, own = outputs.boxes_xyxy, outputs.box_labels, outputs.scores.astype(np.float64)
    if outputs.refined is not None and len(outputs.refined.quality):
        boxes, own = _read_again(boxes, labels, own, outputs.refined, parameters)
    # After the refiner, so that the slice's class has the best box of all.
    boxes, labels, own = _with_slice_class(boxes, labels, own, label, negative)
    gamma = parameters.box_gamma
    opinion = np.array([probabilities.get(name, 0.0) for name in labels])
    fused = own ** (1.0 - gamma) * opinion**gamma
    tumor = np.array([name != negative for name in labels], dtype=bool)
    if out_of_distribution or label == negative:
        demoted = tumor
    else:
        best = max((i for i, name in enumerate(labels) if name == label), key=lambda i: fused[i], default=None)
        if best is not None and own[best] >= LEAST_CLAIM:
            fused[best] = max(fused[best], np.nextafter(parameters.box_threshold, 1.0, dtype=np.float32))
        demoted = _second_claims(boxes, fused, tumor & (fused >= parameters.box_threshold))
    # Scaling keeps the order that mAP reads; a healthy slice shows no tumour box, a lesion one.
    under = np.nextafter(parameters.box_threshold, 0.0, dtype=np.float32)
    fused = np.where(demoted, np.minimum(fused * parameters.box_threshold, under), fused)
    order = np.argsort(-fused, kind="stable")
    return boxes[order], tuple(labels[i] for i in order), fused[order].astype(np.float32)


def _read_again(
    boxes: FloatArray, labels: Sequence[str], scores: Doubles, refined: RefinedProposals, parameters: FusionParameters
) -> tuple[FloatArray, Doubles]:
    """Tumour boxes and their scores by what the refiner said of the place that each is about.

    The box is the weighted mean of the refined and its own, two readings of the same edges, unless it has another
    extent in mind (``SAME_BOX_IOU``); the score the weighted geometric mean of its own, the quality of the refined box
    and the probability of the box's class at that place. A box at no place that was read is thought of as at the worst
    of them, lest it come before one that was refused.
    """
    weights, mix = np.asarray(parameters.refined_score_weights), np.float32(parameters.refined_box_weight)
    boxes, scores = boxes.copy(), scores.copy()
    for i, name in enumerate(labels):
        if name not in refined.classes:
            continue
        quality, class_probabilities = refined.quality, refined.class_probabilities[:, refined.classes.index(name)]
        overlaps = iou(boxes[i], refined.proposals_xyxy)
        row = int(overlaps.argmax())
        if overlaps[row] > SAME_PROPOSAL_IOU:
            said = [scores[i], quality[row], class_probabilities[row]]
            if overlaps[row] > SAME_BOX_IOU:
                boxes[i] = mix * refined.boxes_xyxy[row] + (1 - mix) * boxes[i]
        else:
            said = [scores[i], quality.min(), class_probabilities.min()]
        scores[i] = np.exp(weights @ np.log(np.maximum(np.array(said, dtype=np.float64), 1e-9)))
    return boxes, scores


def _second_claims(boxes: FloatArray, scores: Doubles, claims: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``(N,)``: which of the ``claims`` are of a lesion that a better one claims already."""
    second = np.zeros(len(boxes), dtype=bool)
    better: list[int] = []
    for i in sorted(np.flatnonzero(claims).tolist(), key=lambda i: -scores[i]):
        if better and cover(boxes[i], boxes[better]).max() > SAME_LESION_COVER:
            second[i] = True
        else:
            better.append(i)
    return second


def _with_slice_class(
    boxes: FloatArray, labels: tuple[str, ...], scores: Doubles, label: str, negative: str | None
) -> tuple[FloatArray, tuple[str, ...], Doubles]:
    """The boxes; where the best tumour box is not of the slice's tumour class, that box also as one."""
    tumors = [i for i, name in enumerate(labels) if name != negative]
    best = max(tumors, key=lambda i: scores[i], default=None)
    if best is None or label in (negative, labels[best]):
        return boxes, labels, scores
    overlap = iou(boxes[best], boxes)
    # The copy carries the best score of all, so boxes of its class at the same place are its duplicates.
    kept = [i for i, name in enumerate(labels) if name != label or overlap[i] <= SAME_PROPOSAL_IOU]
    # First, so that it wins a tie with the box that it is a copy of.
    rows = [best, *kept]
    return boxes[rows], (label, *(labels[i] for i in kept)), scores[rows]
