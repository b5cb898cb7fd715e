"""The refiner: takes a crop around each proposed box and predicts a better box, its class and its quality.

It is a cascade (Cai & Vasconcelos, "Cascade R-CNN", 2018) whose last stage works on pixels, not on the detector's
feature maps: a small tumour fills the crop but only a few cells of the pyramid. The quality is trained to be the IoU of
the predicted box with the true one, as in IoU-Net (Jiang et al. 2018), because a class score does not tell how well a
box fits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou, generalized_box_iou_loss

from detectclf.config import RefinerConfig
from detectclf.errors import ModelError
from detectclf.models.classifier_table import IMAGENET_MEAN, IMAGENET_STD
from detectclf.models.detector_backbones import mobilenet_v2_body
from detectclf.models.detector_parts import PyramidBackbone
from detectclf.models.marginal_loss import marginal_cross_entropy
from detectclf.models.transfer import SquareInputModel

FINE_STRIDE = 8
"""Stride of the finest map, input pixels."""
EDGE_CHANNELS = 16
"""Channels of the map that box sides are read from."""


class RefinerOutputs(NamedTuple):
    """The refiner's output for ``B`` crops.

    Attributes:
        boxes: ``(B, 4)`` ``xyxy`` in units of the crop: 0 to 1 is inside it.
        quality: ``(B,)`` logits of the IoU of that box with the true one.
        logits: ``(B, K + 1)``, the tumour classes and, last, no tumour.
    """

    boxes: Tensor
    quality: Tensor
    logits: Tensor


class Refiner(SquareInputModel):
    """A pretrained backbone under a feature pyramid.

    The finest map gives the box; the finest and the coarsest together give class and quality.

    ``num_classes`` counts the classes of tumours, ``K``.
    """

    stage_kind = "refiner"
    config: RefinerConfig

    def __init__(self, config: RefinerConfig, num_classes: int) -> None:
        super().__init__(config, num_classes, config.image_size)
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
        # Training starts from the proposals themselves; large random shifts would saturate `_decode`.
        nn.init.normal_(self.box.weight, std=0.001)
        nn.init.zeros_(self.box.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.kind = nn.Linear(config.pyramid_channels + config.head_width, num_classes + 1)
        self.quality = nn.Linear(config.pyramid_channels + config.head_width, 1)
        self.set_normalisation(mean, std)
        self.freeze_parts(config.frozen)

    def backbone(self) -> nn.Module:
        """The network under the pyramid."""
        return self.pyramid.body

    def forward(self, images: Tensor) -> RefinerOutputs:
        """Box, quality and class of crops ``(B, 1, S, S)``, grey levels 0 to 1.

        Raises:
            ModelError: crops of another size.
        """
        maps = self.pyramid(self.normalise(images))
        edges = self.edges(maps["0"])
        whole = self.dropout(torch.cat([maps["2"].float().mean(dim=(2, 3)), edges.float()], dim=1))
        return RefinerOutputs(
            self._decode(self.box(edges).float()), self.quality(whole)[:, 0].float(), self.kind(whole).float()
        )

    def _decode(self, deltas: Tensor) -> Tensor:
        """Boxes from shifts of the centre and log factors of the sides, relative to a box in the middle of the crop."""
        side = 1.0 / self.config.context
        # Bounded by tanh, so that one step of the optimiser cannot move a box out of reach.
        moves, factors = deltas[:, :2].tanh() * 0.5, (deltas[:, 2:].tanh() * 1.5).exp()
        centre, sides = 0.5 + moves, side * factors
        return torch.cat([centre - sides / 2, centre + sides / 2], dim=1)

    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``loss_box`` (L1 and GIoU), ``loss_quality`` and ``loss_class``, to be summed.

        Args:
            images: as for :meth:`forward`.
            boxes: ``(B, 4)`` true boxes in units of the crop; ignored where ``labels`` is ``K``.
            labels: ``(B,)`` int64, ``K`` for a crop without a tumour, ``ANY_TUMOR_INDEX`` for one of unknown type.
        """
        outputs = self(images)
        shown = labels < self.num_classes
        found, wanted = outputs.boxes[shown], boxes[shown]
        count = max(int(shown.sum()), 1)
        box = generalized_box_iou_loss(found, wanted, reduction="sum") / count
        box = box + 4 * functional.l1_loss(found, wanted, reduction="sum") / (4 * count)
        quality = torch.zeros_like(outputs.quality)
        quality[shown] = paired_iou(found.detach(), wanted)
        return {
            "loss_box": box,
            "loss_quality": functional.binary_cross_entropy_with_logits(outputs.quality, quality),
            "loss_class": 0.5
            * marginal_cross_entropy(
                outputs.logits, labels, range(self.num_classes), label_smoothing=self.config.label_smoothing
            ),
        }


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU ``(N,)`` of each box of ``first`` ``(N, 4)`` with the box of ``second`` in the same row."""
    paired: Tensor = box_iou(first, second).diagonal()
    return paired.nan_to_num(0)  # 0 / 0 for two boxes without area


def build_refiner(config: RefinerConfig, num_classes: int) -> Refiner:
    """A refiner with its pretrained weights.

    Raises:
        ModelError: unknown architecture, or weights that cannot be loaded or do not fit.
        UnsafeError: weights in a pickle that holds code.
    """
    model = Refiner(config, num_classes)
    model.load_pretrained(model, config.arch, core="pyramid.body.")
    return model


def _body(arch: str) -> tuple[nn.Module, tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Backbone with maps of strides 8, 16 and 32, the channels of the maps, and mean and std of its input."""
    if arch == "mobilenet_v2":
        return mobilenet_v2_body(), (32, 96, 320), IMAGENET_MEAN, IMAGENET_STD
    if arch.startswith("timm:"):
        from detectclf.models.timm_networks import timm_backbone

        network = timm_backbone(arch.removeprefix("timm:"))
        return network.build(), network.channels, network.mean, network.std
    raise ModelError(f"no refiner {arch!r}", remedy="use mobilenet_v2 or timm:NAME")


__all__ = ["Refiner", "RefinerOutputs", "build_refiner", "paired_iou"]
