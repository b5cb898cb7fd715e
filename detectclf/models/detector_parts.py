"""Modules of our Faster R-CNNs: input transform, float32 anchors and heads, and the pyramid on a lean backbone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import FeaturePyramidNetwork

PYRAMID_CHANNELS = 128
"""Channels of the lean pyramid; a few classes of tumours do not need the 256 of the stock models."""


class SliceTransform(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision's classes are untyped
    """Turns grey slices into normalised batches of three channels whose longer side is ``size`` pixels.

    A slice of this size is not interpolated. Smaller ones are enlarged, larger ones are reduced with antialiasing.
    """

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(size, size, list(mean), list(std))

    def normalize(self, image: Tensor) -> Tensor:
        """``(1, h, w)`` grey -> ``(3, h, w)``."""
        normal: Tensor = super().normalize(image)  # the mean of three channels repeats the grey one
        return normal

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resizes an image ``(3, h, w)`` and the boxes of its target."""
        height, width = image.shape[-2:]
        scale = self.max_size / max(height, width)
        if scale == 1:
            return image, target
        # At least one pixel: torchvision would round the shorter side of a very narrow strip to 0.
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        image = functional.interpolate(image[None], size=size, mode="bilinear", antialias=scale < 1)[0]
        if target is not None:
            target = {**target, "boxes": resize_boxes(target["boxes"], (height, width), size)}
        return image, target


class Float32Anchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors in float32, also under mixed precision.

    torchvision gives anchors the type of the features, but bfloat16 cannot represent odd numbers above 256.
    """

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """One ``(A, 4)`` tensor per image. Only size, type and device of the feature maps matter."""
        anchors: list[Tensor] = super().forward(image_list, [maps[:1, :1].float() for maps in feature_maps])
        return anchors


def to_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Forward hook: a head returns box deltas and scores in float32, so that boxes are decoded in full precision."""
    return tuple([t.float() for t in part] if isinstance(part, list) else part.float() for part in outputs)


class PyramidBackbone(nn.Module):
    """A backbone's maps of strides 8, 16 and 32 in a feature pyramid (Lin et al. 2017).

    Args:
        body: gives three maps, as a list or as a dict in order.
        channels: channels of the three maps.
        width: channels of the pyramid.
    """

    def __init__(self, body: nn.Module, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(list(channels), width)
        self.out_channels = width

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``(B, 3, H, W)`` -> maps ``"0"``, ``"1"``, ``"2"`` of ``width`` channels."""
        maps = self.body(images)
        levels = maps.values() if isinstance(maps, dict) else maps
        pyramid: dict[str, Tensor] = self.fpn(OrderedDict((str(n), level) for n, level in enumerate(levels)))
        return pyramid


__all__ = ["PYRAMID_CHANNELS", "Float32Anchors", "PyramidBackbone", "SliceTransform", "to_float32"]
