"""The feature maps of a detector for a batch of slices, kept to regress further boxes on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from detectclf.types import FloatArray

if TYPE_CHECKING:
    from detectclf.models.detectors import Detector

Found = dict[str, Tensor]
"""``boxes`` ``(N, 4)`` xyxy, ``labels`` ``(N,)`` from 0, ``scores`` ``(N,)``."""


def as_arrays(found: Found) -> tuple[FloatArray, npt.NDArray[np.int64], FloatArray]:
    """Boxes, labels and scores as arrays."""
    boxes, labels, scores = (found[name].detach().cpu() for name in ("boxes", "labels", "scores"))
    return boxes.float().numpy(), labels.numpy(), scores.float().numpy()


class RoIFeatures:
    """One pass of a detector over a batch, with its feature maps. Create it in inference mode.

    Args:
        detector: in evaluation mode.
        images: ``(B, 1, H, W)`` grey levels 0 to 1, in the size of the network's input: unlike the detector's own
            ``forward``, this does not resize.

    Attributes:
        found: for each image the detections, best first, boxes in pixels of ``images``.
    """

    def __init__(self, detector: Detector, images: Tensor) -> None:
        network = detector.network
        self._heads = network.roi_heads
        self._sizes = [(images.shape[2], images.shape[3])] * len(images)
        normal = [network.transform.normalize(image) for image in images]
        batch = ImageList(network.transform.batch_images(normal, network.transform.size_divisible), self._sizes)
        maps = network.backbone(batch.tensors)
        self._maps: dict[str, Tensor] = {"0": maps} if isinstance(maps, Tensor) else maps
        proposals, _ = network.rpn(batch, self._maps)
        found, _ = self._heads(self._maps, proposals, self._sizes)
        self.found: list[Found] = [{**each, "labels": each["labels"] - 1} for each in found]

    def regress(self, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Tensor]:
        """Regresses given boxes with the box head.

        Args:
            boxes: for each image ``(N, 4)`` xyxy in pixels of the images.
            labels: for each image ``(N,)``, the class whose regression is applied to each box.

        Returns:
            For each image ``(N, 4)``, clipped to the image.
        """
        if not any(len(each) for each in boxes):
            return list(boxes)  # for no boxes, torchvision's decoder gives another shape
        # Clipped to the image, as the proposals in training are.
        starts = [clip_boxes_to_image(each, size) for each, size in zip(boxes, self._sizes, strict=True)]
        pooled = self._heads.box_head(self._heads.box_roi_pool(self._maps, starts, self._sizes))
        _, deltas = self._heads.box_predictor(pooled)
        of_classes = self._heads.box_coder.decode(deltas, starts)
        classes = torch.cat(list(labels)) + 1  # 0 is the background
        moved = of_classes[torch.arange(len(classes), device=classes.device), classes]
        parts = moved.split([len(each) for each in boxes])
        return [clip_boxes_to_image(part, size) for part, size in zip(parts, self._sizes, strict=True)]


__all__ = ["Found", "RoIFeatures", "as_arrays"]
