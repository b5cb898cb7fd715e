"""Detection figures beyond mAP: where, whatever the class; by size; at one box per slice; false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectclf.evaluation.bootstrap import Family, froc_family, localisation_family, map_family, ratio
from detectclf.evaluation.detection import MeanAveragePrecision, coco_figures, mean_known
from detectclf.evaluation.froc import FROC_RATES, froc_curve, froc_points, rate_name
from detectclf.evaluation.joint import HIT_IOU, iou_matrix
from detectclf.evaluation.matching import Boxes, ClassMatches, Floats, class_matches, evaluate_coco

FROC_IOUS: tuple[float, ...] = (0.1, 0.5)
"""0.1 is the lesion-detection convention (a click would land on it), 0.5 the detection one."""

SIZES = ("small", "medium", "large")


@dataclass(slots=True)
class DetectionFigures:
    """Figures of one set of boxes, what they are resampled from, and their curves.

    Attributes:
        figures: the ``detection`` object of report.json, without false alarms.
        families: for the bootstrap, over the slices that the boxes were given for.
        curves: name -> (x, y) for the plots.
    """

    figures: dict[str, Any]
    families: list[Family] = field(default_factory=list)
    curves: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)


def detection_figures(boxes: Boxes, tumors: Sequence[str], prefix: str, *, negative: str | None) -> DetectionFigures:
    """Every detection figure over the tumour classes ``tumors``.

    Args:
        boxes: of the slices whose boxes are known.
        tumors: the tumour classes.
        prefix: name of the stage in the intervals: ``detection`` or ``combined``.
        negative: the negative class; where it has true boxes (``negative_boxes: keep``) the mAP over all box classes
            is given too, under its own name.
    """
    coco = coco_figures(boxes, tumors)
    out = DetectionFigures(
        {
            "slices": len(boxes),
            "boxes": sum(label in tumors for labels in boxes.truth_labels for label in labels),
            **_means(coco),
            "per_class": coco.per_class,
        }
    )
    evaluation = evaluate_coco(boxes, tumors)
    if evaluation is not None:
        matches = class_matches(evaluation, len(boxes), tumors)
        # `combined.per_class` is the classification's, so the boxes' table has its own name there.
        out.families.append(map_family(matches, prefix, "per_class" if prefix == "detection" else "AP_per_class"))
        out.curves.update({f"pr.{name}": precision_recall(m) for name, m in matches.items()})
    _add_localisation(out, boxes, tumors, prefix)
    _add_four_class(out, boxes, tumors, prefix, negative)
    _add_froc(out, boxes, tumors, prefix)
    _add_one_box(out, boxes, tumors, prefix)
    return out


def _means(coco: MeanAveragePrecision) -> dict[str, float | None]:
    return {"mAP": coco.mAP, "mAP50": coco.mAP50, "mAP75": coco.mAP75}


def _add_localisation(out: DetectionFigures, boxes: Boxes, tumors: Sequence[str], prefix: str) -> None:
    """Class-agnostic AP, over all boxes and over thirds of the true boxes by area."""
    areas = _true_areas(boxes, tumors)
    first, second = (float(v) for v in np.quantile(areas, [1 / 3, 2 / 3])) if areas.size else (0.0, 0.0)
    # COCO's ranges hold both ends, so each third starts one step above the end of the one before.
    thirds = [(0.0, first), (float(np.nextafter(first, 1e10)), second), (float(np.nextafter(second, 1e10)), 1e10)]
    evaluation = evaluate_coco(boxes, tumors, by_class=False, areas=[(0.0, 1e10), *thirds])
    if evaluation is None:
        out.figures |= {"localisation": {"AP": None, "AP50": None, "AP75": None}, "by_size": dict.fromkeys(SIZES)}
        return
    precision = evaluation.eval["precision"][:, :, 0, :, -1]  # (IoU, recall point, area range)
    out.figures["localisation"] = {
        "AP": mean_known(precision[:, :, 0]),
        "AP50": mean_known(precision[0, :, 0]),
        "AP75": mean_known(precision[5, :, 0]),
    }
    out.figures["by_size"] = {
        name: {
            "AP": mean_known(precision[:, :, k]),
            "AP50": mean_known(precision[0, :, k]),
            "boxes": int(((areas >= low) & (areas <= high)).sum()),
            "side_px": [round(low**0.5, 1), round(high**0.5, 1) if high < 1e10 else None],
        }
        for k, (name, (low, high)) in enumerate(zip(SIZES, thirds, strict=True), start=1)
    }
    matches = class_matches(evaluation, len(boxes), tumors)["*"]
    out.families.append(localisation_family(matches, f"{prefix}.localisation"))


def _true_areas(boxes: Boxes, tumors: Sequence[str]) -> Floats:
    return np.array(
        [
            float((b[2] - b[0]) * (b[3] - b[1]))
            for slice_boxes, labels in zip(boxes.truth, boxes.truth_labels, strict=True)
            for b, label in zip(np.asarray(slice_boxes, dtype=np.float64), labels, strict=True)
            if label in tumors
        ]
    )


def _add_four_class(
    out: DetectionFigures, boxes: Boxes, tumors: Sequence[str], prefix: str, negative: str | None
) -> None:
    out.figures["four_class_mAP"] = None
    if negative is None or not any(negative in labels for labels in boxes.truth_labels):
        return
    classes = [*tumors, negative]
    out.figures["four_class_mAP"] = {**_means(coco_figures(boxes, classes)), "classes": classes}
    matches = class_matches(evaluate_coco(boxes, classes), len(boxes), classes)
    family = map_family(matches, f"{prefix}.four_class_mAP", "per_class")
    out.families.append(lambda weights: {k: v for k, v in family(weights).items() if ".per_class." not in k})


def _add_froc(out: DetectionFigures, boxes: Boxes, tumors: Sequence[str], prefix: str) -> None:
    names = [rate_name(rate) for rate in FROC_RATES]
    evaluation = evaluate_coco(boxes, tumors, by_class=False, thresholds=np.array(FROC_IOUS))
    for t, iou in enumerate(FROC_IOUS):
        key = "froc" if iou == HIT_IOU else f"froc_iou{round(iou * 100)}"
        if evaluation is None:
            out.figures.update({key: dict.fromkeys(names), f"{key}_mean": None})
            continue
        matches = class_matches(evaluation, len(boxes), tumors)["*"]
        values = froc_points(matches, t)[0]
        out.figures[key] = dict(zip(names, values.tolist(), strict=True))
        out.figures[f"{key}_mean"] = float(values.mean())
        out.families.append(froc_family(matches, t, f"{prefix}.{key}_mean"))
        out.curves[f"froc.{iou:g}"] = froc_curve(matches, t)


def _add_one_box(out: DetectionFigures, boxes: Boxes, tumors: Sequence[str], prefix: str) -> None:
    """Recall and mean IoU when only the best tumour box of each slice is looked at, whatever its class."""
    truths, hits, overlap = np.zeros(len(boxes)), np.zeros(len(boxes)), np.zeros(len(boxes))
    for i in range(len(boxes)):
        truth = np.asarray(boxes.truth[i])[[label in tumors for label in boxes.truth_labels[i]]]
        keep = [label in tumors for label in boxes.found_labels[i]]
        found, scores = np.asarray(boxes.found[i])[keep], np.asarray(boxes.scores[i])[keep]
        truths[i] = len(truth)
        if len(truth) and len(found):
            best = float(iou_matrix(found[[int(scores.argmax())]], truth).max())
            hits[i], overlap[i] = (1.0, best) if best >= HIT_IOU else (0.0, 0.0)
    out.figures["recall_one_box"] = float(hits.sum() / truths.sum()) if truths.any() else None
    out.figures["mean_iou_of_hits"] = float(overlap.sum() / hits.sum()) if hits.any() else None
    out.families.append(ratio(hits, truths, f"{prefix}.recall_one_box"))
    out.families.append(ratio(overlap, hits, f"{prefix}.mean_iou_of_hits"))


def precision_recall(matches: ClassMatches, threshold: int = 0) -> tuple[Floats, Floats]:
    """Recall and precision (its COCO envelope) after each detection, at one row of IoU thresholds."""
    hits = matches.hits[threshold]
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return found / max(int(matches.truths.sum()), 1), np.asarray(envelope, dtype=np.float64)


def false_alarms(
    boxes: Boxes, healthy: Sequence[bool], tumors: Sequence[str], thresholds: Sequence[float]
) -> tuple[Floats, int]:
    """Tumour boxes from each slice's threshold on, on healthy slices: ``(I,)`` counts, and how many are healthy."""
    counts = [
        sum(label in tumors and score >= threshold for label, score in zip(labels, scores, strict=True)) if well else 0
        for labels, scores, well, threshold in zip(boxes.found_labels, boxes.scores, healthy, thresholds, strict=True)
    ]
    return np.array(counts, dtype=np.float64), sum(healthy)
