"""What the headers of DICOM files say of the places of their slices.

Headers hold names and ids of patients, and the numbers of a series identify an examination. They are used here to
compare files, and none of them gets into a result, a log or an error.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
    "SOPClassUID",
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
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_ORDER_TAGS = ("EchoNumbers", "TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_FARTHEST = 1e6
"""Millimetres beyond which a header is wrong; numbers near the greatest float would make the step infinite."""
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class of secondary captures (pictures of screens), and, with a dot, what those of several frames begin with."""

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What a header says of the place of one DICOM slice in a volume.

    Attributes:
        path: the file.
        frame: number of the slice in it, from 0, where it has several; else ``None``.
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
    frame: int | None
    series: tuple[str, str, str]
    modality: str
    localizer: bool
    size: tuple[int, int]
    position: Vector | None
    orientation: Vector | None
    spacing: tuple[float, float] | None
    order: Vector


def read_slice_headers(path: Path) -> list[SliceHeader]:
    """The headers of the slices in a DICOM file that names its series: one, or one for each frame of enhanced MR.

    Returns:
        None for other files, for several frames whose places are not known, for pictures of screens, and for files that
        cannot be read, which reading them reports.
    """
    if not is_dicom(path):
        return []
    try:
        pydicom = import_medical("pydicom", path)
        with open_regular(path, limit_bytes=MAX_FILE_BYTES) as file, decoding(path, "DICOM file"):
            head = file.read(4096)
            file.seek(0)
            stream = io.BytesIO(undeflated(file.read(), path)) if _DEFLATED in head else file
            bare = head[128:132] != b"DICM"
            data = pydicom.dcmread(stream, specific_tags=_TAGS, stop_before_pixels=True, force=bare)
            return _headers_of(data, path)
    except (DataError, UnsafeError, OSError):
        return []


def _headers_of(data: Any, path: Path) -> list[SliceHeader]:
    if not data.get("SeriesInstanceUID") or "Rows" not in data or "Columns" not in data:
        return []
    frames, groups = int(number(data, "NumberOfFrames") or 1), data.get("PerFrameFunctionalGroupsSequence") or []
    if not groups:
        order = tuple(_number(data.get(tag)) for tag in _ORDER_TAGS)
        tags = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        header = _header(data, path, None, tuple(data.get(tag) for tag in tags), order)
        captured = _is_capture(data) and header.position is None
        return [] if frames > 1 or captured else [header]
    if len(groups) != frames:
        return []
    shared = list(data.get("SharedFunctionalGroupsSequence") or [])[:1]
    headers = [_frame_header(data, path, index, [group, *shared]) for index, group in enumerate(groups)]
    placed = all(each.position and each.orientation for each in headers)
    return headers if frames == 1 or placed else []


def _frame_header(data: Any, path: Path, index: int, groups: Sequence[Any]) -> SliceHeader:
    """The header of a frame, whose functional groups count before those of all frames."""

    def value(sequence: str, tag: str) -> Any:
        return next((group[sequence][0].get(tag) for group in groups if group.get(sequence)), None)

    place = (
        value("PlanePositionSequence", "ImagePositionPatient"),
        value("PlaneOrientationSequence", "ImageOrientationPatient"),
        value("PixelMeasuresSequence", "PixelSpacing"),
    )
    order = (
        _number(value("MREchoSequence", "EffectiveEchoTime")),
        _number(value("FrameContentSequence", "TemporalPositionIndex")),
        _number(value("FrameContentSequence", "FrameAcquisitionNumber")),
        float(index),
    )
    return _header(data, path, index if int(number(data, "NumberOfFrames") or 1) > 1 else None, place, order)


def _header(data: Any, path: Path, frame: int | None, place: tuple[Any, ...], order: Vector) -> SliceHeader:
    """``place``: position, orientation and spacing as a header has them."""
    position, orientation, pixel = place
    spacing = _lengths(pixel, 2)
    return SliceHeader(
        path,
        frame,
        (str(data.get("StudyInstanceUID") or ""), str(data.SeriesInstanceUID), str(data.get("PatientID") or "")),
        str(data.get("Modality") or "").strip().upper(),
        "LOCALIZER" in [str(part).upper() for part in _listed(data.get("ImageType"))],
        (int(data.Columns), int(data.Rows)),
        _lengths(position, 3),
        _directions(orientation),
        (spacing[1], spacing[0]) if spacing is not None and min(spacing) > 0 else None,
        order,
    )


def _is_capture(data: Any) -> bool:
    """Whether it is a picture of a screen or page, of which a series is no stack of slices."""
    kind = str(data.get("SOPClassUID") or "")
    return kind == _CAPTURE or kind.startswith(f"{_CAPTURE}.") or str(data.get("Modality")).upper() in ("OT", "SC")


def _number(value: Any) -> float:
    return (_numbers(value, 1) or (0.0,))[0]


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


__all__ = ["SliceHeader", "Vector", "read_slice_headers"]
