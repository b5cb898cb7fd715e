"""What the reader of a format returns: slices as annotated, not checked yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from detectclf.files import ByteSpan

Corners = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)``."""


@dataclass(slots=True)
class RawBox:
    """One box as annotated: ``xyxy`` in pixels (0-based, the far edge exclusive), or in fractions of the image size.

    ``label`` is ``None`` where the reader has already reported the annotation as unusable. Such a box is kept for now,
    because a slice whose only box is unusable is not a slice without a tumour.
    """

    xyxy: Corners
    label: str | None
    line: int | None = None


@dataclass(slots=True)
class RawSlice:
    """One image as annotated.

    Attributes:
        path: the image file, which may be missing.
        name: its name in the export.
        split: name of the split.
        stated_in: the annotation file, for messages.
        boxes: ``None`` where the boxes are not known.
        label: class of the slice, where the format gives it without boxes.
        stated_size: annotated ``(width, height)``, or ``None``.
        relative: whether the boxes are fractions of the image size.
        span: position of the image inside a container file.
        line: line of the annotation in ``stated_in``.
        patient: pseudonym of the patient, where the export states one.
        size: ``(width, height)`` by the header of the image, where the reader has looked at it.
    """

    path: Path
    name: str
    split: str
    stated_in: Path
    boxes: list[RawBox] | None = None
    label: str | None = None
    stated_size: tuple[int, int] | None = None
    relative: bool = False
    span: ByteSpan | None = None
    line: int | None = None
    patient: str | None = None
    size: tuple[int, int] | None = None


def unusable_box(line: int | None = None) -> RawBox:
    """The box for an annotation that the reader has reported as unusable."""
    return RawBox((0.0, 0.0, 0.0, 0.0), None, line)


def as_number(value: object) -> float:
    """``value`` as a float; NaN if it is not a number, so that one check finds both."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def parse_number(text: str | None) -> float:
    """``text`` as a float; NaN if it is not a number."""
    try:
        # float() accepts "1_0" too, which no annotation tool writes.
        return float("nan") if text is None or "_" in text else float(text)
    except ValueError:
        return float("nan")


def stated_size(width: object, height: object) -> tuple[int, int] | None:
    """``(width, height)`` if both are positive integers of a plausible size, else ``None``."""
    w, h = as_number(width), as_number(height)
    if 1 <= w <= 2**24 and 1 <= h <= 2**24 and w == int(w) and h == int(h):
        return int(w), int(h)
    return None


def text_of(record: Mapping[str, object], key: str) -> str | None:
    """``record[key]`` if it is a string that is not blank, else ``None``."""
    value = record.get(key)
    return value if isinstance(value, str) and value.strip() else None


__all__ = ["Corners", "RawBox", "RawSlice", "as_number", "parse_number", "stated_size", "text_of", "unusable_box"]
