"""Roboflow's multi-class classification export: ``_classes.csv`` in each split folder, one column of 0/1 per class.

Roboflow writes blanks after the commas. The format has classes only; the boxes of its slices are not known.
"""

from __future__ import annotations

from pathlib import Path

from detectclf.errors import DataError
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import by_split, copy_images, slice_classes, split_files, write_bytes
from detectclf.formats.image_names import ImageFinder
from detectclf.formats.raw import RawSlice
from detectclf.formats.table import complete_rows, read_table
from detectclf.spreadsheets import table_text
from detectclf.types import Dataset

MARKER = "_classes.csv"


def looks_like(folder: Path) -> bool:
    """Whether the folder is a ``_classes.csv`` export."""
    return bool(split_files(folder, MARKER))


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a ``_classes.csv`` export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    classes: dict[str, None] = {}
    for split, file in split_files(folder, MARKER):
        header, rows = read_table(file, folder)
        names = header[1:]
        if header[0].casefold() != "filename" or not names or len(set(names)) < len(names):
            remedy = "its first line must be: filename, CLASS, CLASS, ..."
            raise DataError("not a table of classes", file=file, line=1, remedy=remedy)
        classes.update(dict.fromkeys(names))
        finder = ImageFinder([file.parent], file, faults, split)
        for line, row in complete_rows(header, rows, file, faults):
            label = _label(row, names, file, line, faults)
            slices.append(RawSlice(finder.find(row[0]), row[0], split, file, label=label, line=line))
        finder.note()
    return assemble(slices, classes, folder, faults)


def _label(row: list[str], names: list[str], file: Path, line: int, faults: Faults) -> str | None:
    values = [value.strip() for value in row[1:]]
    if any(value not in ("0", "1") for value in values):
        faults.error("bad_value", file, f"{row[0]}: a class column has a value other than 0 and 1", line)
        return None
    chosen = [name for name, value in zip(names, values, strict=True) if value == "1"]
    if len(chosen) > 1:
        faults.error("several_classes", file, f"{row[0]} has {len(chosen)} classes: {', '.join(chosen)}", line)
    elif not chosen:
        faults.warning("no_class", file, f"{row[0]} has no class and is not used", line)
    return chosen[0] if len(chosen) == 1 else None


def write(dataset: Dataset, out: Path) -> None:
    """Writes images and ``_classes.csv`` in one folder per split, without boxes."""
    classes = slice_classes(dataset)
    for split, samples in by_split(dataset):
        rows: list[list[object]] = [["filename", *classes]]
        for sample, name in copy_images(samples, out / split):
            rows.append([name, *(int(sample.label == c) for c in classes)])
        write_bytes(out / split / MARKER, table_text(rows))


__all__ = ["looks_like", "read", "write"]
