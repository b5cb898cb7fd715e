"""Faster R-CNNs with random weights: torchvision's four as they are, and ours on a lean backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models import get_model, mobilenet_v2
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN
from torchvision.ops import MultiScaleRoIAlign

from detectclf.models.detector_parts import PyramidBackbone

Settings = dict[str, Any]
"""Arguments of torchvision's ``FasterRCNN``."""

NetworkBuilder = Callable[[int, Settings], FasterRCNN]
"""Makes a network of so many classes (background included) with these settings."""


def stock(name: str) -> NetworkBuilder:
    """A builder of torchvision's own model ``name``.

    Its BatchNorm learns, whereas torchvision freezes it when weights are given: its weights are of photographs, and
    slices have other statistics.
    """

    def build(num_classes: int, settings: Settings) -> FasterRCNN:
        return get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **settings)

    return build


def lean(body: Callable[[], nn.Module], channels: tuple[int, ...]) -> NetworkBuilder:
    """A builder of a Faster R-CNN on a backbone with maps of strides 8, 16 and 32."""

    def build(num_classes: int, settings: Settings) -> FasterRCNN:
        backbone = PyramidBackbone(body(), channels)
        pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2"], output_size=7, sampling_ratio=2)
        # The anchors of this call are replaced by those of the configuration; these only set the number of levels.
        return FasterRCNN(backbone, num_classes, box_roi_pool=pool, **settings)

    return build


def mobilenet_v2_body() -> nn.Module:
    """MobileNetV2 up to its last bottleneck: maps of 32, 96 and 320 channels at strides 8, 16 and 32.

    The 1x1 convolution to 1280 channels is left out: it is made for classification, and the pyramid would reduce it.
    """
    layers: nn.Module = IntermediateLayerGetter(mobilenet_v2(weights=None).features, {"6": "0", "13": "1", "17": "2"})
    return layers


__all__ = ["NetworkBuilder", "lean", "mobilenet_v2_body", "stock"]
