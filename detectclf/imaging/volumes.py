"""Files of many slices, which are read from one unpacked copy: NIfTI volumes, and DICOM files of several frames."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from detectclf.errors import DataError, UnsafeError
from detectclf.files import open_regular, read_bytes
from detectclf.imaging.dicom import dicom_frame, parse_dicom
from detectclf.imaging.images import MAX_FILE_BYTES, image_suffix, is_nifti, is_nifti_content
from detectclf.imaging.nifti import NiftiGrid, UnpackedNifti, nifti_grid, unpack_nifti
from detectclf.types import Pixels

_HEADER_BYTES = 2**16
"""Enough for a compressed header."""


class NiftiVolume:
    """The slices of a NIfTI file, which is unpacked when the first one is read and kept until it is closed.

    A compressed file has to be unpacked from its beginning, so reading each slice from the file would unpack a volume
    of 150 slices 150 times. Threads may share a volume.

    Args:
        path: the file.
        grid: of its header.
        asked: the axis that was asked for.

    Attributes:
        axis: along which it is sliced; ``None`` for axial slices that nobody asked for.
    """

    def __init__(self, path: Path, grid: NiftiGrid, asked: str | None = None) -> None:
        self.path, self.grid, self.asked, self.axis = path, grid, asked, grid.axis
        self._lock = threading.Lock()
        self._unpacked: UnpackedNifti | None = None

    def read(self, frame: int) -> Pixels:
        """Slice ``frame`` as grey levels ``(H, W)``, as :func:`detectclf.imaging.images.read_image` gives it.

        Raises:
            DataError: broken or truncated.
            UnsafeError: too large when unpacked.
        """
        with self._lock:
            if self._unpacked is None:
                self._unpacked = unpack_nifti(read_bytes(self.path, limit_bytes=MAX_FILE_BYTES), self.path)
            unpacked = self._unpacked
        return unpacked.slice(frame, self.axis)

    def close(self) -> None:
        """Gives the memory back; a later read unpacks the file again."""
        with self._lock:
            self._unpacked = None


class DicomFrames:
    """The frames of a DICOM file, which is parsed when the first one is read and kept until it is closed.

    The header of enhanced MR describes each frame, so that parsing it takes much longer than decoding one of them.
    Threads may share it.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._data: Any = None

    def read(self, frame: int) -> Pixels:
        """Frame ``frame`` as grey levels ``(H, W)``, as :func:`detectclf.imaging.images.read_image` gives it.

        Raises:
            DataError: broken or truncated.
            UnsafeError: too large.
        """
        # pydicom converts values where they are first used, so one thread at a time.
        with self._lock:
            if self._data is None:
                self._data = parse_dicom(read_bytes(self.path, limit_bytes=MAX_FILE_BYTES), self.path)
            return dicom_frame(self._data, self.path, frame)

    def close(self) -> None:
        """Gives the memory back; a later read parses the file again."""
        with self._lock:
            self._data = None


def open_slices(path: Path, axis: str | None = None) -> NiftiVolume | DicomFrames:
    """What several slices of one file are read from, without unpacking it for each: a NIfTI file, or a DICOM file."""
    return open_nifti(path, axis) or DicomFrames(path)


def open_nifti(path: Path, axis: str | None = None) -> NiftiVolume | None:
    """The volume in ``path``; ``None`` for other files, and for a broken header, which reading it reports."""
    if not is_nifti(path):
        return None
    try:
        with open_regular(path, limit_bytes=MAX_FILE_BYTES) as file:
            grid = nifti_grid(file.read(_HEADER_BYTES), path, axis)
            return NiftiVolume(path, grid, axis)
    except (DataError, UnsafeError, OSError):
        return None


def middle_slice(file: Path | bytes, axis: str | None = None) -> tuple[int, str | None] | None:
    """Number and axis of the slice that is read of a volume where none is chosen; ``None`` for any other file.

    Args:
        file: a file, or the bytes of one.
        axis: along which it is to be sliced; by default as it was taken, with the axis where that is not axial.
    """
    if isinstance(file, bytes):
        if not is_nifti_content(file):
            return None
        try:
            grid = nifti_grid(file[:_HEADER_BYTES], "file", axis)
        except (DataError, UnsafeError):
            return None  # which reading it reports
    elif image_suffix(file) not in (None, ".nii", ".nii.gz") or (opened := open_nifti(file, axis)) is None:
        return None
    else:
        grid = opened.grid
    return (grid.slices // 2, grid.axis) if grid.slices * grid.times > 1 else None


def check_one_slice(content: bytes, name: str) -> None:
    """Refuses the bytes of a NIfTI file of several slices, where they cannot be read as a volume.

    Raises:
        DataError: it is one.
    """
    if is_nifti_content(content):
        grid = nifti_grid(content[:_HEADER_BYTES], name, None)
        if grid.slices * grid.times > 1:
            raise DataError(
                f"a volume of {grid.slices} slices is read as a whole from a local file only",
                file=name,
                remedy="copy it to this machine, or choose a slice with --frame",
            )


__all__ = ["DicomFrames", "NiftiVolume", "check_one_slice", "middle_slice", "open_nifti", "open_slices"]
