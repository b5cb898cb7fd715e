"""AUROC, risk and coverage in resamples: as scikit-learn and as the definition, ties included."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from evaluation_examples import CLASSES, example
from sklearn import metrics

from detectclf.evaluation.aligned import align, classified
from detectclf.evaluation.auroc import auroc, auroc_figures
from detectclf.evaluation.classification import Classified
from detectclf.evaluation.outcomes import confidence_and_right
from detectclf.evaluation.risk_coverage import kept_and_wrong, referred, risk_coverage, risk_figures
from detectclf.evaluation.sections import RiskCoverage
from detectclf.evaluation.weighted import published


@pytest.fixture(scope="module")
def data() -> Classified:
    return classified(align(*example(120, 3, skill=1.0))[0], "combined")


@pytest.mark.parametrize("levels", [3, 1000])
def test_weighted_auroc_is_that_of_repeated_slices(levels: int) -> None:
    random = np.random.default_rng(levels)
    positive, scores = random.random(60) < 0.4, random.integers(0, levels, 60).astype(float)
    weights = random.integers(0, 4, (5, 60)).astype(float)
    expected = [metrics.roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    assert auroc(positive, scores, weights) == pytest.approx(expected)
    whole = metrics.roc_auc_score(positive, scores)
    assert auroc(positive, scores, np.ones((1, 60)))[0] == pytest.approx(whole)


def test_the_published_areas_are_those_of_scikit_learn(data: Classified) -> None:
    values = published(auroc_figures(data, np.arange(len(data.true)), "x"), len(data.true))
    areas = metrics.roc_auc_score(data.true, data.probabilities, multi_class="ovr", average=None)
    healthy = CLASSES.index("no_tumor")
    expected = {f"x.auroc.{name}": area for name, area in zip(CLASSES, areas, strict=True)}
    expected["x.auroc.macro"] = np.mean(areas)
    expected["x.auroc.tumor"] = metrics.roc_auc_score(data.true != healthy, 1 - data.probabilities[:, healthy])
    assert values == pytest.approx(expected)


def test_a_class_absent_from_a_resample_has_no_area(data: Classified) -> None:
    weights = (data.true != CLASSES.index("glioma")).astype(float)[None]
    values = auroc_figures(data, np.arange(len(data.true)), "x")(weights)
    assert np.isnan(values["x.auroc.glioma"][0])
    others = [values[f"x.auroc.{name}"][0] for name in CLASSES if name != "glioma"]
    assert values["x.auroc.macro"][0] == pytest.approx(np.mean(others))


def test_equal_confidences_give_the_expected_area_whatever_their_order() -> None:
    confidence = np.array([0.9, 0.7, 0.7, 0.7, 0.2])
    right = np.array([True, False, True, True, False])
    orders = [[0, *(k + 1 for k in order), 4] for order in permutations(range(3))]
    areas = [float(np.mean(np.cumsum(~right[order]) / np.arange(1, 6))) for order in orders]
    assert len(set(areas)) > 1, "else nothing is tested"
    for order in orders:
        assert risk_coverage(confidence[order], right[order]).area == pytest.approx(np.mean(areas))


def kept_at(curve: RiskCoverage, accepted: float) -> float:
    """The largest coverage at most at that risk, from the definition."""
    return max((c for c, r in zip(curve.coverage, curve.risk, strict=True) if r <= accepted), default=0.0)


def test_risk_coverage_by_hand() -> None:
    confidence, right = np.array([0.9, 0.8, 0.8, 0.3]), np.array([True, True, False, True])
    curve = risk_coverage(confidence, right)
    assert curve.coverage == (0.25, 0.75, 1.0), "equal confidences are kept or referred together"
    assert curve.risk == pytest.approx((0.0, 1 / 3, 0.25))
    steps = kept_and_wrong(confidence, right, np.ones((1, 4)))
    assert referred(*steps, 0.1).tolist() == [0.75]
    assert referred(*steps, 0.3).tolist() == [0.0]
    empty = risk_figures(np.zeros(0), np.zeros(0, dtype=bool), 0.1, np.arange(0))
    assert published(empty, 0) == {"combined.referred": None, "combined.risk_coverage.area": None}
    assert risk_coverage(np.zeros(0), np.zeros(0, dtype=bool)).coverage == ()


def test_nothing_can_be_kept_at_that_risk() -> None:
    wrong = risk_figures(np.array([0.9, 0.5]), np.array([False, False]), 0.1, np.arange(2))
    assert published(wrong, 2)["combined.referred"] == 1.0


def test_risk_of_resamples_is_that_of_repeated_slices() -> None:
    confidence, right = confidence_and_right(align(*example(50, 4, skill=0.5))[0])
    weights = np.random.default_rng(0).integers(0, 4, 50)
    curve = risk_coverage(np.repeat(confidence, weights), np.repeat(right, weights))
    values = risk_figures(confidence, right, 0.1, np.arange(50))(weights[None].astype(float))
    assert values["combined.referred"][0] == pytest.approx(1 - kept_at(curve, 0.1))
    assert values["combined.risk_coverage.area"][0] == pytest.approx(curve.area)
