"""Values of DICOM headers that real scanners and converters leave empty or write oddly, and what they mean.

Public reports: RescaleSlope and RescaleIntercept present and empty (highdicom #418, MONAI deploy #236),
NumberOfFrames 0 (pydicom #1844), empty WindowCenter and WindowWidth, tables without data, decimals with a comma, and
missing attributes that the standard requires. A rule stands here only where one meaning is safe; the decoder refuses
the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

_GREY = "MONOCHROME2"
_TRANSFORMS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def fill_blanks(data: Any) -> None:
    """Fills what is empty in the header ``data`` of a picture, in place."""
    if "NumberOfFrames" in data and not data.NumberOfFrames:
        del data.NumberOfFrames
    _fill(data, "SamplesPerPixel", 1)
    _fill(data, "PixelRepresentation", 0)
    _fill_bits(data)
    colours = number(data, "SamplesPerPixel")
    if colours is not None and colours > 1:
        _fill(data, "PlanarConfiguration", 0)
    photometric = str(data.get("PhotometricInterpretation") or "").strip().upper()
    if photometric or colours == 1:
        data.PhotometricInterpretation = photometric or _GREY
    for item in _with_transform(data):
        _drop_empty_tables(item)
        _fill_rescale(item)


def number(item: Any, tag: str) -> float | None:
    """The first finite number of an attribute; ``None`` where it is absent, empty, or none."""
    try:
        value = item.get(tag)
        if value is None or isinstance(value, str | int | float):
            text = "" if value is None else str(value)
        else:
            text = str(value[0]) if len(value) else ""
        found = float(text.strip().replace(",", "."))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _fill(data: Any, tag: str, value: int) -> None:
    if number(data, tag) is None:
        setattr(data, tag, value)


def _fill_bits(data: Any) -> None:
    """No stored bits, or more than are allocated, mean all of them."""
    allocated, stored = number(data, "BitsAllocated"), number(data, "BitsStored")
    if allocated is not None and (stored is None or not 1 <= stored <= allocated):
        data.BitsStored, data.HighBit = int(allocated), int(allocated) - 1
    elif stored is not None:
        _fill(data, "HighBit", int(stored) - 1)


def _with_transform(data: Any) -> Iterator[Any]:
    """The data set itself and the items that may hold a transform of its values."""
    yield data
    for sequence in _GROUPS:
        for group in data.get(sequence) or []:
            for transform in _TRANSFORMS:
                yield from group.get(transform) or []


def _drop_empty_tables(item: Any) -> None:
    for sequence in ("ModalityLUTSequence", "VOILUTSequence"):
        if sequence not in item:
            continue
        filled = [table for table in item[sequence].value or [] if _has_entries(table.get("LUTData"))]
        if filled:
            setattr(item, sequence, filled)
        else:
            del item[sequence]


def _has_entries(entries: Any) -> bool:
    """Whether a table has two entries or more: one alone, which pydicom gives as a number, would leave no picture."""
    if entries is None or isinstance(entries, int):
        return False
    return len(entries) > (2 if isinstance(entries, bytes) else 1)  # an entry in bytes takes up two


def _fill_rescale(item: Any) -> None:
    """An empty slope is 1 and an empty intercept 0; a slope of 0 would leave no picture, so it is 1 as well."""
    if "RescaleSlope" in item or "RescaleIntercept" in item:
        item.RescaleSlope = number(item, "RescaleSlope") or 1.0
        item.RescaleIntercept = number(item, "RescaleIntercept") or 0.0


__all__ = ["fill_blanks", "number"]
