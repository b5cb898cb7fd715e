"""Depthwise convolutions in float32 under bfloat16 autocast on CPUs."""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn


def depthwise_in_float32(model: nn.Module) -> None:
    """Makes the depthwise convolutions of ``model`` compute in float32 where autocast would take bfloat16.

    oneDNN has no fast bfloat16 backward pass for them: two and a half to five times the time of float32, which is
    most of a training step of MobileNet or EfficientNet (docs/log.md). Outputs keep the type of the inputs.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            # A bound method on the instance: names in the state dict stay, and a deep copy binds its own.
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(self: nn.Conv2d, images: Tensor) -> Tensor:
    if not torch.is_autocast_enabled("cpu"):
        return type(self).forward(self, images)
    with torch.autocast("cpu", enabled=False):
        return type(self).forward(self, images.float()).to(images.dtype)
