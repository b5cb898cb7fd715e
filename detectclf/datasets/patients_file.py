"""The patients file: a table of file and patient, which says whom each slice of a data set shows.

Its first line names the columns, ``file`` and ``patient`` among them; other columns are ignored. Commas, semicolons and
tabs separate; the text may be UTF-8, UTF-16 or Windows-1252. Ids become pseudonyms here, and no message quotes one, nor
what stands in the column of files unless it ends as an image file does: the two columns may be swapped.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detectclf.errors import DataError
from detectclf.files import read_bytes
from detectclf.imaging.images import image_suffix
from detectclf.pseudonyms import pseudonym
from detectclf.types import Sample

LIMIT_BYTES = 64 * 2**20
"""Largest patients file, bytes."""

_REMEDY = "write a table with the columns file and patient"
_STARTS = {
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"II*\0": "a picture (TIFF)",
    b"MM\0*": "a picture (TIFF)",
    b"PK\x03\x04": "a workbook (Excel, LibreOffice) or zip file",
    b"\xd0\xcf\x11\xe0": "a workbook (old Excel)",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "a compressed file (gzip)",
    b"%PDF": "a PDF",
}
"""First bytes of files of other kinds."""
_SEPARATORS = ",;\t"
_LINE_END = re.compile("\r\n|\r|\n")


class PatientRow(NamedTuple):
    """One line of the file.

    Attributes:
        file: a file name, or the end of a path: ``a.jpg``, ``train/a.jpg``, ``export/train/a.jpg``.
        patient: the patient's pseudonym.
        line: its line, from 1.
    """

    file: str
    patient: str
    line: int

    @property
    def shown(self) -> str:
        """The row as a message may name it: by its file, or by its line where that is no name of an image."""
        if image_suffix(Path(self.file)) is not None:
            return self.file
        return f"the one in line {self.line}, no name of an image (are the columns swapped?)"


def read_patients(path: Path) -> list[PatientRow]:
    """Reads a patients file; lines without a patient are left out.

    Raises:
        DataError: it cannot be read, is not a table, lacks a column or a file name, has a quote that is not closed or
            a line with more cells than the first, or gives a file two patients.
        UnsafeError: it is too large, or not a regular file.
        ConfigError: there is no key for pseudonyms, see :mod:`detectclf.pseudonyms`.
    """
    content = read_bytes(path, limit_bytes=LIMIT_BYTES)
    if (kind := _kind_of_file(content)) is not None:
        raise DataError(f"is {kind}, not a table in CSV", file=path, remedy=_REMEDY)
    text = _decoded(content)
    rows: list[PatientRow] = []
    known: dict[str, PatientRow] = {}
    for line, cells in _cells(text, path):
        file, identity = cells
        patient = pseudonym(identity)
        if not file:
            if identity:
                raise DataError("has a patient but no file", file=path, line=line, remedy="name the file, or remove it")
            continue
        if patient is None:
            continue
        row = PatientRow(file, patient, line)
        if known.setdefault(file, row).patient != patient:
            raise _two_patients(path, row, known[file].line)
        rows.append(row)
    return rows


def assign(
    rows: Sequence[PatientRow], samples: Sequence[Sample], path: Path
) -> tuple[dict[int, str], list[PatientRow]]:
    """The patient of each slice that ``rows`` names.

    Args:
        rows: what :func:`read_patients` gives.
        samples: the slices.
        path: the patients file, for messages.

    Returns:
        Index of the slice -> patient, and the rows whose file no slice has.

    Raises:
        DataError: a row fits several slices, or two rows give a slice two patients.
    """
    found: dict[int, PatientRow] = {}
    unknown = list(rows)
    # Names that differ in case come from systems that do not tell them apart; those written alike come first.
    for fold in (False, True):
        if not unknown:
            break
        by_name, known = _by_name(samples, fold), frozenset(found)
        left, unknown = unknown, []
        for row in left:
            wanted = _parts(row.file, fold)
            fitting = [
                i for i in by_name.get(wanted[-1:], ()) if len(wanted) == 1 or _ends_in(samples[i], wanted, fold)
            ]
            if len(fitting) > 1:
                raise _several_slices(path, row, *(_place(samples[i]) for i in fitting[:2]))
            if not fitting or fitting[0] in known:
                unknown.append(row)
            elif found.setdefault(fitting[0], row).patient != row.patient:
                raise _two_patients(path, row, found[fitting[0]].line)
    return {index: row.patient for index, row in found.items()}, unknown


def _by_name(samples: Sequence[Sample], fold: bool) -> dict[tuple[str, ...], list[int]]:
    """Name of a file, without its folders -> the slices in files of that name."""
    by_name: dict[tuple[str, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        names = [sample.name, *([] if sample.span is not None else [sample.path.name])]
        for name in {_parts(name, fold)[-1:] for name in names}:
            by_name.setdefault(name, []).append(index)
    return by_name


def _kind_of_file(content: bytes) -> str | None:
    """What a file is that is often given in the place of a table; ``None`` where it may be one."""
    if content[128:132] == b"DICM":
        return "a DICOM file"
    return next((kind for start, kind in _STARTS.items() if content.startswith(start)), None)


def _several_slices(path: Path, row: PatientRow, first: str, second: str) -> DataError:
    remedy = "write more of the path, such as split/file or folder/split/file"
    return DataError(f"{row.shown} may be {first} or {second}", file=path, line=row.line, remedy=remedy)


def _two_patients(path: Path, row: PatientRow, before: int) -> DataError:
    reason = f"{row.shown} has another patient than in line {before}"
    return DataError(reason, file=path, line=row.line, remedy="remove the wrong one of the two lines")


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    if content[1:2] == b"\0":
        return content.decode("utf-16-le", "replace")
    if content[:1] == b"\0":
        return content.decode("utf-16-be", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:  # five bytes mean nothing in it; in Latin-1 every byte does
        return content.decode("latin-1")


def _cells(text: str, path: Path) -> list[tuple[int, tuple[str, str]]]:
    """``(line, (file, identity))`` of each line that is not blank, after the one that names the columns."""
    lines = [(number, line) for number, line in enumerate(_LINE_END.split(text), 1) if line.strip()]
    head = lines[0][1] if lines else ""
    separator = max(_SEPARATORS, key=head.count)
    rows = ((number, _split_line(line, separator, path, number)) for number, line in lines)
    table = [(number, cells) for number, cells in rows if any(cells)]
    if not table:
        raise DataError("is empty", file=path, remedy=_REMEDY)
    line, header = table[0]
    names = [name.casefold() for name in header]
    for column in ("file", "patient"):
        # Never quotes the line: where it names no columns, it may hold a patient's name.
        if names.count(column) != 1:
            count = "no column" if column not in names else "several columns"
            raise DataError(f"has {count} {column!r} in its first line", file=path, line=line, remedy=_REMEDY)
    for number, cells in table[1:]:
        if any(cells[len(header) :]):
            # A name such as "Smith, John" without quotes: cut at the comma it would make one patient of all Smiths.
            reason = f"has {len(cells)} cells under {len(header)} columns"
            raise DataError(reason, file=path, line=number, remedy="put a text with a separator in it in quotes")
    at = [names.index(column) for column in ("file", "patient")]
    return [(n, (_cell(cells, at[0]), _cell(cells, at[1]))) for n, cells in table[1:]]


def _split_line(line: str, separator: str, path: Path, number: int) -> list[str]:
    """The cells of one line, without blanks round them; a cell may not go on in the next line."""
    # The second line is only there to show whether a quote is still open at the end of the first.
    reader = csv.reader([f"{line}\n", "\n"], delimiter=separator, skipinitialspace=True)
    try:
        cells = [cell.strip() for cell in next(reader)]
    except csv.Error:  # its text may quote a cell
        raise DataError("not a table", file=path, line=number, remedy=_REMEDY) from None
    if reader.line_num > 1:
        remedy = "close the quote, or write two for one inside a text"
        raise DataError("has a quote that is not closed in its line", file=path, line=number, remedy=remedy)
    return cells


def _cell(cells: Sequence[str], at: int) -> str:
    return cells[at] if at < len(cells) else ""


def _parts(name: str, fold: bool = False) -> tuple[str, ...]:
    """The parts of a path as written on any system, letters such as é in one form, case folded where wanted."""
    plain = unicodedata.normalize("NFC", name.casefold() if fold else name).replace("\\", "/")
    return tuple(part for part in plain.split("/") if part not in ("", "."))


def _ends_in(sample: Sample, parts: tuple[str, ...], fold: bool) -> bool:
    """Whether ``parts`` are the end of the slice's path, or of its source, split and name."""
    source, path = (os.path.abspath(p) for p in (sample.source, sample.path))  # noqa: PTH100 - no symlinks followed
    places = [f"{source}/{sample.split}/{sample.name}", *([path] if sample.span is None else [])]
    return any(_parts(place, fold)[-len(parts) :] == parts for place in places)


def _place(sample: Sample) -> str:
    return f"{Path(sample.source).name}/{sample.split}/{sample.name}"


__all__ = ["PatientRow", "assign", "read_patients"]
