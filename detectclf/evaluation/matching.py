"""Which box hits which truth: pycocotools' own matching, taken out of it as arrays.

The published figures are pycocotools' (:mod:`detectclf.evaluation.detection`). The arrays here are what the bootstrap,
FROC and the curves need: pycocotools keeps them as nested lists of dicts and can only make one figure from them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.types import FloatArray

Floats = npt.NDArray[np.float64]

COCO_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)
MAX_BOXES = 100


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


@dataclass(frozen=True, slots=True, eq=False)
class ClassMatches:
    """Matches of one class over all slices; ``D`` detections in order of falling score, ``T`` IoU thresholds.

    Attributes:
        slices: ``(D,)`` position of the slice that each detection lies on.
        scores: ``(D,)``, falling; ties in pycocotools' order.
        hits: ``(T, D)`` whether the detection is matched to a true box.
        truths: ``(I,)`` true boxes of the class on each slice.
    """

    slices: npt.NDArray[np.intp]
    scores: Floats
    hits: npt.NDArray[np.bool_]
    truths: npt.NDArray[np.int64]


def evaluate_coco(
    boxes: Boxes,
    classes: Sequence[str],
    *,
    thresholds: Floats = COCO_THRESHOLDS,
    by_class: bool = True,
    areas: Sequence[tuple[float, float]] = ((0.0, 1e10),),
) -> Any | None:
    """Runs pycocotools' ``COCOeval`` (evaluate and accumulate) silently.

    Boxes of classes outside ``classes`` are left out on both sides.

    Returns:
        The ``COCOeval``, or ``None`` where there is no true box (then no figure has a meaning).
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ids = {name: k + 1 for k, name in enumerate(classes)}
    truths = [row for i in range(len(boxes)) for row in _rows(i, boxes.truth[i], boxes.truth_labels[i], ids)]
    if not truths:
        return None
    found = [
        row for i in range(len(boxes)) for row in _rows(i, boxes.found[i], boxes.found_labels[i], ids, boxes.scores[i])
    ]
    for number, row in enumerate(truths, start=1):  # from 1: pycocotools reads a match with id 0 as no match
        row.update(id=number, iscrowd=0, area=row["bbox"][2] * row["bbox"][3])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(len(boxes))],
            "categories": [{"id": k, "name": name} for name, k in ids.items()],
            "annotations": truths,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found) if found else _no_results(truth), "bbox")
        evaluation.params.iouThrs = np.asarray(thresholds, dtype=np.float64)
        evaluation.params.recThrs = RECALL_POINTS
        evaluation.params.maxDets = [1, 10, MAX_BOXES]
        evaluation.params.useCats = int(by_class)
        evaluation.params.areaRng = [list(a) for a in areas]
        evaluation.params.areaRngLbl = [str(k) for k in range(len(areas))]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _rows(
    index: int, xyxy: FloatArray, labels: Sequence[str], ids: dict[str, int], scores: FloatArray | None = None
) -> list[dict[str, Any]]:
    corners = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4).tolist()
    rows: list[dict[str, Any]] = []
    for k, ((x0, y0, x1, y1), label) in enumerate(zip(corners, labels, strict=True)):
        if label in ids:
            row: dict[str, Any] = {"image_id": index, "category_id": ids[label], "bbox": [x0, y0, x1 - x0, y1 - y0]}
            rows.append(row if scores is None else {**row, "score": float(scores[k])})
    return rows


def _no_results(truth: Any) -> Any:
    """An empty result set: ``loadRes([])`` raises IndexError in pycocotools."""
    from pycocotools.coco import COCO

    empty = COCO()
    empty.dataset = {
        "info": {},
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [],
    }
    empty.createIndex()
    return empty


def class_matches(evaluation: Any, slices: int, classes: Sequence[str], *, area: int = 0) -> dict[str, ClassMatches]:
    """The matches inside an evaluated ``COCOeval``, per class that has a true box (class-agnostic: one, ``*``).

    Args:
        evaluation: from :func:`evaluate_coco`.
        slices: how many slices were evaluated.
        classes: as given to :func:`evaluate_coco`.
        area: index of the area range.
    """
    names = list(classes) if evaluation.params.useCats else ["*"]
    areas = len(evaluation.params.areaRng)
    matches: dict[str, ClassMatches] = {}
    for k, name in enumerate(names):
        start = (k * areas + area) * slices
        found = _gather(evaluation.evalImgs[start : start + slices], slices, len(evaluation.params.iouThrs))
        if found.truths.any():
            matches[name] = found
    return matches


def _gather(rows: Sequence[dict[str, Any] | None], slices: int, thresholds: int) -> ClassMatches:
    truths = np.zeros(slices, dtype=np.int64)
    where: list[npt.NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
    scores: list[Floats] = [np.zeros(0)]
    hits: list[npt.NDArray[np.bool_]] = [np.zeros((thresholds, 0), dtype=np.bool_)]
    for i, row in enumerate(rows):
        if row is None:
            continue
        truths[i] = int(np.count_nonzero(np.asarray(row["gtIgnore"]) == 0))
        count = len(row["dtScores"])
        where.append(np.full(count, i, dtype=np.intp))
        scores.append(np.asarray(row["dtScores"], dtype=np.float64))
        hits.append(np.asarray(row["dtMatches"]).reshape(thresholds, count) > 0)
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="mergesort")
    return ClassMatches(np.concatenate(where)[order], all_scores[order], np.concatenate(hits, axis=1)[:, order], truths)
