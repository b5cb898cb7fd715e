"""mAP by pycocotools against a straightforward second implementation; FROC, sizes, one box per slice."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_examples import SIDE, TUMORS, example
from hypothesis import given, settings
from hypothesis import strategies as st

from detectclf.evaluation.aligned import align, boxes_of
from detectclf.evaluation.bootstrap import map_family
from detectclf.evaluation.detection import coco_figures, mean_average_precision
from detectclf.evaluation.froc import FROC_RATES, froc_curve, froc_points
from detectclf.evaluation.headlines import figure_at
from detectclf.evaluation.localisation import detection_figures, false_alarms
from detectclf.evaluation.matching import Boxes, class_matches, evaluate_coco

BOX = np.array([[10, 10, 50, 60]], dtype=np.float32)
NONE = np.zeros((0, 4), dtype=np.float32)


def one(*scores: float) -> np.ndarray:
    return np.array(scores, dtype=np.float32)


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def plain_average_precision(boxes: Boxes, name: str, threshold: float) -> float | None:
    """101-point AP of one class, written from the definition: greedy matching by falling score, each truth once."""
    truths = [
        [np.float64(b) for b, label in zip(rows, labels, strict=True) if label == name]
        for rows, labels in zip(boxes.truth, boxes.truth_labels, strict=True)
    ]
    total = sum(map(len, truths))
    if not total:
        return None
    found = [
        (float(score), i, np.float64(b))
        for i, (rows, labels, scores) in enumerate(zip(boxes.found, boxes.found_labels, boxes.scores, strict=True))
        for b, label, score in zip(rows, labels, scores, strict=True)
        if label == name
    ]
    found.sort(key=lambda row: -row[0])
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, i, box in found:
        free = [(plain_iou(box, t), j) for j, t in enumerate(truths[i]) if (i, j) not in taken]
        best = max(free, default=(0.0, -1))
        hits.append(best[0] >= threshold)
        if hits[-1]:
            taken.add((i, best[1]))
    precisions, recalls, count = [], [], 0
    for rank, hit in enumerate(hits, start=1):
        count += hit
        precisions.append(count / rank)
        recalls.append(count / total)
    points = [
        max((p for p, r in zip(precisions, recalls, strict=True) if r >= level), default=0.0)
        for level in np.linspace(0, 1, 101)
    ]
    return float(np.mean(points))


def example_boxes(count: int, seed: int, *, fused: bool = False) -> Boxes:
    data, _ = align(*example(count, seed))
    return boxes_of(data.take(data.boxed.tolist()), fused=fused)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_map_agrees_with_a_second_implementation(seed: int) -> None:
    boxes = example_boxes(60, seed)
    figures = coco_figures(boxes, TUMORS)
    thresholds = np.linspace(0.5, 0.95, 10)
    table = np.array([[plain_average_precision(boxes, c, t) for t in thresholds] for c in TUMORS])
    assert figures.mAP == pytest.approx(table.mean(), abs=1e-6)
    assert figures.mAP50 == pytest.approx(table[:, 0].mean(), abs=1e-6)
    assert figures.mAP75 == pytest.approx(table[:, 5].mean(), abs=1e-6)
    for row, name in zip(table, TUMORS, strict=True):
        assert figures.per_class[name]["AP"] == pytest.approx(row.mean(), abs=1e-6)


coordinate = st.integers(0, 60)
box_rows = st.lists(st.tuples(coordinate, coordinate, st.integers(1, 40), st.integers(1, 40)), max_size=3)


@st.composite
def some_boxes(draw: st.DrawFn) -> Boxes:
    # Scores are all different: equal scores may be ordered either way without one being wrong.
    slices = draw(st.integers(1, 4))
    rows = [(draw(box_rows), draw(box_rows)) for _ in range(slices)]
    count = sum(len(found) for _, found in rows)
    order = iter(draw(st.permutations(range(count))))

    def xyxy(values: list[tuple[int, int, int, int]]) -> np.ndarray:
        return np.array([(x, y, x + w, y + h) for x, y, w, h in values], dtype=np.float32).reshape(-1, 4)

    names = st.sampled_from(("a", "b"))
    return Boxes(
        [xyxy(truth) for truth, _ in rows],
        [tuple(draw(names) for _ in truth) for truth, _ in rows],
        [xyxy(found) for _, found in rows],
        [tuple(draw(names) for _ in found) for _, found in rows],
        [np.array([(1 + next(order)) / (count + 1) for _ in found], dtype=np.float32) for _, found in rows],
    )


@settings(max_examples=40, deadline=None)
@given(some_boxes())
def test_any_boxes_give_the_plain_figure_or_none(boxes: Boxes) -> None:
    figures = coco_figures(boxes, ("a", "b"))
    for name in ("a", "b"):
        plain = plain_average_precision(boxes, name, 0.5)
        got = figures.per_class[name]["AP50"]
        # One hit can have two equal IoUs; the definition leaves open which truth it takes, so only bounds hold then.
        assert (got is None) == (plain is None)
        if got is not None:
            assert 0 <= got <= 1
            if all(len(truth) <= 1 for truth in boxes.truth):
                assert got == pytest.approx(plain, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(some_boxes())
def test_truth_as_prediction_is_perfect(boxes: Boxes) -> None:
    perfect = Boxes(
        boxes.truth, boxes.truth_labels, boxes.truth, boxes.truth_labels, [np.ones(len(t)) for t in boxes.truth]
    )
    figures = coco_figures(perfect, ("a", "b"))
    assert figures.mAP is None or figures.mAP == pytest.approx(1.0)


@settings(max_examples=25, deadline=None)
@given(some_boxes())
def test_multiplicity_one_is_the_published_figure(boxes: Boxes) -> None:
    evaluation = evaluate_coco(boxes, ("a", "b"))
    figures = coco_figures(boxes, ("a", "b"))
    if evaluation is None:
        assert figures.mAP is None
        return
    family = map_family(class_matches(evaluation, len(boxes), ("a", "b")), "detection", "per_class")
    values = family(np.ones((2, len(boxes))))
    assert values["detection.mAP"] == pytest.approx([figures.mAP] * 2, abs=1e-9)
    assert values["detection.mAP50"] == pytest.approx([figures.mAP50] * 2, abs=1e-9)


def test_multiplicities_are_repeated_slices() -> None:
    boxes = example_boxes(30, 4)
    weights = np.random.default_rng(0).multinomial(len(boxes), np.full(len(boxes), 1 / len(boxes))).astype(float)
    at = np.repeat(np.arange(len(boxes)), weights.astype(int))
    columns = (boxes.truth, boxes.truth_labels, boxes.found, boxes.found_labels, boxes.scores)
    repeated = Boxes(*([column[i] for i in at] for column in columns))
    evaluation = evaluate_coco(boxes, TUMORS)
    values = map_family(class_matches(evaluation, len(boxes), TUMORS), "x", "per_class")(weights[None])
    expected = coco_figures(repeated, TUMORS)
    # Equal scores of repeated slices stand between hits and misses in another order than all copies at once.
    assert values["x.mAP"][0] == pytest.approx(expected.mAP, abs=0.01)
    assert values["x.mAP50"][0] == pytest.approx(expected.mAP50, abs=0.01)


@pytest.mark.parametrize(
    ("truth", "found", "expected", "why"),
    [
        (BOX, BOX, 1.0, "the same box"),
        (BOX, NONE, 0.0, "nothing found: pycocotools cannot load an empty list"),
        (NONE, BOX, None, "no true box: no figure, not -1"),
        (NONE, NONE, None, "nothing at all"),
        (BOX, BOX + 200, 0.0, "elsewhere"),
    ],
)
def test_corner_cases_of_map(truth: np.ndarray, found: np.ndarray, expected: float | None, why: str) -> None:
    labels, said = [("a",) * len(truth)], [("a",) * len(found)]
    figures = mean_average_precision([truth], labels, [found], said, [np.full(len(found), 0.9)], ("a", "absent"))
    assert figures.mAP == pytest.approx(expected), why
    assert figures.per_class["absent"] == {"AP": None, "AP50": None, "recall": None}


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different numbers"):
        mean_average_precision([BOX], [("a",)], [], [], [], ("a",))


def test_pycocotools_stays_silent(capfd: pytest.CaptureFixture[str]) -> None:
    mean_average_precision([BOX], [("a",)], [BOX], [("a",)], [one(0.5)], ("a",))
    assert capfd.readouterr() == ("", "")


def test_froc_by_hand() -> None:
    # Two slices, two truths. Falling scores: hit, miss, hit, miss.
    other = BOX + 100
    boxes = Boxes(
        [BOX, BOX],
        [("a",), ("a",)],
        [np.concatenate([BOX, other]), np.concatenate([BOX, other])],
        [("a", "a"), ("b", "a")],
        [one(0.9, 0.8), one(0.7, 0.6)],
    )
    evaluation = evaluate_coco(boxes, ("a", "b"), by_class=False, thresholds=np.array([0.5]))
    matches = class_matches(evaluation, 2, ("a", "b"))["*"]
    # One false positive on two slices is a rate of 0.5: from there on the second hit is in.
    expected = [0.5 if rate < 0.5 else 1.0 for rate in FROC_RATES]
    assert froc_points(matches, 0)[0].tolist() == expected


def test_boxes_of_one_score_come_all_or_none_in_froc() -> None:
    # A hit and a miss of one score on one slice: no threshold has the hit without one false positive per slice.
    both = np.concatenate([BOX, BOX + 100])
    boxes = Boxes([BOX], [("a",)], [both], [("a", "a")], [one(0.9, 0.9)])
    matches = class_matches(evaluate_coco(boxes, ("a",), by_class=False, thresholds=np.array([0.5])), 1, ("a",))["*"]
    assert froc_points(matches, 0)[0].tolist() == [0.0 if rate < 1 else 1.0 for rate in FROC_RATES]
    assert [axis.tolist() for axis in froc_curve(matches, 0)] == [[0.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_resampled_figure_is_the_published_one_at_multiplicity_one(seed: int) -> None:
    boxes = example_boxes(40, seed)
    head = np.array([[0, 0, SIDE, SIDE]], dtype=np.float32)
    rows = zip(boxes.truth, boxes.truth_labels, boxes.found, boxes.found_labels, boxes.scores, strict=True)
    kept = [
        (t, tl, f, fl, s) if len(t) else (head, ("no_tumor",), np.concatenate([f, head]), (*fl, "no_tumor"), one(*s, 1))
        for t, tl, f, fl, s in rows
    ]
    result = detection_figures(Boxes(*map(list, zip(*kept, strict=True))), TUMORS, "detection", negative="no_tumor")
    values = {k: v[0] for family in result.families for k, v in family(np.ones((1, len(kept)))).items()}
    names = ("mAP", "localisation.AP", "four_class_mAP.mAP", "froc_mean", "recall_one_box")
    assert {f"detection.{name}" for name in names} <= set(values)
    for name, value in values.items():
        assert value == pytest.approx(figure_at({"detection": result.figures}, name), abs=1e-9), name


def test_figures_by_hand() -> None:
    near = np.array([[10, 10, 50, 50]], dtype=np.float32)  # IoU 0.8 with BOX
    boxes = Boxes(
        [BOX, BOX, NONE],
        [("a",), ("a",), ()],
        [np.concatenate([near, BOX + 100]), BOX + 100, BOX],
        [("b", "a"), ("a",), ("a",)],
        [one(0.9, 0.1), one(0.9), one(0.7)],
    )
    figures = detection_figures(boxes, ("a", "b"), "detection", negative="healthy").figures
    assert figures["recall_one_box"] == 0.5, "the best box of a slice counts whatever its class"
    assert figures["mean_iou_of_hits"] == pytest.approx(0.8)
    assert figures["four_class_mAP"] is None, "no box of the negative class"
    counts, wells = false_alarms(boxes, [False, True, True], ("a", "b"), [0.5, 0.95, 0.5])
    assert (counts.tolist(), wells) == ([0.0, 0.0, 1.0], 2)


def test_thirds_hold_every_box_once() -> None:
    figures = detection_figures(example_boxes(80, 5), TUMORS, "detection", negative="no_tumor").figures
    thirds = figures["by_size"]
    assert sum(row["boxes"] for row in thirds.values()) == figures["boxes"]
    assert max(row["boxes"] for row in thirds.values()) - min(row["boxes"] for row in thirds.values()) <= 1
    assert all(0 <= row["AP"] <= 1 for row in thirds.values())


def test_head_boxes_count_only_in_the_four_class_figure() -> None:
    head = np.array([[0, 0, SIDE, SIDE]], dtype=np.float32)
    boxes = Boxes(
        [BOX, head], [("glioma",), ("no_tumor",)], [BOX, head], [("glioma",), ("no_tumor",)], [one(0.9), one(0.2)]
    )
    figures = detection_figures(boxes, TUMORS, "detection", negative="no_tumor").figures
    assert figures["boxes"] == 1
    assert figures["mAP"] == pytest.approx(1.0)
    assert figures["four_class_mAP"]["classes"] == [*TUMORS, "no_tumor"]
    assert figures["four_class_mAP"]["mAP"] == pytest.approx(1.0)
