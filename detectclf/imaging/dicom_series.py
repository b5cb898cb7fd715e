"""DICOM files that make up a volume: grouped by series, and put in the order of their positions.

Headers hold names and ids of patients, and the numbers of a series identify an examination. They are used here to
compare files, and none of them gets into a result, a log or an error.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from detectclf.errors import DataError, UnsafeError
from detectclf.files import open_regular
from detectclf.imaging.dicom import undeflated
from detectclf.imaging.dicom_blanks import number
from detectclf.imaging.images import MAX_FILE_BYTES, is_dicom
from detectclf.imaging.intensity import decoding
from detectclf.imaging.medical import import_medical

_TAGS = [
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "InstanceNumber",
]
_ORDER_TAGS = ("EchoNumbers", "TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_SAME_PLACE = 0.01
"""Millimetres within which two slices have one position."""
_PARALLEL = 0.999
"""Least cosine between the rows, and the columns, of slices of one volume: 2.5 degrees."""
_FARTHEST = 1e6
"""Millimetres beyond which a header is wrong; numbers near the greatest float would make the step infinite."""
_WIDE = 1.5
"""A gap this many times as wide as the usual one lacks a slice."""

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What the header of one DICOM slice says of its place in a volume.

    Attributes:
        path: the file.
        series: numbers of its study and series, and the patient's, since some anonymised exports number all alike;
            identifies an examination, so it stays inside this package.
        modality: such as ``MR``; empty where it is not named.
        localizer: whether it is a scout, from which other slices are planned.
        size: columns and rows, pixels.
        position: of its first pixel, millimetres ``(3,)``; ``None`` where it is not known.
        orientation: directions of its rows and columns ``(6,)``; ``None`` where they are not known.
        spacing: millimetres per pixel across and down; ``None`` where they are not known.
        order: echo, time, acquisition and number in the series; what is not named is 0.
    """

    path: Path
    series: tuple[str, str, str]
    modality: str
    localizer: bool
    size: tuple[int, int]
    position: Vector | None
    orientation: Vector | None
    spacing: tuple[float, float] | None
    order: Vector

    @property
    def along(self) -> float | None:
        """Millimetres along the normal of the slice; ``None`` where its place is not known."""
        if self.position is None or self.orientation is None:
            return None
        return float(np.dot(np.cross(self.orientation[:3], self.orientation[3:]), self.position))


@dataclass(frozen=True, slots=True)
class Series:
    """Slices of one DICOM series that lie one behind the other, from the feet to the head where they are axial.

    Attributes:
        slices: in the order of their positions, or, where these are not known, of their numbers.
        positions: millimetres along the normal, ascending; ``None`` where they are not known.
        duplicates: slices left out, since another one shows their position: copies, other echoes or times.
        gaps: places where slices are missing.
    """

    slices: tuple[SliceHeader, ...]
    positions: Vector | None
    duplicates: tuple[SliceHeader, ...] = ()
    gaps: int = 0


def read_slice_header(path: Path) -> SliceHeader | None:
    """The header of a DICOM slice that names its series.

    Returns:
        ``None`` for other files, those of several frames, and those that cannot be read, which reading them reports.
    """
    if not is_dicom(path):
        return None
    try:
        pydicom = import_medical("pydicom", path)
        with open_regular(path, limit_bytes=MAX_FILE_BYTES) as file, decoding(path, "DICOM file"):
            head = file.read(4096)
            file.seek(0)
            stream = io.BytesIO(undeflated(file.read(), path)) if _DEFLATED in head else file
            bare = head[128:132] != b"DICM"
            data = pydicom.dcmread(stream, specific_tags=_TAGS, stop_before_pixels=True, force=bare)
            return _header_of(data, path)
    except (DataError, UnsafeError, OSError):
        return None


