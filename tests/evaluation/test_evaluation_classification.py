"""Classification figures against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_examples import CLASSES, example
from sklearn import metrics

from detectclf.evaluation.aligned import align, classified
from detectclf.evaluation.auroc import auroc_figures, roc_curve
from detectclf.evaluation.classification import (
    Classified,
    accuracy_and_macro_f1,
    class_section,
    classification_figures,
)
from detectclf.evaluation.record import plain
from detectclf.evaluation.sections import ClassFigures
from detectclf.evaluation.weighted import joined, published


def example_classified(count: int, seed: int) -> Classified:
    return classified(align(*example(count, seed, skill=1.0))[0], "classifier")


def section_of(data: Classified) -> ClassFigures:
    every = np.arange(len(data.true))
    functions = [make(data, every, "x") for make in (classification_figures, auroc_figures)]
    return class_section(data, published(joined(functions), len(every)), "x")


@pytest.fixture(scope="module")
def data() -> Classified:
    return example_classified(150, 3)


def test_every_figure_agrees_with_scikit_learn(data: Classified) -> None:
    figures = plain(section_of(data))
    true, said, probabilities = data.true, data.predicted, data.probabilities
    precision, recall, f1, support = metrics.precision_recall_fscore_support(true, said, labels=range(4))
    areas = metrics.roc_auc_score(true, probabilities, multi_class="ovr", average=None)
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(true, said))
    assert figures["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true, said))
    assert figures["macro_f1"] == pytest.approx(metrics.f1_score(true, said, average="macro"))
    assert figures["confusion_matrix"] == metrics.confusion_matrix(true, said).tolist()
    assert figures["nll"] == pytest.approx(metrics.log_loss(true, probabilities))
    assert figures["brier"] == pytest.approx(metrics.brier_score_loss(true, probabilities, scale_by_half=False))
    for k, name in enumerate(CLASSES):
        row = figures["per_class"][name]
        assert row["support"] == support[k]
        assert [row["precision"], row["recall"], row["f1"], row["auroc"]] == pytest.approx(
            [precision[k], recall[k], f1[k], areas[k]]
        )
    healthy = CLASSES.index("no_tumor")
    assert figures["specificity"] == pytest.approx(metrics.recall_score(true == healthy, said == healthy))
    assert figures["auroc"]["tumor"] == pytest.approx(
        metrics.roc_auc_score(true != healthy, 1 - probabilities[:, healthy])
    )
    assert figures["auroc"]["macro"] == pytest.approx(np.mean(areas))


def test_roc_curve_has_the_area(data: Classified) -> None:
    x, y = roc_curve(data.true == 0, data.probabilities[:, 0])
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    assert area == pytest.approx(section_of(data).auroc["glioma"])


def test_calibration_error_by_hand() -> None:
    # Two slices in (0.6, 0.667], one right: gap |0.65 - 0.5|; one in (0.933, 1] that is right: gap 0.05.
    probabilities = np.array([[0.65, 0.35], [0.65, 0.35], [0.95, 0.05]])
    data = Classified(np.array([0, 1, 0]), np.array([0, 0, 0]), probabilities, ("a", "b"), None)
    figures = section_of(data)
    assert figures.ece == pytest.approx((2 * 0.15 + 0.05) / 3)
    assert [row.count for row in figures.reliability] == [2, 1]
    assert figures.specificity is None, "no negative class"


@pytest.mark.parametrize(
    ("true", "said", "expected", "why"),
    [
        ([], [], (None, None), "no slice"),
        ([0, 0], [0, 0], (1.0, 1.0), "one class only; absent ones do not drag macro-F1 down"),
        ([0, 0], [1, 1], (0.0, 0.0), "all wrong"),
        ([0, 1, 2], [0, 1, 1], (2 / 3, (1 + 2 / 3 + 0) / 3), "a class that is never said has an F1 of 0"),
    ],
)
def test_accuracy_and_macro_f1(
    true: list[int], said: list[int], expected: tuple[float | None, float | None], why: str
) -> None:
    assert accuracy_and_macro_f1(true, said, 4) == (pytest.approx(expected[0]), pytest.approx(expected[1])), why


def test_multiplicities_are_repeated_slices(data: Classified) -> None:
    weights = np.random.default_rng(1).integers(0, 4, len(data.true))
    at = np.repeat(np.arange(len(data.true)), weights)
    repeated = Classified(data.true[at], data.predicted[at], data.probabilities[at], data.classes, data.negative)
    values = classification_figures(data, np.arange(len(data.true)), "x")(weights[None].astype(float))
    figures = section_of(repeated)
    assert len(values) == 7
    for name, value in values.items():
        assert value[0] == pytest.approx(getattr(figures, name.removeprefix("x.")), abs=1e-9), name
