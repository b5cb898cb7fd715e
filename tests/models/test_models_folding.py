"""Folding batch normalisations changes what a network costs, not what it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detectclf.config import ClassifierConfig, DetectorConfig, RefinerConfig
from detectclf.models.classifiers import CLASSIFIERS, build_classifier, classifier_row
from detectclf.models.detectors import build_detector
from detectclf.models.folding import folded
from detectclf.models.refiner import build_refiner


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def used(network: nn.Module) -> nn.Module:
    """``network`` with statistics and scales as after a training, in evaluation mode."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


@pytest.mark.parametrize("arch", [*CLASSIFIERS, "timm:tf_efficientnet_lite0"])
def test_a_folded_classifier_says_the_same(arch: str) -> None:
    config = ClassifierConfig(arch=arch, weights="none", image_size=classifier_row(arch).min_size)
    model = used(build_classifier(config, 4))
    images = torch.rand(2, 1, model.input_size, model.input_size)
    before = norms(model)
    fast = folded(model, lambda net: net(images))
    with torch.inference_mode():
        assert torch.allclose(model(images), fast(images), rtol=1e-3, atol=1e-4)
    assert norms(model) == before, "the network itself is not changed"
    if arch in ("resnet50", "mobilenet_v2", "inception_v3", "timm:tf_efficientnet_lite0"):
        assert norms(fast) <= 2 < before  # Inception's auxiliary classifier does not run


@pytest.mark.parametrize("arch", ["fasterrcnn_small_fpn", "fasterrcnn_timm:tf_efficientnet_lite0"])
def test_a_folded_detector_finds_the_same(arch: str) -> None:
    config = DetectorConfig(arch=arch, weights="none", image_size=64, proposals_test=16, score_threshold=0.0)
    model = used(build_detector(config, 3))
    images = list(torch.rand(2, 1, 64, 64))
    fast = folded(model, lambda net: net(images[:1]))
    assert norms(fast) == 0 < norms(model)
    with torch.inference_mode():
        for one, other in zip(model(images), fast(images), strict=True):
            assert torch.allclose(one["scores"], other["scores"], atol=1e-4)
            assert torch.allclose(one["boxes"], other["boxes"], atol=1e-2)


def test_a_folded_refiner_says_the_same() -> None:
    model = used(build_refiner(RefinerConfig(weights="none", image_size=64), 3))
    crops = torch.rand(2, 1, 64, 64)
    fast = folded(model, lambda net: net(crops))
    assert norms(fast) == 0
    with torch.inference_mode():
        for one, other in zip(model(crops), fast(crops), strict=True):
            assert torch.allclose(one, other, atol=1e-4)


class _Odd(nn.Module):
    """One convolution used twice, and one whose normalisation is defined beside another."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)
        self.first, self.second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        self.of_first = nn.BatchNorm2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = self.norm(self.twice(images)) + self.twice(images)
        return self.second(self.of_first(self.first(images)).relu())


def test_what_follows_what_is_seen_not_guessed() -> None:
    model = used(_Odd())
    images = torch.rand(2, 1, 5, 5)
    fast = folded(model, lambda net: net(images))
    with torch.inference_mode():
        assert torch.allclose(model(images), fast(images), atol=1e-5)
    assert isinstance(fast.norm, nn.BatchNorm2d), "a convolution that runs twice is left alone"
    assert isinstance(fast.of_first, nn.Identity)
