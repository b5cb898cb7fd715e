"""Reads grey slices from NIfTI volumes with nibabel.

The volume is turned to canonical axes and shown in the radiological convention: axial and coronal slices have the
patient's right on the left side of the image, sagittal slices have the front there; up is the front (axial) or the head
(coronal, sagittal). Each voxel becomes one pixel, even if voxels are not square.
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


def nifti_size(content: bytes, file: str | Path, axis: str | None = None) -> tuple[int, int]:
    """``(width, height)`` of a slice along ``axis``, from the header."""
    header = _nifti_header(content, file)
    with decoding(file, "NIfTI file"):
        shape, turns = _geometry(header, file)
        _, column, row = _display_axes(turns, axis, file)
        return shape[column], shape[row]


def nifti_frames(content: bytes, file: str | Path) -> int:
    """Number of axial slices in all volumes together."""
    header = _nifti_header(content, file)
    with decoding(file, "NIfTI file"):
        shape, turns = _geometry(header, file)
        return shape[_display_axes(turns, None, file)[0]] * math.prod(shape[3:])


class NiftiGrid(NamedTuple):
    """What a NIfTI header says of the slices along one axis.

    Attributes:
        slices: of one volume.
        times: volumes in the file, 1 unless it is 4-D.
        spacing: millimetres per pixel across and down, and from slice to slice; ``None`` where it is not known.
    """

    slices: int
    times: int
    spacing: tuple[float, float, float] | None


def nifti_grid(content: bytes, file: str | Path, axis: str | None = None) -> NiftiGrid:
    """The slices along ``axis``, from the header; its beginning is enough.

    Raises:
        DataError, UnsafeError: as :func:`read_nifti`.
    """
    header = _nifti_header(content, file)
    affines = import_medical("nibabel.affines", file)
    with decoding(file, "NIfTI file"):
        shape, turns = _geometry(header, file)
        along, column, row = _display_axes(turns, axis, file)
        sizes = affines.voxel_sizes(header.get_best_affine())
        # Files that do not name their unit are in millimetres almost always.
        factor = {"meter": 1000.0, "micron": 0.001}.get(header.get_xyzt_units()[0], 1.0)
        across, down, between = (float(sizes[which]) * factor for which in (column, row, along))
        known = all(math.isfinite(size) and size > 0 for size in (across, down, between))
        return NiftiGrid(shape[along], math.prod(shape[3:]), (across, down, between) if known else None)


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
            shape, turns = _geometry(self.header, self.file)
            along, column, row = _display_axes(turns, axis, self.file)
            check_pixels(shape[column], shape[row], self.file, deep=True)
            slices = shape[along]
            frames = slices * math.prod(shape[3:])
            if frame is None:
                frame = slices // 2
                if frames > 1:
                    logging.getLogger(__name__).warning(
                        "%s: a volume, of which only slice %d of %d is read", one_line(self.file), frame, slices
                    )
            check_frame(frame, frames, self.file, f"{axis or 'axial'} slices")
            volume, index = divmod(frame, slices)
            selection: list[Any] = [slice(None)] * 3
            selection[along] = index if turns[along, 1] > 0 else slices - 1 - index
            selection += np.unravel_index(volume, shape[3:], order="F") if shape[3:] else []
            proxy = nibabel.arrayproxy.ArrayProxy(io.BytesIO(self.body), type(self.header).from_header(self.header))
            plane = np.asarray(proxy.reshape(shape)[tuple(selection)])
            # Columns from right to left or front to back, rows from the front or the head downwards.
            plane = plane.T if column < row else plane
            plane = plane[:: -1 if turns[row, 1] > 0 else 1, :: -1 if turns[column, 1] > 0 else 1]
            window = (float(self.header["cal_min"]), float(self.header["cal_max"]))
            return to_grey(plane, window=window if all(map(math.isfinite, window)) else None)


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


def _display_axes(turns: Any, axis: str | None, file: str | Path) -> tuple[int, int, int]:
    """The voxel axes along which slices follow, along the columns and along the rows of a slice."""
    if axis is not None and axis not in _AXES:
        raise DataError(f"no axis {axis!r}", file=file, remedy=f"choose one of {', '.join(_AXES)}")
    world = _AXES[axis or "axial"]
    voxel_axis = {int(canonical): voxel for voxel, canonical in enumerate(turns[:, 0])}
    column, row = (voxel_axis[other] for other in range(3) if other != world)
    return voxel_axis[world], column, row


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
