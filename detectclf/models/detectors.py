"""The detector: a table of Faster R-CNNs, and :class:`Detector`, the network of any of its rows.

torchvision counts background as class 0. :class:`Detector` and ``RoIFeatures`` (``roi_features.py``) shift labels by
one, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead

from detectclf.config import DetectorConfig
from detectclf.errors import ModelError
from detectclf.models.box_loss import TumorRoIHeads
from detectclf.models.classifier_table import IMAGENET_MEAN, IMAGENET_STD
from detectclf.models.detector_backbones import (
    NetworkBuilder,
    Settings,
    SmallBody,
    Widths,
    lean,
    mobilenet_v2_body,
    stock,
)
from detectclf.models.detector_parts import Float32Anchors, SliceTransform, to_float32
from detectclf.models.fixed_shapes import fixed_detections, fixed_losses
from detectclf.models.names import check_arch
from detectclf.models.transfer import TransferModel
from detectclf.types import ANY_TUMOR_INDEX, MOST_CLASSES

Anchors = tuple[tuple[float, ...], ...]

LEAN_ANCHORS: Anchors = ((16, 24, 32), (48, 64, 96), (128, 192, 256))
"""Sides in pixels of a 320 px input, for strides 8, 16, 32; a pituitary tumour has about 30 px there, a glioma 100."""


@dataclass(frozen=True, slots=True)
class DetectorRow:
    """One architecture.

    Attributes:
        build: makes the network with random weights.
        anchors: sides per level, in pixels of an input of ``anchor_reference`` pixels; they scale with the input.
        weights: what ``--weights default`` loads, as in :func:`~detectclf.models.weights.load_weights`; ``None`` if
            there are no pretrained weights.
        mean, std: mean and standard deviation of the pixels that the weights were trained on.
        rpn_depth: convolutions of the proposal network's head.
    """

    build: NetworkBuilder
    anchors: Anchors
    anchor_reference: int
    weights: str | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    rpn_depth: int = 1


_RESNET_ANCHORS: Anchors = ((32,), (64,), (128,), (256,), (512,))
_MOBILENET_ANCHORS: Anchors = ((32, 64, 128, 256, 512),) * 3

# The number of stock anchors is unchanged, so that COCO weights of the proposal network fit. They scale with the input.
DETECTORS: dict[str, DetectorRow] = {
    "fasterrcnn_resnet50_fpn": DetectorRow(
        stock("fasterrcnn_resnet50_fpn"), _RESNET_ANCHORS, 800, "fasterrcnn_resnet50_fpn"
    ),
    "fasterrcnn_resnet50_fpn_v2": DetectorRow(
        stock("fasterrcnn_resnet50_fpn_v2"), _RESNET_ANCHORS, 800, "fasterrcnn_resnet50_fpn_v2", rpn_depth=2
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": DetectorRow(
        stock("fasterrcnn_mobilenet_v3_large_fpn"), _MOBILENET_ANCHORS, 800, "fasterrcnn_mobilenet_v3_large_fpn"
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": DetectorRow(
        stock("fasterrcnn_mobilenet_v3_large_320_fpn"), _MOBILENET_ANCHORS, 640, "fasterrcnn_mobilenet_v3_large_320_fpn"
    ),
    "fasterrcnn_mobilenet_v2_fpn": DetectorRow(
        lean(mobilenet_v2_body, (32, 96, 320)), LEAN_ANCHORS, 320, "mobilenet_v2"
    ),
    # Ours, trained from scratch: the demo needs minutes.
    "fasterrcnn_small_fpn": DetectorRow(
        lean(SmallBody, SmallBody.channels, width=64, hidden=256), LEAN_ANCHORS, 320, None
    ),
}
"""Every architecture of a fixed name, as ``names.py`` lists them; ``fasterrcnn_timm:NAME`` puts the same pyramid on a
network of timm."""


class Detector(TransferModel):
    """A Faster R-CNN of the table (Ren et al. 2015) for grey slices.

    ``num_classes`` counts the classes of boxes, without background.
    """

    stage_kind = "detector"
    config: DetectorConfig

    def __init__(self, row: DetectorRow, config: DetectorConfig, num_classes: int) -> None:
        super().__init__(config, num_classes, config.image_size)
        sizes = _anchor_sizes(row, config)
        anchors = Float32Anchors(sizes, (config.aspect_ratios,) * len(sizes))
        widths = Widths(config.pyramid_channels, config.head_width)
        self.network = row.build(num_classes + 1, _settings(config), widths)
        self.network.transform = SliceTransform(config.image_size, row.mean, row.std)
        self.network.rpn.anchor_generator = anchors
        self.network.rpn.head = RPNHead(
            self.network.backbone.out_channels, anchors.num_anchors_per_location()[0], row.rpn_depth
        )
        self.network.roi_heads = TumorRoIHeads(self.network.roi_heads, num_classes, config.box_loss)
        self.network.rpn.head.register_forward_hook(to_float32)
        self.network.roi_heads.box_predictor.register_forward_hook(to_float32)
        self.freeze_parts(config.frozen)

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of grey levels 0 to 1, one number per channel of the network."""
        return tuple(self.network.transform.image_mean), tuple(self.network.transform.image_std)

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets :meth:`normalisation`."""
        self.network.transform.image_mean, self.network.transform.image_std = list(mean), list(std)

    def backbone(self) -> nn.Module:
        """The network below the pyramid."""
        body: nn.Module = self.network.backbone.body
        return body

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, boxes in evaluation mode.

        Args:
            images: ``(1, h, w)`` float each, grey levels 0 to 1, any size.
            targets: in training, for each image ``boxes`` ``(N, 4)`` float32 ``xyxy`` in pixels of the image given
                here, and ``labels`` ``(N,)`` int64 from 0, or ``ANY_TUMOR_INDEX`` for a tumour of unknown type. An
                image without a tumour has ``(0, 4)`` boxes. On the device of the images, but with XLA on the CPU.

        Returns:
            In training mode a dict of losses to be summed. In evaluation mode, for each image, ``boxes`` ``(M, 4)`` in
            pixels of the image given here, ``labels`` ``(M,)`` from 0 and ``scores`` ``(M,)``, best first.

        Raises:
            ModelError: no targets in training mode.
        """
        fixed = images[0].device.type == "xla"
        if not self.training:
            found: list[dict[str, Tensor]] = fixed_detections(self.network, images) if fixed else self.network(images)
            return [{**each, "labels": each["labels"] - 1} for each in found]
        if targets is None:
            raise ModelError("a detector in training mode needs boxes", remedy="call .eval() to predict")
        shifted = [{"boxes": each["boxes"], "labels": self._shifted(each["labels"])} for each in targets]
        if fixed:
            return fixed_losses(self.network, images, shifted)
        losses: dict[str, Tensor] = self.network(images, shifted)
        return losses

    def _shifted(self, labels: Tensor) -> Tensor:
        """Labels as the box head counts them: background is 0, a tumour of unknown type follows the last class."""
        return torch.where(labels == ANY_TUMOR_INDEX, self.num_classes + 1, labels + 1)

    def set_tumors(self, classes: Sequence[int]) -> None:
        """Says which classes, from 0, are tumours, for training on tumours of unknown type; all are to begin with."""
        self.network.roi_heads.tumors = tuple(k + 1 for k in classes)


