"""Fusion: what the classifier and the detector say of one slice, joined into one prediction.

The steps, each with few numbers, all fitted on a split that neither stage was trained on (``fusion_fit.py``):

1. **Calibration.** Classifier logits are divided by one temperature (Guo et al., "On Calibration of Modern Neural
   Networks", ICML 2017), which gives log-probabilities ``log p_k``.
2. **Evidence of the detector** for class ``k``: ``e_k = log(s_k / (1 - s_k))`` with ``s_k`` the score of its best box
   of that class; for the negative class ``s`` is 1 minus the best score of any tumour box.
3. **Slice class.** ``z_k = a log p_k + b e_k + c_k``, softmax over ``k``: a logistic layer over both stages.
4. **Boxes.** ``s' = s^(1-g) P(class of the box)^g``, the geometric mean of both opinions; ``g`` is ``box_gamma``.
5. **One claim per place.** Of boxes that reach ``box_threshold`` and mostly cover one another, whatever their class,
   the best stays; the others are scaled under the threshold, so that they still count for mAP but are not drawn.
6. **Operating point.** With ``tumor_threshold`` the slice is called a tumour (the likeliest one) where
   ``1 - P(negative)`` reaches it, else negative; without, the likeliest class is the label.

Boxes and class of one prediction agree: on a slice called negative every tumour box stays under ``box_threshold``;
where the slice is called a tumour and the detector's best box has another tumour class, that box is also given out
with the slice's class, since detectors of few slices find the place more reliably than they name the kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from detectclf.errors import ModelError
from detectclf.models.bundle import FusionParameters
from detectclf.types import FloatArray, Prediction, StageOutputs

Doubles = npt.NDArray[np.float64]

SCORE_FLOOR = 0.01
"""Scores enter the evidence clipped to [0.01, 0.99]: a detector's 0.9999 is not worth ten times its 0.99."""

SAME_PLACE_IOU = 0.5
"""Boxes of one class that overlap more than this are one box."""

SAME_LESION_COVER = 0.5
"""A box of which more than this share lies in a better one (or the other way round) claims the same lesion."""

CLASS_BOX_CONFLICT = "class_box_conflict"
"""The detector alone claims a tumour of another class than the slice's."""
LOW_CONFIDENCE = "low_confidence"
"""The probability of the slice's class is under ``low_confidence``."""
TUMOR_WITHOUT_BOX = "tumor_without_box"
"""The slice is called a tumour, and no box of a tumour reaches ``box_threshold``."""


@dataclass(frozen=True, slots=True)
class FusionClasses:
    """The class names that fusion works on.

    Attributes:
        classes: of the slice, in the order of the classifier's logits and of every probability vector.
        negative: the class that means "no tumour", or ``None``.
        detector_classes: what the detector can call a box; holds ``negative`` with ``negative_boxes: keep``.
    """

    classes: tuple[str, ...]
    negative: str | None
    detector_classes: tuple[str, ...]


def default_fusion(classes: Sequence[str]) -> FusionParameters:
    """Parameters for two runs used without a bundle: not calibrated, the detector as a mild second opinion."""
    return FusionParameters(
        temperature=1.0,
        class_weight=1.0,
        box_weight=0.25,
        bias=(0.0,) * len(classes),
        box_gamma=0.5,
        tumor_threshold=None,
        box_threshold=0.5,
        low_confidence=0.6,
    )


