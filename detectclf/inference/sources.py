"""Sources of a picture to predict: files, samples of a data set, arrays and PIL images, all decoded by one rule."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from detectclf.errors import DataError, one_line
from detectclf.imaging.images import middle_slice, read_image, read_pixels
from detectclf.prediction import Origin
from detectclf.types import Pixels, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileSlice:
    """One picture of a file that holds several.

    Attributes:
        path: the file.
        frame: number of the frame, page or slice, from 0; ``None`` for the only picture, or a volume's middle slice.
        axis: ``axial``, ``coronal`` or ``sagittal``, the direction that a NIfTI volume is sliced in; ``None`` for the
            volume's own, and for other files.
    """

    path: str | Path
    frame: int | None = None
    axis: str | None = None


ImageSource: TypeAlias = "str | Path | FileSlice | Sample | Pixels | Image"
"""A file, one slice of it, a sample of a data set, a uint8 array ``(H, W)`` or ``(H, W, 3)`` RGB, or a PIL image."""


def slice_of(path: str | Path, frame: int | None, axis: str | None) -> FileSlice:
    """One picture of a file; without ``frame``, the middle slice of a volume, with a line in the log."""
    if frame is None and (frame := middle_slice(path, axis)) is not None:
        log.warning("%s: a volume; only slice %d is read (--frame N for another)", one_line(path), frame)
    return FileSlice(path, frame, axis)


def name_of(source: ImageSource) -> str:
    """What a prediction calls ``source``."""
    if isinstance(source, Sample):
        return source.name
    if isinstance(source, str | Path | FileSlice):
        return str(source.path if isinstance(source, FileSlice) else source)
    return "array" if isinstance(source, np.ndarray) else "image"


def origin_of(source: ImageSource) -> Origin:
    """The file and the part of it that ``source`` names; no file for an array or a PIL image."""
    if isinstance(source, Sample):
        return Origin(source.path, span=source.span, root=source.source or None)
    if isinstance(source, FileSlice):
        return Origin(Path(source.path), frame=source.frame, axis=source.axis)
    return Origin(Path(source)) if isinstance(source, str | Path) else Origin()


def pixels_of(source: ImageSource, read: Callable[[Sample], Pixels] = read_pixels) -> Pixels:
    """The picture as grey levels ``(H, W)``.

    Args:
        source: the picture.
        read: gives the pixels of a sample.

    Raises:
        DataError: it cannot be read.
        UnsafeError: it is refused as unsafe.
    """
    if isinstance(source, Sample):
        return read(source)
    if isinstance(source, FileSlice):
        return read_image(source.path, frame=source.frame, axis=source.axis)
    if isinstance(source, str | Path):
        return read_image(source)
    return _from_memory(source)


def _from_memory(source: Pixels | Image) -> Pixels:
    """The grey levels of an array or PIL image. As TIFF in memory it is decoded by the same rule as a file.

    Raises:
        DataError: not uint8, not ``(H, W)`` or ``(H, W, 1, 3 or 4)``, empty, or of a mode that cannot be stored.
    """
    from PIL import Image, ImageOps

    from detectclf.imaging.raster import open_raster, read_raster

    if isinstance(source, np.ndarray):
        array = source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source
        if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
            raise DataError(
                f"an array of type {source.dtype} and shape {source.shape} is not a slice",
                remedy="give uint8 of shape (H, W) or (H, W, 3), or a file for deeper grey levels",
            )
        if not array.size:
            raise DataError("the array has no pixels", remedy="give a slice")
        if array.ndim == 2:
            return np.ascontiguousarray(array)
        picture = Image.fromarray(np.ascontiguousarray(array))
    elif isinstance(source, Image.Image):
        picture = ImageOps.exif_transpose(source)
    else:
        raise DataError(
            f"cannot predict on {type(source).__name__}",
            remedy="give a path, a FileSlice, a uint8 array, a PIL image or a Sample",
        )
    content = io.BytesIO()
    try:
        picture.save(content, "TIFF")
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"PIL images of mode {picture.mode} are not supported", remedy="convert it to L") from error
    content.seek(0)
    with open_raster(content, "image") as opened:
        return read_raster(opened, "image", None)
