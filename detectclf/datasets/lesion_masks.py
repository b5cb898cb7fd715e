"""Masks of tumours, found for the slices of figshare 1512427 by content.

The original comes with a mask of each tumour. The sets made from it on Kaggle and Roboflow do not, so a slice's mask is
looked up by the number that the atlas gives it, and kept only where it fits the slice's box.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectclf.boxes import extent, pairwise_iou
from detectclf.datasets.index import SliceIndex
from detectclf.duplicates.atlas import load_atlas
from detectclf.errors import DataError
from detectclf.files import read_bytes
from detectclf.types import FloatArray, Mask, Sample

_log = logging.getLogger(__name__)

FITS = 0.7
"""IoU of the extent of a mask, or of its mirror image, with a slice's box, from which it is the slice's."""

_LARGEST_FILE = 4 << 20


@dataclass(frozen=True, slots=True, eq=False)
class LesionMask:
    """The mask of one slice.

    Attributes:
        crop: ``(h, w)`` the mask, cropped to its extent.
        place: ``(4,)`` float32 ``xyxy``, the extent as shares of the slice's width and height.
        of_frame: longer side of the extent as a share of the mask's longer side.
    """

    crop: Mask
    place: FloatArray
    of_frame: float

    def on(self, inside: tuple[int, int], side: int) -> FloatArray:
        """``(side, side)`` float32 in [0, 1] for a slice that fills the top left ``inside`` (width, height) pixels."""
        import cv2

        drawn = np.zeros((side, side), dtype=np.float32)
        x0, y0, x1, y1 = np.rint(self.place * np.array(inside * 2)).astype(int).tolist()
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        small = cv2.resize(self.crop.astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        drawn[y0:y1, x0:x1] = small[: side - y0, : side - x0]
        return drawn


class LesionMasks:
    """Masks of some samples.

    Args:
        masks: position of the sample -> its mask.
        samples: the samples.
    """

    def __init__(self, masks: dict[int, LesionMask], samples: Sequence[Sample]) -> None:
        self._of = {_key(samples[i]): mask for i, mask in masks.items()}
        self.by_class: dict[str, list[LesionMask]] = {}
        """Class -> the masks of its slices."""
        for i, mask in sorted(masks.items()):
            label = samples[i].label
            if label is not None:
                self.by_class.setdefault(label, []).append(mask)

    def __len__(self) -> int:
        return len(self._of)

    def find(self, sample: Sample) -> LesionMask | None:
        """The mask of ``sample``, or ``None``."""
        return self._of.get(_key(sample))

    @classmethod
    def load(cls, folder: Path, samples: Sequence[Sample], index: SliceIndex) -> LesionMasks:
        """Reads the masks of those ``samples`` that are slices of figshare 1512427 and have one box.

        Args:
            folder: with a picture ``NUMBER.png`` for each slice of the original, black where there is no tumour.
            samples: slices; others than the original's have no mask here.
            index: the slice index of the command.

        Raises:
            DataError: no such folder, or a mask that is no picture.
        """
        if not folder.is_dir():
            raise DataError("no folder of masks", file=folder, remedy="correct data.lesion_masks")
        atlas = load_atlas()
        rows = atlas.match(index.look_up(samples).fingerprints)
        found = {}
        for i, (sample, row) in enumerate(zip(samples, rows.tolist(), strict=True)):
            file = folder / f"{atlas.sources[row]}.png"
            if row >= 0 and len(sample.boxes_xyxy) == 1 and sample.width and file.is_file():
                mask = _fitting(_read(file), sample)
                if mask is not None:
                    found[i] = mask
        _log.info("masks of %d of %d slices found", len(found), len(samples))
        return cls(found, samples)


def _fitting(mask: Mask, sample: Sample) -> LesionMask | None:
    """``mask`` or its mirror image, whichever fits the box of ``sample``; ``None`` if neither does."""
    size = np.array([sample.width, sample.height] * 2, dtype=np.float32)
    box: FloatArray = (sample.boxes_xyxy[0] / size).astype(np.float32)
    for turned in (mask, mask[:, ::-1]):
        x0, y0, x1, y1 = extent(turned)
        if x0 == x1:
            return None
        place = np.array([x0, y0, x1, y1], dtype=np.float32)
        crop = turned[y0:y1, x0:x1]
        frame = np.array([turned.shape[1], turned.shape[0]] * 2, dtype=np.float32)
        shares: FloatArray = (place / frame).astype(np.float32)
        if pairwise_iou(shares[None], box[None])[0, 0] >= FITS:
            return LesionMask(np.ascontiguousarray(crop), shares, max(crop.shape) / max(turned.shape))
    return None


def _read(file: Path) -> Mask:
    import cv2

    grey = cv2.imdecode(np.frombuffer(read_bytes(file, limit_bytes=_LARGEST_FILE), np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise DataError("is no picture of a mask", file=file, remedy="correct data.lesion_masks")
    return np.asarray(grey > 0)


def ellipses(boxes_xyxy: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """``shape`` (height, width) float32: the ellipse in each of ``(N, 4)`` boxes, where no mask is known."""
    import cv2

    drawn = np.zeros(shape, dtype=np.float32)
    for x0, y0, x1, y1 in boxes_xyxy.tolist():
        middle, half = (round((x0 + x1) / 2), round((y0 + y1) / 2)), (round((x1 - x0) / 2), round((y1 - y0) / 2))
        cv2.ellipse(drawn, middle, half, 0, 0, 360, 1.0, -1)
    return drawn


def _key(sample: Sample) -> tuple[str, int]:
    return (str(sample.path), sample.span.offset if sample.span else -1)


__all__ = ["LesionMask", "LesionMasks", "ellipses"]