def _header_of(data: Any, path: Path) -> SliceHeader | None:
    series = str(data.get("SeriesInstanceUID") or "")
    if not series or "Rows" not in data or "Columns" not in data or (number(data, "NumberOfFrames") or 1) > 1:
        return None
    spacing = _lengths(data.get("PixelSpacing"), 2)
    return SliceHeader(
        path,
        (str(data.get("StudyInstanceUID") or ""), series, str(data.get("PatientID") or "")),
        str(data.get("Modality") or "").strip().upper(),
        "LOCALIZER" in [str(part).upper() for part in _listed(data.get("ImageType"))],
        (int(data.Columns), int(data.Rows)),
        _lengths(data.get("ImagePositionPatient"), 3),
        _directions(data.get("ImageOrientationPatient")),
        (spacing[1], spacing[0]) if spacing is not None and min(spacing) > 0 else None,
        tuple((_numbers(data.get(tag), 1) or (0.0,))[0] for tag in _ORDER_TAGS),
    )


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def _numbers(value: Any, count: int) -> Vector | None:
    """``count`` finite numbers of a header, or ``None`` where it does not hold as many."""
    try:
        numbers = tuple(float(number) for number in _listed(value)[:count])
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _lengths(value: Any, count: int) -> Vector | None:
    """As :func:`_numbers`, of millimetres that a scanner may have measured."""
    numbers = _numbers(value, count)
    return numbers if numbers is not None and max(map(abs, numbers)) <= _FARTHEST else None


def _directions(value: Any) -> Vector | None:
    """Rows and columns as unit vectors at right angles; ``None`` where a header says something else."""
    numbers = _numbers(value, 6)
    if numbers is None:
        return None
    across, down = np.array(numbers[:3]), np.array(numbers[3:])
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    right = abs(lengths[0] - 1) < 0.01 and abs(lengths[1] - 1) < 0.01 and abs(across @ down) < 0.01
    return numbers if right else None


def find_series(headers: Iterable[SliceHeader]) -> list[Series]:
    """The volumes that slices make up, each of two slices or more.

    Slices of one volume have the same study, series, modality, size and orientation. A series of several orientations,
    such as three planes, is several volumes. What is left over is no volume: single slices, and those that all lie at
    one place.
    """
    groups: dict[tuple[object, ...], list[list[SliceHeader]]] = {}
    for header in headers:
        stacks = groups.setdefault((header.series, header.modality, header.size), [])
        stack = next((stack for stack in stacks if _parallel(stack[0].orientation, header.orientation)), None)
        if stack is None:
            stacks.append([header])
        else:
            stack.append(header)
    found = [_ordered(stack) for stacks in groups.values() for stack in stacks]
    return [series for series in found if len(series.slices) > 1]


def _parallel(first: Vector | None, second: Vector | None) -> bool:
    if first is None or second is None:
        return first is second
    return all(float(np.dot(first[part], second[part])) > _PARALLEL for part in (slice(3), slice(3, 6)))


def _ordered(stack: Sequence[SliceHeader]) -> Series:
    """Sorted by position, one slice each; by number where a position is not known."""
    by_number = sorted(stack, key=lambda header: (header.order, header.path))
    places = [header.along for header in by_number]
    known = [place for place in places if place is not None]
    if len(known) < len(places):
        return Series(tuple(by_number), None)
    kept: list[tuple[float, SliceHeader]] = []
    duplicates = []
    # sorted() is stable: of one place, the first by echo, time and number comes first and is kept.
    for place, header in sorted(zip(known, by_number, strict=True), key=lambda pair: pair[0]):
        if not kept or place - kept[-1][0] >= _SAME_PLACE:
            kept.append((place, header))
        else:
            duplicates.append(header)
    steps = [after - before for (before, _), (after, _) in pairwise(kept)]
    gaps = sum(step > _WIDE * median(steps) for step in steps)
    slices = tuple(header for _, header in kept)
    return Series(slices, tuple(place for place, _ in kept), tuple(duplicates), gaps)


__all__ = ["Series", "SliceHeader", "find_series", "read_slice_header"]
