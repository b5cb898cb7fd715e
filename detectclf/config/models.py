"""Settings of the networks of each stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from detectclf.config.base import Probability, Settings

Side = Annotated[float, Field(gt=0, le=4096)]
Ratio = Annotated[float, Field(ge=0.05, le=20)]
Level = Annotated[tuple[Side, ...], Field(max_length=16)]
Anchors = Annotated[tuple[Level, ...], Field(max_length=8)]


class ModelConfig(Settings):
    """What the settings of every stage have in common."""

    arch: str
    """Architecture."""
    weights: str = "default"
    """default (the library's pretrained weights), none, or a path to safetensors, a plain state dict, or a run."""


class DetectorConfig(ModelConfig):
    """The detector: a torchvision Faster R-CNN."""

    arch: str = "fasterrcnn_mobilenet_v2_fpn"
    """A row of the DETECTORS table, or fasterrcnn_timm:NAME."""
    image_size: Annotated[int, Field(ge=64, le=2048)] = 320
    """Longer side of the network's input, pixels."""
    anchor_sizes: Anchors | None = None
    """Anchor sides in input pixels, one tuple per feature level; by default those of the architecture."""
    aspect_ratios: Annotated[tuple[Ratio, ...], Field(min_length=1, max_length=8)] = (0.5, 1.0, 2.0)
    """Height of an anchor divided by its width."""
    pyramid_channels: Annotated[int, Field(ge=16, le=512)] | None = None
    """Channels of a lean detector's feature pyramid; by default the architecture's own."""
    head_width: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Width of a lean detector's box head; by default the architecture's own."""
    frozen: tuple[str, ...] = ()
    """Parts of the backbone (dotted module names) that keep their pretrained weights, such as its first stages."""
    proposals_train: Annotated[int, Field(ge=10, le=4000)] = 200
    """Region proposals kept per slice after non-maximum suppression in training."""
    proposals_test: Annotated[int, Field(ge=10, le=2000)] = 60
    """Region proposals kept per slice after non-maximum suppression in prediction."""
    roi_samples: Annotated[int, Field(ge=8, le=2048)] = 64
    """Proposals per slice that the box head is trained on."""
    rpn_samples: Annotated[int, Field(ge=8, le=8192)] = 128
    """Anchors per slice that the proposal network is trained on."""
    score_threshold: Probability = 0.01
    """Lowest score of a predicted box; low because mAP also counts boxes of low scores."""
    nms_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU above which non-maximum suppression drops the lower-scoring of two boxes of a class."""
    max_boxes: Annotated[int, Field(ge=1, le=1000)] = 20
    """Most boxes per slice."""
    box_loss: Literal["smooth_l1", "giou", "ciou"] = "smooth_l1"
    """Loss of the box regression in the box head."""


class ClassifierConfig(ModelConfig):
    """The classifier of whole slices."""

    arch: str = "mobilenet_v2"
    """A row of the CLASSIFIERS table, or timm:NAME."""
    image_size: Annotated[int, Field(ge=32, le=1024)] | None = None
    """Side of the square input, pixels; by default the architecture's own."""
    frozen: tuple[str, ...] = ()
    """Parts of the backbone (dotted module names) that keep their pretrained weights, such as its first stages."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout before the last layer; by default the architecture's own."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of each label spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weigh the loss by inverse class frequency."""


__all__ = ["ClassifierConfig", "DetectorConfig", "ModelConfig"]
