"""``model.json`` of an export: all that a program needs, which is not detectclf, to use the graphs beside it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from detectclf.models.bundle import Bundle
from detectclf.models.bundle_arrays import OOD_FILE
from detectclf.models.graphs.export import INPUT
from detectclf.version import __version__

DESCRIPTION_FILE = "model.json"

PREPROCESSING = {
    "grey": "decode the picture upright, as grey levels (ITU-R BT.601 luma) uint8, 0 is black",
    "crop": (
        "where the longer side is more than 1.5 times the shorter one, cut lines of one grey level (within 8 levels) "
        "from both ends of the longer side, but leave at least a square; the rest is centred on what is not flat"
    ),
    "resize": (
        "for each graph: scale = size / longer side; resize to (round(width scale), round(height scale)), by area "
        "averaging where scale < 1, else bilinear with pixel centres at half pixels"
    ),
    "pad": "with 0 on the right and below, to (size, size)",
    "normalisation": "none: the graphs do it",
}

OUTPUTS: dict[str, dict[str, str]] = {
    "detector": {
        "boxes": "(B, M, 4) float32, x1 y1 x2 y2 in pixels of the input; divide by scale, then add the crop's left and "
        "top, for pixels of the picture; no shift of half a pixel",
        "labels": "(B, M) int64, index into detector_classes",
        "scores": "(B, M) float32, best first; 0 is no box",
        "features": "(B, D) float32, for out_of_distribution",
    },
    "classifier": {"logits": "(B, K) float32, in the order of classes"},
}

FORMULAS = {
    "1 calibration": "log p = log_softmax(logits / temperature)",
    "2 evidence": (
        "e_k = log(s / (1 - s)), s the best score of a box of class k, 0 without one, clipped to [score_floor, 1 - "
        "score_floor]; for the negative class, s is 1 minus the best score of a box of any other class (the mean of "
        "both where detector_classes has it); 0 for a class that the detector does not know"
    ),
    "3 class": "probabilities = softmax(class_weight log p + box_weight e + bias)",
    "4 boxes": (
        "where the slice's class (step 6) is a tumour and the best tumour box has another class, a copy of that box "
        "with the slice's class comes in, and boxes of that class with an IoU of more than 0.5 with it are dropped; "
        "then score = score^(1 - box_gamma) probability_of_its_class^box_gamma"
    ),
    "5 drawn boxes": (
        "boxes of at least box_threshold, on slices of a tumour class only; the best box of that class is drawn in any "
        "case if its score before step 4 is 0.2 or more; of drawn boxes of which one lies in another by more than "
        "half, the best"
    ),
    "6 operating point": (
        "with tumor_threshold: the likeliest tumour class if 1 - P(negative) >= tumor_threshold, else the negative "
        "class; without: the likeliest class"
    ),
    "7 unusual": (
        "where out_of_distribution says unusual, with T = unusual_temperature: the log-odds of a tumour become edge + "
        "(log-odds - edge) / T, edge = log(t / (1 - t)), t = tumor_threshold or, without one, 0.5; below the edge, "
        "unusual_negative_temperature, unless it is null, is in place of T; tumour classes share that probability as "
        "softmax(log P / T) over them; without a negative class, all do so"
    ),
}


def description(bundle: Bundle, files: dict[str, str], graphs: dict[str, str], **further: Any) -> dict[str, Any]:
    """The content of ``model.json``.

    Args:
        bundle: what is exported.
        files: file beside it -> its SHA-256.
        graphs: kind of stage -> file of its graph.
        further: keys to add, of the runtime and of int8.

    Returns:
        A JSON object; its numbers are finite.
    """
    stages = bundle.stages
    return {
        "format": "detectclf-export",
        "format_version": 1,
        "detectclf": __version__,
        "use": "research only: not a medical device, not for diagnosis",
        "name": bundle.name,
        "version": bundle.version,
        **further,
        "classes": list(bundle.classes),
        "negative": bundle.negative,
        "detector_classes": list(stages["detector"].classes),
        "preprocessing": PREPROCESSING,
        "graphs": {
            kind: {
                "file": graphs[kind],
                "arch": stage.meta.arch,
                "size": stage.preprocessing.size,
                "input": {INPUT: "(B, 1, size, size) uint8, any B"},
                "outputs": OUTPUTS[kind],
            }
            for kind, stage in stages.items()
        },
        "fusion": {**asdict(bundle.fusion), "score_floor": 0.01, "formulas": FORMULAS},
        "out_of_distribution": _out_of_distribution(bundle),
        "sha256": files,
    }


def _out_of_distribution(bundle: Bundle) -> dict[str, Any] | None:
    if bundle.ood is None:
        return None
    unusual = bundle.ood.unusual
    return {
        "file": OOD_FILE,
        "arrays": "mean (D,) and whitening (D, D), float32, in safetensors: 8 bytes little-endian length of a JSON "
        "header, the header with the offsets of each array, the arrays",
        "distance": "length of (features - mean) @ whitening",
        "threshold": bundle.ood.threshold,
        "unusual": unusual if unusual < float("inf") else None,
        "meaning": "beyond threshold: refused as no brain MRI: it has no class, no probabilities and no boxes, and is "
        "not to be read as healthy; beyond unusual: see step 7",
    }


__all__ = ["DESCRIPTION_FILE", "description"]
