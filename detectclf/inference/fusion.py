"""Fusion of the stages: class, boxes and flags of a slice from the outputs of classifier and detector.

Every step has few numbers (:class:`~detectclf.models.bundle.FusionParameters`), all fitted on slices that no stage was
trained on (``fusion_fit.py``):

1. **Calibration.** One temperature divides the classifier's logits (Guo et al., "On Calibration of Modern Neural
   Networks", ICML 2017), which gives log-probabilities ``log p_k``.
2. **Evidence of the detector** for class ``k``: ``e_k = log(s_k / (1 - s_k))``, where ``s_k`` is the score of its best
   box of that class; for the negative class, ``s`` is 1 minus the best score of any tumour box.
3. **Class of the slice.** ``z_k = a log p_k + b e_k + c_k``, softmax over ``k``: logistic regression on the stages.
   ``c`` of the negative class also moves the probabilities from the share of tumour slices among those of the fit to
   ``tumor_prior`` (Saerens et al., "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural
   Computation 14, 2002).
4. **Boxes** (``box_fusion.py``). ``s' = s^(1-g) P(class of the box)^g``: the geometric mean of the box's score and the
   slice's probability of that class; ``g`` is ``box_gamma``.
5. **One box per lesion.** On a slice that is classified as a tumour, the best box of that class is raised to
   ``box_threshold``, unless its score is very low. Of boxes that reach the threshold and mostly cover one another,
   whatever their class, only the best keeps its score; the others are scaled below the threshold, where mAP still
   counts them and no picture shows them.
6. **Operating point.** With ``tumor_threshold``, the label is the most probable tumour class where ``1 - P(negative)``
   reaches that threshold, else the negative class. Without it, the label is the most probable class.
7. **Unusual slices.** On a slice that is unlike the training slices (``ood.py``), the log-odds of a tumour and those
   between the tumour classes are divided by ``unusual_temperature``, the former as seen from ``tumor_threshold`` and,
   where the answer is no tumour, by ``unusual_negative_temperature``: the model is less sure of the same answer. The
   slice gets a flag.
8. **Out of distribution.** A picture that is not a brain MRI (``ood.py``) is refused: it gets a flag, and no class, no
   probabilities and no boxes, since "no tumour" would read as healthy.

Class and boxes of a prediction agree. On a negative slice every tumour box stays below ``box_threshold``. Where the
label is a tumour and the detector's best box has another tumour class, a copy of that box gets the label's class:
detectors trained on few slices locate a tumour more reliably than they classify it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectclf.errors import ModelError
from detectclf.inference.box_fusion import fuse_boxes
from detectclf.models.bundle import FusionParameters
from detectclf.types import (
    CLASS_BOX_CONFLICT,
    LOW_CONFIDENCE,
    NOT_A_BRAIN_MRI,
    TUMOR_WITHOUT_BOX,
    UNUSUAL_INPUT,
    Doubles,
    FloatArray,
    FusedOutputs,
    Novelty,
    StageOutputs,
    StagePredictions,
)

SCORE_FLOOR = 0.01
"""Scores are clipped to [0.01, 0.99] before they become evidence: 0.9999 is not worth twice as much as 0.99."""


@dataclass(frozen=True, slots=True)
class FusionClasses:
    """The class names that fusion works on.

    Attributes:
        classes: of the slice, in the order of the classifier's logits and of every probability vector.
        negative: the class that means "no tumour", or ``None``.
        detector_classes: of the detector's boxes; with ``negative_boxes: keep`` the negative class is one of them.
    """

    classes: tuple[str, ...]
    negative: str | None
    detector_classes: tuple[str, ...]


def default_fusion(classes: Sequence[str]) -> FusionParameters:
    """Parameters for runs that are not bundled: no calibration, and a small weight for the detector's evidence."""
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

    A class that the detector does not know gets 0, which is evidence neither for nor against it. For a detector with
    boxes of the negative class, the evidence for that class is the mean of two: its best box, and no tumour box.
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
    """Class -> score of the detector's best box of that class; classes without a box are left out."""
    best: dict[str, float] = {}
    for label, score in zip(outputs.box_labels, outputs.scores, strict=True):
        best[label] = max(best.get(label, 0.0), float(score))
    return best


def _log_odds(score: float) -> float:
    clipped = min(max(score, SCORE_FLOOR), 1 - SCORE_FLOOR)
    return float(np.log(clipped / (1 - clipped)))


def fused_probabilities(
    outputs: StageOutputs, parameters: FusionParameters, names: FusionClasses, *, unusual: bool = False
) -> Doubles:
    """Probabilities ``(K,)`` of the slice's class by all stages, summing to 1.

    Args:
        outputs: of the stages.
        parameters: of the fusion.
        names: the class names of the bundle.
        unusual: whether the slice is unlike the training slices.

    Raises:
        ModelError: parameters, outputs and names have different classes, or an output is not finite.
    """
    if len(parameters.bias) != len(names.classes) or outputs.classifier_logits.shape != (len(names.classes),):
        raise ModelError(
            f"the fusion has {len(parameters.bias)} classes, the classifier "
            f"{outputs.classifier_logits.shape[-1]}, the bundle {len(names.classes)}",
            remedy="bundle the two runs again",
        )
    log_p = log_probabilities(outputs.classifier_logits, parameters.temperature)
    evidence = detector_evidence(outputs, names)
    fused = parameters.class_weight * log_p + parameters.box_weight * evidence + np.asarray(parameters.bias)
    log_fused = log_softmax(fused)
    if unusual:
        negative = names.classes.index(names.negative) if names.negative in names.classes else None
        log_fused = _less_sure(log_fused, negative, parameters)
    return np.asarray(np.exp(log_fused))


