"""Reads any image file as an upright uint8 grey slice, within limits.

The first bytes of a file tell its type, never its name. :mod:`detectclf.imaging.raster` reads ordinary images,
:mod:`detectclf.imaging.dicom` and :mod:`detectclf.imaging.nifti` read medical files; all map values to grey levels by
the rule of :mod:`detectclf.imaging.intensity`. Declared sizes are checked before memory is allocated.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectclf.errors import DataError, MissingPackageError, UnsafeError
from detectclf.files import ByteSpan, open_regular
from detectclf.imaging.intensity import MAX_PIXELS, UNSAFE, ImageError
from detectclf.imaging.raster import SUFFIXES_BY_FORMAT, open_raster, raster_frames, raster_size, read_raster
from detectclf.stored_shards import read_content
from detectclf.types import Pixels, Sample

MAX_FILE_BYTES = 512 * 2**20
"""Most bytes of one image file."""

_RIPPLE = 3
_HEAD_BYTES = 132
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
# A NIfTI header begins with its own length, 348 or (version 2) 540, in the file's byte order.
_NIFTI_STARTS = tuple(struct.pack(order + "i", length) for order in "<>" for length in (348, 540))
IMAGE_SUFFIXES: frozenset[str] = frozenset(
    [suffix for suffixes in SUFFIXES_BY_FORMAT.values() for suffix in suffixes] + [*_DICOM_SUFFIXES, *_NIFTI_SUFFIXES]
)
"""Lower-case suffixes of image files. One is ``.nii.gz``, so use :func:`image_suffix` and not ``Path.suffix``."""


def image_suffix(path: str | Path) -> str | None:
    """The suffix of a file name if it is in ``IMAGE_SUFFIXES``, else ``None``."""
    name = Path(path).name.lower()
    suffix = ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix
    return suffix if suffix in IMAGE_SUFFIXES else None


def read_image(
    path: str | Path,
    *,
    span: ByteSpan | None = None,
    frame: int | None = None,
    axis: str | None = None,
    root: str | Path | None = None,
) -> Pixels:
    """Reads the slice in ``path`` as grey levels.

    Args:
        path: an image file of any supported type; its name does not matter.
        span: position of the encoded image in ``path``, for an image inside a container file.
        frame: the frame or page to read, from 0; required if there are several. In a NIfTI volume, the slice along
            ``axis``, counted from left, posterior or inferior, and on through the volumes of a 4-D file; by default the
            middle slice of the first volume, with a warning in the log.
        axis: ``axial``, ``coronal`` or ``sagittal`` slices of a NIfTI volume, with square pixels; by default as it was
            taken, see :mod:`detectclf.imaging.nifti`.
        root: folder in which the file must lie, with symlinks followed.

    Returns:
        ``(H, W)`` uint8, upright (EXIF orientation applied), writable.

    Raises:
        DataError: missing, of an unknown type, broken or truncated, or several frames and none chosen.
        UnsafeError: too large in bytes or declared pixels, outside ``root``, or not a regular file.
    """
    return _decode(_content(path, span, root), path, frame, axis)


def decode_image(content: bytes, name: str, *, frame: int | None = None, axis: str | None = None) -> Pixels:
    """The slice in the bytes of an image file, as :func:`read_image` gives it; ``name`` is what errors call it.

    Raises:
        DataError, UnsafeError: as :func:`read_image`.
    """
    if len(content) > MAX_FILE_BYTES:
        raise UnsafeError(f"larger than the limit of {MAX_FILE_BYTES} bytes", file=name, remedy="give a smaller file")
    return _decode(_not_empty(content, name), name, frame, axis)


def read_pixels(sample: Sample) -> Pixels:
    """The pixels of a sample: the only way from a :class:`~detectclf.types.Sample` to its slice.

    Returns:
        ``(H, W)`` uint8, as :func:`read_image` gives it.

    Raises:
        DataError: as :func:`read_image`.
        UnsafeError: as :func:`read_image`; also where the file lies outside the sample's source.
    """
    return read_image(sample.path, span=sample.span, root=sample.source or None)


def image_size(
    path: str | Path, *, span: ByteSpan | None = None, axis: str | None = None, root: str | Path | None = None
) -> tuple[int, int]:
    """``(width, height)`` of the result of :func:`read_image`, in pixels, from the header alone.

    Raises:
        DataError, UnsafeError: as :func:`read_image`, but faults after the header are not noticed.
    """
    if span is None:
        # Not the whole file, which may have many megabytes.
        with open_regular(path, limit_bytes=MAX_FILE_BYTES, root=root) as stream:
            head = stream.read(_HEAD_BYTES)
            stream.seek(0)
            if head and _kind(head) == "picture":
                with open_raster(stream, path) as image:
                    return raster_size(image, path)
    content = _content(path, span, root)
    kind = _kind(content[:_HEAD_BYTES])
    if kind == "DICOM":
        from detectclf.imaging.dicom import dicom_size

        return dicom_size(content, path)
    if kind == "NIfTI":
        from detectclf.imaging.nifti import nifti_size

        return nifti_size(content, path, axis)
    with open_raster(io.BytesIO(content), path) as image:
        return raster_size(image, path)


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """The result of decoding an image once.

    Attributes:
        pixels: ``(H, W)`` uint8, the first frame where there are several; ``None`` where it cannot be decoded.
        faults: ``(code, detail)`` of each. Codes: ``zero_byte``, ``unreadable``, ``truncated``, ``unsafe``,
            ``wrong_extension``, ``multi_frame``, ``one_pixel``, ``all_black``, ``constant``.
        readable: whether :func:`read_image` gives ``pixels``; it refuses files of several frames.
        sha256: of the encoded bytes; empty where they cannot be read.
    """

    pixels: Pixels | None
    faults: list[tuple[str, str]]
    readable: bool = False
    sha256: bytes = b""


def examine_image(path: str | Path, *, span: ByteSpan | None = None, root: str | Path | None = None) -> Examined:
    """Reads and decodes an image once, for its pixels, its faults and the digest of its bytes.

    Raises:
        MissingPackageError: its kind needs a package that is not installed.
    """
    faults: list[tuple[str, str]] = []
    sha256, pixels, readable = b"", None, False
    try:
        content = _content(path, span, root)
        sha256 = hashlib.sha256(content).digest()
        kind, frames = _kind_and_frames(content, path)
        if frames > 1:
            faults.append(("multi_frame", f"{kind} with {frames} frames instead of one slice"))
        faults += _wrong_extension(path, kind, span)
        first = frames > 1 and kind != "NIfTI"  # of a NIfTI volume the middle slice is read
        pixels = _decode(content, path, 0 if first else None, None)
        readable = not first
    except MissingPackageError:
        raise  # no fault of the image
    except (DataError, UnsafeError) as fault:
        code = fault.code if isinstance(fault, ImageError) else "unreadable"
        faults.append((UNSAFE if isinstance(fault, UnsafeError) else code, fault.reason))
    return Examined(pixels, faults if pixels is None else faults + _blank(pixels), readable, sha256)


def resize_pad(pixels: Pixels, size: int) -> tuple[Pixels, float, tuple[int, int]]:
    """Resizes the longer side to ``size``, and pads with black on the right and at the bottom to a square.

    Args:
        pixels: ``(H, W)`` uint8.
        size: side of the result, pixels.

    Returns:
        ``(size, size)`` uint8; the scale, result pixels per input pixel; ``(width, height)`` without the padding.
    """
    import cv2

    height, width = pixels.shape
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Area averaging keeps thin bright rims when shrinking, but looks blocky when enlarging.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    padded = np.zeros((size, size), dtype=np.uint8)
    padded[: inner[1], : inner[0]] = pixels if scale == 1 else cv2.resize(pixels, inner, interpolation=method)
    return padded, scale, inner


def _content(path: str | Path, span: ByteSpan | None, root: str | Path | None) -> bytes:
    return _not_empty(read_content(path, limit_bytes=MAX_FILE_BYTES, root=root, span=span), path)


def _not_empty(content: bytes, path: str | Path) -> bytes:
    if not content:
        raise ImageError("zero_byte", "file is empty (0 bytes)", file=path)
    return content


def _decode(content: bytes, path: str | Path, frame: int | None, axis: str | None) -> Pixels:
    """The pixels in the bytes of a file; ``path`` is only named in errors."""
    kind = _kind(content[:_HEAD_BYTES])
    if kind == "DICOM":
        from detectclf.imaging.dicom import read_dicom

        return read_dicom(content, path, frame)
    if kind == "NIfTI":
        from detectclf.imaging.nifti import read_nifti

        return read_nifti(content, path, frame, axis)
    with open_raster(io.BytesIO(content), path) as image:
        return read_raster(image, path, frame)


def is_dicom(path: str | Path) -> bool:
    """Whether a file is a DICOM slice by its first bytes; ``False`` for an unreadable file and for ``DICOMDIR``."""
    try:
        with open_regular(path, limit_bytes=MAX_FILE_BYTES) as file:
            return _kind(file.read(_HEAD_BYTES)) == "DICOM" and Path(path).name.upper() != "DICOMDIR"
    except (DataError, UnsafeError, OSError):
        return False


def dicom_patient(sample: Sample) -> str | None:
    """The pseudonym of the patient in the header of a DICOM slice, of which no more is read than its first elements.

    Returns:
        ``None`` for other files, without a PatientID, and where the header cannot be read.

    Raises:
        ConfigError: there is no key, see :mod:`detectclf.pseudonyms`.
    """
    if sample.span is not None or image_suffix(sample.path) not in (None, *_DICOM_SUFFIXES):
        return None
    if not is_dicom(sample.path):
        return None
    from detectclf.imaging.dicom import read_patient

    try:
        with open_regular(sample.path, limit_bytes=MAX_FILE_BYTES, root=sample.source or None) as file:
            return read_patient(file, sample.path)
    except (DataError, UnsafeError):
        return None  # a fault of the image, which is reported as such


def is_nifti(path: str | Path) -> bool:
    """Whether a file is a NIfTI volume by its first bytes; ``False`` for an unreadable file."""
    try:
        with open_regular(path, limit_bytes=MAX_FILE_BYTES) as file:
            return is_nifti_content(file.read(_HEAD_BYTES))
    except (DataError, UnsafeError, OSError):
        return False


def is_nifti_content(content: bytes) -> bool:
    """Whether the bytes of a file, or its first ones, are of a NIfTI volume."""
    return _kind(content[:_HEAD_BYTES]) == "NIfTI"


def _kind(head: bytes) -> str:
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return "DICOM"
    # NIfTI is the only supported type that is gzipped.
    if head[:2] == b"\x1f\x8b" or head[:4] in _NIFTI_STARTS:
        return "NIfTI"
    return "picture"


def _is_bare_dicom(head: bytes) -> bool:
    """Whether a file begins with the first element of a DICOM data set: older archives omit the preamble."""
    group, element = struct.unpack("<HH", head[:4].ljust(4, b"\xff"))
    if group not in (2, 8) or element > 0x18:
        return False
    length = int.from_bytes(head[4:8], "little")  # of the value, if its type (VR) is implicit
    return (head[4:6].isalpha() and head[4:6].isupper()) or (group == 8 and 0 < length <= 64)


def _kind_and_frames(content: bytes, path: str | Path) -> tuple[str, int]:
    kind = _kind(content[:_HEAD_BYTES])
    if kind == "DICOM":
        from detectclf.imaging.dicom import dicom_frames

        return kind, dicom_frames(content, path)
    if kind == "NIfTI":
        from detectclf.imaging.nifti import nifti_frames

        return kind, nifti_frames(content, path)
    with open_raster(io.BytesIO(content), path) as image:
        return str(image.format), raster_frames(image, path)


def _wrong_extension(path: str | Path, kind: str, span: ByteSpan | None) -> list[tuple[str, str]]:
    suffix = image_suffix(path)
    if span is not None or suffix is None:
        return []
    known = {**SUFFIXES_BY_FORMAT, "DICOM": _DICOM_SUFFIXES, "NIfTI": _NIFTI_SUFFIXES}[kind]
    return [] if suffix in known else [("wrong_extension", f"is {kind}, but named {suffix}")]


def _blank(pixels: Pixels) -> list[tuple[str, str]]:
    if pixels.size == 1:
        return [("one_pixel", "has only one pixel")]
    least, most = int(pixels.min()), int(pixels.max())
    # JPEG adds ripples of one or two levels to an empty image.
    if most <= _RIPPLE:
        return [("all_black", "every pixel is black")]
    if most - least <= _RIPPLE:
        return [("constant", f"every pixel has grey level {least}" + (f" to {most}" if most > least else ""))]
    return []


__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "Examined",
    "ImageError",
    "decode_image",
    "dicom_patient",
    "examine_image",
    "image_size",
    "image_suffix",
    "is_dicom",
    "is_nifti",
    "is_nifti_content",
    "read_image",
    "read_pixels",
    "resize_pad",
]
