"""Fusion: what the classifier and the detector say of one slice, joined into one prediction.

The steps, each with few numbers, all fitted on a split that neither stage was trained on (``fusion_fit.py``):

1. **Calibration.** Classifier logits are divided by one temperature (Guo et al., "On Calibration of Modern Neural
   Networks", ICML 2017), which gives log-probabilities ``log p_k``. With ``mirror`` the logits are means over the slice
   and its mirror image. So are the detector's boxes, which are looked at once more (``mirror.py``).
2. **Evidence of the detector** for class ``k``: ``e_k = log(s_k / (1 - s_k))`` with ``s_k`` the score of its best box
   of that class; for the negative class ``s`` is 1 minus the best score of any tumour box.
3. **Slice class.** ``z_k = a log p_k + b e_k + d r_k + c_k``, softmax over ``k``: a logistic layer over the stages.
   ``r_k`` is as ``e_k``, of the probability that the refiner gives class ``k`` at the likeliest of its places; 0 in a
   bundle without a refiner.
4. **Boxes.** ``s' = s^(1-g) P(class of the box)^g``, the geometric mean of both opinions; ``g`` is ``box_gamma``.
   With a refiner the boxes at the places that it read are means of its own and the detector's (``refined_box_weight``;
   a box of another extent than the one that was read stays), and their ``s`` the weighted geometric mean of the
   detector's score, the refiner's quality and the probability that it gives the class (``refined_score_weights``).
5. **One claim per place.** A slice called a tumour shows where: its best box of that class is lifted to
   ``box_threshold``, unless it is a mere guess. Of boxes that reach the threshold and mostly cover one another,
   whatever their class, the best stays; the others are scaled under it, so that they still count for mAP but are not
   drawn.
6. **Operating point.** With ``tumor_threshold`` the slice is called a tumour (the likeliest one) where
   ``1 - P(negative)`` reaches it, else negative; without, the likeliest class is the label.

7. **Other pictures.** One that is unlike every known slice (``novelty.py``) is called negative (where
   there is a negative class), shows no box and is flagged.

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
from detectclf.inference.box_fusion import fuse_boxes
from detectclf.models.bundle import FusionParameters
from detectclf.types import NOT_A_BRAIN_MRI, FloatArray, Prediction, RefinedProposals, StageOutputs

Doubles = npt.NDArray[np.float64]

SCORE_FLOOR = 0.01
"""Scores enter the evidence clipped to [0.01, 0.99]: a detector's 0.9999 is not worth ten times its 0.99."""

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


def refiner_evidence(refined: RefinedProposals, names: FusionClasses) -> Doubles:
    """Log-odds ``(K,)`` of each class by the refiner: a tumour at the likeliest of the places, or none anywhere."""
    if not all(np.isfinite(part).all() for part in (refined.boxes_xyxy, refined.quality, refined.class_probabilities)):
        raise ModelError("the refiner's output is not finite", remedy="train the refiner again")
    best = refined.class_probabilities.max(axis=0, initial=0.0)
    evidence = {name: _log_odds(float(p)) for name, p in zip(refined.classes, best, strict=False)}
    if names.negative is not None:
        tumor = float((1.0 - refined.class_probabilities[:, -1]).max(initial=0.0))
        evidence[names.negative] = _log_odds(1.0 - tumor)
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
    if outputs.refined is not None:
        fused = fused + parameters.refiner_weight * refiner_evidence(outputs.refined, names)
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
    outputs: StageOutputs,
    parameters: FusionParameters,
    names: FusionClasses,
    *,
    width: int,
    height: int,
    out_of_distribution: bool = False,
) -> Prediction:
    """One slice's prediction from what the two stages said of it; image name and model are the caller's to add.

    Args:
        outputs: the stages before fusion, boxes inside the image.
        parameters: fitted, or :func:`default_fusion`.
        names: the class names of the bundle.
        width, height: pixels of the original image.
        out_of_distribution: the picture is no brain MRI: no tumour is claimed, and it is flagged.

    Raises:
        ModelError: the parameters are for other classes, or a stage gave a figure that is not finite.
    """
    fused = fused_probabilities(outputs, parameters, names)
    probabilities = dict(zip(names.classes, map(float, fused), strict=True))
    label = choose_label(fused, parameters, names)
    if out_of_distribution and names.negative in names.classes:
        label = str(names.negative)
    boxes, box_labels, scores = fuse_boxes(
        outputs, label, probabilities, parameters, names.negative, out_of_distribution=out_of_distribution
    )
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
    # Of a picture of something else, what the stages make of it is of no account.
    flags = (NOT_A_BRAIN_MRI,) if out_of_distribution else _flags(prediction, claim, parameters, names.negative)
    return replace(prediction, flags=flags)


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
