"""Folding batch normalisations changes what a network costs, not what it says."""

from __future__ import annotations

import pytest
import torch
from timm.layers import StdConv2d
from torch import nn

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.models.classifiers import build_classifier, classifier_row
from detectclf.models.detectors import build_detector
from detectclf.models.fuse_conv_bn import fuse_conv_bn


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


WITH_NORMS = ["cnn", "mobilenet_v2", "resnet50", "inception_v3", "timm:tf_efficientnet_lite0"]


@pytest.mark.parametrize("arch", WITH_NORMS)
def test_a_folded_classifier_says_the_same(arch: str) -> None:
    config = ClassifierConfig(arch=arch, weights="none", image_size=classifier_row(arch).min_size)
    model = used(build_classifier(config, 4))
    images = torch.rand(2, 1, model.input_size, model.input_size)
    before = norms(model)
    fast = fuse_conv_bn(model, images)
    with torch.inference_mode():
        assert torch.allclose(model(images), fast(images), rtol=1e-3, atol=1e-4)
    assert norms(model) == before, "the network itself is not changed"
    assert norms(fast) <= 2 < before  # Inception's auxiliary classifier does not run


@pytest.mark.parametrize("arch", ["fasterrcnn_small_fpn", "fasterrcnn_timm:tf_efficientnet_lite0"])
def test_the_folded_backbone_of_a_detector_sees_the_same(arch: str) -> None:
    config = DetectorConfig(arch=arch, weights="none", image_size=64, proposals_test=16, score_threshold=0.0)
    backbone = used(build_detector(config, 3)).network.backbone
    images = torch.rand(2, 3, 64, 64)
    fast = fuse_conv_bn(backbone, images)
    assert norms(fast) == 0 < norms(backbone)
    with torch.inference_mode():
        for one, other in zip(backbone(images).values(), fast(images).values(), strict=True):
            assert torch.allclose(one, other, atol=1e-3)


class _TwiceUsed(nn.Module):
    """One convolution runs twice, and one has its normalisation defined beside another."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.norm = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4)
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.of_first = nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = self.norm(self.twice(images)) + self.twice(images)
        return self.second(self.of_first(self.first(images)).relu())


def test_what_follows_what_is_seen_not_guessed() -> None:
    model = used(_TwiceUsed())
    images = torch.rand(2, 1, 5, 5)
    fast = fuse_conv_bn(model, images)
    with torch.inference_mode():
        assert torch.allclose(model(images), fast(images), atol=1e-5)
    assert isinstance(fast.norm, nn.BatchNorm2d), "a convolution that runs twice is left alone"
    assert isinstance(fast.of_first, nn.Identity)


class _Residual(nn.Module):
    """The output of the convolution is used beside its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.conv(images)
        return seen + self.norm(seen)


class _InPlace(_Residual):
    """The output of the convolution is changed before its normalisation."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(images).relu_())


class _Standardised(_Residual):
    """The weights are changed as the convolution runs."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(images))

    def __init__(self) -> None:
        super().__init__()
        self.conv = StdConv2d(1, 4, 3)


@pytest.mark.parametrize("odd", [_Residual, _InPlace, _Standardised])
def test_where_folding_changes_what_is_said_nothing_is_folded(odd: type[nn.Module]) -> None:
    model = used(odd())
    images = torch.rand(2, 1, 5, 5)
    fast = fuse_conv_bn(model, images)
    with torch.inference_mode():
        assert torch.equal(model(images), fast(images)) and norms(fast) == 1


def test_norms_without_statistics_are_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert norms(fuse_conv_bn(model, torch.rand(2, 1, 5, 5))) == 1