def build_detector(config: DetectorConfig, num_classes: int) -> Detector:
    """A detector with its pretrained weights.

    Args:
        config: architecture, weights, input size, anchors, proposals, thresholds.
        num_classes: classes of boxes, background not counted, at least 1.

    Raises:
        ModelError: unknown architecture, anchors that do not suit it, or weights that cannot be loaded or do not fit.
        UnsafeError: weights in a pickle that holds code.
    """
    if num_classes < 1:
        raise ModelError("a detector needs at least one class of boxes", remedy="check the class names of the data")
    if num_classes > MOST_CLASSES:
        raise ModelError(
            f"a detector has at most {MOST_CLASSES} classes, not {num_classes}", remedy="join classes by data.class_map"
        )
    row = detector_row(config.arch)
    model = Detector(row, config, num_classes)
    model.load_pretrained(model.network, row.weights, core="backbone.body.")
    return model


def detector_row(arch: str) -> DetectorRow:
    """The row of an architecture, ``fasterrcnn_timm:NAME`` included.

    Raises:
        ModelError: unknown architecture, or timm is not installed.
    """
    if arch.startswith("fasterrcnn_timm:"):
        from detectclf.models.timm_networks import timm_backbone

        name = arch.removeprefix("fasterrcnn_timm:")
        network = timm_backbone(name)
        return DetectorRow(
            lean(network.build, network.channels), LEAN_ANCHORS, 320, f"timm:{name}", mean=network.mean, std=network.std
        )
    check_arch("detector", arch)
    return DETECTORS[arch]


def _anchor_sizes(row: DetectorRow, config: DetectorConfig) -> Anchors:
    if config.anchor_sizes is None:
        scale = config.image_size / row.anchor_reference
        return tuple(tuple(side * scale for side in level) for level in row.anchors)
    counts = {len(level) for level in config.anchor_sizes}
    if len(config.anchor_sizes) != len(row.anchors) or len(counts) != 1 or 0 in counts:
        raise ModelError(
            f"anchor_sizes of {config.arch} must be {len(row.anchors)} groups of the same length",
            remedy="correct model.anchor_sizes or leave it out",
        )
    return config.anchor_sizes


def _settings(config: DetectorConfig) -> Settings:
    return {
        "min_size": config.image_size,
        "max_size": config.image_size,
        # 2.5 and 3.3 times as many before suppression, per level, because overlapping anchors propose the same boxes.
        "rpn_pre_nms_top_n_train": config.proposals_train * 5 // 2,
        "rpn_pre_nms_top_n_test": config.proposals_test * 10 // 3,
        "rpn_post_nms_top_n_train": config.proposals_train,
        "rpn_post_nms_top_n_test": config.proposals_test,
        "rpn_batch_size_per_image": config.rpn_samples,
        "rpn_score_thresh": 0.0,  # proposals_test limits the cost; a threshold would lose faint tumours
        "box_score_thresh": config.score_threshold,
        "box_nms_thresh": config.nms_iou,
        "box_detections_per_img": config.max_boxes,
        "box_batch_size_per_image": config.roi_samples,
    }


__all__ = ["DETECTORS", "Detector", "DetectorRow", "build_detector", "detector_row"]
