"""Which predicted box hits which true box, by the rules of the COCO evaluation code.

Source: ``COCOeval.evaluateImg`` of pycocotools (Lin et al. 2014), which the tests compare every figure with. Its
matches come as nested lists of dicts; bootstrap, FROC and curves need arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.boxes import pairwise_iou
from detectclf.evaluation.weighted import Bools, Floats, Indices, Ints
from detectclf.types import ANY_TUMOR, FloatArray, empty_boxes

COCO_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
MAX_BOXES = 100
EVERY_SIZE = (0.0, 1e10)
"""COCO's range of areas that leaves no box out, square pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """True and predicted boxes of the same slices, in the same order.

    Attributes:
        truth, truth_labels: per slice ``(N, 4)`` float32 xyxy pixels, and the class name of each.
        found, found_labels, scores: the same for the predicted boxes, with ``(N,)`` scores.
    """

    truth: Sequence[FloatArray]
    truth_labels: Sequence[Sequence[str]]
    found: Sequence[FloatArray]
    found_labels: Sequence[Sequence[str]]
    scores: Sequence[FloatArray]

    def __post_init__(self) -> None:
        lengths = {len(v) for v in (self.truth, self.truth_labels, self.found, self.found_labels, self.scores)}
        if len(lengths) != 1:
            raise ValueError(f"truth and predictions are of different numbers of slices: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.truth)

    def of_known_type(self) -> Boxes:
        """The same slices, without any box on those with a tumour of unknown type.

        There the class of no box is right or wrong.
        """
        unknown = [ANY_TUMOR in labels for labels in self.truth_labels]
        if not any(unknown):
            return self

        def kept(rows: Sequence[Any], nothing: Any) -> list[Any]:
            return [nothing if out else row for row, out in zip(rows, unknown, strict=True)]

        return Boxes(
            kept(self.truth, empty_boxes()),
            kept(self.truth_labels, ()),
            kept(self.found, empty_boxes()),
            kept(self.found_labels, ()),
            kept(self.scores, np.zeros(0, dtype=np.float32)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Matches over all slices; ``D`` predicted boxes in order of falling score, ``T`` IoU thresholds.

    Attributes:
        slices: ``(D,)`` position of the slice of each predicted box.
        scores: ``(D,)``, falling; ties in pycocotools' order.
        hits: ``(T, D)`` whether the box is matched to a true one.
        truths: ``(I,)`` number of true boxes on each slice.
        ignored: ``(T, D)`` boxes that count neither as hit nor as false positive because they lie outside the range of
            areas; ``None`` where there are none.
    """

    slices: Indices
    scores: Floats
    hits: Bools
    truths: Ints
    ignored: Bools | None = None


def match_by_class(boxes: Boxes, classes: Sequence[str]) -> dict[str, Matches]:
    """Matches at the COCO thresholds of each of ``classes`` that has a true box."""
    found = {name: match_any_class(boxes, [name]) for name in classes}
    return {name: matches for name, matches in found.items() if matches.truths.any()}


def match_any_class(
    boxes: Boxes,
    classes: Sequence[str],
    *,
    thresholds: Floats = COCO_THRESHOLDS,
    area: tuple[float, float] = EVERY_SIZE,
) -> Matches:
    """Matches of the boxes of ``classes`` as if they were one class.

    Args:
        boxes: true and predicted boxes.
        classes: boxes of other classes are left out on both sides.
        thresholds: ``(T,)`` IoU thresholds.
        area: smallest and largest area in square pixels of the true boxes that count, both included.
    """
    ranks = {name: k for k, name in enumerate(classes)}
    truths = np.zeros(len(boxes), dtype=np.int64)
    scores, hits, ignored = [np.zeros(0)], [_no_boxes(thresholds)], [_no_boxes(thresholds)]
    for i in range(len(boxes)):
        truth, _ = _of_classes(boxes.truth[i], boxes.truth_labels[i], np.zeros(len(boxes.truth[i])), ranks)
        found, found_scores = _of_classes(boxes.found[i], boxes.found_labels[i], boxes.scores[i], ranks)
        outside = _outside(truth, area)
        truths[i] = np.count_nonzero(~outside)
        order = np.argsort(-found_scores, kind="stable")[:MAX_BOXES]
        matched = _match(pairwise_iou(found[order], truth), thresholds, outside)
        on_ignored = (matched >= 0) & np.append(outside, False)[matched]
        scores.append(found_scores[order])
        hits.append((matched >= 0) & ~on_ignored)
        ignored.append(on_ignored | ((matched < 0) & _outside(found[order], area)))
    slices = np.repeat(np.arange(len(boxes)), np.array([len(s) for s in scores[1:]], dtype=np.intp))
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    left_out = np.concatenate(ignored, axis=1)[:, order]
    return Matches(
        slices[order],
        all_scores[order],
        np.concatenate(hits, axis=1)[:, order],
        truths,
        left_out if left_out.any() else None,
    )


def _no_boxes(thresholds: Floats) -> Bools:
    return np.zeros((len(thresholds), 0), dtype=np.bool_)


def _of_classes(
    xyxy: FloatArray, labels: Sequence[str], scores: npt.ArrayLike, ranks: dict[str, int]
) -> tuple[FloatArray, Floats]:
    """The boxes and scores of the classes in ``ranks``, class by class: pycocotools breaks ties in that order."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(labels) == len(xyxy) == len(values):
        raise ValueError(f"{len(xyxy)} boxes with {len(labels)} labels and {len(values)} scores")
    keep = sorted((k for k, label in enumerate(labels) if label in ranks), key=lambda k: ranks[labels[k]])
    return np.asarray(xyxy).reshape(-1, 4)[keep], values[keep]


def _outside(xyxy: FloatArray, area: tuple[float, float]) -> Bools:
    areas = box_areas(xyxy)
    return np.asarray((areas < area[0]) | (areas > area[1]))


def box_areas(xyxy: FloatArray) -> Floats:
    """``(N,)`` areas in square pixels."""
    corners = np.asarray(xyxy, dtype=np.float64)
    return np.asarray((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]))


def _match(overlaps: Floats, thresholds: Floats, outside: Bools) -> Indices:
    """Greedy matching on one slice: each box in turn takes the free true box that it overlaps most.

    Args:
        overlaps: ``(D, G)`` IoU, the boxes in order of falling score.
        thresholds: ``(T,)`` least IoU of a match.
        outside: ``(G,)`` true boxes that are only taken where no other fits.

    Returns:
        ``(T, D)`` index of the true box, -1 where there is none.
    """
    count, truths = overlaps.shape
    matched = np.full((len(thresholds), count), -1, dtype=np.intp)
    if not truths:
        return matched
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]  # rounding must not deny a perfect box
    free = np.ones((len(thresholds), truths), dtype=np.bool_)
    for k, row in enumerate(overlaps):
        fits = free & (row >= least)
        preferred = fits & ~outside
        choice = np.where(preferred.any(axis=1, keepdims=True), preferred, fits)
        # Of equal overlaps pycocotools takes the last.
        best = truths - 1 - np.where(choice, row, -1.0)[:, ::-1].argmax(axis=1)
        rows = np.flatnonzero(choice.any(axis=1))
        matched[rows, k] = best[rows]
        free[rows, best[rows]] = False
    return matched
