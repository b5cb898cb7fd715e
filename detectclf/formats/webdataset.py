"""WebDataset: tar files in which a picture ``KEY.png`` is followed by ``KEY.json``, what is known of it.

The JSON is ``{"class": "glioma", "boxes": [{"xyxy": [x1, y1, x2, y2], "class": "glioma"}], "patient": "...", "name":
"a.rf.1.png"}``, with boxes in pixels and the picture's name, which may have points where the key may not. Without
``boxes`` they are not known; ``KEY.cls`` with the name of the class is read too. Pictures are not unpacked;
:attr:`~detectclf.types.Sample.span` gives their position in the tar file, which must not be compressed.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from detectclf.documents import parse_json
from detectclf.errors import DataError, UnsafeError
from detectclf.files import ByteSpan, open_regular
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    by_split,
    encoded_image,
    files_with,
    in_shards,
    split_folders,
    split_of,
    write_bytes,
)
from detectclf.formats.raw import RawBox, RawSlice, as_number, text_of, unusable_box
from detectclf.pseudonyms import pseudonym
from detectclf.types import Dataset, Sample

_NAME = re.compile(r"\.tar$", re.IGNORECASE)
_LIMIT_BYTES = 2**40
_LIMIT_NOTE_BYTES = 2**20
_BLOCK = 512
_LOOK_AT = 64


def looks_like(folder: Path) -> bool:
    """Whether the folder holds such tar files; other tar files, such as one of an export, do not count."""
    return any(_has_pair(file, folder) for _, file in _tar_files(folder))


def _has_pair(file: Path, folder: Path) -> bool:
    """Whether a picture and what is known of it are among the first members."""
    try:
        with (
            open_regular(file, limit_bytes=_LIMIT_BYTES, root=folder) as stream,
            tarfile.open(fileobj=stream, mode="r:") as pack,
        ):
            names = [member.name.rpartition("/")[2].partition(".") for member in islice(pack, _LOOK_AT)]
    except (DataError, UnsafeError, tarfile.TarError, EOFError, OSError, ValueError, OverflowError):
        return False
    noted = {key for key, _, kind in names if kind.casefold() in ("json", "cls")}
    return any(key in noted and kind.casefold() not in ("json", "cls") for key, _, kind in names)


def is_tar(name: str) -> bool:
    """Whether a file is a tar file by its name."""
    return _NAME.search(name) is not None


def _tar_files(folder: Path) -> list[tuple[str, Path]]:
    """``(split, file)``; a file outside the split folders belongs to the split with which its name starts."""
    return [
        ((split_of(path.name) if sub == folder else None) or split, path)
        for split, sub in split_folders(folder, lambda sub: bool(files_with(sub, ".tar")))
        for path in files_with(sub, ".tar")
    ]


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a WebDataset export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    for split, file in _tar_files(folder):
        with open_regular(file, limit_bytes=_LIMIT_BYTES, root=folder) as stream:
            slices += slices_in(stream, file, split, faults)
    return assemble(slices, (), folder, faults)


def slices_in(stream: BinaryIO, file: Path, split: str, faults: Faults) -> Iterator[RawSlice]:
    """The slices of one open tar file.

    Args:
        stream: the file.
        file: its name, for messages.
        split: of its slices.
        faults: receives what is wrong.
    """
    waiting: dict[str, _Parts] = {}
    for member, content in _members(stream, file, faults):
        key, _, kind = member.name.rpartition("/")[2].partition(".")
        place = member.name[: len(member.name) - len(kind)]
        if place not in waiting:  # parts of a slice follow one another
            yield from _slices(waiting, file, split, faults)
            waiting = {}
        parts = waiting.setdefault(place, _Parts(key))
        if content is None and parts.span is not None:
            # Such as a mask: which of them is the slice is not known.
            faults.error("bad_record", file, f"{member.name}: a second picture of one key; it is not read")
        elif content is None:
            parts.span = ByteSpan(member.offset_data, member.size)
            parts.name = member.name
        else:
            parts.notes.setdefault(kind.casefold(), content)
    yield from _slices(waiting, file, split, faults)


@dataclass
class _Parts:
    """The members of one slice: the picture's place and name, and what stands beside it by its suffix."""

    key: str
    name: str = ""
    span: ByteSpan | None = None
    notes: dict[str, bytes] = field(default_factory=dict)


def _members(stream: BinaryIO, file: Path, faults: Faults) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Members of interest; of the notes also the content."""
    from detectclf.imaging.images import image_suffix

    try:
        with tarfile.open(fileobj=stream, mode="r:") as pack:
            for member in pack:
                last = member.name.rpartition("/")[2]
                if not member.isreg() or member.issparse() or last.startswith("."):
                    continue
                if image_suffix(last) is not None:
                    yield member, None
                elif last.casefold().endswith((".json", ".cls")) and member.size <= _LIMIT_NOTE_BYTES:
                    note = pack.extractfile(member)
                    yield member, b"" if note is None else note.read()
            end = stream.seek(0, io.SEEK_END)
            stream.seek(max(0, end - _BLOCK))
            if end % _BLOCK or any(stream.read(_BLOCK)):  # whole tar files end with blocks of zeros
                faults.error("bad_record", file, "the tar file is cut short; the rest is not read")
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        faults.error("bad_record", file, "the tar file is damaged or compressed; the rest is not read")


def _slices(waiting: dict[str, _Parts], file: Path, split: str, faults: Faults) -> Iterator[RawSlice]:
    for parts in waiting.values():
        if parts.span is None:
            faults.error("bad_record", file, f"{parts.key}: there is no picture beside what is said of it")
            continue
        raw = RawSlice(file, parts.name, split, file, span=parts.span)
        if "json" in parts.notes:
            _add_note(raw, parts.notes["json"], faults)
        elif "cls" in parts.notes:
            raw.label = parts.notes["cls"].decode("utf-8", "surrogateescape").strip() or None
        else:
            faults.error("bad_record", file, f"{parts.name}: there is neither .json nor .cls beside it")
            continue
        yield raw


def _add_note(raw: RawSlice, content: bytes, faults: Faults) -> None:
    try:
        note = parse_json(content)
    except (ValueError, RecursionError):
        note = None
    if not isinstance(note, dict):
        faults.error("bad_record", raw.stated_in, f"{raw.name}: its .json is no object")
        raw.boxes = [unusable_box()]
        return
    raw.label, raw.name = text_of(note, "class"), text_of(note, "name") or raw.name
    if isinstance(note.get("patient"), str):
        raw.patient = pseudonym(note["patient"])
    boxes = note.get("boxes")
    if isinstance(boxes, list):
        raw.boxes = [_box(each, raw, faults) for each in boxes]
        raw.label = None  # it comes from the boxes
    elif boxes is not None:
        faults.error("bad_record", raw.stated_in, f"{raw.name}: its boxes are no list")
        raw.boxes = [unusable_box()]


def _box(stated: Any, raw: RawSlice, faults: Faults) -> RawBox:
    sides = stated.get("xyxy") if isinstance(stated, dict) else None
    label = text_of(stated, "class") if isinstance(stated, dict) else None
    if not isinstance(sides, list) or len(sides) != 4 or label is None:
        faults.error("bad_record", raw.stated_in, f"{raw.name}: a box is not of the form xyxy and class")
        return unusable_box()
    x1, y1, x2, y2 = map(as_number, sides)
    return RawBox((x1, y1, x2, y2), label)


def write(dataset: Dataset, out: Path) -> None:
    """Writes ``SPLIT/slices-00000-of-0000N.tar``; images are copied byte for byte."""
    for split, samples in by_split(dataset):
        shards = in_shards(samples, unique_stems=True)
        for number, shard in enumerate(shards):
            write_bytes(out / split / f"slices-{number:05d}-of-{len(shards):05d}.tar", _packed(shard))


def _packed(shard: list[tuple[Sample, str]]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as pack:
        keys: set[str] = set()
        for sample, name in shard:
            key, suffix = PurePosixPath(name).stem.replace(".", "_"), PurePosixPath(name).suffix
            while key in keys:
                key += "_"
            keys.add(key)
            note: dict[str, Any] = {"class": sample.label, "name": name}
            if sample.boxed:
                boxes = zip(sample.boxes_xyxy.tolist(), sample.box_labels, strict=True)
                note["boxes"] = [{"xyxy": box, "class": label} for box, label in boxes]
            if sample.patient is not None:
                note["patient"] = sample.patient
            for kind, data in ((suffix, encoded_image(sample)), (".json", json.dumps(note).encode())):
                member = tarfile.TarInfo(f"{key}{kind}")
                member.size = len(data)
                pack.addfile(member, io.BytesIO(data))
    return content.getvalue()


__all__ = ["is_tar", "looks_like", "read", "slices_in", "write"]
