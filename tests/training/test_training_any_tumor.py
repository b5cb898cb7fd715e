"""Validation metrics where some tumours are of unknown type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from export_examples import dataset

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.datasets.loading import ClassificationSlices, DetectionSlices
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import build_detector
from detectclf.training.tasks import ClassificationTask, DetectionTask
from detectclf.types import ANY_TUMOR, Sample, empty_boxes

CLASSES = ("glioma", "no_tumor", "pituitary")
HERE, AWAY = [4.0, 4.0, 20.0, 20.0], [30.0, 30.0, 40.0, 40.0]


def samples_of(folder: Path, *labels: str) -> tuple[Sample, ...]:
    slices = [("valid", f"{i}.png", [] if label == "no_tumor" else [(label, HERE)]) for i, label in enumerate(labels)]
    return dataset(folder, slices).samples


def detection_task(samples: tuple[Sample, ...]) -> DetectionTask:
    model = build_detector(DetectorConfig(arch="fasterrcnn_small_fpn", weights="none", image_size=64), 2)
    slices = DetectionSlices(samples, ("glioma", "pituitary"), 64, cache="none")
    return DetectionTask(model, slices, slices, "no_tumor")


def found(*boxes: tuple[str, list[float]]) -> tuple[np.ndarray, list[str], np.ndarray]:
    corners = np.array([b for _, b in boxes], dtype=np.float32).reshape(-1, 4) if boxes else empty_boxes()
    return corners, [name for name, _ in boxes], np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)


@pytest.mark.parametrize(
    ("labels", "outputs", "mean_ap", "found50", "why"),
    [
        (("glioma", ANY_TUMOR), [[("glioma", HERE)], [("pituitary", HERE)]], 1.0, 1.0, "any class fits the unknown"),
        (("glioma", ANY_TUMOR), [[("glioma", HERE)], [("glioma", AWAY)]], 1.0, 0.5, "not found, and no false positive"),
        ((ANY_TUMOR,), [[("glioma", HERE)]], None, 1.0, "no class to measure"),
        ((ANY_TUMOR, "no_tumor"), [[], []], None, 0.0, "nothing found"),
        (("no_tumor",), [[("glioma", HERE)]], None, None, "no tumour at all"),
        (("glioma",), [[("pituitary", HERE)]], 0.0, 1.0, "the wrong class is found all the same"),
    ],
)
def test_detection(
    tmp_path: Path,
    labels: tuple[str, ...],
    outputs: list[list[tuple[str, list[float]]]],
    mean_ap: float | None,
    found50: float | None,
    why: str,
) -> None:
    task = detection_task(samples_of(tmp_path, *labels))
    metrics = task.metrics({i: found(*boxes) for i, boxes in enumerate(outputs)})
    assert (metrics["mAP"], metrics["found50"]) == (pytest.approx(mean_ap), pytest.approx(found50)), why


@pytest.mark.parametrize(
    ("labels", "outputs", "accuracy", "called", "why"),
    [
        (("glioma", ANY_TUMOR, "no_tumor"), (0, 2, 1), 1.0, 1.0, "any tumour class fits the unknown"),
        (
            ("glioma", ANY_TUMOR, "no_tumor"),
            (2, 1, 1),
            0.5,
            0.5,
            "a wrong type is called a tumour, a healthy one is not",
        ),
        ((ANY_TUMOR, ANY_TUMOR), (0, 1), None, 0.5, "no known class"),
        (("no_tumor",), (1,), 1.0, None, "no tumour"),
    ],
)
def test_classification(
    tmp_path: Path,
    labels: tuple[str, ...],
    outputs: tuple[int, ...],
    accuracy: float | None,
    called: float | None,
    why: str,
) -> None:
    slices = ClassificationSlices(samples_of(tmp_path, *labels), CLASSES, 32, cache="none", negative="no_tumor")
    config = ClassifierConfig(arch="cnn", weights="none", image_size=32, class_weights="balanced")
    task = ClassificationTask(build_classifier(config, 3), slices, slices, config, "no_tumor")
    metrics = task.metrics(dict(enumerate(outputs)))
    assert (metrics["accuracy"], metrics["called_tumor"]) == (pytest.approx(accuracy), pytest.approx(called)), why
    losses = task.losses(torch.rand(len(labels), 1, 32, 32), [{"label": k} for k in slices.labels])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_kept_negative_class_is_no_tumour_class(tmp_path: Path) -> None:
    """With boxes round healthy heads kept, an unknown type is summed over the tumour classes only."""
    model = build_detector(DetectorConfig(arch="fasterrcnn_small_fpn", weights="none", image_size=64), 3)
    slices = DetectionSlices(samples_of(tmp_path, "glioma", ANY_TUMOR), CLASSES, 64, cache="none")
    DetectionTask(model, slices, slices, "no_tumor")
    assert model.network.roi_heads.tumors == (1, 3)
