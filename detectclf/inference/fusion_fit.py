"""Fitting the numbers of fusion on a split that neither stage was trained on.

Few numbers are fitted (a temperature, two weights, one offset per class, one exponent, one threshold), each drawn by
a Gaussian prior to the value that means "trust the calibrated classifier": so the fit stays finite and mild on a tiny
split, with a class absent from it, or where the classes separate perfectly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detectclf.config import BundleConfig
from detectclf.errors import ConfigError, DataError
from detectclf.inference.fusion import (
    Doubles,
    FusionClasses,
    default_fusion,
    detector_evidence,
    fuse,
    fused_probabilities,
    log_probabilities,
    log_softmax,
    refiner_evidence,
)
from detectclf.models.bundle import FusionParameters
from detectclf.types import Prediction, StageOutputs

BoxScorer = Callable[[Sequence[Prediction]], float | None]
"""Figure of merit of fused predictions (in the order of the outputs), higher is better, such as mAP."""

GAMMAS = tuple(round(0.1 * i, 1) for i in range(6))
"""Candidates of ``box_gamma``. Beyond 0.5 the class counts for more than the box: on a slice of sure class 0.8 makes
0.55 of a stray box of 0.05, which would be drawn, and buys no mAP (docs/log.md)."""

REFINER_WEIGHTS = tuple((s / 4, q / 4, (4 - s - q) / 4) for s in range(5) for q in range(5 - s))
"""Candidates of ``refined_score_weights``, all quarters that sum to 1."""

REFINER_MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidates of ``refined_box_weight``."""

FIRST_REFINER_CHOICE = {False: (0.5, (0.75, 0.25, 0.0)), True: (0.25, (1.0, 0.0, 0.0))}
"""``tta`` -> the ``refined_box_weight`` and ``refined_score_weights`` that did best on real slices (docs/log.md), kept
where no other is clearly better: boxes that were refined with test-time augmentation are means of eight predictions, to
which the refiner adds less."""

# Standard deviations of the priors. Weights and offsets rarely leave them on splits of hundreds of slices.
_SD_LOG_TEMPERATURE = 1.0
_SD_WEIGHT = 1.0
_SD_BIAS = 1.0
_NOISE, _NOISE_SLICES = 0.004, 2000
"""About a standard error of the difference in mAP between two fusions, on so many real slices."""


def fit_fusion(
    outputs: Sequence[StageOutputs],
    truths: Sequence[str],
    names: FusionClasses,
    config: BundleConfig,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
    box_scorer: BoxScorer | None = None,
) -> FusionParameters:
    """Fits temperature, fusion weights, box exponent and operating point.

    Args:
        outputs: what the stages said of each slice of the split.
        truths: the class of each slice, one of ``names.classes``.
        names: the class names of the bundle.
        config: thresholds and the operating point asked for.
        sizes: ``(width, height)`` of each slice; only handed on to the predictions that ``box_scorer`` is given.
        box_scorer: chooses ``box_gamma``; without it the default is kept.

    Raises:
        DataError: no slices, a class that is not one of the bundle's, or a split without the slices that the
            operating point is set on.
        ConfigError: an operating point without a negative class, or two of them.
    """
    if not outputs or len(outputs) != len(truths):
        raise DataError(
            f"{len(outputs)} slices with {len(truths)} known classes to fit the fusion on",
            remedy="bundle on a split with labelled slices",
        )
    unknown = sorted(set(truths) - set(names.classes))
    if unknown:
        raise DataError(
            f"the split has classes that the models do not know: {', '.join(unknown)}",
            remedy="bundle on data with the classes that the models were trained on",
        )
    index = np.array([names.classes.index(truth) for truth in truths])
    parameters = replace(
        default_fusion(names.classes),
        box_threshold=config.box_threshold,
        low_confidence=config.low_confidence,
        tta=config.tta,
    )
    parameters = replace(parameters, temperature=fit_temperature(outputs, index))
    parameters = _fit_weights(outputs, index, parameters, names)
    parameters = _set_operating_point(outputs, truths, parameters, names, config)
    if box_scorer is not None:
        parameters = _choose_box_weights(outputs, parameters, names, sizes, box_scorer)
    return parameters


