"""Reading again: the refiner on crops round the detector's most likely places."""

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
"""RefinedProposals of a slice that are read again; these slices show one tumour, and the next places are for doubt."""


class PreparedSlice(NamedTuple):
    """A slice as it is cropped from: pixels, their number over original pixels, original width and height."""

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

    def prepare(self, pixels: Pixels) -> PreparedSlice:
        """A slice as it is cropped from."""
        square, scale, (width, height) = resize_pad(pixels, self.refiner.config.slice_size)
        return PreparedSlice(square[:height, :width], scale, pixels.shape[1], pixels.shape[0])

    def read(self, slices: Sequence[PreparedSlice], outputs: Sequence[StageOutputs]) -> list[StageOutputs]:
        """``outputs`` with the places of each slice.

        Args:
            slices: as :meth:`prepare` gave them.
            outputs: the first two stages' words on them.
        """
        frames: list[list[CropFrame]] = []
        crops, rows_used = [], []
        for prepared, said in zip(slices, outputs, strict=True):
            chosen = likely_proposals(said, self.classes)
            context, size = self.refiner.config.context, self.refiner.input_size
            frames.append([CropFrame.around(said.boxes_xyxy[i] * np.float32(prepared.scale), context) for i in chosen])
            crops += [frame.cut(prepared.pixels, size) for frame in frames[-1]]
            rows_used.append(chosen)
        boxes, quality, class_probabilities = self._run(crops)
        done, first = [], 0
        for prepared, own, chosen, said in zip(slices, frames, rows_used, outputs, strict=True):
            rows = slice(first, first + len(own))
            first += len(own)
            found = [frame.to_slice(box) for frame, box in zip(own, boxes[rows], strict=True)]
            original = np.asarray(found, dtype=np.float32).reshape(-1, 4) / np.float32(prepared.scale)
            # Here, not before: the resized slice has whole pixels, and is up to half of one longer than its scale says.
            original = np.clip(original, 0, np.array([prepared.width, prepared.height] * 2, dtype=np.float32))
            # A box pushed out of the slice is no box.
            kept = np.flatnonzero((original[:, 2] > original[:, 0]) & (original[:, 3] > original[:, 1]))
            first_boxes = said.boxes_xyxy[chosen][kept]
            refined = RefinedProposals(
                original[kept], first_boxes, quality[rows][kept], class_probabilities[rows][kept], self.classes
            )
            done.append(replace(said, refined=refined))
        return done

    def _run(self, crops: Sequence[Pixels]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Boxes ``(N, 4)`` in units of the crop, quality ``(N,)`` and probabilities ``(N, T + 1)``.

        Means over each crop and its mirror image: heads are nearly symmetric, and a crop costs little.
        """
        import torch

        from detectclf.inference.tta import mirrored_boxes

        if not crops:
            none = np.zeros((0, 4), dtype=np.float32)
            return none, none[:, 0], np.zeros((0, len(self.classes) + 1), dtype=np.float32)
        block = torch.from_numpy(np.stack(crops)).to(self.device).unsqueeze(1).float().div(255)
        both = torch.cat([block, block.flip(3)]).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            said = self.refiner(both)
        count = len(crops)
        boxes = (said.boxes[:count] + mirrored_boxes(said.boxes[count:], 1)) / 2
        quality, class_probabilities = said.quality.sigmoid(), said.logits.softmax(dim=1)
        means = [(part[:count] + part[count:]) / 2 for part in (quality, class_probabilities)]
        return boxes.cpu().numpy(), means[0].cpu().numpy(), means[1].cpu().numpy()


def likely_proposals(outputs: StageOutputs, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Indices of the detector's best tumour boxes, best first, that are not about the place of a better one."""
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
