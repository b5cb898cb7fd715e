"""Box refinement: the refiner on crops around the detector's best proposals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from detectclf.boxes import iou
from detectclf.datasets.crops import CropFrame
from detectclf.imaging.images import resize_pad
from detectclf.inference.box_fusion import SAME_PROPOSAL_IOU
from detectclf.types import FloatArray, Pixels, RefinedProposals, StageOutputs

if TYPE_CHECKING:
    import torch

    from detectclf.models.refiner import Refiner

MOST_PROPOSALS = 3
"""Proposals refined on each slice. A slice shows one tumour, but the best proposal is not always on it."""


class RefinerInput(NamedTuple):
    """A slice that crops are cut from: its pixels, their number per original pixel, original width and height."""

    pixels: Pixels
    scale: float
    width: int
    height: int


class ProposalRefiner:
    """The refiner of a bundle on one device.

    Args:
        refiner: in evaluation mode, on the device.
        classes: its tumour classes.
        device: where it runs.
    """

    def __init__(self, refiner: Refiner, classes: tuple[str, ...], device: torch.device) -> None:
        self.refiner, self.classes, self.device = refiner, classes, device

    def prepare(self, pixels: Pixels) -> RefinerInput:
        """The slice at the size that crops are cut from."""
        square, scale, (width, height) = resize_pad(pixels, self.refiner.config.slice_size)
        return RefinerInput(square[:height, :width], scale, pixels.shape[1], pixels.shape[0])

    def refine(self, slices: Sequence[RefinerInput], outputs: Sequence[StageOutputs]) -> list[StageOutputs]:
        """``outputs`` with the best proposals of each slice refined.

        Args:
            slices: from :meth:`prepare`.
            outputs: of detector and classifier for these slices.
        """
        context, size = self.refiner.config.context, self.refiner.input_size
        chosen = [likely_proposals(each, self.classes) for each in outputs]
        frames = [
            [CropFrame.around(box * np.float32(prepared.scale), context) for box in each.boxes_xyxy[rows]]
            for prepared, each, rows in zip(slices, outputs, chosen, strict=True)
        ]
        crops = [
            frame.cut(prepared.pixels, size) for prepared, own in zip(slices, frames, strict=True) for frame in own
        ]
        boxes, quality, class_probabilities = self._run(crops)
        done, first = [], 0
        for prepared, own, each, proposals in zip(slices, frames, outputs, chosen, strict=True):
            rows = slice(first, first + len(own))
            first += len(own)
            refined = _in_original_pixels(boxes[rows], own, prepared)
            # A box that was clipped to nothing is dropped.
            kept = np.flatnonzero((refined[:, 2] > refined[:, 0]) & (refined[:, 3] > refined[:, 1]))
            result = RefinedProposals(
                refined[kept],
                each.boxes_xyxy[proposals][kept],
                quality[rows][kept],
                class_probabilities[rows][kept],
                self.classes,
            )
            done.append(replace(each, refined=result))
        return done

    def _run(self, crops: Sequence[Pixels]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Boxes ``(N, 4)`` in units of the crop, quality ``(N,)`` and probabilities ``(N, T + 1)``.

        All are means over each crop and its mirror image: test-time augmentation costs little on a crop.
        """
        import torch

        from detectclf.inference.tta import mirrored_boxes

        if not crops:
            none = np.zeros((0, 4), dtype=np.float32)
            return none, none[:, 0], np.zeros((0, len(self.classes) + 1), dtype=np.float32)
        block = torch.from_numpy(np.stack(crops)).to(self.device).unsqueeze(1).float().div(255)
        both = torch.cat([block, block.flip(3)]).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            outputs = self.refiner(both)
        count = len(crops)
        boxes = (outputs.boxes[:count] + mirrored_boxes(outputs.boxes[count:], 1)) / 2
        quality, class_probabilities = outputs.quality.sigmoid(), outputs.logits.softmax(dim=1)
        means = [(part[:count] + part[count:]) / 2 for part in (quality, class_probabilities)]
        return boxes.cpu().numpy(), means[0].cpu().numpy(), means[1].cpu().numpy()


def _in_original_pixels(boxes: FloatArray, frames: Sequence[CropFrame], prepared: RefinerInput) -> FloatArray:
    """Boxes ``(N, 4)`` in units of their crops as pixels of the original slice, clipped to it."""
    on_slice = [frame.to_slice(box) for frame, box in zip(frames, boxes, strict=True)]
    original = np.asarray(on_slice, dtype=np.float32).reshape(-1, 4) / np.float32(prepared.scale)
    # Clipped here and not on the resized slice, whose sides are rounded to whole pixels.
    limits = np.array([prepared.width, prepared.height] * 2, dtype=np.float32)
    clipped: FloatArray = np.clip(original, 0, limits)
    return clipped


def likely_proposals(outputs: StageOutputs, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Indices of the detector's best tumour boxes, best first, without duplicates of a better box."""
    chosen: list[int] = []
    for i, label in enumerate(outputs.box_labels):  # best score first
        if label not in classes:
            continue
        if chosen and iou(outputs.boxes_xyxy[i], outputs.boxes_xyxy[chosen]).max() > SAME_PROPOSAL_IOU:
            continue
        chosen.append(i)
        if len(chosen) == MOST_PROPOSALS:
            break
    return np.array(chosen, dtype=np.int64)


__all__ = ["MOST_PROPOSALS", "ProposalRefiner", "likely_proposals"]
