"""Reads grey slices from NIfTI volumes with nibabel.

The volume is turned to canonical axes and shown in the radiological convention: axial and coronal slices have the
patient's right on the left side of the image, sagittal slices have the front there; up is the front (axial) or the head
(coronal, sagittal).

A volume is sliced as it was taken: along the axis on which its voxels are thickest where they are clearly so, else from
the feet to the head. Each voxel becomes one pixel then. Slices along an axis that is named are stretched until their
pixels are square, since a head that is cut across thick slices would be a strip.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detectclf.errors import DataError, UnsafeError, one_line
from detectclf.imaging.intensity import ImageError, check_frame, check_pixels, decoding, to_grey
from detectclf.imaging.medical import MAX_UNPACKED_BYTES, import_medical
from detectclf.types import Pixels

_MOST_BEFORE_VOXELS = 2**26
"""Most bytes before the voxels: header and extensions. It bounds what is unpacked, since headers may claim any."""
# Axes of the canonical (RAS+) volume: 0 to the right, 1 to the front, 2 to the head.
_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
_SAID: set[str] = set()
"""Axes of which it was said that one slice is read: once, not for every file."""
_THICK = 2.0
"""How many times as thick as they are wide the voxels of a volume are that is no cube of thin slices."""
_MOST_STRETCHED = 20.0
"""Ratio of the sides of a pixel beyond which a header is wrong."""


def nifti_size(content: bytes, file: str | Path, axis: str | None = None) -> tuple[int, int]:
    """``(width, height)`` of a slice along ``axis``, from the header."""
    header = _nifti_header(content, file)
    with decoding(file, "NIfTI file"):
        return _cut(header, axis, file).size


def nifti_frames(content: bytes, file: str | Path) -> int:
    """Number of slices in all volumes together."""
    header = _nifti_header(content, file)
    with decoding(file, "NIfTI file"):
        cut = _cut(header, None, file)
        return cut.slices * cut.times


class NiftiGrid(NamedTuple):
    """What a NIfTI header says of the slices along one axis.

    Attributes:
        slices: of one volume.
        times: volumes in the file, 1 unless it is 4-D.
        spacing: millimetres per pixel across and down, and from slice to slice; ``None`` where it is not known.
        axis: along which it is sliced, where that was asked for, or is not axial.
    """

    slices: int
    times: int
    spacing: tuple[float, float, float] | None
    axis: str | None


class _Cut(NamedTuple):
    """How a volume is cut into slices.

    Attributes:
        shape: of the voxels, with at least three axes.
        turns: canonical axis and direction of each of the first three, ``(3, 2)``.
        axis: name of the direction in which slices follow one another.
        along, column, row: the voxel axes along which slices follow, along the columns and along the rows of a slice.
        spacing: millimetres per pixel across and down, and from slice to slice; ``None`` where it is not known.
        size: width and height of a slice, pixels.
    """

    shape: tuple[int, ...]
    turns: Any
    axis: str
    along: int
    column: int
    row: int
    spacing: tuple[float, float, float] | None
    size: tuple[int, int]

    @property
    def slices(self) -> int:
        return self.shape[self.along]

    @property
    def times(self) -> int:
        return math.prod(self.shape[3:])


def nifti_grid(content: bytes, file: str | Path, axis: str | None = None) -> NiftiGrid:
    """The slices along ``axis``, from the header; its beginning is enough.

    Raises:
        DataError, UnsafeError: as :func:`read_nifti`.
    """
    header = _nifti_header(content, file)
    with decoding(file, "NIfTI file"):
        cut = _cut(header, axis, file)
        return NiftiGrid(cut.slices, cut.times, cut.spacing, axis or (None if cut.axis == "axial" else cut.axis))


@dataclass(frozen=True, slots=True, eq=False)
class UnpackedNifti:
    """A NIfTI file in memory, unpacked, from which any number of slices can be taken; threads may share it.

    Attributes:
        file: its path, for messages.
        header: nibabel's.
        body: the whole file, at most ``MAX_UNPACKED_BYTES`` of voxels.
    """

    file: str | Path
    header: Any
    body: bytes

    def slice(self, frame: int | None = None, axis: str | None = None) -> Pixels:
        """One slice as grey levels; arguments as of :func:`detectclf.imaging.images.read_image`.

        Raises:
            DataError: no such slice or axis.
            UnsafeError: too many pixels.
        """
        nibabel = import_medical("nibabel", self.file)
        with decoding(self.file, "NIfTI file"):
            cut = _cut(self.header, axis, self.file)
            (shape, turns, column, row), slices = (cut.shape, cut.turns, cut.column, cut.row), cut.slices
            check_pixels(*cut.size, self.file, deep=True)
            frames = slices * cut.times
            if frame is None:
                frame = slices // 2
                if frames > 1 and cut.axis not in _SAID:
                    _SAID.add(cut.axis)
                    logging.getLogger(__name__).warning(
                        "%s: a volume, of which only %s slice %d of %d is read, as of any further one",
                        *(one_line(self.file), cut.axis, frame, slices),
                    )
            check_frame(frame, frames, self.file, f"{cut.axis} slices")
            volume, index = divmod(frame, slices)
            selection: list[Any] = [slice(None)] * 3
            selection[cut.along] = index if turns[cut.along, 1] > 0 else slices - 1 - index
            selection += np.unravel_index(volume, shape[3:], order="F") if shape[3:] else []
            proxy = nibabel.arrayproxy.ArrayProxy(io.BytesIO(self.body), type(self.header).from_header(self.header))
            plane = np.asarray(proxy.reshape(shape)[tuple(selection)])
            # Columns from right to left or front to back, rows from the front or the head downwards.
            plane = plane.T if column < row else plane
            plane = plane[:: -1 if turns[row, 1] > 0 else 1, :: -1 if turns[column, 1] > 0 else 1]
            window = (float(self.header["cal_min"]), float(self.header["cal_max"]))
            return _stretched(to_grey(plane, window=window if all(map(math.isfinite, window)) else None), cut.size)


def unpack_nifti(content: bytes, file: str | Path) -> UnpackedNifti:
    """Unpacks a NIfTI file whose bytes are ``content``.

    Raises:
        DataError: broken, truncated or without grey values.
        UnsafeError: too large as declared or when unpacked.
    """
    header = _nifti_header(content, file)
    with decoding(file, "NIfTI file"):
        _geometry(header, file)
        return UnpackedNifti(file, header, _nifti_body(content, header, file))


def read_nifti(content: bytes, file: str | Path, frame: int | None = None, axis: str | None = None) -> Pixels:
    """One slice of a NIfTI volume as grey levels; see the module and :func:`detectclf.imaging.images.read_image`.

    Raises:
        DataError: broken, truncated, without grey values, or no such slice or axis.
        UnsafeError: too large as declared or when unpacked.
    """
    return unpack_nifti(content, file).slice(frame, axis)


def _nifti_header(content: bytes, file: str | Path) -> Any:
    nibabel = import_medical("nibabel", file)
    with decoding(file, "NIfTI file"):
        head = gzip.GzipFile(fileobj=io.BytesIO(content)).read(540) if content[:2] == b"\x1f\x8b" else content[:540]
        if len(head) < 348:
            raise ImageError("truncated", "NIfTI file is cut short", file=file, remedy="copy it again")
        second = head[:4] in ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))
        kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
        header = kind.from_fileobj(io.BytesIO(head), check=False)
        if bytes(header["magic"])[:3] not in (b"n+1", b"n+2"):
            raise ImageError("unreadable", "not a single-file NIfTI (.nii)", file=file)
        return header


def _geometry(header: Any, file: str | Path) -> tuple[tuple[int, ...], Any]:
    """The shape, with at least three axes, and the canonical axis and direction of the first three, ``(3, 2)``."""
    orientations = import_medical("nibabel.orientations", file)
    shape = tuple(int(n) for n in header.get_data_shape())
    shape += (1,) * (3 - len(shape))
    if min(shape) < 1 or header.get_data_dtype().kind not in "iuf":
        raise ImageError("unreadable", "NIfTI without grey values", file=file)
    if math.prod(shape) * header.get_data_dtype().itemsize > MAX_UNPACKED_BYTES:
        raise UnsafeError(
            f"NIfTI header declares more than {MAX_UNPACKED_BYTES // 2**20} MiB",
            file=file,
            remedy="split it into smaller files",
        )
    turns = orientations.io_orientation(header.get_best_affine())
    if not np.isfinite(turns).all():
        raise ImageError("unreadable", "NIfTI without an orientation", file=file)
    return shape, turns.astype(int)


def _cut(header: Any, axis: str | None, file: str | Path) -> _Cut:
    """How the volume is cut along ``axis``, or by default as it was taken."""
    if axis is not None and axis not in _AXES:
        raise DataError(f"no axis {axis!r}", file=file, remedy=f"choose one of {', '.join(_AXES)}")
    shape, turns = _geometry(header, file)
    sizes = _voxel_sizes(header, file)
    # Of each canonical axis, the axis of the voxels.
    voxel = [int(np.flatnonzero(turns[:, 0] == canonical)[0]) for canonical in range(3)]
    name = axis or _thick_axis(None if sizes is None else [sizes[each] for each in voxel])
    column, row = (voxel[other] for other in range(3) if other != _AXES[name])
    along, size = voxel[_AXES[name]], (shape[column], shape[row])
    if sizes is None:
        return _Cut(shape, turns, name, along, column, row, None, size)
    across, down, between = (sizes[each] for each in (column, row, along))
    fine = min(across, down)
    named = axis is not None or name != "axial"
    if named and max(across, down) <= _MOST_STRETCHED * fine:
        size = (max(1, round(size[0] * across / fine)), max(1, round(size[1] * down / fine)))
        across = down = fine
    return _Cut(shape, turns, name, along, column, row, (across, down, between), size)


def _voxel_sizes(header: Any, file: str | Path) -> list[float] | None:
    """Millimetres along each axis of the voxels; ``None`` where they are not known."""
    affines = import_medical("nibabel.affines", file)
    # Files that do not name their unit are in millimetres almost always.
    factor = {"meter": 1000.0, "micron": 0.001}.get(header.get_xyzt_units()[0], 1.0)
    sizes = [float(size) * factor for size in affines.voxel_sizes(header.get_best_affine())]
    return sizes if all(math.isfinite(size) and size > 0 for size in sizes) else None


def _thick_axis(sizes: list[float] | None) -> str:
    """The axis along which voxels, of these sizes on the canonical axes, are clearly thickest; else axial."""
    if sizes is None:
        return "axial"
    name = max(_AXES, key=lambda each: sizes[_AXES[each]])
    others = max(size for canonical, size in enumerate(sizes) if canonical != _AXES[name])
    return name if sizes[_AXES[name]] >= _THICK * others else "axial"


def _stretched(plane: Pixels, size: tuple[int, int]) -> Pixels:
    """A slice at ``size``, width and height in pixels."""
    if plane.shape == (size[1], size[0]):
        return plane
    import cv2

    stretched: Pixels = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return stretched


def _nifti_body(content: bytes, header: Any, file: str | Path) -> bytes:
    """The unpacked file, which must be about as long as its header declares."""
    offset = int(header.get_data_offset())
    if not 0 <= offset <= _MOST_BEFORE_VOXELS:
        raise UnsafeError("NIfTI header puts its voxels out of reach", file=file, remedy="replace it")
    needed = offset + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    body = content
    if content[:2] == b"\x1f\x8b":
        body = gzip.GzipFile(fileobj=io.BytesIO(content)).read(needed + 2**20 + 1)
        if len(body) > needed + 2**20:
            raise UnsafeError("unpacks to more than its NIfTI header declares", file=file, remedy="replace it")
    if len(body) < needed:
        raise ImageError("truncated", "NIfTI file is cut short", file=file, remedy="copy it again")
    return body


__all__ = ["NiftiGrid", "UnpackedNifti", "nifti_frames", "nifti_grid", "nifti_size", "read_nifti", "unpack_nifti"]
