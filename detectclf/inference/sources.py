"""Sources of a picture to predict: files, samples of a data set and pictures in memory, all decoded by one rule."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard

import numpy as np

from detectclf.errors import DataError, DetectclfError, one_line
from detectclf.imaging.images import MAX_FILE_BYTES, decode_image, read_image, read_pixels
from detectclf.imaging.volumes import check_one_slice
from detectclf.inference.in_memory import array_of, from_memory, is_tensor
from detectclf.prediction import Origin
from detectclf.storage import read_stored, shown
from detectclf.types import Pixels, Sample

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from detectclf.imaging.volumes import DicomFrames, NiftiVolume


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


@dataclass(frozen=True, slots=True, eq=False)
class StudySlice:
    """One slice of a volume, which predictions name with its study.

    Attributes:
        file: where it lies.
        study: name of the study.
        number: place of the slice in it, from 0.
        volume: the file of many slices that it is read from; ``None`` for a file of its own.
    """

    file: FileSlice
    study: str
    number: int
    volume: NiftiVolume | DicomFrames | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a store that fsspec reaches.

    Attributes:
        uri: its URI.
        frame, axis: as of a :class:`FileSlice`.
    """

    uri: str
    frame: int | None = None
    axis: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What was read from a file object or, in the case of an error, from a PIL image.

    Attributes:
        name: of the file, or ``file``; ``image``.
        content: its bytes, or why they could not be read.
    """

    name: str
    content: bytes | DetectclfError


ImageSource: TypeAlias = (
    "str | Path | FileSlice | StoredFile | StudySlice | Sample | bytes | bytearray | memoryview | BinaryIO | Encoded "
    "| Pixels | Image | Tensor"
)
"""A picture:

* a file by its path, or one slice of it; a file in a store; a slice of a study; a sample of a data set;
* the bytes of a file of any of the types that can be read, or a binary file object, which is read from where it stands
  to its end and left open;
* pixels: an array ``(H, W)`` or ``(H, W, 3)`` RGB, a PIL image, or a torch tensor ``(H, W)``, ``(1, H, W)`` or
  ``(3, H, W)`` RGB, on any device. Values of another type than uint8, such as 16-bit or floats, become grey levels by
  the rule that holds for files (:mod:`detectclf.imaging.intensity`).
"""


def taken(source: ImageSource) -> ImageSource:
    """``source`` as it is now: a file object read to its end, pixels copied; a path as it is.

    A caller may close a file, or write the next slice into the same memory, as soon as it has handed it over, so it
    cannot wait until a thread decodes it.
    """
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, np.ndarray):
        return source.copy()
    if is_tensor(source):
        copied: Tensor = source.clone()  # type: ignore[union-attr]
        return copied
    if _is_file_object(source):
        return _read_to_end(source)
    return (
        source
        if isinstance(source, str | Path | FileSlice | StoredFile | StudySlice | Sample | Encoded | bytes)
        else _loaded(source)
    )


def _read_to_end(file: BinaryIO) -> Encoded:
    name, parts, left = _name_of_file(file), [], MAX_FILE_BYTES + 1
    content: Any
    try:
        # One byte more than the limit, which tells decode_image that there is more. A pipe gives a part at a time.
        while left > 0 and (content := file.read(left)) != b"":
            if not isinstance(content, bytes | bytearray | memoryview):
                reason = "is not open as a binary file that waits for its content"
                return Encoded(name, DataError(reason, file=name, remedy='open it with mode "rb"'))
            parts.append(bytes(content))
            left -= len(parts[-1])
    except (OSError, ValueError) as error:
        return Encoded(name, DataError(f"cannot be read ({one_line(error)})", file=name, remedy="open it again"))
    return Encoded(name, b"".join(parts))


def _loaded(source: Any) -> Any:
    """A copy of a PIL image, upright, whose file may be closed; anything that is none as it is."""
    from PIL import Image, ImageOps

    if not isinstance(source, Image.Image):
        return source
    try:
        return ImageOps.exif_transpose(source)
    except MemoryError:
        raise
    except Exception as error:
        # PIL raises errors of many kinds where it or its file is closed, or the file is cut short or broken.
        reason = f"the PIL image cannot be read ({one_line(error) or 'its file is closed'})"
        return Encoded("image", DataError(reason, remedy="keep its file open until it is handed over"))


def name_of(source: ImageSource) -> str:
    """What a prediction calls ``source``, as of :func:`taken`."""
    if isinstance(source, StudySlice):
        source = source.file
    if isinstance(source, Sample | Encoded):
        return source.name
    if isinstance(source, StoredFile):
        return shown(source.uri)
    if isinstance(source, str | Path | FileSlice):
        return str(source.path if isinstance(source, FileSlice) else source)
    if isinstance(source, bytes):
        return "bytes"
    if is_tensor(source):
        return "tensor"
    return "array" if isinstance(source, np.ndarray) else "image"


def origin_of(source: ImageSource) -> Origin:
    """The file and the part of it that ``source`` names; no file for a picture from memory."""
    if isinstance(source, Sample):
        return Origin(source.path, span=source.span, root=source.source or None)
    if isinstance(source, StudySlice):
        return replace(origin_of(source.file), study=source.study, number=source.number)
    if isinstance(source, FileSlice):
        return Origin(Path(source.path), frame=source.frame, axis=source.axis)
    if isinstance(source, StoredFile):
        return Origin(frame=source.frame, axis=source.axis)
    return Origin(Path(source)) if isinstance(source, str | Path) else Origin()


def pixels_of(source: ImageSource, read: Callable[[Sample], Pixels] = read_pixels) -> Pixels:
    """The picture as grey levels ``(H, W)``.

    Args:
        source: the picture, as of :func:`taken`.
        read: gives the pixels of a sample.

    Raises:
        DataError: it cannot be read.
        UnsafeError: it is refused as unsafe.
    """
    if isinstance(source, Sample):
        return read(source)
    if isinstance(source, StudySlice):
        if source.volume is not None and source.file.frame is not None:
            return source.volume.read(source.file.frame)
        source = source.file
    if isinstance(source, FileSlice):
        return read_image(source.path, frame=source.frame, axis=source.axis)
    if isinstance(source, StoredFile):
        content = read_stored(source.uri, MAX_FILE_BYTES)
        if source.frame is None:
            check_one_slice(content, shown(source.uri))
        return decode_image(content, shown(source.uri), frame=source.frame, axis=source.axis)
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, Encoded):
        if isinstance(source.content, DetectclfError):
            raise source.content
        return decode_image(source.content, source.name)
    if isinstance(source, bytes):
        return decode_image(source, "bytes")
    return from_memory(array_of(source) if is_tensor(source) else source)


def _is_file_object(source: Any) -> TypeGuard[BinaryIO]:
    return callable(getattr(source, "read", None))


def _name_of_file(file: Any) -> str:
    name = getattr(file, "name", None)
    # A file that was opened by its descriptor has a number as its name.
    return os.fsdecode(name) if isinstance(name, str | bytes) and name else "file"