def log_softmax(logits: npt.ArrayLike) -> Doubles:
    """Log-probabilities over the last axis, in double precision."""
    values = np.asarray(logits, dtype=np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def log_probabilities(logits: FloatArray, temperature: float) -> Doubles:
    """Calibrated log-probabilities ``(..., K)`` of the classifier alone.

    Raises:
        ModelError: a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise ModelError("the classifier's output is not finite", remedy="train the classifier again")
    return log_softmax(np.asarray(logits, dtype=np.float64) / temperature)


def detector_evidence(outputs: StageOutputs, names: FusionClasses) -> Doubles:
    """Log-odds ``(K,)`` of each class by the detector alone.

    A class that the detector does not know gets 0, which speaks neither for nor against it. Where the detector has
    boxes of the negative class, the negative's evidence is the mean of "no tumour box" and "a box of the negative".
    """
    best = best_scores(outputs)
    evidence = {c: _log_odds(best.get(c, 0.0)) for c in names.detector_classes if c in names.classes}
    if names.negative is not None:
        top = max((score for name, score in best.items() if name != names.negative), default=0.0)
        absence = _log_odds(1.0 - top)
        own = evidence.get(names.negative)
        evidence[names.negative] = absence if own is None else (absence + own) / 2
    return np.array([evidence.get(name, 0.0) for name in names.classes])


def best_scores(outputs: StageOutputs) -> dict[str, float]:
    """Score of the detector's best box of each class that it has a box of."""
    best: dict[str, float] = {}
    for label, score in zip(outputs.box_labels, outputs.scores, strict=True):
        best[label] = max(best.get(label, 0.0), float(score))
    return best


def _log_odds(score: float) -> float:
    clipped = min(max(score, SCORE_FLOOR), 1 - SCORE_FLOOR)
    return float(np.log(clipped / (1 - clipped)))


def fused_probabilities(outputs: StageOutputs, parameters: FusionParameters, names: FusionClasses) -> Doubles:
    """Probabilities ``(K,)`` of the slice's class by both stages, summing to 1."""
    if len(parameters.bias) != len(names.classes) or outputs.classifier_logits.shape != (len(names.classes),):
        raise ModelError(
            f"fusion is for {len(parameters.bias)} classes, the classifier gives "
            f"{outputs.classifier_logits.shape[-1]}, the bundle names {len(names.classes)}",
            remedy="bundle the two runs again",
        )
    log_p = log_probabilities(outputs.classifier_logits, parameters.temperature)
    evidence = detector_evidence(outputs, names)
    fused = parameters.class_weight * log_p + parameters.box_weight * evidence + np.asarray(parameters.bias)
    return np.asarray(np.exp(log_softmax(fused)))


def choose_label(probabilities: Doubles, parameters: FusionParameters, names: FusionClasses) -> str:
    """The slice's class under the operating point."""
    likeliest = names.classes[int(probabilities.argmax())]
    if parameters.tumor_threshold is None or names.negative not in names.classes or len(names.classes) < 2:
        return likeliest
    negative = names.classes.index(names.negative)
    if 1.0 - probabilities[negative] < parameters.tumor_threshold:
        return names.negative
    tumors = [i for i in range(len(names.classes)) if i != negative]
    return names.classes[max(tumors, key=lambda i: float(probabilities[i]))]


def detector_label(outputs: StageOutputs, parameters: FusionParameters, names: FusionClasses) -> str | None:
    """The class that the detector alone gives the slice.

    That of its best tumour box where it reaches ``box_threshold``, else the negative class. Without a negative
    class it is that of the best box at any score, and ``None`` without a box.
    """
    tumors = {name: score for name, score in best_scores(outputs).items() if name != names.negative}
    best = max(tumors, key=lambda name: tumors[name], default=None)
    if names.negative is not None and (best is None or tumors[best] < parameters.box_threshold):
        return names.negative
    return best


def fuse(
    outputs: StageOutputs, parameters: FusionParameters, names: FusionClasses, *, width: int, height: int
) -> Prediction:
    """One slice's prediction from what the two stages said of it; image name and model are the caller's to add.

    Args:
        outputs: the stages before fusion, boxes inside the image.
        parameters: fitted, or :func:`default_fusion`.
        names: the class names of the bundle.
        width, height: pixels of the original image.

    Raises:
        ModelError: the parameters are for other classes, or a stage gave a figure that is not finite.
    """
    fused = fused_probabilities(outputs, parameters, names)
    probabilities = dict(zip(names.classes, map(float, fused), strict=True))
    label = choose_label(fused, parameters, names)
    boxes, box_labels, scores = fuse_boxes(outputs, label, probabilities, parameters, names.negative)
    alone = np.exp(log_probabilities(outputs.classifier_logits, parameters.temperature))
    claim = detector_label(outputs, parameters, names)
    prediction = Prediction(
        image="",
        label=label,
        probabilities=probabilities,
        boxes_xyxy=boxes,
        box_labels=box_labels,
        scores=scores,
        width=width,
        height=height,
        stages=outputs,
        classifier_probabilities=dict(zip(names.classes, map(float, alone), strict=True)),
        detector_label=claim,
        box_threshold=parameters.box_threshold,
    )
    return replace(prediction, flags=_flags(prediction, claim, parameters, names.negative))


def _flags(
    prediction: Prediction, claim: str | None, parameters: FusionParameters, negative: str | None
) -> tuple[str, ...]:
    flags = []
    if claim not in (None, negative, prediction.label):
        flags.append(CLASS_BOX_CONFLICT)
    if prediction.confidence is not None and prediction.confidence < parameters.low_confidence:
        flags.append(LOW_CONFIDENCE)
    shown = zip(prediction.box_labels, prediction.scores, strict=True)
    boxed = any(name != negative and score >= parameters.box_threshold for name, score in shown)
    if prediction.label != negative and not boxed:
        flags.append(TUMOR_WITHOUT_BOX)
    return tuple(flags)


def fuse_boxes(
    outputs: StageOutputs,
    label: str,
    probabilities: dict[str, float],
    parameters: FusionParameters,
    negative: str | None,
) -> tuple[FloatArray, tuple[str, ...], FloatArray]:
    """Boxes ``(N, 4)``, their classes and fused scores ``(N,)``, best score first.

    Args:
        outputs: the detector's own boxes and scores.
        label: the slice's class.
        probabilities: of the slice's class, by both stages.
        parameters: ``box_gamma`` and ``box_threshold`` are used.
        negative: the class whose boxes are no tumours, or ``None``.
    """
    boxes, labels, own = _with_slice_class(outputs, label, negative)
    gamma = parameters.box_gamma
    opinion = np.array([probabilities.get(name, 0.0) for name in labels])
    fused = own ** (1.0 - gamma) * opinion**gamma
    tumor = np.array([name != negative for name in labels], dtype=bool)
    demoted = tumor if label == negative else _second_claims(boxes, fused, tumor & (fused >= parameters.box_threshold))
    # Scaling keeps the order that mAP reads; a healthy slice shows no tumour box, a lesion one.
    under = np.nextafter(parameters.box_threshold, 0.0, dtype=np.float32)
    fused = np.where(demoted, np.minimum(fused * parameters.box_threshold, under), fused)
    order = np.argsort(-fused, kind="stable")
    return boxes[order], tuple(labels[i] for i in order), fused[order].astype(np.float32)


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
    outputs: StageOutputs, label: str, negative: str | None
) -> tuple[FloatArray, tuple[str, ...], Doubles]:
    """The detector's boxes; where its best tumour box is not of the slice's tumour class, that box also as one."""
    boxes, labels = outputs.boxes_xyxy, outputs.box_labels
    scores = outputs.scores.astype(np.float64)
    tumors = [i for i, name in enumerate(labels) if name != negative]
    best = max(tumors, key=lambda i: scores[i], default=None)
    if best is None or label in (negative, labels[best]):
        return boxes, labels, scores
    overlap = iou(boxes[best], boxes)
    # The copy carries the best score of all, so boxes of its class at the same place are its duplicates.
    kept = [i for i, name in enumerate(labels) if name != label or overlap[i] <= SAME_PLACE_IOU]
    # First, so that it wins a tie with the box that it is a copy of.
    rows = [best, *kept]
    return boxes[rows], (label, *(labels[i] for i in kept)), scores[rows]


def iou(box: FloatArray, boxes: FloatArray) -> Doubles:
    """Intersection over union of one ``(4,)`` box with ``(N, 4)`` boxes."""
    shared, area, areas = _overlaps(box, boxes)
    return np.asarray(shared / np.maximum(area + areas - shared, 1e-12))


def cover(box: FloatArray, boxes: FloatArray) -> Doubles:
    """Intersection over the smaller area, of one ``(4,)`` box with ``(N, 4)`` boxes: 1 where one lies in the other."""
    shared, area, areas = _overlaps(box, boxes)
    return np.asarray(shared / np.maximum(np.minimum(area, areas), 1e-12))


def _overlaps(box: FloatArray, boxes: FloatArray) -> tuple[Doubles, float, Doubles]:
    """Shared areas ``(N,)``, the area of ``box``, those of ``boxes`` ``(N,)``."""
    one, many = box.astype(np.float64), boxes.astype(np.float64)
    sides = np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    return shared, float(np.prod(one[2:] - one[:2])), np.prod(many[:, 2:] - many[:, :2], axis=1)
