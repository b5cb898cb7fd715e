"""Outcomes of slices, explanation, bootstrap, intervals and paired tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.mask import iou as coco_iou

from detectclf.boxes import pairwise_iou
from detectclf.evaluation.aligned import align
from detectclf.evaluation.bootstrap import bootstrap, resamples
from detectclf.evaluation.explanation import map_inside_boxes
from detectclf.evaluation.intervals import bias_corrected_interval, exact_interval, interval
from detectclf.evaluation.outcomes import drawn_boxes, slice_outcomes
from detectclf.evaluation.paired_tests import mcnemar_exact, paired_p
from detectclf.evaluation.weighted import ratio
from detectclf.prediction import Prediction
from detectclf.types import Dataset, Sample, StageOutputs, StagePredictions, empty_boxes

TRUTH = np.array([[10, 10, 30, 30]], dtype=np.float32)
FAR = TRUTH + 50


def a_slice(label: str, boxed: bool = True) -> Sample:
    has = label != "no_tumor" and boxed
    return Sample(
        Path("/nowhere/a.png"),
        "a.png",
        "test",
        label,
        TRUTH if has else empty_boxes(),
        (label,) if has else (),
        boxed,
        width=100,
        height=100,
    )


def said(label: str, box: np.ndarray, score: float, **more: object) -> Prediction:
    return Prediction(
        "a.png",
        label=label,
        probabilities={label: 0.9, "other": 0.1},
        boxes_xyxy=box,
        box_labels=("glioma",) * len(box),
        scores=np.full(len(box), score, dtype=np.float32),
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("sample", "prediction", "known", "right", "false_boxes", "why"),
    [
        (a_slice("glioma"), said("glioma", TRUTH, 0.9), True, True, 0, "class and box"),
        (a_slice("glioma"), said("glioma", FAR, 0.9), True, False, 0, "box elsewhere"),
        (a_slice("glioma"), said("glioma", TRUTH, 0.4), True, False, 0, "a box under the threshold is not drawn"),
        (a_slice("glioma"), said("other", TRUTH, 0.9), True, False, 0, "wrong class"),
        (a_slice("glioma", boxed=False), said("glioma", TRUTH, 0.9), False, False, 0, "true box not known"),
        (a_slice("no_tumor"), said("no_tumor", empty_boxes(), 0.9), True, True, 0, "healthy and said so"),
        (a_slice("no_tumor", boxed=False), said("no_tumor", empty_boxes(), 0.9), True, True, 0, "needs no box"),
        (a_slice("no_tumor"), said("no_tumor", FAR, 0.9), True, True, 1, "a box on it is a false alarm"),
    ],
)
def test_outcomes(sample: Sample, prediction: Prediction, known: bool, right: bool, false_boxes: int, why: str) -> None:
    data, _ = align([prediction], Dataset((sample,), ("glioma", "no_tumor"), "no_tumor"))
    outcome = slice_outcomes(data)
    got = (
        bool(outcome.known[0]),
        bool(outcome.right[0]),
        len(drawn_boxes(prediction, "no_tumor")) if sample.label == "no_tumor" else 0,
    )
    assert got == (known, right, false_boxes), why


def test_contradiction_is_between_the_stages() -> None:
    outputs = StageOutputs(np.zeros(2, dtype=np.float32), empty_boxes(), (), np.zeros(0, dtype=np.float32))
    alone = StagePredictions(outputs, {"glioma": 0.7, "no_tumor": 0.3}, detector_label="no_tumor")
    prediction = said("glioma", TRUTH, 0.9, before_fusion=alone)
    data, _ = align([prediction], Dataset((a_slice("glioma"),), ("glioma", "no_tumor"), "no_tumor"))
    assert slice_outcomes(data).contradicts.tolist() == [True]


def test_mass_and_peak_of_a_map_inside_the_box() -> None:
    heat = np.zeros((100, 100), dtype=np.float32)
    heat[10:30, 10:30] = 1.0  # 400 pixels inside the box
    heat[80:90, 80:90] = 1.0  # 100 outside
    glioma = a_slice("glioma")
    assert map_inside_boxes(said("glioma", TRUTH, 0.9, heatmap=heat), glioma, "no_tumor") == pytest.approx((0.8, 1))
    heat[85, 85] = 1.5  # most of the mass may be inside, and the peak outside
    assert map_inside_boxes(said("glioma", TRUTH, 0.9, heatmap=heat), glioma, "no_tumor").peak == 0
    for why, heatmap, sample in (
        ("no map", None, glioma),
        ("nothing speaks for the class", np.zeros_like(heat), glioma),
        ("no tumour", heat, a_slice("no_tumor")),
    ):
        assert np.isnan(map_inside_boxes(said("glioma", TRUTH, 0.9, heatmap=heatmap), sample, "no_tumor")).all(), why


boxes = st.lists(st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(1, 50)] * 2), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(boxes, boxes)
def test_iou_is_symmetric_and_bounded(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    a, b = (np.array([(x, y, x + w, y + h) for x, y, w, h in v], dtype=np.float32) for v in (first, second))
    there, back = pairwise_iou(a, b), pairwise_iou(b, a)
    assert there == pytest.approx(back.T)
    assert ((there >= 0) & (there <= 1)).all()
    assert np.diag(pairwise_iou(a, a)) == pytest.approx(np.ones(len(a)))
    assert there == pytest.approx(coco_iou(xywh(a), xywh(b), [0] * len(b)), abs=1e-12)


def xywh(xyxy: np.ndarray) -> np.ndarray:
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1).astype(np.float64)


def test_whole_groups_are_drawn_and_the_chunk_changes_nothing() -> None:
    groups = np.array([7, 7, 3, 9, 9, 9])
    rows = np.concatenate(list(resamples(groups, 50, 0, chunk=7)))
    assert (rows == np.concatenate(list(resamples(groups, 50, 0, chunk=50)))).all()
    assert (rows[:, 0] == rows[:, 1]).all()
    assert (rows[:, 3] == rows[:, 5]).all()
    assert (rows[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_groups_widen_the_interval_by_as_much_as_theory_says() -> None:
    random = np.random.default_rng(0)
    sources = (random.random(100) < 0.8).astype(float)
    right = np.repeat(sources, 4)  # every slice four times: the uncertainty is that of 100, not of 400
    grouped = bootstrap(ratio(right, np.ones(400), "accuracy"), np.repeat(np.arange(100), 4), count=2000, seed=0)[
        "accuracy"
    ]
    share = sources.mean()
    assert grouped.std() == pytest.approx(np.sqrt(share * (1 - share) / 100), rel=0.08)
    low, high = interval(grouped)  # type: ignore[misc]
    assert low < share < high


def test_a_share_without_spread_gets_an_exact_interval() -> None:
    from scipy.stats import binomtest

    expected = binomtest(12, 12).proportion_ci(method="exact")
    assert exact_interval(True, 12) == pytest.approx([expected.low, expected.high])
    assert exact_interval(False, 12) == pytest.approx([1 - expected.high, 1 - expected.low])
    assert exact_interval(True, 0) is None


def test_bias_of_resampling_is_taken_out_twice() -> None:
    # Resampling lifts by half a deviation what sampling has lifted as much already: the truth lies below the figure.
    draws = np.random.default_rng(0).normal(10.5, 1.0, 200_000)
    assert bias_corrected_interval(draws, 10.0) == pytest.approx([9.5 - 1.96, 9.5 + 1.96], abs=0.1)
    assert bias_corrected_interval(draws - 0.5, 10.0) == pytest.approx(interval(draws - 0.5), abs=0.03), "no bias"
    low, high = bias_corrected_interval(draws[:500], 30.0)  # type: ignore[misc]
    assert low <= 30.0 <= high, "never without the figure itself"
    assert bias_corrected_interval(np.array([np.nan] * 2 + [1.0] * 8), 1.0) is None
    assert bias_corrected_interval(np.ones(50), 1.0 - 1e-12) == pytest.approx([1.0, 1.0]), "but for rounding"


def test_interval_of_what_is_mostly_unknown_is_none() -> None:
    assert interval(np.array([np.nan] * 2 + [1.0] * 8)) is None
    assert interval(np.linspace(0, 1, 1001)) == pytest.approx([0.025, 0.975])


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected", "why"),
    [
        (0, 0, 1.0, "they agree on every slice"),
        (5, 0, 2 / 32, "five against none: 2 * 0.5**5"),
        (3, 3, 1.0, "balanced"),
    ],
)
def test_exact_mcnemar(only_first: int, only_second: int, expected: float, why: str) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True] * 4, dtype=bool)
    second = np.array([False] * only_first + [True] * only_second + [True] * 4, dtype=bool)
    assert mcnemar_exact(first, second) == pytest.approx(expected), why


def test_paired_p() -> None:
    assert paired_p(np.zeros(99)) == 1.0
    assert paired_p(np.ones(99)) == pytest.approx(0.02)
    assert paired_p(np.array([np.nan])) is None
