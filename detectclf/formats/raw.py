"""What a format's reader hands on: slices as the annotation file states them, nothing checked yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from detectclf.files import ByteSpan

Corners = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)``."""


@dataclass(slots=True)
class RawBox:
    """One box as stated: ``xyxy`` pixels (0-based, the far edge exclusive), or shares of the image size if relative.

    ``label`` is ``None`` where the reader has already noted that the annotation is unusable. Such a box is kept until
    here, because a slice whose only box is unusable is not a slice without a tumour.
    """

    xyxy: Corners
    label: str | None
    line: int | None = None


@dataclass(slots=True)
class RawSlice:
    """One image as stated by an annotation file.

    Attributes:
        path: where the image lies (it may be missing).
        name: file name as the export gives it.
        split: name of the split.
        stated_in: the annotation file, named when something is wrong.
        boxes: ``None`` where the boxes are not known.
        label: class of the slice where the format gives it without boxes.
        stated_size: ``(width, height)`` as the annotation says, or ``None``.
        relative: whether the boxes are shares of the image size.
        span: where the image lies inside a container.
        line: line of ``stated_in``.
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


def as_number(value: object) -> float:
    """``value`` as a float; NaN where it is no number, so that one check finds both."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def parse_number(text: str | None) -> float:
    """The number that ``text`` spells; NaN where it spells none."""
    try:
        # float() also takes "1_0", which no annotation tool writes.
        return float("nan") if text is None or "_" in text else float(text)
    except ValueError:
        return float("nan")


def stated_size(width: object, height: object) -> tuple[int, int] | None:
    """``(width, height)`` where both are positive whole numbers of a believable size."""
    w, h = as_number(width), as_number(height)
    if 1 <= w <= 2**24 and 1 <= h <= 2**24 and w == int(w) and h == int(h):
        return int(w), int(h)
    return None


def text_of(record: Mapping[str, object], key: str) -> str | None:
    """``record[key]`` where it is text that is not empty."""
    value = record.get(key)
    return value if isinstance(value, str) and value.strip() else None


__all__ = ["Corners", "RawBox", "RawSlice", "as_number", "parse_number", "stated_size", "text_of"]
