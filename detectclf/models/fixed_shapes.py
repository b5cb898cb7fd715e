"""Faster R-CNN on a device that compiles a program for each shape (XLA): every tensor on it has a fixed one.

What depends on the data in its shape runs on the CPU, by torchvision's own code and random numbers: which proposals are
left after suppression, which anchors and proposals are matched with true boxes, and which are drawn as samples. Drawn
samples are filled up to their greatest number and the losses leave the filling out. So a step is two programs, with the
choice on the CPU between them: backbone and proposal network, then box head, losses and the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from detectclf.models.box_loss import SMOOTH_L1_BETA
from detectclf.models.level_pool import LevelPool, align_by_products
from detectclf.models.xla import compute_now

Target = dict[str, Tensor]


class _FirstHalf:
    """Backbone and proposal network on the device, and their anchors and proposals on the CPU.

    Attributes:
        maps: levels of the pyramid, on the device.
        objectness: ``(B A, 1)`` logits, and ``deltas`` ``(B A, 4)``, on the device.
        sizes: height and width of each image as the network sees it.
        anchors: ``(A, 4)`` of each image, and ``proposals`` ``(P, 4)`` of each, on the CPU.
    """

    def __init__(self, network: Any, images: list[Tensor]) -> None:
        batch, _ = network.transform(images)
        maps = network.backbone(batch.tensors)
        self.maps: dict[str, Tensor] = {"0": maps} if isinstance(maps, Tensor) else maps
        levels = list(self.maps.values())
        logits, deltas = network.rpn.head(levels)
        counts = [level[0].numel() for level in logits]
        self.sizes: list[tuple[int, int]] = batch.image_sizes
        self.objectness, self.deltas = concat_box_prediction_layers(logits, deltas)
        compute_now(batch.tensors.device)
        # Of these only the shapes matter.
        empty = [torch.empty(1, 1, *maps.shape[-2:]) for maps in (batch.tensors, *levels)]
        self.anchors: list[Tensor] = network.rpn.anchor_generator(ImageList(empty[0], self.sizes), empty[1:])
        boxes = network.rpn.box_coder.decode(self.deltas.detach().cpu(), self.anchors).view(len(images), -1, 4)
        scores = self.objectness.detach().cpu()
        self.proposals: list[Tensor] = network.rpn.filter_proposals(boxes, scores, self.sizes, counts)[0]

    def box_head(self, network: Any, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and deltas of boxes ``(B, N, 4)``, on the device, as rows."""
        heads = network.roi_heads
        pool = LevelPool(heads.box_roi_pool, self.maps, max(self.sizes[0]), align_by_products)
        logits, deltas = heads.box_predictor(heads.box_head(pool(self.maps, boxes)))
        return logits, deltas


def fixed_losses(network: Any, images: list[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
    """The losses of a Faster R-CNN with :class:`~detectclf.models.box_loss.TumorRoIHeads`, as its ``forward`` has them.

    Args:
        network: in training mode, on the device.
        images: ``(1, S, S)`` each, on the device.
        targets: ``boxes`` and ``labels`` of each image, on the CPU, labels as the box head counts them.
    """
    first = _FirstHalf(network, images)
    losses = _proposal_losses(network.rpn, first, targets)
    heads = network.roi_heads
    drawn, _, labels, wanted = heads.select_training_samples(first.proposals, targets)
    most = heads.fg_bg_sampler.batch_size_per_image
    device = first.objectness.device
    counted = _filled([torch.ones(len(each)) for each in drawn], most).to(device)
    boxes = _filled(drawn, most).to(device)
    logits, deltas = first.box_head(network, boxes)
    rows = (_filled(each, most).flatten(0, 1).to(device) for each in (labels, wanted))
    of_boxes: dict[str, Tensor] = heads.losses(logits, deltas, boxes.flatten(0, 1), *rows, counted.flatten())
    return losses | of_boxes


def fixed_detections(network: Any, images: list[Tensor]) -> list[dict[str, Tensor]]:
    """What a Faster R-CNN finds, as its ``forward`` has it in evaluation mode, on the CPU.

    Args:
        network: in evaluation mode, on the device.
        images: ``(1, S, S)`` each, on the device.
    """
    first = _FirstHalf(network, images)
    most = network.rpn.post_nms_top_n()
    device = first.objectness.device
    outputs = first.box_head(network, _filled(first.proposals, most).to(device))
    compute_now(device)
    kept = _filled([torch.ones(len(each)) for each in first.proposals], most).flatten() > 0
    logits, deltas = (each.cpu()[kept] for each in outputs)
    boxes, scores, labels = network.roi_heads.postprocess_detections(logits, deltas, first.proposals, first.sizes)
    found = [{"boxes": b, "labels": k, "scores": s} for b, k, s in zip(boxes, labels, scores, strict=True)]
    originals = [(image.shape[-2], image.shape[-1]) for image in images]
    result: list[dict[str, Tensor]] = network.transform.postprocess(found, first.sizes, originals)
    return result


def _proposal_losses(rpn: Any, first: _FirstHalf, targets: Sequence[Target]) -> dict[str, Tensor]:
    """The losses of torchvision's ``RegionProposalNetwork``."""
    labels, matched = rpn.assign_targets_to_anchors(first.anchors, targets)
    positive, negative = (torch.cat(each).float() for each in rpn.fg_bg_sampler(labels))
    wanted = torch.cat(rpn.box_coder.encode(matched, first.anchors))
    # The true box of a slice without a tumour is empty, and its code is infinite.
    wanted = torch.where(positive[:, None] > 0, wanted, 0.0)
    device = first.objectness.device
    drawn, tumor, truth, codes = (
        each.to(device) for each in (positive + negative, positive, torch.cat(labels).clamp(min=0), wanted)
    )
    own = functional.smooth_l1_loss(first.deltas, codes, beta=SMOOTH_L1_BETA, reduction="none").sum(dim=1)
    asked = functional.binary_cross_entropy_with_logits(first.objectness.flatten(), truth, reduction="none")
    return {
        "loss_objectness": (asked * drawn).sum() / drawn.sum(),
        "loss_rpn_box_reg": (own * tumor).sum() / drawn.sum(),
    }


def _filled(rows: Sequence[Tensor], length: int) -> Tensor:
    """``(n, ...)`` of each image -> ``(B, length, ...)``, with zeros at the end."""
    result = rows[0].new_zeros(len(rows), length, *rows[0].shape[1:])
    for own, each in zip(result, rows, strict=True):
        own[: len(each)] = each
    return result


__all__ = ["fixed_detections", "fixed_losses"]
