"""The box head of Faster R-CNN with a GIoU or CIoU loss in place of smooth L1."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

OVERLAP_LOSS_WEIGHT = 10.0
"""Weight of the overlap loss among the losses, as in MMDetection's faster-rcnn_r50_fpn_giou_1x_coco."""

OVERLAP_LOSSES = {"giou": generalized_box_iou_loss, "ciou": complete_box_iou_loss}


class OverlapRoIHeads(RoIHeads):  # type: ignore[misc]  # torchvision's class is untyped
    """torchvision's ``RoIHeads`` whose box loss is 1 - GIoU (Rezatofighi et al. 2019) or CIoU (Zheng et al. 2020).

    It reuses the modules of ``plain``, so that names in the state dict stay the same.
    """

    def __init__(self, plain: RoIHeads, loss: Literal["giou", "ciou"]) -> None:
        super().__init__(
            plain.box_roi_pool,
            plain.box_head,
            plain.box_predictor,
            plain.proposal_matcher.high_threshold,
            plain.proposal_matcher.low_threshold,
            plain.fg_bg_sampler.batch_size_per_image,
            plain.fg_bg_sampler.positive_fraction,
            plain.box_coder.weights,
            plain.score_thresh,
            plain.nms_thresh,
            plain.detections_per_img,
        )
        self.overlap_loss = OVERLAP_LOSSES[loss]

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As in ``RoIHeads``; the losses are ``loss_classifier`` and ``loss_box_reg``."""
        if not self.training:
            detections: tuple[list[dict[str, Tensor]], dict[str, Tensor]]
            detections = super().forward(features, proposals, image_shapes, targets)
            return detections
        proposals, _, labels, wanted = self.select_training_samples(proposals, targets)
        pooled = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        logits, deltas = self.box_predictor(pooled)
        classes = torch.cat(labels)
        return [], {
            "loss_classifier": functional.cross_entropy(logits, classes),
            "loss_box_reg": self._box_loss(deltas, torch.cat(proposals), classes, torch.cat(wanted)),
        }

    def _box_loss(self, deltas: Tensor, proposals: Tensor, classes: Tensor, wanted: Tensor) -> Tensor:
        """Loss over the foreground samples, divided by the number of all samples as in torchvision.

        Args:
            deltas: ``(N, 4 * C)`` regression per class. proposals: ``(N, 4)`` pixels.
            classes: ``(N,)``, 0 is background. wanted: ``(N, 4)`` true boxes, encoded.
        """
        shown = torch.where(classes > 0)[0]
        own = deltas.reshape(len(deltas), -1, 4)[shown, classes[shown]]
        found = self.box_coder.decode_single(own, proposals[shown])
        truth = self.box_coder.decode_single(wanted[shown], proposals[shown])
        overlap: Tensor = self.overlap_loss(found, truth, reduction="sum")
        return OVERLAP_LOSS_WEIGHT * overlap / max(classes.numel(), 1)


__all__ = ["OVERLAP_LOSSES", "OverlapRoIHeads"]
