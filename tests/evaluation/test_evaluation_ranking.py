"""AUROC, risk and coverage in resamples: as scikit-learn and as the definition, ties included."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from evaluation_examples import CLASSES, example
from sklearn import metrics

from detectclf.evaluation.aligned import align, classified
from detectclf.evaluation.classification import Classified, auroc, classification_figures
from detectclf.evaluation.joint import confidence_and_right, risk_coverage
from detectclf.evaluation.ranking import auroc_family, risk_family, weighted_auroc


@pytest.fixture(scope="module")
def data() -> Classified:
    return classified(align(*example(120, 3, skill=1.0))[0], "combined")


@pytest.mark.parametrize("levels", [3, 1000])
def test_weighted_auroc_is_that_of_repeated_slices(levels: int) -> None:
    random = np.random.default_rng(levels)
    positive, scores = random.random(60) < 0.4, random.integers(0, levels, 60).astype(float)
    weights = random.integers(0, 4, (5, 60)).astype(float)
    expected = [metrics.roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    assert weighted_auroc(positive, scores, weights) == pytest.approx(expected)
    assert weighted_auroc(positive, scores, np.ones((1, 60)))[0] == pytest.approx(auroc(positive, scores))


def test_multiplicity_one_is_the_published_figure(data: Classified) -> None:
    values = auroc_family(data, np.arange(len(data.true)), "x")(np.ones((1, len(data.true))))
    figures = classification_figures(data)["auroc"]
    assert {name.removeprefix("x.auroc."): value[0] for name, value in values.items()} == pytest.approx(figures)


def test_a_class_absent_from_a_resample_has_no_area(data: Classified) -> None:
    weights = (data.true != CLASSES.index("glioma")).astype(float)[None]
    values = auroc_family(data, np.arange(len(data.true)), "x")(weights)
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


def test_risk_of_resamples_is_that_of_repeated_slices() -> None:
    confidence, right = confidence_and_right(align(*example(50, 4, skill=0.5))[0])
    weights = np.random.default_rng(0).integers(0, 4, 50)
    curve = risk_coverage(np.repeat(confidence, weights), np.repeat(right, weights))
    values = risk_family(confidence, right, 0.1, np.arange(50))(weights[None].astype(float))
    assert values["combined.referred"][0] == pytest.approx(curve.referred(0.1))
    assert values["combined.risk_coverage.area"][0] == pytest.approx(curve.area)
