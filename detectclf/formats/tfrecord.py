"""TFRecord with the features of the TF Object Detection API, and ``NAME_label_map.pbtxt`` beside it.

A record is ``length (uint64), its masked CRC, data, its masked CRC``, little-endian. Boxes are fractions of the image
size. Images are not unpacked; :attr:`~detectclf.types.Sample.span` gives their position in the file.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO

from detectclf.files import ByteSpan, open_regular
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    box_classes,
    by_split,
    encoded_image,
    files_with,
    in_shards,
    read_text,
    split_folders,
    split_of,
    write_bytes,
)
from detectclf.formats.raw import RawBox, RawSlice, stated_size, unusable_box
from detectclf.formats.tf_example import Feature, WireError, parse_example, write_example
from detectclf.types import Dataset, Sample

_NAME = re.compile(r"\.(tfrecords?|record)(-\d+-of-\d+)?$")
_LIMIT_BYTES = 2**40
_LIMIT_RECORD_BYTES = 2**29
_ITEM = re.compile(r"item\s*\{(.*?)\}", re.DOTALL)
_ID = re.compile(r"\bid\s*:\s*(\d{1,9})")
_TEXT = re.compile(r"""\bname\s*:\s*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""")


def looks_like(folder: Path) -> bool:
    """Whether the folder holds TFRecord files."""
    return bool(_record_files(folder))


def is_record_file(name: str) -> bool:
    """Whether a file is a TFRecord by its name."""
    return _NAME.search(name) is not None


def _records_in(folder: Path) -> list[Path]:
    return [path for path in files_with(folder, "") if is_record_file(path.name)]


def _record_files(folder: Path) -> list[tuple[str, Path]]:
    """``(split, file)``; a file outside the split folders belongs to the split with which its name starts."""
    result = []
    for split, sub in split_folders(folder, lambda sub: bool(_records_in(sub))):
        result += [((split_of(path.name) if sub == folder else None) or split, path) for path in _records_in(sub)]
    return result


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a TFRecord export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    classes: dict[str, None] = {}
    for split, file in _record_files(folder):
        names: dict[int, str] = {}
        for table in files_with(file.parent, ".pbtxt"):
            names.update(label_map(read_text(table, folder)))
        classes.update(dict.fromkeys(names.values()))
        with open_regular(file, limit_bytes=_LIMIT_BYTES, root=folder) as stream:
            slices += slices_in(stream, file, split, names, faults)
    return assemble(slices, classes, folder, faults)


def slices_in(stream: BinaryIO, file: Path, split: str, names: dict[int, str], faults: Faults) -> Iterator[RawSlice]:
    """The slices of one open TFRecord file.

    Args:
        stream: the file.
        file: its name, for messages.
        split: of its slices.
        names: class id -> name, from its label map.
        faults: receives what is wrong.
    """
    for index, (offset, record) in enumerate(records_in(stream)):
        if not isinstance(record, bytes):
            faults.error(record.args[0], file, record.args[1])
            continue
        try:
            features, offsets = parse_example(record)
        except WireError as error:
            faults.error("bad_record", file, f"record {index}: {error}")
            continue
        raw = _slice(features, offsets, offset, index, split, file, names, faults)
        if raw.span is not None:
            yield raw


def label_map(text: str) -> dict[int, str]:
    """Class id -> name, from the text of a label map."""
    names = {}
    for item in _ITEM.findall(text):
        number, name = _ID.search(item), _TEXT.search(item)
        if number and name:
            names[int(number[1])] = re.sub(r"\\(.)", r"\1", name[1][1:-1])
    return names


class RecordError(ValueError):
    """A record that cannot be read: a code of :mod:`detectclf.formats.faults`, and a sentence."""


def records_in(stream: BinaryIO) -> Iterator[tuple[int, bytes | RecordError]]:
    """``(offset of the data, data)`` of each record of an open TFRecord file, or what is wrong with it."""
    size = stream.seek(0, os.SEEK_END)
    index = offset = stream.seek(0)
    while offset < size:
        header, where = stream.read(12), f"record {index} at byte {offset}"
        if len(header) < 12 or masked_crc32c(header[:8]) != struct.unpack("<I", header[8:])[0]:
            what = "is cut short" if len(header) < 12 else "has a wrong checksum of its length"
            yield offset, RecordError("bad_record", f"{where} {what}; the rest is not read")
            return
        (length,) = struct.unpack("<Q", header[:8])
        if length > size - offset - 16 or length > _LIMIT_RECORD_BYTES:
            what = "is cut short" if length <= _LIMIT_RECORD_BYTES else f"declares {length} bytes"
            yield offset, RecordError("bad_record", f"{where} {what}; the rest is not read")
            return
        data, checksum = stream.read(length), struct.unpack("<I", stream.read(4))[0]
        whole = masked_crc32c(data) == checksum
        yield offset + 12, data if whole else RecordError("bad_crc", f"{where} has a wrong checksum")
        index, offset = index + 1, offset + length + 16


def record_name(features: dict[str, Feature], container: str, index: int) -> str:
    """The name of the picture in a record: its ``image/filename``, or the stem of the file and a number."""
    return next(iter(_texts(features, "image/filename")), "") or f"{PurePath(container).stem}-{index:06d}"


def masked_crc32c(data: bytes) -> int:
    """The CRC-32C of ``data`` as TFRecord stores it: rotated and shifted (tensorflow/core/lib/hash/crc32c.h)."""
    # Imported here because google_crc32c warns on import where its C extension is missing: only users of TFRecord
    # should see that.
    import google_crc32c

    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _slice(
    features: dict[str, Feature],
    offsets: dict[str, int],
    start: int,
    index: int,
    split: str,
    file: Path,
    names: dict[int, str],
    faults: Faults,
) -> RawSlice:
    name = record_name(features, file.name, index)
    images = features.get("image/encoded") or [b""]
    image = images[0]
    span = None
    if isinstance(image, bytes) and image:
        span = ByteSpan(start + offsets["image/encoded"], len(image))
    else:
        faults.error("bad_record", file, f"{name}: the record has no image")
    sides = [_numbers(features, f"image/object/bbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    labels = _labels(features, names, name, file, faults)
    if len({len(labels), *map(len, sides)}) > 1:
        faults.error("bad_record", file, f"{name}: its lists of boxes and classes have different lengths")
        boxes = [unusable_box()]
    else:
        boxes = [RawBox((x1, y1, x2, y2), label) for x1, y1, x2, y2, label in zip(*sides, labels, strict=True)]
    width, height = (next(iter(_numbers(features, f"image/{key}")), 0) for key in ("width", "height"))
    return RawSlice(file, name, split, file, boxes, stated_size=stated_size(width, height), relative=True, span=span)


def _labels(
    features: dict[str, Feature], names: dict[int, str], name: str, file: Path, faults: Faults
) -> list[str | None]:
    texts = _texts(features, "image/object/class/text")
    if texts:
        return list(texts)
    labels = [names.get(int(n)) for n in _numbers(features, "image/object/class/label")]
    if None in labels:
        faults.error("unknown_class", file, f"{name}: has a class id that is not in the label map")
    return list(labels)


def _texts(features: dict[str, Feature], key: str) -> list[str]:
    return [v.decode("utf-8", "surrogateescape") for v in features.get(key, []) if isinstance(v, bytes)]


def _numbers(features: dict[str, Feature], key: str) -> list[float]:
    return [float(v) for v in features.get(key, []) if not isinstance(v, bytes)]


def write(dataset: Dataset, out: Path) -> None:
    """Writes ``SPLIT/slices-00000-of-0000N.tfrecord`` and a label map; images are copied byte for byte."""
    classes = box_classes(dataset)
    for split, samples in by_split(dataset):
        items = [f"item {{\n  name: {_quoted(c)}\n  id: {i}\n}}\n" for i, c in enumerate(classes, 1)]
        write_bytes(out / split / "slices_label_map.pbtxt", "".join(items))
        shards = in_shards(samples)
        for number, shard in enumerate(shards):
            content = b"".join(_framed(_example(sample, name, classes)) for sample, name in shard)
            write_bytes(out / split / f"slices-{number:05d}-of-{len(shards):05d}.tfrecord", content)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + next(checksums) + data + next(checksums)


def _example(sample: Sample, name: str, classes: list[str]) -> bytes:
    image = encoded_image(sample)
    text = name.encode("utf-8", "surrogateescape")
    shares = sample.boxes_xyxy / [sample.width, sample.height, sample.width, sample.height]
    sides = {key: [float(v) for v in shares[:, i]] for i, key in enumerate(("xmin", "ymin", "xmax", "ymax"))}
    return write_example(
        {
            "image/encoded": [image],
            "image/filename": [text],
            "image/source_id": [text],
            "image/format": [b"png" if image.startswith(b"\x89PNG") else b"jpeg"],
            "image/width": [sample.width],
            "image/height": [sample.height],
            "image/object/class/text": [label.encode("utf-8", "surrogateescape") for label in sample.box_labels],
            "image/object/class/label": [classes.index(label) + 1 for label in sample.box_labels],
            **{f"image/object/bbox/{key}": values for key, values in sides.items()},
        }
    )


__all__ = [
    "RecordError",
    "is_record_file",
    "label_map",
    "looks_like",
    "masked_crc32c",
    "read",
    "record_name",
    "records_in",
    "slices_in",
    "write",
]
