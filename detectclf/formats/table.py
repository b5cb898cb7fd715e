"""Reads untrusted comma-separated tables; :mod:`detectclf.spreadsheets` writes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from detectclf.errors import DataError
from detectclf.formats.faults import HIDDEN, Faults
from detectclf.formats.files import read_text
from detectclf.spreadsheets import from_cell

_CLOSE = "close the quote or remove it, or export the table again"

Rows = list[tuple[int, list[str]]]
"""``(line, cells)`` of each row."""


def read_table(path: Path, root: Path) -> tuple[list[str], Rows]:
    """Reads the header and the other rows of a table, without empty lines and the blanks after commas.

    Raises:
        DataError: the file is empty or not a table.
        UnsafeError: it is too large, or leads out of ``root``.
    """
    # Strict: a quote that is never closed would swallow the rest of the table without a word.
    reader = csv.reader(io.StringIO(read_text(path, root), newline=""), skipinitialspace=True, strict=True)
    rows: Rows = []
    line = 1
    try:
        for row in reader:
            if any("\n" in cell and "," in cell for cell in row) or (not rows and any("\n" in cell for cell in row)):
                raise DataError("a quote is not closed", file=path, line=line, remedy=_CLOSE)
            if any(cell.strip() for cell in row):
                rows.append((reader.line_num, row))
            line = reader.line_num + 1
    except csv.Error as error:
        reason = "a quote is not closed" if "unexpected end" in str(error) else f"not a table ({error})"
        raise DataError(reason, file=path, line=line, remedy=_CLOSE) from None
    if not rows:
        raise DataError("is empty", file=path, remedy="export the data set again")
    rows = [(line, [from_cell(cell) for cell in row]) for line, row in rows]
    return [cell.strip() for cell in rows[0][1]], rows[1:]


def bad_rows(header: list[str], rows: Rows) -> bool:
    """Whether a row has not as many cells as the header."""
    return any(len(row) != len(header) for _, row in rows)


def complete_rows(header: list[str], rows: Rows, path: Path, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """The rows with as many cells as the header; the others are left out as ``bad_columns``."""
    personal = any("patient" in name.casefold() for name in header)
    for line, row in rows:
        if len(row) == len(header):
            yield line, row
        else:
            detail = f"{len(row)} columns, the first line has {len(header)}"
            faults.reject("bad_columns", path, detail, HIDDEN if personal else row, line)


__all__ = ["bad_rows", "complete_rows", "read_table"]
