"""The box head of Faster R-CNN: a choice of box losses, and tumours of unknown type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

from detectclf.models.marginal_loss import marginal_cross_entropy
from detectclf.types import ANY_TUMOR_INDEX

OVERLAP_LOSS_WEIGHT = 10.0
"""Weight of the overlap loss among the losses, as in MMDetection's faster-rcnn_r50_fpn_giou_1x_coco."""

SMOOTH_L1_BETA = 1 / 9
"""Where smooth L1 turns from square to linear, as in torchvision."""

OVERLAP_LOSSES = {"giou": generalized_box_iou_loss, "ciou": complete_box_iou_loss}


class TumorRoIHeads(RoIHeads):  # type: ignore[misc]  # torchvision's class is untyped
    """torchvision's ``RoIHeads`` with a choice of box losses and a label for tumours of unknown type.

    The box loss is torchvision's smooth L1, 1 - GIoU (Rezatofighi et al. 2019) or CIoU (Zheng et al. 2020). A label of
    ``K``, one more than the last class, is a tumour of unknown type: it is foreground, its class is summed out (see
    :mod:`detectclf.models.marginal_loss`), and its box loss is the mean of the tumour classes' box losses, weighted by
    the probabilities of these classes. So each class's regression learns as far as it is believed, the expectation step
    of EM. (A loss of the mean box would be lower, but boxes of classes that only fit on average would be as good.)

    It reuses the modules of ``plain``, so that names in the state dict stay the same.

    Attributes:
        tumors: the classes that are tumours, from 1; all but the background to begin with.
    """

    def __init__(self, plain: RoIHeads, num_classes: int, loss: Literal["smooth_l1", "giou", "ciou"]) -> None:
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
        self.box_loss = loss
        self.tumors: Sequence[int] = tuple(range(1, num_classes + 1))

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
        return [], self.losses(logits, deltas, torch.cat(proposals), torch.cat(labels), torch.cat(wanted))

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        proposals: Tensor,
        classes: Tensor,
        wanted: Tensor,
        counted: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The losses of ``N`` samples. No shape depends on how many of them are tumours.

        Args:
            logits: ``(N, K)``, class 0 is background. deltas: ``(N, 4 K)``, the regression of each class.
            proposals: ``(N, 4)`` pixels. classes: ``(N,)``, ``K`` for a tumour of unknown type.
            wanted: ``(N, 4)`` true boxes, encoded; those of the background do not matter.
            counted: ``(N,)`` which are samples, where they were filled up to a fixed number; all by default.
        """
        unknown = classes == logits.shape[1]
        labels = classes.masked_fill(unknown, ANY_TUMOR_INDEX)
        weights = self._regressed(logits, classes, unknown)
        number: Tensor | int = max(classes.numel(), 1)
        if counted is not None:
            weights, number = weights * counted[:, None], counted.sum()
        regressed = weights > 0
        tumor = regressed.any(dim=1)[:, None]
        # The rest gets numbers of finite losses, for 0 times NaN is NaN: the true box of a slice without a tumour is
        # empty and its code infinite, and the CIoU of empty boxes, as the filling is, is not defined.
        own = self._box_losses(
            torch.where(regressed[..., None], deltas.reshape(*logits.shape, 4), 0.0),
            torch.where(tumor, proposals, proposals.new_tensor([0.0, 0.0, 1.0, 1.0])),
            torch.where(tumor, wanted, 0.0),
        )
        return {
            "loss_classifier": marginal_cross_entropy(logits, labels, self.tumors, counted=counted),
            # Divided by the number of all samples, as in torchvision.
            "loss_box_reg": (weights * own).sum() / number,
        }

    def _regressed(self, logits: Tensor, classes: Tensor, unknown: Tensor) -> Tensor:
        """``(N, K)`` weights of the box losses of each class."""
        known = functional.one_hot(classes.masked_fill(unknown, 0), logits.shape[1]).to(logits.dtype)
        others = torch.tensor([k not in self.tumors for k in range(logits.shape[1])], device=logits.device)
        belief = logits.detach().masked_fill(others, float("-inf")).softmax(dim=1)
        weights = torch.where(unknown[:, None], belief, known)
        return weights * (classes > 0)[:, None]

    def _box_losses(self, deltas: Tensor, proposals: Tensor, wanted: Tensor) -> Tensor:
        """``(N, K)`` losses of the deltas ``(N, K, 4)`` of each class against the true boxes ``wanted``, encoded."""
        if self.box_loss == "smooth_l1":
            truth = wanted[:, None].expand_as(deltas)
            return functional.smooth_l1_loss(deltas, truth, beta=SMOOTH_L1_BETA, reduction="none").sum(dim=2)
        found = self.box_coder.decode_single(deltas.flatten(1), proposals).reshape(deltas.shape)
        truth = self.box_coder.decode_single(wanted, proposals)[:, None].expand_as(deltas)
        overlap: Tensor = OVERLAP_LOSSES[self.box_loss](found, truth, reduction="none")
        return OVERLAP_LOSS_WEIGHT * overlap


__all__ = ["OVERLAP_LOSSES", "TumorRoIHeads"]
