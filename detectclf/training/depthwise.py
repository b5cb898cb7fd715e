"""Depthwise convolutions in float32 under bfloat16 autocast on CPUs."""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn


def depthwise_in_float32(model: nn.Module) -> None:
    """Makes the depthwise convolutions of ``model`` compute in float32 where autocast would use bfloat16.

    The bfloat16 backward pass of oneDNN takes 2.5 to 5 times as long as float32 for them, which is most of a training
    step of MobileNet or EfficientNet (docs/log.md). Outputs keep the type of the inputs.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            # A method bound to the instance: names in the state dict stay the same, and deep copies bind their own.
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(self: nn.Conv2d, images: Tensor) -> Tensor:
    if not torch.is_autocast_enabled("cpu"):
        return type(self).forward(self, images)
    with torch.autocast("cpu", enabled=False):
        return type(self).forward(self, images.float()).to(images.dtype)
