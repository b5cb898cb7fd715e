"""RoIAlign on a feature pyramid in fixed shapes, for graphs and for XLA devices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

Align = Callable[[Tensor, Tensor, tuple[int, int], float, int], Tensor]
"""As ``torchvision.ops.roi_align``: map, boxes ``(N, 5)``, output size, scale, samples per cell and side."""


class LevelPool(nn.Module):
    """RoIAlign on the level of the pyramid that suits each box: boxes ``(B, N, 4)`` -> ``(B N, C, s, s)``.

    Args:
        pool: torchvision's ``MultiScaleRoIAlign``, whose result this repeats.
        levels: maps of the pyramid; only their shapes matter.
        size: side of the network's input, pixels.
        align: pools boxes of one level.
    """

    def __init__(self, pool: Any, levels: dict[str, Tensor], size: int, align: Align = roi_align) -> None:
        super().__init__()
        # It also names levels that some networks lack.
        self.names = [name for name in pool.featmap_names if name in levels]
        self.output, self.sampling = pool.output_size, pool.sampling_ratio
        self.scales = [2.0 ** round(math.log2(levels[name].shape[-1] / size)) for name in self.names]
        self.canonical_scale: float = pool.canonical_scale
        self.canonical_level: float = pool.canonical_level
        self.first, self.last = (round(-math.log2(scale)) for scale in (self.scales[0], self.scales[-1]))
        self.align = align

    def forward(self, levels: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """The pooled features."""
        count = boxes.shape[1]
        flat = boxes.reshape(-1, 4)
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand(-1, count).reshape(-1, 1)
        rois = torch.cat([image.float(), flat], dim=1)
        pooled = [
            self.align(levels[name], rois, self.output, scale, self.sampling)
            for name, scale in zip(self.names, self.scales, strict=True)
        ]
        if len(pooled) == 1:
            return pooled[0]
        sides = (flat[:, 2:] - flat[:, :2]).clamp(min=0)
        # As torchvision's LevelMapper (Lin et al. 2017, equation 1); the small number lets no area be 0.
        scale = (sides[:, 0] * sides[:, 1]).sqrt() / self.canonical_scale
        level = torch.floor(self.canonical_level + torch.log2(scale.clamp(min=1e-12)) + 1e-6)
        level = level.clamp(self.first, self.last) - self.first
        chosen = pooled[0]
        for number, own in enumerate(pooled[1:], start=1):
            chosen = torch.where((level == number)[:, None, None, None], own, chosen)
        return chosen


def align_by_products(features: Tensor, rois: Tensor, output: tuple[int, int], scale: float, samples: int) -> Tensor:
    """``torchvision.ops.roi_align`` as two products of matrices, for devices that have no kernel for it.

    The bilinear weights of a sample are a product of one along y and one along x, and so is their mean over the samples
    of a cell: the pooled map is ``Y F X^T``, with ``Y`` of shape ``(N, output, H)``.

    Args:
        features: ``(B, C, H, W)``.
        rois: ``(N, 5)``, image and xyxy in input pixels; as many of each image, one image after the other.
        output: rows and columns of the result.
        scale: pixels of the map over pixels of the input.
        samples: per side of a cell, 1 or more.

    Returns:
        ``(N, C, *output)``.
    """
    images, channels, height, width = features.shape
    left, top, right, bottom = (rois[:, 1:] * scale).reshape(images, -1, 4).unbind(dim=2)
    rows = _weights(top, bottom, output[0], height, samples)
    columns = _weights(left, right, output[1], width, samples)
    half = torch.einsum("bnph,bchw->bncpw", rows, features)
    return torch.einsum("bncpw,bnqw->bncpq", half, columns).reshape(-1, channels, *output)


def _weights(start: Tensor, end: Tensor, cells: int, length: int, samples: int) -> Tensor:
    """``(B, N, cells, length)`` weights along one axis, of boxes from ``start`` to ``end`` ``(B, N)``."""
    inside = (torch.arange(cells * samples, device=start.device, dtype=start.dtype) + 0.5) / (cells * samples)
    # A box has at least one pixel of the map.
    at = start[..., None] + (end - start).clamp(min=1.0)[..., None] * inside
    counts = (at >= -1) & (at <= length)
    pixels = torch.arange(length, device=start.device, dtype=start.dtype)
    near = (1 - (at.clamp(0, length - 1)[..., None] - pixels).abs()).clamp(min=0) * counts[..., None]
    return near.reshape(*start.shape, cells, samples, length).mean(dim=3)


__all__ = ["Align", "LevelPool", "align_by_products"]
