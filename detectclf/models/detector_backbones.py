"""Builders of Faster R-CNNs with random weights: torchvision's four, and ours on a lean backbone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model, mobilenet_v2
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from detectclf.errors import ModelError
from detectclf.models.detector_parts import PYRAMID_CHANNELS, PyramidBackbone

Settings = dict[str, Any]
"""Arguments of torchvision's ``FasterRCNN``."""

NetworkBuilder = Callable[[int, Settings, "Widths"], FasterRCNN]
"""Makes a network from a number of classes (background included), settings and widths."""


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels of the pyramid and width of the box head; ``None`` is the architecture's own."""

    pyramid: int | None = None
    head: int | None = None


def stock(name: str) -> NetworkBuilder:
    """A builder of torchvision's own model ``name``.

    Its BatchNorm layers are trained. torchvision freezes them in pretrained models, but slices have other statistics
    than photographs.
    """

    def build(num_classes: int, settings: Settings, widths: Widths) -> FasterRCNN:
        if widths != Widths():
            raise ModelError(
                f"the widths of {name} are fixed", remedy="leave out model.pyramid_channels and model.head_width"
            )
        return get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **settings)

    return build


def lean(
    body: Callable[[], nn.Module],
    channels: tuple[int, ...],
    *,
    width: int = PYRAMID_CHANNELS,
    hidden: int = 1024,
    sampling: int = 1,
) -> NetworkBuilder:
    """A builder of a Faster R-CNN on a backbone with maps of strides 8, 16 and 32.

    Args:
        body: makes the backbone.
        channels: channels of its maps.
        width: channels of the pyramid.
        hidden: width of the box head's two layers.
        sampling: RoIAlign averages the square of this number of points per bin. The number has little effect (He et al.
            2017), but the cost of the backward pass grows with its square.
    """

    def build(num_classes: int, settings: Settings, widths: Widths) -> FasterRCNN:
        channels_out, width_of_head = widths.pyramid or width, widths.head or hidden
        pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2"], output_size=7, sampling_ratio=sampling)
        # The detector replaces the anchors of this call with those of its settings.
        return FasterRCNN(
            PyramidBackbone(body(), channels, channels_out),
            box_roi_pool=pool,
            box_head=TwoMLPHead(channels_out * 7 * 7, width_of_head),
            box_predictor=FastRCNNPredictor(width_of_head, num_classes),
            **settings,
        )

    return build


class SmallBody(nn.Module):
    """A small backbone to train from scratch in minutes: 3 x 3 convolutions with BatchNorm and ReLU.

    A strided convolution to 16 channels and one to 32 (stride 4), then three stages of a strided and a plain
    convolution: 64, 96 and 128 channels at strides 8, 16 and 32. Their maps are the output.
    """

    channels = (64, 96, 128)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, 16, 2), *_convolution(16, 32, 2), *_convolution(32, 32, 1))
        widths = (32, *self.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(*_convolution(before, after, 2), *_convolution(after, after, 1))
            for before, after in itertools.pairwise(widths)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` -> the maps of strides 8, 16 and 32."""
        maps = []
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def mobilenet_v2_body() -> nn.Module:
    """MobileNetV2 up to its last bottleneck: maps of 32, 96 and 320 channels at strides 8, 16 and 32.

    The 1x1 convolution to 1280 channels is left out: it serves classification, and the pyramid would reduce it again.
    """
    layers: nn.Module = IntermediateLayerGetter(mobilenet_v2(weights=None).features, {"6": "0", "13": "1", "17": "2"})
    return layers


__all__ = ["NetworkBuilder", "SmallBody", "Widths", "lean", "mobilenet_v2_body", "stock"]
