"""Every box figure of one stage: AP by class, class-agnostic and by size, FROC, one box per slice, false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectclf.boxes import pairwise_iou
from detectclf.evaluation.detection import ap_figures, ap_per_class, map_figures, precision_recall
from detectclf.evaluation.froc import FROC_RATES, froc_curve, froc_figures, froc_points, rate_name
from detectclf.evaluation.matching import (
    COCO_THRESHOLDS,
    EVERY_SIZE,
    Boxes,
    Matches,
    box_areas,
    match_any_class,
    match_by_class,
)
from detectclf.evaluation.sections import BoxFigures, ClassAP, FourClassMAP, Localisation, SizeThird
from detectclf.evaluation.weighted import Floats, Values, WeightedFigures, known, published, ratio
from detectclf.types import ANY_TUMOR

HIT_IOU = 0.5
FROC_IOUS: dict[str, float] = {"froc_iou10": 0.1, "froc": HIT_IOU}
"""Key in report.json -> IoU of a hit: 0.1 is the lesion-detection convention, 0.5 the object-detection one."""
SIZES = ("small", "medium", "large")


@dataclass(frozen=True, slots=True, eq=False)
class StageBoxes:
    """The boxes of one stage on the slices whose boxes are known, matched to the true ones.

    Attributes:
        boxes: of those slices.
        tumors: the tumour classes.
        negative: the negative class.
        prefix: section of the report: ``detection`` or ``combined``.
        by_class: matches of each tumour class that has a true box, without the slices with a tumour of unknown type.
        agnostic: matches of all tumour boxes as one class, those of unknown type too, at the COCO thresholds.
        froc: the same at :data:`FROC_IOUS`.
    """

    boxes: Boxes
    tumors: tuple[str, ...]
    negative: str | None
    prefix: str
    by_class: dict[str, Matches]
    agnostic: Matches
    froc: Matches

    @property
    def any_type(self) -> tuple[str, ...]:
        """The labels of true tumour boxes, that of unknown types included."""
        return (*self.tumors, ANY_TUMOR)

    @property
    def ap_table(self) -> str:
        """Key of the per-class table in its section; ``combined.per_class`` already holds the classification's."""
        return "per_class" if self.prefix == "detection" else "AP_per_class"

    def ap_per_class(self, values: Values) -> dict[str, ClassAP]:
        """AP and recall of each tumour class, from the published ``values`` of :func:`box_figures`."""
        return ap_per_class(self.by_class, self.tumors, values, f"{self.prefix}.{self.ap_table}")

    @property
    def classes_with_negative(self) -> tuple[str, ...]:
        """The tumour classes and the negative one, where the latter has true boxes (``negative_boxes: keep``)."""
        boxed = self.negative is not None and any(self.negative in labels for labels in self.boxes.truth_labels)
        return (*self.tumors, str(self.negative)) if boxed else ()


def stage_boxes(boxes: Boxes, tumors: Sequence[str], prefix: str, negative: str | None) -> StageBoxes:
    """Matches ``boxes`` of the slices whose boxes are known; the other arguments as in :class:`StageBoxes`."""
    any_type = (*tumors, ANY_TUMOR)
    return StageBoxes(
        boxes,
        tuple(tumors),
        negative,
        prefix,
        match_by_class(boxes.of_known_type(), tumors),
        match_any_class(boxes, any_type),
        match_any_class(boxes, any_type, thresholds=np.array(list(FROC_IOUS.values()))),
    )


def box_figures(stage: StageBoxes) -> list[WeightedFigures]:
    """The headline box figures over the slices of ``stage``; figures without any true box are left out."""
    prefix = stage.prefix
    functions = _one_box(stage)
    if stage.agnostic.truths.any():
        functions += [
            map_figures(stage.by_class, prefix, stage.ap_table),
            ap_figures(stage.agnostic, f"{prefix}.localisation"),
            *(froc_figures(stage.froc, t, f"{prefix}.{key}_mean") for t, key in enumerate(FROC_IOUS)),
        ]
    if stage.classes_with_negative:
        known = stage.boxes.of_known_type()
        whole = map_figures(match_by_class(known, stage.classes_with_negative), f"{prefix}.four_class_mAP", "row")
        functions.append(lambda weights: {k: v for k, v in whole(weights).items() if ".row." not in k})
    return functions


def _one_box(stage: StageBoxes) -> list[WeightedFigures]:
    """Recall and mean IoU of the best tumour box of each slice, whatever its class."""
    boxes, count = stage.boxes, len(stage.boxes)
    hits, overlap = np.zeros(count), np.zeros(count)
    for i in range(count):
        truth = np.asarray(boxes.truth[i])[[label in stage.any_type for label in boxes.truth_labels[i]]]
        keep = [label in stage.tumors for label in boxes.found_labels[i]]
        found, scores = np.asarray(boxes.found[i])[keep], np.asarray(boxes.scores[i])[keep]
        if len(truth) and len(found):
            best = float(pairwise_iou(found[[int(scores.argmax())]], truth).max())
            hits[i], overlap[i] = (1.0, best) if best >= HIT_IOU else (0.0, 0.0)
    return [
        ratio(hits, stage.agnostic.truths, f"{stage.prefix}.recall_one_box"),
        ratio(overlap, hits, f"{stage.prefix}.mean_iou_of_hits"),
    ]


