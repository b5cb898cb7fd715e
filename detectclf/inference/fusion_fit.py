"""Fits the parameters of fusion on slices that no stage was trained on.

The parameters are few: a temperature, a weight per stage, an offset per class, an exponent, a threshold. A Gaussian
prior pulls each towards the value at which the calibrated classifier decides alone. So the fit stays finite on a tiny
split, on a split without some class, and where the classes separate perfectly.

A slice with a tumour of unknown type counts by the probability of a tumour, the sum over the tumour classes. So it
helps to calibrate tumour against no tumour and says nothing about types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detectclf.config import BundleConfig
from detectclf.errors import ConfigError, DataError
from detectclf.inference.fusion import (
    FusionClasses,
    default_fusion,
    detector_evidence,
    fuse,
    fused_probabilities,
    log_probabilities,
    log_softmax,
)
from detectclf.models.bundle import FusionParameters
from detectclf.types import ANY_TUMOR, Doubles, FusedOutputs, Novelty, StageOutputs

BoxScorer = Callable[[Sequence[FusedOutputs]], float | None]
"""Metric of fused outputs, in the order of the slices, such as mAP; higher is better; ``None`` where undefined."""

Possible = np.ndarray[tuple[int, int], np.dtype[np.bool_]]
"""``(N, K)`` which of ``K`` classes each of ``N`` slices may have."""

GAMMAS = tuple(round(0.1 * i, 1) for i in range(6))
"""Candidates for ``box_gamma``. Above 0.5 the class weighs more than the box: on a slice with a class probability of 1,
0.8 raises a stray box from 0.05 to 0.55, so that it is drawn, and mAP gains nothing (docs/log.md)."""

_NOVELTY: dict[bool, Novelty] = {False: "usual", True: "unusual"}

# Standard deviations of the priors. On a split of hundreds of slices, fitted values rarely lie further out.
_SD_LOG_TEMPERATURE = 1.0
_SD_WEIGHT = 1.0
_SD_BIAS = 1.0
_NOISE, _NOISE_SLICES = 0.004, 2000
"""Approximate standard error of the difference in mAP between two fusions, and the real slices it was measured on."""


def fit_fusion(
    outputs: Sequence[StageOutputs],
    truths: Sequence[str],
    names: FusionClasses,
    config: BundleConfig,
    *,
    unusual: Sequence[bool] | None = None,
    box_scorer: BoxScorer | None = None,
) -> FusionParameters:
    """Fits temperature, weights of the stages, operating point and ``box_gamma``.

    Args:
        outputs: of the stages, one per slice of the split.
        truths: the class of each slice, one of ``names.classes`` or ``ANY_TUMOR``.
        names: the class names of the bundle.
        config: thresholds and the target of the operating point.
        unusual: of each slice, whether it is unlike the training slices; by default none is.
        box_scorer: metric that ``box_gamma`` maximises; without it, it keeps its default.

    Raises:
        DataError: there are no slices, one has a class that is not the bundle's, or the operating point needs tumour
            slices or healthy slices and there are none.
        ConfigError: an operating point is set twice, or there is no negative class.
    """
    if not outputs or len(outputs) != len(truths):
        raise DataError(
            f"the fusion cannot be fitted on {len(outputs)} slices with {len(truths)} known classes",
            remedy="bundle on a split with labelled slices",
        )
    unknown = sorted(set(truths) - {*names.classes, ANY_TUMOR})
    if unknown:
        raise DataError(
            f"the split has classes that the models do not know: {', '.join(unknown)}",
            remedy="bundle on data with the classes that the models were trained on",
        )
    possible = possible_classes(truths, names)
    parameters = replace(
        default_fusion(names.classes),
        box_threshold=config.box_threshold,
        low_confidence=config.low_confidence,
        unusual_temperature=config.unusual_temperature,
        unusual_negative_temperature=config.unusual_negative_temperature,
    )
    parameters = replace(parameters, temperature=fit_temperature(outputs, possible))
    parameters = _fit_weights(outputs, possible, parameters, names)
    parameters = _with_prior(parameters, truths, names, config.tumor_prior)
    odd = list(unusual) if unusual is not None else [False] * len(outputs)
    parameters = _set_operating_point(outputs, truths, parameters, names, config)
    if box_scorer is not None:
        parameters = _choose_gamma(outputs, parameters, names, box_scorer, odd)
    return parameters


def possible_classes(truths: Sequence[str], names: FusionClasses) -> Possible:
    """``(N, K)`` the classes that each slice may have: its own, or every tumour class for a tumour of unknown type."""
    tumors = [name != names.negative for name in names.classes]
    rows = [tumors if truth == ANY_TUMOR else [name == truth for name in names.classes] for truth in truths]
    return np.array(rows, dtype=np.bool_)


def _marginal(log_p: Doubles, possible: Possible) -> Doubles:
    """``(N,)`` log of the summed probability of the classes that each slice may have."""
    return np.asarray(np.logaddexp.reduce(np.where(possible, log_p, -np.inf), axis=1))


def fit_temperature(outputs: Sequence[StageOutputs], possible: Possible) -> float:
    """The temperature in [0.05, 20] of least negative log-likelihood, with a log-normal prior around 1.

    Args:
        outputs: ``N`` slices.
        possible: as :func:`possible_classes` gives it.
    """
    from scipy.optimize import minimize_scalar

    logits = np.stack([o.classifier_logits for o in outputs])

    def cost(log_temperature: float) -> float:
        log_p = log_probabilities(logits, math.exp(log_temperature))
        return float(-_marginal(log_p, possible).sum() + 0.5 * (log_temperature / _SD_LOG_TEMPERATURE) ** 2)

    found = minimize_scalar(cost, bounds=(math.log(0.05), math.log(20.0)), method="bounded")
    return float(math.exp(found.x))


def _fit_weights(
    outputs: Sequence[StageOutputs],
    possible: Possible,
    parameters: FusionParameters,
    names: FusionClasses,
) -> FusionParameters:
    """Multinomial logistic regression with one weight per stage and offsets ``c_k``, by L-BFGS-B."""
    from scipy.optimize import minimize

    log_p = log_probabilities(np.stack([o.classifier_logits for o in outputs]), parameters.temperature)
    evidence = [log_p, np.stack([detector_evidence(o, names) for o in outputs])]
    stages = len(evidence)
    start = np.array([1.0, *np.zeros(stages - 1 + len(names.classes))])
    spread = np.array([*np.full(stages, _SD_WEIGHT), *np.full(len(names.classes), _SD_BIAS)])

    def cost(values: Doubles) -> tuple[float, Doubles]:
        fused = sum(weight * each for weight, each in zip(values, evidence, strict=False))
        log_q = log_softmax(fused + values[stages:])
        pull = (values - start) / spread
        log_likelihood = _marginal(log_q, possible)
        residual = np.exp(log_q) - np.where(possible, np.exp(log_q - log_likelihood[:, None]), 0.0)
        gradient = np.array([*((residual * each).sum() for each in evidence), *residual.sum(axis=0)])
        return float(-log_likelihood.sum() + 0.5 * (pull**2).sum()), gradient + pull / spread

    # No negative weights: evidence for a class must not make the class less probable.
    bounds = [*[(0.0, 5.0)] * stages, *[(None, None)] * len(names.classes)]
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights, bias = [float(v) for v in found.x[:stages]], tuple(float(v) for v in found.x[stages:])
    return replace(parameters, class_weight=weights[0], box_weight=weights[1], bias=bias)


def _with_prior(
    parameters: FusionParameters, truths: Sequence[str], names: FusionClasses, prior: float | None
) -> FusionParameters:
    """``parameters`` for slices of which the share ``prior`` shows a tumour, instead of the share in ``truths``.

    A slice is then called a tumour where that is likelier than no tumour, whichever tumour it is.
    """
    if prior is None:
        return parameters
    if names.negative is None:
        raise ConfigError(
            "tumor_prior needs a class that means no tumour, and these models have none",
            remedy="leave it out",
        )
    healthy = sum(truth == names.negative for truth in truths)
    if not 0 < healthy < len(truths):
        raise DataError(
            f"tumor_prior needs tumour slices and healthy ones to start from; {healthy} of {len(truths)} are healthy",
            remedy="bundle on another split, or without tumor_prior",
        )
    shift = math.log((len(truths) - healthy) / healthy) - math.log(prior / (1 - prior))
    negative = names.classes.index(names.negative)
    moved = tuple(value + shift * (k == negative) for k, value in enumerate(parameters.bias))
    return replace(parameters, bias=moved, tumor_prior=prior, tumor_threshold=0.5)


def _set_operating_point(
    outputs: Sequence[StageOutputs],
    truths: Sequence[str],
    parameters: FusionParameters,
    names: FusionClasses,
    config: BundleConfig,
) -> FusionParameters:
    if config.sensitivity is None and config.max_false_alarm_rate is None:
        return parameters
    if config.sensitivity is not None and config.max_false_alarm_rate is not None:
        raise ConfigError("both sensitivity and max_false_alarm_rate are set", remedy="choose one operating point")
    if names.negative is None:
        raise ConfigError(
            "an operating point needs a class that means no tumour, and these models have none",
            remedy="leave out sensitivity and max_false_alarm_rate",
        )
    negative = names.classes.index(names.negative)
    # Unusual slices stay on the side of the threshold where they are without their temperature.
    fused = [fused_probabilities(o, parameters, names) for o in outputs]
    tumor = np.array([1.0 - each[negative] for each in fused])
    is_tumor = np.array([truth != names.negative for truth in truths])
    threshold = tumor_threshold(tumor, is_tumor, config.sensitivity, config.max_false_alarm_rate)
    return replace(
        parameters,
        tumor_threshold=threshold,
        target_sensitivity=config.sensitivity,
        target_false_alarm_rate=config.max_false_alarm_rate,
    )


def tumor_threshold(
    tumor_probability: Doubles,
    is_tumor: np.ndarray[tuple[int], np.dtype[np.bool_]],
    sensitivity: float | None,
    max_false_alarm_rate: float | None,
) -> float:
    """The threshold on P(tumour) that meets the target on these slices at the least cost.

    With ``sensitivity``, at least that share of the tumour slices reaches the threshold, and as few healthy slices as
    possible do. Otherwise at most ``max_false_alarm_rate`` of the healthy slices reach it, and as many tumour slices as
    possible do. All thresholds between the probabilities of two neighbouring slices have the same result; the middle is
    taken, since a threshold equal to a slice's probability would miss that slice on another device.

    Raises:
        DataError: there are no tumour slices for a sensitivity, or no healthy ones for a false-alarm rate.
    """
    kind = is_tumor if sensitivity is not None else ~is_tumor
    values = np.sort(tumor_probability[kind])[::-1]
    if not len(values):
        raise DataError(
            f"the split has no {'tumour' if sensitivity is not None else 'healthy'} slices to set the threshold on",
            remedy="bundle on another split, or without an operating point",
        )
    tumors, healthy = tumor_probability[is_tumor], tumor_probability[~is_tumor]
    if sensitivity is not None:
        # The tiny shift keeps 0.95 * 20 = 19.000000000000004 from asking for 20.
        needed = max(1, math.ceil(sensitivity * len(values) - 1e-9))
        edge = float(values[needed - 1])
        below = float(healthy[healthy < edge].max(initial=-math.inf))
        return edge if below == -math.inf else _middle(below, float(tumors[tumors > below].min()))
    allowed = math.floor((max_false_alarm_rate or 0.0) * len(values) + 1e-9)
    edge = float(values[allowed])
    above = float(tumors[tumors > edge].min(initial=math.inf))
    if above == math.inf:
        return float(np.nextafter(edge, np.inf))
    return _middle(float(healthy[healthy < above].max()), above)


def _middle(low: float, high: float) -> float:
    """The middle of ``low``, which must lie below the threshold, and ``high``, which must reach it."""
    middle = low + (high - low) / 2
    return middle if middle > low else high


def _choose_gamma(
    outputs: Sequence[StageOutputs],
    parameters: FusionParameters,
    names: FusionClasses,
    box_scorer: BoxScorer,
    unusual: Sequence[bool],
) -> FusionParameters:
    """``box_gamma`` by ``box_scorer``.

    The first candidate within one standard error of the best is taken (Breiman et al. 1984), and the default where the
    metric is undefined. The best candidate itself would often be chosen by noise. Fusions of different folds would then
    differ, and the scores of their boxes could not be ranked together.
    """
    slices = [(o, _NOVELTY[odd]) for o, odd in zip(outputs, unusual, strict=True)]
    candidates = [replace(parameters, box_gamma=gamma) for gamma in GAMMAS]
    scores = []
    for candidate in candidates:
        score = box_scorer([fuse(each, candidate, names, novelty=seen) for each, seen in slices])
        if score is None:
            return parameters
        scores.append(score)
    noise = _NOISE * math.sqrt(_NOISE_SLICES / len(outputs))
    return candidates[next(i for i, score in enumerate(scores) if score >= max(scores) - noise)]
