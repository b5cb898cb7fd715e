"""Tiny untrained models and slices that the tests of inference share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.config import ClassifierConfig, DetectorConfig, PredictConfig
from detectclf.inference.fusion import default_fusion
from detectclf.inference.predictor import Predictor
from detectclf.models.bundle import Bundle
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import build_detector
from detectclf.models.stage import new_stage

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
TUMORS = ("glioma", "meningioma", "pituitary")


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """An untrained bundle: lean detector at 96 px, our own small network at 64 px."""
    import torch

    torch.manual_seed(0)
    # A threshold of 0 and many boxes: untrained scores are low, and the geometry is what the tests look at.
    config = DetectorConfig(
        weights="none", image_size=96, score_threshold=0.0, proposals_train=20, proposals_test=20, max_boxes=8
    )
    detector = build_detector(config, len(TUMORS)).eval()
    classifier = build_classifier(ClassifierConfig(arch="cnn", weights="none", image_size=64), len(CLASSES)).eval()
    return Bundle(
        name="tiny",
        version="1",
        classes=CLASSES,
        negative="no_tumor",
        stages={
            "detector": new_stage(detector, TUMORS, negative=None),
            "classifier": new_stage(classifier, CLASSES, negative="no_tumor"),
        },
        fusion=default_fusion(CLASSES),
    )


@pytest.fixture(scope="session")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor(bundle, PredictConfig(batch_size=3, device="cpu"))


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    """Five readable slices of different shapes."""
    random = np.random.default_rng(0)
    paths = []
    for i, (height, width) in enumerate([(80, 80), (50, 120), (130, 40), (64, 96), (200, 200)]):
        pixels = random.integers(0, 256, (height, width), dtype=np.uint8)
        paths.append(tmp_path / f"slice{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths
