"""``index.html``: the drawn pictures of a prediction in one gallery, those with flags first, then by class.

The page has no script and needs nothing but the pictures beside it, so that it can be opened, moved and sent with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from detectclf.errors import one_line
from detectclf.files import atomic_write
from detectclf.types import (
    ARTEFACTS,
    CLASS_BOX_CONFLICT,
    CROPPED,
    LOW_CONFIDENCE,
    NOT_A_BRAIN_MRI,
    ORIENTATION,
    SEVERAL_SLICES,
    TUMOR_WITHOUT_BOX,
    UNUSUAL_INPUT,
    order_classes,
)

GALLERY_FILE = "index.html"

_GRAVEST = (
    *(CLASS_BOX_CONFLICT, TUMOR_WITHOUT_BOX, LOW_CONFIDENCE, UNUSUAL_INPUT),
    *(SEVERAL_SLICES, CROPPED, ORIENTATION, ARTEFACTS),
)
"""Flags in the order in which a person should look at them; a picture stands under the first of its own."""


class Entry(NamedTuple):
    """A picture of the gallery.

    Attributes:
        name: of the input.
        picture: file of the picture, as a relative URL.
        said: class with its probability, or that it was refused.
        flags: as text.
    """

    name: str
    picture: str
    said: str
    flags: str


class Section(NamedTuple):
    """Pictures of one flag or class."""

    title: str
    entries: tuple[Entry, ...]


def write_gallery(out: Path, records: Sequence[dict[str, Any]], studies: Sequence[dict[str, Any]]) -> Path | None:
    """Writes the gallery of what has a ``picture`` into ``out``; ``None`` where these are fewer than two.

    Args:
        out: the folder of the pictures.
        records: of pictures and slices.
        studies: of volumes.

    Raises:
        DataError: it cannot be written.
    """
    from detectclf.evaluation.record import RESEARCH_USE
    from detectclf.evaluation.rendering import environment

    drawn = [record for record in (*studies, *records) if record.get("picture") is not None]
    if len(drawn) < 2:
        return None
    unread = [(_name(each), one_line(each["error"])) for each in (*studies, *records) if each["error"] is not None]
    page = environment().get_template("gallery.html.j2").render(
        sections=list(sections_of(drawn)),
        count=len(drawn),
        models=sorted({str(record["model"]) for record in drawn}),
        unread=unread,
        use=RESEARCH_USE,
    )  # fmt: skip
    atomic_write(out / GALLERY_FILE, page)
    return out / GALLERY_FILE


def sections_of(drawn: Sequence[dict[str, Any]]) -> Iterator[Section]:
    """The sections: a flag each, the gravest first; what was refused; then a class each; the surest first in each."""
    classes = order_classes([name for record in drawn for name in record["probabilities"] or {}])

    def place(record: dict[str, Any]) -> tuple[int, str, int]:
        """The section: its rank, and what pictures of one rank differ by."""
        flag, rank = _first(record["flags"]), len(_GRAVEST)
        if record["class"] is None:
            return rank + 1, "", 0
        if flag is None:
            return rank + 2, "", classes.index(record["class"])
        return _GRAVEST.index(flag) if flag in _GRAVEST else rank, flag, 0

    def order(record: dict[str, Any]) -> tuple[Any, ...]:
        rank = -1 if record["class"] is None else classes.index(record["class"])
        return (*place(record), rank, -(record["confidence"] or 0), _name(record))

    for _, group in groupby(sorted(drawn, key=order), place):
        found = list(group)
        yield Section(_title(found[0]), tuple(map(_entry, found)))


def _first(flags: Sequence[str]) -> str | None:
    return next((flag for flag in _GRAVEST if flag in flags), flags[0] if flags else None)


def _title(record: dict[str, Any]) -> str:
    from detectclf.drawing.panel import FLAG_TEXTS

    if record["class"] is None:
        return f"Refused: {FLAG_TEXTS[NOT_A_BRAIN_MRI]}"
    flag = _first(record["flags"])
    if flag is None:
        return _words(record["class"])
    said = FLAG_TEXTS.get(flag, _words(flag))
    return f"Flagged: {_words(flag)}" + (f" ({said})" if said != _words(flag) else "")


def _entry(record: dict[str, Any]) -> Entry:
    from detectclf.drawing.panel import percent

    said = "refused" if record["class"] is None else f"{_words(record['class'])}, {percent(record['confidence'])}"
    slices = f"; {record['slices']} slices" if "slices" in record else ""
    flags = ", ".join(map(_words, record["flags"]))
    return Entry(_name(record), quote(record["picture"]), said + slices, flags)


def _name(record: dict[str, Any]) -> str:
    name = str(record["study"] if "image" not in record else record["image"])
    place = "" if record.get("frame") is None else f" ({record['frame']})"
    return one_line(name + place)


def _words(name: str) -> str:
    return name.replace("_", " ").replace(" mri", " MRI")


__all__ = ["GALLERY_FILE", "Section", "sections_of", "write_gallery"]