def _less_sure(log_p: Doubles, negative: int | None, parameters: FusionParameters) -> Doubles:
    """``log_p`` ``(K,)`` of an unusual slice, nearer to the operating point and to equal odds between tumour classes.

    It stays on its side of the operating point. Dividing all of ``log_p`` instead would make a tumour likelier, which
    has more classes than no tumour.
    """
    temperature, threshold = parameters.unusual_temperature, parameters.tumor_threshold
    if negative is None or len(log_p) < 2:
        return log_softmax(log_p / temperature)
    tumors = np.delete(log_p, negative)
    # Clipped: a fitted threshold may be 0 or 1.
    share = 0.5 if threshold is None else min(max(threshold, 1e-12), 1 - 1e-12)
    edge = np.log(share / (1 - share))
    beyond = np.logaddexp.reduce(tumors) - log_p[negative] - edge
    absent = parameters.unusual_negative_temperature
    log_odds = edge + beyond / (absent if absent is not None and beyond < 0 else temperature)
    between = log_softmax(tumors / temperature) - np.logaddexp(0.0, -log_odds)
    return np.insert(between, negative, -np.logaddexp(0.0, log_odds))


def choose_label(probabilities: Doubles, parameters: FusionParameters, names: FusionClasses) -> str:
    """The slice's class at the operating point."""
    likeliest = names.classes[int(probabilities.argmax())]
    if parameters.tumor_threshold is None or names.negative not in names.classes or len(names.classes) < 2:
        return likeliest
    negative = names.classes.index(names.negative)
    if 1.0 - probabilities[negative] < parameters.tumor_threshold:
        return names.negative
    tumors = [i for i in range(len(names.classes)) if i != negative]
    return names.classes[max(tumors, key=lambda i: float(probabilities[i]))]


def detector_label(outputs: StageOutputs, parameters: FusionParameters, names: FusionClasses) -> str | None:
    """The slice's class by the detector alone.

    It is the class of the best tumour box where that box reaches ``box_threshold``, else the negative class. Without a
    negative class it is the class of the best box whatever its score, and ``None`` where there is no box.
    """
    tumors = {name: score for name, score in best_scores(outputs).items() if name != names.negative}
    best = max(tumors, key=lambda name: tumors[name], default=None)
    if names.negative is not None and (best is None or tumors[best] < parameters.box_threshold):
        return names.negative
    return best


def fuse(
    outputs: StageOutputs, parameters: FusionParameters, names: FusionClasses, *, novelty: Novelty = "usual"
) -> FusedOutputs:
    """Fuses the outputs of the stages for one slice.

    Args:
        outputs: of the stages, boxes inside the image.
        parameters: fitted, or :func:`default_fusion`.
        names: the class names of the bundle.
        novelty: how the slice compares with the training slices. One that is unlike them gets a flag and its own
            temperature; what is no brain MRI gets a flag and nothing else.

    Raises:
        ModelError: the parameters are for other classes, or an output of a stage is not finite.
    """
    # Also of what is refused: it checks that parameters and outputs fit.
    fused = fused_probabilities(outputs, parameters, names, unusual=novelty == "unusual")
    calibrated = np.exp(log_probabilities(outputs.classifier_logits, parameters.temperature))
    alone = StagePredictions(
        outputs,
        dict(zip(names.classes, map(float, calibrated), strict=True)),
        detector_label(outputs, parameters, names),
    )
    if novelty == "outside":
        return FusedOutputs(box_threshold=parameters.box_threshold, flags=(NOT_A_BRAIN_MRI,), before_fusion=alone)
    probabilities = dict(zip(names.classes, map(float, fused), strict=True))
    label = choose_label(fused, parameters, names)
    boxes, box_labels, scores = fuse_boxes(outputs, label, probabilities, parameters, names.negative)
    drawn = {name for name, score in zip(box_labels, scores, strict=True) if score >= parameters.box_threshold}
    flags = [
        (CLASS_BOX_CONFLICT, alone.detector_label not in (None, names.negative, label)),
        (LOW_CONFIDENCE, probabilities[label] < parameters.low_confidence),
        (UNUSUAL_INPUT, novelty == "unusual"),
        (TUMOR_WITHOUT_BOX, label != names.negative and drawn <= {names.negative}),
    ]
    return FusedOutputs(
        label=label,
        probabilities=probabilities,
        boxes_xyxy=boxes,
        box_labels=box_labels,
        scores=scores,
        box_threshold=parameters.box_threshold,
        flags=tuple(flag for flag, raised in flags if raised),
        before_fusion=alone,
    )
