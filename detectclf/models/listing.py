"""The list of architectures for ``detectclf models``: names, sizes and weights. It downloads nothing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.models.classifiers import CLASSIFIERS, Classifier, classifier_row
from detectclf.models.detectors import DETECTORS, Detector, detector_row

TIMM_EXAMPLE = "tf_efficientnet_lite0"
"""The network of timm that is tested; the list shows it as an example."""

CLASSES = 4
"""Number of classes for which parameters are counted: those of the main data set, three of them tumours with boxes."""


def describe_models() -> list[dict[str, Any]]:
    """One record per architecture, detectors first.

    Returns:
        Records of ``arch``, ``stage`` (``detector`` or ``classifier``), ``input_size`` in pixels, ``parameters``
        (for the classes of the main data set) and ``weights``: what ``--weights default`` loads, or ``none``.
    """
    # The example of timm is listed only if timm is installed.
    timm = find_spec("timm") is not None
    detectors = [*DETECTORS, *([f"fasterrcnn_timm:{TIMM_EXAMPLE}"] if timm else [])]
    classifiers = [*CLASSIFIERS, *([f"timm:{TIMM_EXAMPLE}"] if timm else [])]
    return [*map(_describe_detector, detectors), *map(_describe_classifier, classifiers)]


def _describe_detector(arch: str) -> dict[str, Any]:
    row, config = detector_row(arch), DetectorConfig(arch=arch, weights="none")
    with torch.device("meta"):  # shapes without allocating memory
        model = Detector(row, config, CLASSES - 1)
    return _record(arch, "detector", config.image_size, model, row.weights)


def _describe_classifier(arch: str) -> dict[str, Any]:
    row = classifier_row(arch)
    with torch.device("meta"):
        model = Classifier(row, ClassifierConfig(arch=arch, weights="none"), CLASSES)
    return _record(arch, "classifier", row.input_size, model, row.weights)


def _record(arch: str, stage: str, size: int, model: torch.nn.Module, weights: str | None) -> dict[str, Any]:
    return {
        "arch": arch,
        "stage": stage,
        "input_size": size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": weights or "none",
    }


__all__ = ["describe_models"]
