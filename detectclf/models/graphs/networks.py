"""The networks of a bundle from grey levels to their final outputs, in operators that have a form in ONNX.

They hold the modules of the stages themselves, so that their weights are the bundle's. :class:`DetectorGraph` repeats
what torchvision's ``GeneralizedRCNN`` does in evaluation mode, and what the second look adds, for a whole batch at
once: where torchvision drops boxes, it sets their score to 0, so that shapes depend only on the batch size.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectclf.models.classifiers import Classifier
from detectclf.models.detectors import Detector
from detectclf.models.graphs.operators import suppress
from detectclf.models.level_pool import LevelPool
from detectclf.models.second_look import MOST_BOXES, SHIFTS

SMALLEST_SIDE = 1e-2
"""Detections with a shorter side, in pixels, are dropped, as by torchvision's ``RoIHeads``."""


class ClassifierGraph(nn.Module):
    """``(B, 1, S, S)`` uint8 -> logits ``(B, K)``."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.network(images.float() / 255)
        return logits


class DetectorGraph(nn.Module):
    """``(B, 1, S, S)`` uint8 -> the detections of each slice after the second look, and statistics of the feature maps.

    Args:
        detector: in evaluation mode.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.network = detector.network
        self.size, self.classes = detector.input_size, detector.num_classes
        with torch.inference_mode():
            levels = self._pyramid(self._body(torch.zeros(1, 1, self.size, self.size, dtype=torch.uint8)))
        rpn, heads, pool = self.network.rpn, self.network.roi_heads, self.network.roi_heads.box_roi_pool
        self._rpn = _Proposals(rpn, levels, self.size, self._padded)
        self._pool = LevelPool(pool, levels, self.size)
        self._heads = _Boxes(heads, self.size)

    @property
    def _padded(self) -> int:
        divisor: int = self.network.transform.size_divisible
        return math.ceil(self.size / divisor) * divisor

    def _body(self, images: Tensor) -> list[Tensor]:
        transform = self.network.transform
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (transform.image_mean, transform.image_std))
        normal = (images.float() / 255 - mean) / std
        padding = self._padded - self.size
        maps = self.network.backbone.body(functional.pad(normal, (0, padding, 0, padding)) if padding else normal)
        return list(maps.values()) if isinstance(maps, dict) else list(maps)

    def _pyramid(self, maps: list[Tensor]) -> dict[str, Tensor]:
        levels: dict[str, Tensor] = self.network.backbone.fpn(OrderedDict((str(n), m) for n, m in enumerate(maps)))
        return levels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The detections of each slice.

        Returns:
            ``boxes`` ``(B, M, 4)`` xyxy in pixels of the input, ``labels`` ``(B, M)`` int64 from 0, ``scores`` ``(B,
            M)``, best first, 0 where there is no further box, and ``features`` ``(B, D)``: mean and standard deviation
            of each channel of the middle map (see ``inference/ood.py``).
        """
        maps = self._body(images)
        middle = maps[len(maps) // 2]
        features = torch.cat([middle.mean(dim=(2, 3)), middle.std(dim=(2, 3))], dim=1)
        levels = self._pyramid(maps)
        proposals, valid = self._rpn(levels)
        logits, deltas = self._head(levels, proposals)
        boxes, labels, scores = self._heads(proposals, valid, logits, deltas)
        return self._second_look(levels, boxes, labels), labels, scores, features

    def _head(self, levels: dict[str, Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, N, K + 1)`` and deltas ``(B, N, K + 1, 4)`` of boxes ``(B, N, 4)``."""
        heads, count = self.network.roi_heads, boxes.shape[1]
        logits, deltas = heads.box_predictor(heads.box_head(self._pool(levels, boxes)))
        return logits.reshape(-1, count, self.classes + 1), deltas.reshape(-1, count, self.classes + 1, 4)

    def _second_look(self, levels: dict[str, Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """``boxes`` with the best of them regressed again, see :mod:`detectclf.models.second_look`."""
        most = min(MOST_BOXES, boxes.shape[1])
        best, shifts = boxes[:, :most], torch.tensor(SHIFTS)
        sides = best[..., 2:] - best[..., :2]
        moves = (shifts[None, :, None] * sides[:, None]).repeat(1, 1, 1, 2)
        starts = (best[:, None] + moves).reshape(-1, len(SHIFTS) * most, 4).clamp(0, self.size)
        _, deltas = self._head(levels, starts)
        own = (labels[:, :most] + 1).repeat(1, len(SHIFTS))[..., None, None].expand(-1, -1, 1, 4)
        ends = decode(deltas.gather(2, own).squeeze(2), starts, self.network.roi_heads.box_coder.weights)
        means = ends.clamp(0, self.size).reshape(-1, len(SHIFTS), most, 4).mean(dim=1)
        return torch.cat([means, boxes[:, most:]], dim=1)


class _Proposals(nn.Module):
    """The region proposal network after the pyramid: ``(B, P, 4)`` boxes, and ``(B, P)`` whether each is one."""

    # ``Any``, here and below: torchvision's classes are untyped.
    rpn: Any

    def __init__(self, rpn: Any, levels: dict[str, Tensor], size: int, padded: int) -> None:
        super().__init__()
        self.rpn, self.size = rpn, size
        self.most_before: int = rpn._pre_nms_top_n["testing"]
        self.most: int = rpn._post_nms_top_n["testing"]
        for number, (cells, level) in enumerate(zip(rpn.anchor_generator.cell_anchors, levels.values(), strict=True)):
            ys, xs = (torch.arange(side) * (padded // side) for side in level.shape[-2:])
            grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
            corners = torch.stack([grid_x, grid_y, grid_x, grid_y], dim=2).reshape(-1, 1, 4)
            # Apart, because their sum, every anchor, is larger than the rest of the graph.
            self.register_buffer(f"cells{number}", cells, persistent=False)
            self.register_buffer(f"corners{number}", corners.float(), persistent=False)

    def forward(self, levels: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Proposals, best first."""
        logits, deltas = self.rpn.head(list(levels.values()))
        found = [self._of_level(n, *level) for n, level in enumerate(zip(logits, deltas, strict=True))]
        boxes, scores = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        best, chosen = scores.topk(min(self.most, scores.shape[1]), dim=1)
        return take(boxes, chosen), best > 0

    def _of_level(self, number: int, logits: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes ``(B, k, 4)`` of one level, and their scores after suppression."""
        anchors = (self.get_buffer(f"corners{number}") + self.get_buffer(f"cells{number}")).reshape(-1, 4)
        flat = logits.permute(0, 2, 3, 1).flatten(1)
        per_cell, height, width = logits.shape[1:]
        moves = deltas.reshape(-1, per_cell, 4, height, width).permute(0, 3, 4, 1, 2).reshape(-1, len(anchors), 4)
        best, chosen = flat.topk(min(self.most_before, len(anchors)), dim=1)
        boxes = decode(take(moves, chosen), anchors[chosen], self.rpn.box_coder.weights).clamp(0, self.size)
        scores = torch.sigmoid(best)
        real = large(boxes, self.rpn.min_size) & (scores >= self.rpn.score_thresh)
        return boxes, suppress(boxes, scores * real, self.rpn.nms_thresh, self.most)


class _Boxes(nn.Module):
    """What ``RoIHeads`` makes of the outputs of the box head: boxes, labels from 0 and scores, best first."""

    def __init__(self, heads: Any, size: int) -> None:
        super().__init__()
        self.size, self.weights = size, tuple(heads.box_coder.weights)
        self.threshold: float = heads.score_thresh
        self.iou: float = heads.nms_thresh
        self.most: int = heads.detections_per_img

    def forward(
        self, proposals: Tensor, valid: Tensor, logits: Tensor, deltas: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, M, 4)``, ``(B, M)`` and ``(B, M)``."""
        count, classes = proposals.shape[1], logits.shape[2] - 1
        # Class by class: suppression looks at the boxes of one class.
        scores = logits.softmax(dim=2)[..., 1:].transpose(1, 2)
        moves = deltas[:, :, 1:].transpose(1, 2)
        boxes = decode(moves, proposals[:, None].expand(-1, classes, -1, -1), self.weights).clamp(0, self.size)
        real = valid[:, None] & (scores > self.threshold) & large(boxes, SMALLEST_SIDE)
        rows = (scores * real).reshape(-1, count)
        kept = suppress(boxes.reshape(-1, count, 4), rows, self.iou, self.most).reshape(-1, classes * count)
        best, chosen = kept.topk(min(self.most, classes * count), dim=1)
        return take(boxes.reshape(-1, classes * count, 4), chosen), chosen // count, best


def decode(deltas: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """``boxes`` ``(..., 4)`` moved by ``deltas`` ``(..., 4)``, as torchvision's ``BoxCoder`` does."""
    dx, dy, dw, dh = (deltas[..., n] / weight for n, weight in enumerate(weights))
    most = math.log(1000.0 / 16)
    left, top, right, bottom = boxes.unbind(-1)
    width, height = right - left, bottom - top
    x, y = dx * width + left + 0.5 * width, dy * height + top + 0.5 * height
    half_width, half_height = dw.clamp(max=most).exp() * width / 2, dh.clamp(max=most).exp() * height / 2
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=-1)


def take(rows: Tensor, chosen: Tensor) -> Tensor:
    """``rows`` ``(B, N, 4)`` in the order ``chosen`` ``(B, k)``."""
    return rows.gather(1, chosen[..., None].expand(-1, -1, rows.shape[2]))


def large(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides of ``boxes`` ``(..., 4)`` have at least ``side`` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= side).all(dim=-1)


__all__ = ["ClassifierGraph", "DetectorGraph"]
