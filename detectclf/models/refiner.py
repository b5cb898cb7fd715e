"""The refining stage: reads a crop round each proposed box again, for a better box, its class and its quality.

A cascade (Cai & Vasconcelos, "Cascade R-CNN", 2018) whose last stage sees pixels instead of the detector's maps: a
small tumour fills the crop, where it was a few cells of the pyramid. The quality is trained to be the IoU of the given
box with the true one, as in IoU-Net (Jiang et al. 2018), because a class score says little about how well a box fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss

from detectclf.config import RefinerConfig
from detectclf.errors import ModelError
from detectclf.models.classifier_table import IMAGENET_MEAN, IMAGENET_STD
from detectclf.models.detector_backbones import mobilenet_v2_body
from detectclf.models.detector_parts import PyramidBackbone
from detectclf.models.transfer import TransferModel
from detectclf.models.weights import WeightsReport, load_weights

FINE_STRIDE = 8
"""Stride of the finest map, input pixels."""
EDGE_CHANNELS = 16
"""Channels of the map that box sides are read from."""


class Reading(NamedTuple):
    """What the refiner says of ``B`` crops.

    Attributes:
        boxes: ``(B, 4)`` ``xyxy`` in units of the crop, 0 to 1 inside it.
        quality: ``(B,)`` logits of the IoU of that box with the true one.
        logits: ``(B, K + 1)`` of the tumour classes and, last, of no tumour.
    """

    boxes: Tensor
    quality: Tensor
    logits: Tensor


class Refiner(TransferModel):
    """A pretrained backbone under a pyramid; box from its finest map, class from its coarsest, quality from both.

    Attributes:
        arch: ``mobilenet_v2`` or ``timm:NAME``.
        config: the settings that it was built with.
        num_classes: ``K``, classes of tumours.
        input_size: side of a crop, pixels.
        weights_report: what became of the pretrained weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: RefinerConfig, num_classes: int) -> None:
        super().__init__()
        self.arch, self.config, self.num_classes = config.arch, config, num_classes
        self.input_size = config.image_size
        self.weights_report = WeightsReport("none")
        body, channels, mean, std = _body(config.arch)
        self.pyramid = PyramidBackbone(body, channels, config.pyramid_channels)
        cells = (config.image_size // FINE_STRIDE) ** 2
        self.edges = nn.Sequential(
            nn.Conv2d(config.pyramid_channels, EDGE_CHANNELS, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(EDGE_CHANNELS * cells, config.head_width),
            nn.ReLU(inplace=True),
        )
        self.box = nn.Linear(config.head_width, 4)
        # The first boxes are the proposals themselves; random ones would saturate the bounds of `_decode`.
        nn.init.normal_(self.box.weight, std=0.001)
        nn.init.zeros_(self.box.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.kind = nn.Linear(config.pyramid_channels + config.head_width, num_classes + 1)
        self.quality = nn.Linear(config.pyramid_channels + config.head_width, 1)
        self.register_buffer("mean", torch.empty(0), persistent=False)
        self.register_buffer("std", torch.empty(0), persistent=False)
        self.set_normalisation(mean, std)
        self.keep_pretrained(config.frozen)

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets the mean and standard deviation (of grey levels 0 to 1) per channel of the network."""
        device = self.mean.device
        self.mean = torch.tensor(tuple(mean), device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(tuple(std), device=device).view(1, -1, 1, 1)

    def backbone(self) -> nn.Module:
        """The network under the pyramid."""
        return self.pyramid.body

    def forward(self, images: Tensor) -> Reading:
        """What is seen on crops ``(B, 1, s, s)``, grey levels 0 to 1.

        Raises:
            ModelError: crops of another size.
        """
        if images.shape[1:] != (1, self.input_size, self.input_size):
            raise ModelError(f"the refiner takes crops of {self.input_size} px squared, got {tuple(images.shape)}")
        maps = self.pyramid((images - self.mean) / self.std)
        edges = self.edges(maps["0"])
        whole = self.dropout(torch.cat([maps["2"].float().mean(dim=(2, 3)), edges.float()], dim=1))
        return Reading(
            self._decode(self.box(edges).float()), self.quality(whole)[:, 0].float(), self.kind(whole).float()
        )

    def _decode(self, deltas: Tensor) -> Tensor:
        """Moves of the middle and log factors of the sides, from a box in the middle of the crop."""
        side = 1.0 / self.config.context
        # Half-bounded, so that no step of the optimiser can throw a box out of reach.
        moves, factors = deltas[:, :2].tanh() * 0.5, (deltas[:, 2:].tanh() * 1.5).exp()
        centre, sides = 0.5 + moves, side * factors
        return torch.cat([centre - sides / 2, centre + sides / 2], dim=1)

    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``loss_box`` (L1 and GIoU), ``loss_quality`` and ``loss_class``, to be summed.

        Args:
            images: as of :meth:`forward`.
            boxes: ``(B, 4)`` true boxes in units of the crop; of no account where ``labels`` is ``K``.
            labels: ``(B,)`` int64, ``K`` for a healthy place.
        """
        said = self(images)
        shown = labels < self.num_classes
        found, wanted = said.boxes[shown], boxes[shown]
        count = max(int(shown.sum()), 1)
        box = generalized_box_iou_loss(found, wanted, reduction="sum") / count
        box = box + 4 * functional.l1_loss(found, wanted, reduction="sum") / (4 * count)
        quality = torch.zeros_like(said.quality)
        quality[shown] = paired_iou(found.detach(), wanted)
        return {
            "loss_box": box,
            "loss_quality": functional.binary_cross_entropy_with_logits(said.quality, quality),
            "loss_class": 0.5
            * functional.cross_entropy(said.logits, labels, label_smoothing=self.config.label_smoothing),
        }


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU ``(N,)`` of each box of ``first`` ``(N, 4)`` with its partner of ``second``."""
    sides = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0)
    shared = sides.prod(dim=1)
    areas = (first[:, 2:] - first[:, :2]).prod(dim=1) + (second[:, 2:] - second[:, :2]).prod(dim=1)
    return shared / (areas - shared).clamp(min=1e-9)


def build_refiner(config: RefinerConfig, num_classes: int) -> Refiner:
    """A refiner with its pretrained weights.

    Raises:
        ModelError: unknown architecture, or weights that cannot be had or do not fit.
        UnsafeError: weights in a pickle that holds code.
    """
    model = Refiner(config, num_classes)
    model.weights_report = load_weights(
        model, config.weights, arch=config.arch, default=config.arch, core="pyramid.body."
    )
    if not model.weights_report.matched:
        model.keep_pretrained(())  # random weights are not worth keeping
    return model


def _body(arch: str) -> tuple[nn.Module, tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Backbone with maps of strides 8, 16 and 32, their channels, mean and std of its pixels."""
    if arch == "mobilenet_v2":
        return mobilenet_v2_body(), (32, 96, 320), IMAGENET_MEAN, IMAGENET_STD
    if arch.startswith("timm:"):
        from detectclf.models.timm_networks import detector_facts

        facts = detector_facts(arch.removeprefix("timm:"))
        return facts.build(), facts.channels, facts.mean, facts.std
    raise ModelError(f"no refiner {arch!r}", remedy="use mobilenet_v2 or timm:NAME")


__all__ = ["Reading", "Refiner", "build_refiner", "paired_iou"]
