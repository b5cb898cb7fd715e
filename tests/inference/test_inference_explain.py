"""Grad-CAM: against a map worked out by hand, and through the predictor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detectclf.config import ClassifierConfig, PredictConfig
from detectclf.errors import ModelError
from detectclf.inference.explain import grad_cam, heatmap
from detectclf.inference.predictor import Predictor
from detectclf.models.bundle import Bundle
from detectclf.models.classifiers import build_classifier
from detectclf.models.stage import new_stage


class TwoChannels(nn.Module):
    """Layer with known maps; the class score is 3 times the mean of map 0 minus the mean of map 1."""

    def __init__(self) -> None:
        super().__init__()
        self.gradcam_layer = nn.Conv2d(1, 2, 1, bias=False)
        with torch.no_grad():
            self.gradcam_layer.weight.copy_(torch.tensor([1.0, 1.0]).view(2, 1, 1, 1))
        self.act = nn.ReLU(inplace=True)  # changes the layer's output after the hook, as torchvision's networks do

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.gradcam_layer(images)).mean(dim=(2, 3))
        return torch.stack([3 * maps[:, 0] - maps[:, 1], -maps[:, 0]], dim=1)


def test_the_map_is_that_of_the_paper() -> None:
    """Weights are 3/n and -1/n, both maps are the image: relu((3 - 1) image / n), scaled to a peak of 1."""
    slices = np.random.default_rng(0).integers(0, 256, (2, 5, 7), dtype=np.uint8)
    maps = grad_cam(TwoChannels(), slices, [0, 0])  # type: ignore[arg-type]
    np.testing.assert_allclose(maps, slices / slices.max(axis=(1, 2), keepdims=True), rtol=1e-5)


def test_a_map_without_evidence_for_the_class_is_zero() -> None:
    maps = grad_cam(TwoChannels(), np.full((1, 4, 4), 99, np.uint8), [1])  # type: ignore[arg-type]
    assert not maps.any()


def test_heatmap_leaves_the_padding_out() -> None:
    cam = np.zeros((8, 8), np.float32)
    cam[:4, 0] = 1  # left edge of the upper half, which is where a wide slice lies
    cam[4:] = 1  # padding
    heat = heatmap(cam, inside=(64, 32), size=64, width=200, height=100)
    assert heat.shape == (100, 200) and heat.dtype == np.float32
    assert heat[10, 2] > 0.9 and heat[:80, 120:].max() < 0.1


def test_explained_predictions(predictor: Predictor, slices: list[Path]) -> None:
    inputs = [slices[0], slices[0].with_name("none.png"), *slices[1:]]
    done = list(predictor.predict_many(inputs, explain=True))
    assert done[1].error is not None and done[1].heatmap is None
    for prediction in done[:1] + done[2:]:
        assert prediction.heatmap is not None
        assert prediction.heatmap.shape == (prediction.height, prediction.width)
        assert prediction.heatmap.min() >= 0 and prediction.heatmap.max() <= 1
    plain = predictor.predict(slices[0])
    assert plain.heatmap is None and plain.probabilities == pytest.approx(done[0].probabilities, abs=1e-5)


def test_a_network_without_convolutions_is_refused(bundle: Bundle, slices: list[Path]) -> None:
    mlp = build_classifier(ClassifierConfig(arch="mlp", weights="none"), len(bundle.classes)).eval()
    stages = bundle.stages | {"classifier": new_stage(mlp, bundle.classes, negative="no_tumor")}
    model = Predictor(replace(bundle, stages=stages), PredictConfig(device="cpu"))
    assert model.predict(slices[0]).error is None
    with pytest.raises(ModelError, match="needs convolutions"):
        model.predict(slices[0], explain=True)
