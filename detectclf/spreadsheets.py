"""Writes comma-separated tables without what spreadsheet programs would take for a formula, and run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

# A formula begins with one of these, also after blanks; a number may, too. A text that looks marked is marked again.
_FORMULA = re.compile(r"'*\s*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def table_text(rows: Sequence[Sequence[object]]) -> str:
    """The text of a table; a text that would be a formula begins with an apostrophe, see :func:`from_cell`."""
    texts = [cell for row in rows for cell in row if isinstance(cell, str)]
    # Readers skip a blank after a comma, so that a cell that starts with one needs quotes; to them a lone carriage
    # return ends a row, which the writer does not know.
    quoted = any(text.startswith(" ") or "\r" in text for text in texts)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerows([_as_cell(cell) for cell in row] for row in rows)
    return stream.getvalue()


def _as_cell(value: object) -> object:
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def from_cell(text: str) -> str:
    """The text that :func:`table_text` marked."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


__all__ = ["from_cell", "table_text"]
