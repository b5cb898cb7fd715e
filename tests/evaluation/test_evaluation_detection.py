"""Box figures against pycocotools and a straightforward second implementation; FROC, sizes, one box per slice."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from evaluation_examples import SIDE, TUMORS, example
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectclf.evaluation.aligned import align, boxes_of
from detectclf.evaluation.box_figures import ap_by_size, box_figures, false_alarms, stage_boxes
from detectclf.evaluation.detection import MeanAveragePrecision, average_precisions, map_figures, mean_average_precision
from detectclf.evaluation.froc import FROC_RATES, froc_curve, froc_points
from detectclf.evaluation.matching import EVERY_SIZE, Boxes, match_any_class, match_by_class
from detectclf.evaluation.sections import ClassAP
from detectclf.evaluation.weighted import joined, published

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


def boxes_columns(boxes: Boxes) -> tuple[Any, ...]:
    return boxes.truth, boxes.truth_labels, boxes.found, boxes.found_labels, boxes.scores


def coco_map(boxes: Boxes, classes: Sequence[str]) -> MeanAveragePrecision:
    return mean_average_precision(*boxes_columns(boxes), classes)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_map_agrees_with_a_second_implementation(seed: int) -> None:
    boxes = example_boxes(60, seed)
    figures = coco_map(boxes, TUMORS)
    thresholds = np.linspace(0.5, 0.95, 10)
    table = np.array([[plain_average_precision(boxes, c, t) for t in thresholds] for c in TUMORS])
    assert figures.mAP == pytest.approx(table.mean(), abs=1e-6)
    assert figures.mAP50 == pytest.approx(table[:, 0].mean(), abs=1e-6)
    assert figures.mAP75 == pytest.approx(table[:, 5].mean(), abs=1e-6)
    for row, name in zip(table, TUMORS, strict=True):
        assert pytest.approx(row.mean(), abs=1e-6) == figures.per_class[name].AP


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
    figures = coco_map(boxes, ("a", "b"))
    for name in ("a", "b"):
        plain = plain_average_precision(boxes, name, 0.5)
        got = figures.per_class[name].AP50
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
    figures = coco_map(perfect, ("a", "b"))
    assert figures.mAP is None or figures.mAP == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(some_boxes(), st.sampled_from((2, 5, 1000)))
def test_any_boxes_give_the_figures_of_pycocotools(boxes: Boxes, levels: int) -> None:
    # Few levels make equal scores, within and across classes.
    tied = Boxes(*boxes_columns(boxes)[:4], [np.ceil(s * levels) / levels for s in boxes.scores])
    assert_as_pycocotools(tied, ("a", "b"))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_real_looking_split_gives_the_figures_of_pycocotools(seed: int) -> None:
    assert_as_pycocotools(example_boxes(60, seed), TUMORS)


def test_only_the_hundred_best_boxes_of_a_slice_count_as_in_pycocotools() -> None:
    random = np.random.default_rng(0)
    many = (np.concatenate([BOX] * 130) + random.normal(0, 6, (130, 4))).astype(np.float32)
    scores = np.round(random.random(130), 2).astype(np.float32)
    labels = tuple(random.choice(["a", "b"], 130).tolist())
    truth = np.concatenate([BOX, BOX + 8, BOX + 40])
    assert_as_pycocotools(Boxes([truth], [("a", "b", "b")], [many], [labels], [scores]), ("a", "b"))


def assert_as_pycocotools(boxes: Boxes, classes: tuple[str, ...]) -> None:
    """AP and recall per class, class-agnostic AP in three ranges of area, and matches at an IoU of 0.1."""
    figures, ones = coco_map(boxes, classes), np.ones((1, len(boxes)))
    oracle = pycocotools_evaluation(boxes, classes)
    if oracle is None:
        assert (figures.mAP, figures.mAP50, figures.mAP75) == (None, None, None)
        return
    precision, recall = oracle.eval["precision"][:, :, :, 0, -1], oracle.eval["recall"][:, :, 0, -1]
    expected = [mean_known(precision), mean_known(precision[0]), mean_known(precision[5])]
    assert [figures.mAP, figures.mAP50, figures.mAP75] == pytest.approx(expected, abs=1e-9)
    for k, name in enumerate(classes):
        row = figures.per_class[name]
        expected = [mean_known(precision[:, :, k]), mean_known(precision[0, :, k]), mean_known(recall[0, k])]
        assert [row.AP, row.AP50, row.recall] == (
            pytest.approx(expected, abs=1e-9) if expected[0] is not None else expected
        )
    areas = [EVERY_SIZE, (0.0, 400.0), (400.0, 1e10)]
    agnostic = pycocotools_evaluation(boxes, classes, by_class=False, areas=areas)
    for k, area in enumerate(areas):
        values = average_precisions(match_any_class(boxes, classes, area=area), ones)[0]
        assert values == pytest.approx(
            [mean_known(p) if p.max() > -1 else np.nan for p in agnostic.eval["precision"][:, :, 0, k, -1]],
            abs=1e-9,
            nan_ok=True,
        )
    loose = pycocotools_evaluation(boxes, classes, by_class=False, thresholds=[0.1, 0.5])
    matches = match_any_class(boxes, classes, thresholds=np.array([0.1, 0.5]))
    rows = [row for row in loose.evalImgs if row is not None]
    hits = np.concatenate([np.asarray(row["dtMatches"]).reshape(2, -1) > 0 for row in rows], axis=1)
    scores = np.concatenate([row["dtScores"] for row in rows])
    order = np.argsort(-np.asarray(scores), kind="stable")
    assert (matches.hits == hits[:, order]).all()


def mean_known(values: Any) -> float | None:
    """pycocotools marks what it could not compute with -1."""
    known = np.asarray(values)[np.asarray(values) > -1]
    return float(known.mean()) if known.size else None


def pycocotools_evaluation(
    boxes: Boxes,
    classes: tuple[str, ...],
    *,
    by_class: bool = True,
    areas: Sequence[tuple[float, float]] = (EVERY_SIZE,),
    thresholds: Sequence[float] | None = None,
) -> Any | None:
    """The oracle: an evaluated ``COCOeval``, ``None`` where there is no true box."""
    ids = {name: k + 1 for k, name in enumerate(classes)}

    def rows(xyxy: Any, labels: Any, **more: Any) -> list[dict[str, Any]]:
        found = []
        for i, (corners, names) in enumerate(zip(xyxy, labels, strict=True)):
            for k, ((x0, y0, x1, y1), name) in enumerate(zip(np.float64(corners).tolist(), names, strict=True)):
                if name in ids:
                    row = {"image_id": i, "category_id": ids[name], "bbox": [x0, y0, x1 - x0, y1 - y0]}
                    found.append({**row, **{key: float(values[i][k]) for key, values in more.items()}})
        return found

    truths = rows(boxes.truth, boxes.truth_labels)
    if not truths:
        return None
    for number, row in enumerate(truths, start=1):  # from 1: pycocotools reads a match with id 0 as no match
        row.update(id=number, iscrowd=0, area=row["bbox"][2] * row["bbox"][3])
    found = rows(boxes.found, boxes.found_labels, score=boxes.scores)
    categories = [{"id": k, "name": name} for name, k in ids.items()]
    with contextlib.redirect_stdout(io.StringIO()):
        truth, empty = COCO(), COCO()
        images = [{"id": i} for i in range(len(boxes))]
        truth.dataset = {"info": {}, "images": images, "categories": categories, "annotations": truths}
        truth.createIndex()
        empty.dataset = {**truth.dataset, "annotations": []}
        empty.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found) if found else empty, "bbox")
        if thresholds is not None:
            evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.useCats = int(by_class)
        evaluation.params.areaRng = [list(area) for area in areas]
        evaluation.params.areaRngLbl = [str(k) for k in range(len(areas))]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def test_multiplicities_are_repeated_slices() -> None:
    boxes = example_boxes(30, 4)
    weights = np.random.default_rng(0).multinomial(len(boxes), np.full(len(boxes), 1 / len(boxes))).astype(float)
    at = np.repeat(np.arange(len(boxes)), weights.astype(int))
    columns = (boxes.truth, boxes.truth_labels, boxes.found, boxes.found_labels, boxes.scores)
    repeated = Boxes(*([column[i] for i in at] for column in columns))
    values = map_figures(match_by_class(boxes, TUMORS), "x", "per_class")(weights[None])
    expected = coco_map(repeated, TUMORS)
    # Equal scores of repeated slices stand between hits and misses in another order than all copies at once.
    assert values["x.mAP"][0] == pytest.approx(expected.mAP, abs=0.01)
    assert values["x.mAP50"][0] == pytest.approx(expected.mAP50, abs=0.01)


@pytest.mark.parametrize(
    ("truth", "found", "expected", "why"),
    [
        (BOX, BOX, 1.0, "the same box"),
        (BOX, NONE, 0.0, "nothing found"),
        (NONE, BOX, None, "no true box: no figure, not -1"),
        (NONE, NONE, None, "nothing at all"),
        (BOX, BOX + 200, 0.0, "elsewhere"),
    ],
)
def test_corner_cases_of_map(truth: np.ndarray, found: np.ndarray, expected: float | None, why: str) -> None:
    labels, said = [("a",) * len(truth)], [("a",) * len(found)]
    figures = mean_average_precision([truth], labels, [found], said, [np.full(len(found), 0.9)], ("a", "absent"))
    assert figures.mAP == pytest.approx(expected), why
    assert figures.per_class["absent"] == ClassAP(None, None, None)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different numbers"):
        mean_average_precision([BOX], [("a",)], [], [], [], ("a",))


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
    matches = match_any_class(boxes, ("a", "b"), thresholds=np.array([0.5]))
    # One false positive on two slices is a rate of 0.5: from there on the second hit is in.
    expected = [0.5 if rate < 0.5 else 1.0 for rate in FROC_RATES]
    assert froc_points(matches, 0, np.ones((1, len(boxes))))[0].tolist() == expected


def test_boxes_of_one_score_come_all_or_none_in_froc() -> None:
    # A hit and a miss of one score on one slice: no threshold has the hit without one false positive per slice.
    both = np.concatenate([BOX, BOX + 100])
    boxes = Boxes([BOX], [("a",)], [both], [("a", "a")], [one(0.9, 0.9)])
    matches = match_any_class(boxes, ("a",), thresholds=np.array([0.5]))
    assert froc_points(matches, 0, np.ones((1, len(boxes))))[0].tolist() == [
        0.0 if rate < 1 else 1.0 for rate in FROC_RATES
    ]
    assert [axis.tolist() for axis in froc_curve(matches, 0)] == [[0.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_stage_has_every_headline_figure(seed: int) -> None:
    boxes = example_boxes(40, seed)
    head = np.array([[0, 0, SIDE, SIDE]], dtype=np.float32)
    kept = [
        (t, tl, f, fl, s) if len(t) else (head, ("no_tumor",), np.concatenate([f, head]), (*fl, "no_tumor"), one(*s, 1))
        for t, tl, f, fl, s in zip(*boxes_columns(boxes), strict=True)
    ]
    whole = Boxes(*map(list, zip(*kept, strict=True)))
    values = values_of(whole)
    expected = coco_map(whole, (*TUMORS, "no_tumor"))
    assert values["detection.four_class_mAP.mAP"] == pytest.approx(expected.mAP)
    assert values["detection.mAP"] == pytest.approx(coco_map(whole, TUMORS).mAP)
    assert not any("four_class_mAP.row" in name for name in values)
    for name in ("localisation.AP", "froc_mean", "froc_iou10_mean", "recall_one_box", "mean_iou_of_hits"):
        assert 0 < values[f"detection.{name}"] <= 1, name  # type: ignore[operator]


def values_of(boxes: Boxes, classes: tuple[str, ...] = TUMORS) -> dict[str, float | None]:
    stage = stage_boxes(boxes, classes, "detection", "no_tumor")
    return published(joined(box_figures(stage)), len(boxes))


def test_figures_by_hand() -> None:
    near = np.array([[10, 10, 50, 50]], dtype=np.float32)  # IoU 0.8 with BOX
    boxes = Boxes(
        [BOX, BOX, NONE],
        [("a",), ("a",), ()],
        [np.concatenate([near, BOX + 100]), BOX + 100, BOX],
        [("b", "a"), ("a",), ("a",)],
        [one(0.9, 0.1), one(0.9), one(0.7)],
    )
    values = values_of(boxes, ("a", "b"))
    assert values["detection.recall_one_box"] == 0.5, "the best box of a slice counts whatever its class"
    assert values["detection.mean_iou_of_hits"] == pytest.approx(0.8)
    assert "detection.four_class_mAP.mAP" not in values, "no box of the negative class"
    assert false_alarms(boxes, [False, True, True], ("a", "b"), [0.5, 0.95, 0.5]).tolist() == [0.0, 0.0, 1.0]


def test_thirds_hold_every_box_once() -> None:
    stage = stage_boxes(example_boxes(80, 5), TUMORS, "detection", "no_tumor")
    thirds = [row for row in ap_by_size(stage).values() if row is not None]
    assert len(thirds) == 3
    assert sum(row.boxes for row in thirds) == stage.agnostic.truths.sum()
    assert max(row.boxes for row in thirds) - min(row.boxes for row in thirds) <= 1
    assert all(row.AP is not None and 0 <= row.AP <= 1 for row in thirds)


def test_head_boxes_count_only_in_the_four_class_figure() -> None:
    head = np.array([[0, 0, SIDE, SIDE]], dtype=np.float32)
    boxes = Boxes(
        [BOX, head], [("glioma",), ("no_tumor",)], [BOX, head], [("glioma",), ("no_tumor",)], [one(0.9), one(0.2)]
    )
    stage = stage_boxes(boxes, TUMORS, "detection", "no_tumor")
    values = values_of(boxes)
    assert stage.agnostic.truths.sum() == 1
    assert set(stage.ap_per_class(values)) == set(TUMORS)
    assert values["detection.mAP"] == pytest.approx(1.0)
    assert stage.classes_with_negative == (*TUMORS, "no_tumor")
    assert values["detection.four_class_mAP.mAP"] == pytest.approx(1.0)