def false_alarms(boxes: Boxes, healthy: Sequence[bool], tumors: Sequence[str], thresholds: Sequence[float]) -> Floats:
    """``(I,)`` tumour boxes on each healthy slice that score at least its threshold; 0 on the other slices."""
    counts = [
        sum(label in tumors and score >= threshold for label, score in zip(labels, scores, strict=True))
        if negative
        else 0
        for labels, scores, negative, threshold in zip(
            boxes.found_labels, boxes.scores, healthy, thresholds, strict=True
        )
    ]
    return np.array(counts, dtype=np.float64)


def box_section(stage: StageBoxes, values: Values, *, healthy: int, box_threshold: float | None) -> BoxFigures:
    """The box figures of the report.

    Args:
        stage: the matched boxes.
        values: published values of :func:`box_figures` and of the false alarms.
        healthy: healthy slices.
        box_threshold: score from which boxes are drawn, ``None`` where slices differ in it.
    """

    def value(key: str) -> float | None:
        return values.get(f"{stage.prefix}.{key}")

    with_negative = stage.classes_with_negative
    return BoxFigures(
        mAP=value("mAP"),
        mAP50=value("mAP50"),
        mAP75=value("mAP75"),
        localisation=Localisation(value("localisation.AP"), value("localisation.AP50"), value("localisation.AP75")),
        four_class_mAP=FourClassMAP(
            value("four_class_mAP.mAP"), value("four_class_mAP.mAP50"), value("four_class_mAP.mAP75"), with_negative
        )
        if with_negative
        else None,
        froc_iou10=_froc_points(stage, "froc_iou10"),
        froc_iou10_mean=value("froc_iou10_mean"),
        froc=_froc_points(stage, "froc"),
        froc_mean=value("froc_mean"),
        recall_one_box=value("recall_one_box"),
        mean_iou_of_hits=value("mean_iou_of_hits"),
        false_alarms_per_healthy_slice=value("false_alarms_per_healthy_slice"),
        healthy_slices=healthy,
        box_threshold=box_threshold,
    )


def _froc_points(stage: StageBoxes, key: str) -> dict[str, float | None]:
    points = froc_points(stage.froc, list(FROC_IOUS).index(key), np.ones((1, len(stage.boxes))))[0]
    return {rate_name(rate): known(point) for rate, point in zip(FROC_RATES, points, strict=True)}


def ap_by_size(stage: StageBoxes) -> dict[str, SizeThird | None]:
    """Class-agnostic AP over thirds of the true boxes by area."""
    areas = _true_areas(stage)
    if not areas.size:
        return dict.fromkeys(SIZES)
    first, second = (float(v) for v in np.quantile(areas, [1 / 3, 2 / 3]))
    # COCO's ranges hold both ends, so each third starts one step above the end of the one before.
    starts = (0.0, float(np.nextafter(first, np.inf)), float(np.nextafter(second, np.inf)))
    thirds: dict[str, SizeThird | None] = {}
    for name, low, high in zip(SIZES, starts, (first, second, EVERY_SIZE[1]), strict=True):
        matches = match_any_class(stage.boxes, stage.any_type, thresholds=COCO_THRESHOLDS, area=(low, high))
        values = published(ap_figures(matches, name), len(stage.boxes))
        thirds[name] = SizeThird(
            AP=values[f"{name}.AP"],
            AP50=values[f"{name}.AP50"],
            boxes=int(((areas >= low) & (areas <= high)).sum()),
            side_px=(round(low**0.5, 1), None if high == EVERY_SIZE[1] else round(high**0.5, 1)),
        )
    return thirds


def _true_areas(stage: StageBoxes) -> Floats:
    rows = [
        box_areas(np.asarray(xyxy).reshape(-1, 4))[[label in stage.any_type for label in labels]]
        for xyxy, labels in zip(stage.boxes.truth, stage.boxes.truth_labels, strict=True)
    ]
    return np.concatenate([np.zeros(0), *rows])


def box_curves(stage: StageBoxes) -> dict[str, tuple[Floats, Floats]]:
    """``PREFIX.pr.CLASS`` and ``PREFIX.froc.IOU`` -> (x, y) for the plots."""
    curves = {f"{stage.prefix}.pr.{name}": precision_recall(matches) for name, matches in stage.by_class.items()}
    if stage.agnostic.truths.any():
        for t, iou in enumerate(FROC_IOUS.values()):
            curves[f"{stage.prefix}.froc.{iou:g}"] = froc_curve(stage.froc, t)
    return curves
