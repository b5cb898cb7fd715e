"""The patients file: a table of file and patient, which says whom each slice of a data set shows.

Its first line names the columns, ``file`` and ``patient`` among them; other columns are ignored. Commas, semicolons and
tabs separate; the text may be UTF-8, UTF-16 or Windows-1252. Ids become pseudonyms here, and no message quotes one.
"""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detectclf.errors import DataError
from detectclf.files import read_bytes
from detectclf.pseudonyms import pseudonym
from detectclf.types import Sample

LIMIT_BYTES = 64 * 2**20
"""Largest patients file, bytes."""

_REMEDY = "write a table with the columns file and patient"
_SEPARATORS = ",;\t"


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


def read_patients(path: Path) -> list[PatientRow]:
    """Reads a patients file; lines without a patient are left out.

    Raises:
        DataError: it cannot be read, is not a table, lacks a column or a file name, or gives a file two patients.
        UnsafeError: it is too large, or not a regular file.
        ConfigError: there is no key for pseudonyms, see :mod:`detectclf.pseudonyms`.
    """
    text = _decoded(read_bytes(path, limit_bytes=LIMIT_BYTES))
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


def assign(rows: Sequence[PatientRow], samples: Sequence[Sample], path: Path) -> tuple[dict[int, str], list[str]]:
    """The patient of each slice that ``rows`` names.

    Args:
        rows: what :func:`read_patients` gives.
        samples: the slices.
        path: the patients file, for messages.

    Returns:
        Index of the slice -> patient, and the files that no slice has.

    Raises:
        DataError: a row fits several slices, or two rows give a slice two patients.
    """
    by_name: dict[tuple[str, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        names = {_parts(sample.name)[-1:], *([] if sample.span is not None else [_parts(sample.path.name)[-1:]])}
        for name in names:
            by_name.setdefault(name, []).append(index)
    found: dict[int, PatientRow] = {}
    unknown = []
    for row in rows:
        wanted = _parts(row.file)
        fitting = [i for i in by_name.get(wanted[-1:], ()) if len(wanted) == 1 or _ends_in(samples[i], wanted)]
        if not fitting:
            unknown.append(row.file)
        elif len(fitting) > 1:
            first, second = (_place(samples[i]) for i in fitting[:2])
            raise DataError(
                f"{row.file} may be {first} or {second}",
                file=path,
                line=row.line,
                remedy="write more of the path, such as split/file or folder/split/file",
            )
        elif found.setdefault(fitting[0], row).patient != row.patient:
            raise _two_patients(path, row, found[fitting[0]].line)
    return {index: row.patient for index, row in found.items()}, unknown


def _two_patients(path: Path, row: PatientRow, before: int) -> DataError:
    reason = f"{row.file} has another patient than in line {before}"
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
    lines = text.splitlines()
    head = next((line for line in lines if line.strip()), "")
    separator = max(_SEPARATORS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    table: list[tuple[int, list[str]]] = []
    try:
        table.extend((reader.line_num, [c.strip() for c in cells]) for cells in reader if any(map(str.strip, cells)))
    except csv.Error:  # its text may quote a cell
        raise DataError("not a table", file=path, line=reader.line_num, remedy=_REMEDY) from None
    if not table:
        raise DataError("is empty", file=path, remedy=_REMEDY)
    line, header = table[0]
    names = [name.casefold() for name in header]
    for column in ("file", "patient"):
        # Never quotes the line: where it names no columns, it may hold a patient's name.
        if names.count(column) != 1:
            count = "no column" if column not in names else "several columns"
            raise DataError(f"has {count} {column!r} in its first line", file=path, line=line, remedy=_REMEDY)
    at = [names.index(column) for column in ("file", "patient")]
    return [(n, (_cell(cells, at[0]), _cell(cells, at[1]))) for n, cells in table[1:]]


def _cell(cells: Sequence[str], at: int) -> str:
    return cells[at] if at < len(cells) else ""


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path as written on any system, letters such as é in one form."""
    plain = unicodedata.normalize("NFC", name).replace("\\", "/")
    return tuple(part for part in plain.split("/") if part not in ("", "."))


def _ends_in(sample: Sample, parts: tuple[str, ...]) -> bool:
    """Whether ``parts`` are the end of the slice's path, or of its source, split and name."""
    source, path = (os.path.abspath(p) for p in (sample.source, sample.path))  # noqa: PTH100 - no symlinks followed
    places = [(*_parts(source), sample.split, *_parts(sample.name))]
    if sample.span is None:
        places.append(_parts(path))
    return any(place[-len(parts) :] == parts for place in places)


def _place(sample: Sample) -> str:
    return f"{Path(sample.source).name}/{sample.split}/{sample.name}"


__all__ = ["PatientRow", "assign", "read_patients"]