def fit_temperature(outputs: Sequence[StageOutputs], truth_index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    """The temperature in [0.05, 20] of least negative log-likelihood, under a log-normal prior round 1."""
    from scipy.optimize import minimize_scalar

    logits = np.stack([o.classifier_logits for o in outputs])
    rows = np.arange(len(outputs))

    def cost(log_temperature: float) -> float:
        log_p = log_probabilities(logits, math.exp(log_temperature))
        return float(-log_p[rows, truth_index].sum() + 0.5 * (log_temperature / _SD_LOG_TEMPERATURE) ** 2)

    found = minimize_scalar(cost, bounds=(math.log(0.05), math.log(20.0)), method="bounded")
    return float(math.exp(found.x))


def _fit_weights(
    outputs: Sequence[StageOutputs],
    truth_index: np.ndarray[tuple[int], np.dtype[np.int64]],
    parameters: FusionParameters,
    names: FusionClasses,
) -> FusionParameters:
    """Multinomial logistic regression with one weight per stage and offsets ``c_k``, by L-BFGS-B."""
    from scipy.optimize import minimize

    log_p = log_probabilities(np.stack([o.classifier_logits for o in outputs]), parameters.temperature)
    opinions = [log_p, np.stack([detector_evidence(o, names) for o in outputs])]
    if any(o.refined is not None for o in outputs):
        nothing = np.zeros(len(names.classes))
        opinions.append(np.stack([refiner_evidence(o.refined, names) if o.refined else nothing for o in outputs]))
    stages = len(opinions)
    truth = np.eye(len(names.classes))[truth_index]
    start = np.array([1.0, *np.zeros(stages - 1 + len(names.classes))])
    spread = np.array([*np.full(stages, _SD_WEIGHT), *np.full(len(names.classes), _SD_BIAS)])

    def cost(values: Doubles) -> tuple[float, Doubles]:
        fused = sum(weight * opinion for weight, opinion in zip(values, opinions, strict=False))
        log_q = log_softmax(fused + values[stages:])
        pull = (values - start) / spread
        residual = np.exp(log_q) - truth
        gradient = np.array([*((residual * opinion).sum() for opinion in opinions), *residual.sum(axis=0)])
        return float(-(truth * log_q).sum() + 0.5 * (pull**2).sum()), gradient + pull / spread

    # No stage may count against its own word.
    bounds = [*[(0.0, 5.0)] * stages, *[(None, None)] * len(names.classes)]
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights, bias = [float(v) for v in found.x[:stages]], tuple(float(v) for v in found.x[stages:])
    refiner_weight = weights[2] if stages > 2 else 0.0
    return replace(parameters, class_weight=weights[0], box_weight=weights[1], refiner_weight=refiner_weight, bias=bias)


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
    tumor = np.array([1.0 - fused_probabilities(o, parameters, names)[negative] for o in outputs])
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
    """The threshold on P(tumour) that meets the target on these slices and wastes nothing.

    With ``sensitivity`` as many healthy slices as can be lie below it while at least that share of the tumour slices
    reaches it; else as many tumour slices as can be reach it while at most ``max_false_alarm_rate`` of the healthy ones
    do. All thresholds between two neighbouring slices do the same here; the middle is taken, since one on the edge
    misses the next slice that is a hair less sure, or the same slice on another device.

    Raises:
        DataError: no slices of the kind that the target is about.
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
    """Between ``low``, which must not reach it, and ``high``, which must."""
    middle = low + (high - low) / 2
    return middle if middle > low else high


def _choose_box_weights(
    outputs: Sequence[StageOutputs],
    parameters: FusionParameters,
    names: FusionClasses,
    sizes: Sequence[tuple[int, int]] | None,
    box_scorer: BoxScorer,
) -> FusionParameters:
    """The ``box_gamma`` of the best score; with a refiner first ``refined_box_weight``, then ``refined_score_weights``.

    The first candidate that is about as good as the best one is taken (the rule of one standard error, Breiman et al.
    1984), the default where no score exists. The best one itself would be a choice of the noise; and fusions that are
    fitted on other slices would give scores of other scales, which no figure over all of them survives.
    """
    frames = sizes or [(0, 0)] * len(outputs)

    def best_of(candidates: Sequence[FusionParameters]) -> FusionParameters:
        scores = []
        for candidate in candidates:
            fused = [fuse(o, candidate, names, width=w, height=h) for o, (w, h) in zip(outputs, frames, strict=True)]
            score = box_scorer(fused)
            if score is None:
                return parameters
            scores.append(score)
        noise = _NOISE * math.sqrt(_NOISE_SLICES / len(outputs))
        return candidates[next(i for i, score in enumerate(scores) if score >= max(scores) - noise)]

    if any(o.refined is not None for o in outputs):
        first_mix, first_weights = FIRST_REFINER_CHOICE[parameters.tta]
        parameters = replace(parameters, refined_box_weight=first_mix, refined_score_weights=first_weights)
        mixes, all_weights = (
            dict.fromkeys((first_mix, *REFINER_MIXES)),
            dict.fromkeys((first_weights, *REFINER_WEIGHTS)),
        )
        parameters = best_of([replace(parameters, refined_box_weight=mix) for mix in mixes])
        parameters = best_of([replace(parameters, refined_score_weights=weights) for weights in all_weights])
    return best_of([replace(parameters, box_gamma=gamma) for gamma in GAMMAS])
