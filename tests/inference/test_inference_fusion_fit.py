"""Fitting the fusion: it recovers known parameters, stays finite on little data, and meets operating points exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from detectclf.config import BundleConfig
from detectclf.errors import ConfigError, DataError
from detectclf.inference.fusion import FusionClasses, default_fusion, fuse
from detectclf.inference.fusion_fit import GAMMAS, fit_fusion, fit_temperature, possible_classes, tumor_threshold
from detectclf.models.bundle import FusionParameters
from detectclf.types import ANY_TUMOR, FusedOutputs, StageOutputs

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
NAMES = FusionClasses(CLASSES, "no_tumor", ("glioma", "meningioma", "pituitary"))
CONFIG = BundleConfig()


def synthetic(n: int, seed: int, sharpness: float, seen: float) -> tuple[list[StageOutputs], list[str]]:
    """``n`` slices: logits ``sharpness`` times too large, a detector that finds the share ``seen`` of the tumours."""
    random = np.random.default_rng(seed)
    outputs, truths = [], []
    for _ in range(n):
        logits = random.normal(0, 1.2, 4)
        chances = np.exp(logits) / np.exp(logits).sum()
        truth = CLASSES[int(random.choice(4, p=chances))]
        boxes, labels, scores = np.zeros((0, 4), np.float32), (), np.zeros(0, np.float32)
        if truth != "no_tumor" and random.random() < seen:
            boxes, labels = np.array([[1, 1, 9, 9]], np.float32), (truth,)
            scores = np.array([random.uniform(0.5, 1)], np.float32)
        outputs.append(StageOutputs((sharpness * logits).astype(np.float32), boxes, labels, scores))
        truths.append(truth)
    return outputs, truths


def nll(outputs: Sequence[StageOutputs], truths: Sequence[str], parameters: object) -> float:
    fused = [fuse(o, parameters, NAMES) for o in outputs]  # type: ignore[arg-type]
    return -float(np.mean([np.log(p.probabilities[t]) for p, t in zip(fused, truths, strict=True)]))


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_known_sharpness(sharpness: float) -> None:
    outputs, truths = synthetic(2000, 0, sharpness, 0)
    found = fit_temperature(outputs, possible_classes(truths, NAMES))
    assert found == pytest.approx(sharpness, rel=0.1)


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_tumours_of_unknown_type_calibrate_tumour_against_none(sharpness: float) -> None:
    outputs, truths = synthetic(2000, 0, sharpness, 0)
    unknown = [t if t == "no_tumor" else ANY_TUMOR for t in truths]
    assert fit_temperature(outputs, possible_classes(unknown, NAMES)) == pytest.approx(sharpness, rel=0.15)


@pytest.mark.parametrize("prior", [0.05, 0.5, 0.9])
def test_probabilities_are_for_the_stated_share_of_tumour_slices(prior: float) -> None:
    """Fitted on data with three tumours to one healthy slice, calibrated on data with another share."""
    outputs, truths = synthetic(4000, 0, 2.0, 0)
    fitted = fit_fusion(outputs, truths, NAMES, BundleConfig(tumor_prior=prior))
    odds = {True: prior / 0.75, False: (1 - prior) / 0.25}
    weights = np.array([odds[t != "no_tumor"] for t in truths])
    called = np.array([1 - fuse(o, fitted, NAMES).probabilities["no_tumor"] for o in outputs])
    assert np.average(called, weights=weights) == pytest.approx(prior, abs=0.02)
    plain = fit_fusion(outputs, truths, NAMES, CONFIG)
    assert (fitted.tumor_threshold, fitted.tumor_prior) == (0.5, prior)
    assert fit_fusion(outputs, truths, NAMES, BundleConfig(tumor_prior=prior, sensitivity=0.9)).tumor_threshold != 0.5
    assert [a - b for a, b in zip(fitted.bias, plain.bias, strict=True)].count(0.0) == 3  # only no_tumor moves


@pytest.mark.parametrize("kept", [("no_tumor",), ("glioma", "meningioma")])
def test_a_prior_needs_tumours_and_healthy_slices(kept: tuple[str, ...]) -> None:
    outputs, truths = synthetic(100, 0, 1.0, 0)
    rows = [i for i, t in enumerate(truths) if t in kept]
    with pytest.raises(DataError, match="tumor_prior needs tumour slices and healthy ones"):
        fit_fusion([outputs[i] for i in rows], [truths[i] for i in rows], NAMES, BundleConfig(tumor_prior=0.5))


def test_tumours_of_unknown_type_help_the_fit() -> None:
    """Known types alone are few; with as many unknown ones as there are, a held-out split is fitted no worse."""
    (outputs, truths), held_out = synthetic(400, 1, 1.0, 0.9), synthetic(600, 2, 1.0, 0.9)
    mixed = [t if t == "no_tumor" or i % 4 == 0 else ANY_TUMOR for i, t in enumerate(truths)]
    few = [i for i, t in enumerate(mixed) if t != ANY_TUMOR]
    alone = fit_fusion([outputs[i] for i in few], [mixed[i] for i in few], NAMES, CONFIG)
    fitted = fit_fusion(outputs, mixed, NAMES, BundleConfig(sensitivity=0.9))
    is_tumor = np.array([t != "no_tumor" for t in held_out[1]])

    def tumor_nll(parameters: FusionParameters) -> float:
        p = np.array([fuse(o, parameters, NAMES).probabilities["no_tumor"] for o in held_out[0]])
        return -float(np.mean(np.log(np.where(is_tumor, 1 - p, p))))

    assert tumor_nll(fitted) < tumor_nll(alone), "leaving tumours out makes no tumour too likely"
    called = [
        fuse(o, fitted, NAMES).label != "no_tumor" for o, t in zip(outputs, mixed, strict=True) if t != "no_tumor"
    ]
    assert np.mean(called) >= 0.9, "the operating point is set on all tumours"


def test_a_good_detector_gets_weight_and_helps_on_held_out_slices() -> None:
    train, held_out = synthetic(600, 1, 1.0, 0.9), synthetic(600, 2, 1.0, 0.9)
    fitted = fit_fusion(*train, NAMES, CONFIG)
    without = replace(fitted, class_weight=1.0, box_weight=0.0, bias=(0.0,) * 4)
    assert fitted.box_weight > 0.3
    assert nll(*held_out, fitted) < 0.8 * nll(*held_out, without)


def test_a_detector_of_noise_gets_little_weight() -> None:
    outputs, truths = synthetic(600, 3, 1.0, 0.0)
    random = np.random.default_rng(0)
    noisy = [
        replace(
            o,
            boxes_xyxy=np.array([[1, 1, 9, 9]], np.float32),
            box_labels=(str(random.choice(NAMES.detector_classes)),),
            scores=np.array([random.random()], np.float32),
        )
        for o in outputs
    ]
    assert fit_fusion(noisy, truths, NAMES, CONFIG).box_weight < 0.1


@pytest.mark.parametrize(
    ("pick", "reason"),
    [
        (slice(0, 1), "a single slice"),
        (slice(0, 8), "a tiny split with classes absent"),
        (slice(None), "perfect separability"),
    ],
)
def test_the_fit_stays_finite(pick: slice, reason: str) -> None:
    del reason
    truths = [CLASSES[i % 3] for i in range(200)]  # no pituitary at all
    outputs = [
        StageOutputs(
            (8 * np.eye(4)[CLASSES.index(t)]).astype(np.float32),
            np.zeros((0, 4), np.float32),
            (),
            np.zeros(0, np.float32),
        )
        for t in truths
    ]
    fitted = fit_fusion(outputs[pick], truths[pick], NAMES, CONFIG)
    values = [fitted.temperature, fitted.class_weight, fitted.box_weight, *fitted.bias]
    assert np.isfinite(values).all() and 0.05 <= fitted.temperature <= 20
    assert abs(np.array(fitted.bias)).max() < 4
    assert fuse(outputs[0], fitted, NAMES).label == truths[0]


@pytest.mark.parametrize(
    ("sensitivity", "rate", "expected"),
    [
        (0.75, None, 0.45),  # three of four tumours reach 0.6, the next healthy slice is at 0.3
        (0.76, None, 0.15),  # a fourth is needed
        (0.01, None, 0.75),  # one would do, but the second is to be had without a false alarm
        (0.999, None, 0.15),
        (None, 0.5, 0.15),  # two of four healthy slices may reach it: above the third
        (None, 0.49, 0.45),
        (None, 0.01, 0.75),  # none may: above all
    ],
)
def test_threshold_meets_the_target(sensitivity: float | None, rate: float | None, expected: float) -> None:
    tumor = np.array([0.9, 0.8, 0.6, 0.2, 0.7, 0.3, 0.1, 0.05])
    is_tumor = np.array([True] * 4 + [False] * 4)
    found = tumor_threshold(tumor, is_tumor, sensitivity, rate)
    assert found == pytest.approx(expected)
    if sensitivity is not None:
        assert (tumor[is_tumor] >= found).mean() >= sensitivity
    else:
        assert (tumor[~is_tumor] >= found).mean() <= (rate or 0)


@pytest.mark.parametrize("target", [(0.5, None), (0.95, None), (None, 0.0), (None, 0.05)])
def test_separable_classes_meet_every_target(target: tuple[float | None, float | None]) -> None:
    tumor = np.concatenate([np.linspace(0.6, 1, 20), np.linspace(0, 0.4, 20)])
    assert tumor_threshold(tumor, np.arange(40) < 20, *target) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("why", "tumors", "healthy", "target", "expected"),
    [
        ("neighbouring floats: the tumour's own", [1.0], [np.nextafter(1.0, 0)], (0.95, None), 1.0),
        ("healthy slices of the same probability cannot be kept out", [0.5, 0.5], [0.5], (0.95, None), 0.5),
        ("no healthy slice below", [0.2, 0.4], [0.9], (0.5, None), 0.4),
        ("no healthy slice at all", [0.2, 0.4], [], (0.5, None), 0.4),
        ("no tumour above", [0.1], [0.9], (None, 0.0), np.nextafter(0.9, 1)),
    ],
)
def test_threshold_at_the_edges(
    why: str, tumors: list[float], healthy: list[float], target: tuple[float | None, float | None], expected: float
) -> None:
    is_tumor = np.array([True] * len(tumors) + [False] * len(healthy))
    assert tumor_threshold(np.array([*tumors, *healthy]), is_tumor, *target) == expected, why


@pytest.mark.parametrize("target", [{"sensitivity": 0.95}, {"max_false_alarm_rate": 0.05}])
def test_the_fitted_operating_point_holds_on_its_split(target: dict[str, float]) -> None:
    outputs, truths = synthetic(400, 4, 1.0, 0.7)
    config = BundleConfig.model_validate(target)
    fitted = fit_fusion(outputs, truths, NAMES, config)
    called = np.array([fuse(o, fitted, NAMES).label != "no_tumor" for o in outputs])
    is_tumor = np.array([t != "no_tumor" for t in truths])
    if config.sensitivity is not None:
        assert 0.95 <= called[is_tumor].mean() < 0.97
        assert fitted.target_sensitivity == 0.95
    else:
        assert 0.03 < called[~is_tumor].mean() <= 0.05
        assert fitted.target_false_alarm_rate == 0.05


def test_gamma_is_the_scorers_choice() -> None:
    outputs, truths = synthetic(50, 5, 1.0, 1.0)
    seen = []

    def near(target: float):  # type: ignore[no-untyped-def]
        """A metric that is best for the mean score of a known gamma."""

        def score(predictions: Sequence[FusedOutputs]) -> float:
            assert len(predictions) == 50
            seen.append(1)
            return -100 * abs(float(np.mean([p.scores.sum() for p in predictions])) - target)

        return score

    wanted = replace(fit_fusion(outputs, truths, NAMES, CONFIG), box_gamma=0.3)
    fused = [fuse(o, wanted, NAMES) for o in outputs]
    target = float(np.mean([p.scores.sum() for p in fused]))
    assert fit_fusion(outputs, truths, NAMES, CONFIG, box_scorer=near(target)).box_gamma == 0.3
    assert len(seen) == len(GAMMAS)
    none = fit_fusion(outputs, truths, NAMES, CONFIG, box_scorer=lambda _: None)
    assert none.box_gamma == default_fusion(CLASSES).box_gamma, "an undefined metric keeps the default"
    tie = fit_fusion(outputs, truths, NAMES, CONFIG, box_scorer=lambda _: 1.0)
    assert tie.box_gamma == 0.0, "of equal candidates the first"


@pytest.mark.parametrize(
    ("step", "chosen", "why"),
    [
        (0.0005, GAMMAS[0], "all gains together are less than the noise of the figure on 50 slices"),
        (0.02, GAMMAS[-2], "the first that is about as good as the best"),
        (0.2, GAMMAS[-1], "clear gains"),
    ],
)
def test_a_candidate_within_the_noise_is_not_chosen(step: float, chosen: float, why: str) -> None:
    outputs, truths = synthetic(50, 5, 1.0, 1.0)
    calls = iter(range(len(GAMMAS)))
    fitted = fit_fusion(outputs, truths, NAMES, CONFIG, box_scorer=lambda _: 0.5 + step * next(calls))
    assert fitted.box_gamma == chosen, why


def test_thresholds_come_from_the_settings() -> None:
    config = BundleConfig(low_confidence=0.7, box_threshold=0.4)
    fitted = fit_fusion(*synthetic(20, 6, 1.0, 0.5), NAMES, config)
    assert (fitted.low_confidence, fitted.box_threshold, fitted.tumor_threshold) == (0.7, 0.4, None)


def test_what_cannot_be_fitted_is_refused() -> None:
    outputs, truths = synthetic(20, 7, 1.0, 0.5)
    healthy = ["no_tumor"] * 20
    cases: list[tuple[type[Exception], list[StageOutputs], list[str], FusionClasses, BundleConfig]] = [
        (DataError, [], [], NAMES, CONFIG),
        (DataError, outputs, truths[:-1], NAMES, CONFIG),
        (DataError, outputs, ["cyst", *truths[1:]], NAMES, CONFIG),
        (DataError, outputs, healthy, NAMES, BundleConfig(sensitivity=0.9)),
        (DataError, outputs, ["glioma"] * 20, NAMES, BundleConfig(max_false_alarm_rate=0.1)),
        (ConfigError, outputs, truths, NAMES, BundleConfig(sensitivity=0.9, max_false_alarm_rate=0.1)),
        (ConfigError, outputs, truths, replace(NAMES, negative=None), BundleConfig(sensitivity=0.9)),
    ]
    for kind, given, known, names, config in cases:
        with pytest.raises(kind) as caught:
            fit_fusion(given, known, names, config)
        assert "\n" not in str(caught.value)


def test_a_certain_class_draws_no_stray_box() -> None:
    """A box with a score of 0.2 is not drawn, whichever exponent is chosen."""
    assert max(GAMMAS) <= 0.5
    assert all(0.2 ** (1 - gamma) * 1.0**gamma < CONFIG.box_threshold for gamma in GAMMAS)
