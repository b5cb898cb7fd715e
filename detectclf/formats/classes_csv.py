"""Roboflow's multi-class classification export: ``_classes.csv`` in each split folder, one column of 0/1 per class.

Roboflow writes blanks after the commas. Classes only: the boxes of its slices are not known.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from detectclf.errors import DataError
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import by_split, copy_image, find_image, output_names, split_folders, write_bytes
from detectclf.formats.raw import RawSlice
from detectclf.formats.table import read_table
from detectclf.types import Dataset

MARKER = "_classes.csv"
HOLDS_BOXES = False


def looks_like(folder: Path) -> bool:
    """Whether the folder is a ``_classes.csv`` export."""
    return bool(_annotation_files(folder))


def _annotation_files(folder: Path) -> list[tuple[str, Path]]:
    return split_folders(folder, lambda sub: (sub / MARKER).is_file())


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a ``_classes.csv`` export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    classes: dict[str, None] = {}
    for split, sub in _annotation_files(folder):
        file = sub / MARKER
        header, rows = read_table(file, folder)
        names = header[1:]
        if header[0].casefold() != "filename" or not names or len(set(names)) < len(names):
            remedy = "its first line is: filename, CLASS, CLASS, ..."
            raise DataError("not a table of classes", file=file, line=1, remedy=remedy)
        classes.update(dict.fromkeys(names))
        for line, row in rows:
            if len(row) != len(header):
                faults.error("bad_columns", file, f"{len(row)} columns, the first line has {len(header)}", line)
                faults.drop("bad_columns", file, row, line)
                continue
            label = _label(row, names, file, line, faults)
            slices.append(RawSlice(find_image(row[0], [sub]), row[0], split, file, label=label, line=line))
    return assemble(slices, classes, folder, faults)


def _label(row: list[str], names: list[str], file: Path, line: int, faults: Faults) -> str | None:
    values = [value.strip() for value in row[1:]]
    if any(value not in ("0", "1") for value in values):
        faults.error("bad_value", file, f"{row[0]}: a class column holds something else than 0 or 1", line)
        return None
    chosen = [name for name, value in zip(names, values, strict=True) if value == "1"]
    if len(chosen) > 1:
        faults.error("several_classes", file, f"{row[0]}: is of {len(chosen)} classes: {', '.join(chosen)}", line)
    elif not chosen:
        faults.warning("no_class", file, f"{row[0]}: is of no class and is not used", line)
    return chosen[0] if len(chosen) == 1 else None


def write(dataset: Dataset, out: Path) -> None:
    """Writes images and ``_classes.csv`` in one folder per split; boxes are not held."""
    for split, samples in by_split(dataset):
        text = io.StringIO(newline="")
        names = output_names(samples)
        # A blank at the start of a name would be taken for Roboflow's blank after the comma.
        blanks = any(text.startswith(" ") for text in (*names, *dataset.classes))
        table = csv.writer(text, quoting=csv.QUOTE_ALL if blanks else csv.QUOTE_MINIMAL, lineterminator="\n")
        table.writerow(["filename", *dataset.classes])
        for sample, name in zip(samples, names, strict=True):
            copy_image(sample, out / split / name)
            table.writerow([name, *(int(sample.label == c) for c in dataset.classes)])
        write_bytes(out / split / MARKER, text.getvalue())


__all__ = ["HOLDS_BOXES", "looks_like", "read", "write"]
