"""TensorFlow object detection CSV: ``_annotations.csv`` in each split folder, one row per box.

``xmin,ymin,xmax,ymax`` are whole pixels, 0-based with the far edge exclusive, so nothing is shifted. The table has no
row for an image without boxes, so an image in the folder that no row names is a slice without a tumour, unless some row
finds no image.
"""

from __future__ import annotations

from pathlib import Path

from detectclf.errors import DataError
from detectclf.files import check_inside
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    by_split,
    copy_images,
    image_files,
    is_there,
    split_files,
    write_bytes,
)
from detectclf.formats.image_names import ImageFinder
from detectclf.formats.raw import RawBox, RawSlice, parse_number, stated_size
from detectclf.formats.table import bad_rows, complete_rows, read_table
from detectclf.formats.whole_pixels import whole_pixels
from detectclf.spreadsheets import table_text
from detectclf.types import Dataset

MARKER = "_annotations.csv"
COLUMNS = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]


def looks_like(folder: Path) -> bool:
    """Whether the folder is a TensorFlow object detection CSV export."""
    return bool(split_files(folder, MARKER))


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a TensorFlow object detection CSV export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    for split, file in split_files(folder, MARKER):
        slices += _read_split(split, file, folder, faults)
    return assemble(slices, [], folder, faults)


def _read_split(split: str, file: Path, folder: Path, faults: Faults) -> list[RawSlice]:
    header, rows = read_table(file, folder)
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        remedy = f"its first line must be: {','.join(COLUMNS)}"
        raise DataError(f"has no column {missing[0]!r}", file=file, line=1, remedy=remedy)
    by_name: dict[str, RawSlice] = {}
    finder = ImageFinder([file.parent], file, faults, split)
    for line, row in complete_rows(header, rows, file, faults):
        cells = dict(zip(header, row, strict=True))
        name = cells["filename"]
        size = stated_size(parse_number(cells["width"]), parse_number(cells["height"]))
        raw = by_name.get(name)
        if raw is None:
            raw = RawSlice(finder.find(name), name, split, file, [], stated_size=size, line=line)
            by_name[name] = raw
        elif raw.stated_size != size:
            faults.error("size_mismatch", file, f"{name}: the size differs from that in line {raw.line}", line)
        assert raw.boxes is not None
        raw.boxes.append(_box(cells, file, line, faults))
    finder.note()
    slices = list(by_name.values())
    found = {raw.path for raw in slices}
    # A row that finds no image may mean any of those without a row: none of them is known to show no tumour.
    complete = all(is_there(path) for path in found) and not bad_rows(header, rows)
    others = [check_inside(folder, path) for path in image_files(file.parent) if path not in found]
    return slices + [RawSlice(path, path.name, split, file, [] if complete else None) for path in others]


def _box(cells: dict[str, str], file: Path, line: int, faults: Faults) -> RawBox:
    x1, y1, x2, y2 = (parse_number(cells[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
    label = cells["class"].strip() or None
    if label is None:
        faults.error("unknown_class", file, f"{cells['filename']}: a box without a class", line)
    return RawBox((x1, y1, x2, y2), label, line)


def write(dataset: Dataset, out: Path) -> None:
    """Writes images and ``_annotations.csv`` in one folder per split; boxes are rounded to whole pixels."""
    for split, samples in by_split(dataset):
        rows: list[list[object]] = [[*COLUMNS]]
        for sample, name in copy_images(samples, out / split):
            for box, label in zip(sample.boxes_xyxy, sample.box_labels, strict=True):
                corners = whole_pixels(box, sample.width, sample.height)
                rows.append([name, sample.width, sample.height, label, *corners])
        write_bytes(out / split / MARKER, table_text(rows))


__all__ = ["looks_like", "read", "write"]
