"""Comma-separated tables from strangers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from detectclf.errors import DataError
from detectclf.formats.files import read_text


def read_table(path: Path, root: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and ``(line, row)`` of a table; blanks after commas and empty lines are left out.

    Raises:
        DataError: no header, or not a table at all. UnsafeError: too large, or leads out of ``root``.
    """
    reader = csv.reader(io.StringIO(read_text(path, root), newline=""), skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise DataError(f"not a table ({error})", file=path, line=reader.line_num, remedy="export it again") from None
    if not rows:
        raise DataError("is empty", file=path, remedy="export the data set again")
    return [cell.strip() for cell in rows[0][1]], rows[1:]


__all__ = ["read_table"]
