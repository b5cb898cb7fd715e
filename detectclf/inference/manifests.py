"""Manifests: tables (Parquet, CSV, JSON Lines) with a column that names the pictures; read row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from detectclf.documents import parse_json
from detectclf.errors import ConfigError, DataError
from detectclf.storage import file_name, is_uri, open_stored, shown
from detectclf.uris import has_credentials

COLUMNS = ("image", "uri", "path", "file", "filename")
"""Names of the column with the pictures, the first that a manifest has."""

_SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson")


def is_manifest(name: str) -> bool:
    """Whether a file is a manifest by its name."""
    return file_name(name).lower().endswith(_SUFFIXES)


def rows_of(name: str) -> Iterator[str]:
    """The path or URI of each row, relative ones below the folder of the manifest; a row at a time.

    Raises:
        DataError: no table, without one of :data:`COLUMNS`, or a row that names nothing or has a
            password, with its line.
        StorageError, ConfigError: it cannot be reached.
    """
    suffix = file_name(name).lower().rpartition(".")[2]
    read = {"parquet": _parquet_rows, "csv": _csv_rows}.get(suffix, _json_rows)
    with closing(open_stored(name)) as stream:
        for line, value in read(stream, shown(name)):
            if not isinstance(value, str) or not value.strip() or "\0" in value:
                raise DataError("names no picture", file=shown(name), line=line, remedy="complete or remove the row")
            if is_uri(value) and has_credentials(value):  # before it is written into a plan
                remedy = "give them as the store's library expects them"
                raise DataError("a name must not hold credentials", file=shown(name), line=line, remedy=remedy)
            yield value if is_uri(value) else _below(name, value)


def _below(manifest: str, value: str) -> str:
    if is_uri(manifest):
        return f"{shown(manifest).rpartition('/')[0]}/{value}"
    return str(Path(manifest).parent / value)


def _column(columns: Sequence[Any], name: str) -> str:
    found = next((column for column in COLUMNS if column in columns), None)
    if found is None:
        has = ", ".join(map(str, columns[:12])) or "none"
        raise DataError(
            f"has no column with pictures (it has {has})", file=name, remedy=f"name one of them {COLUMNS[0]}"
        )
    return found


def _parquet_rows(stream: Any, name: str) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(f"{name}: needs pyarrow", remedy="pip install 'detectclf[cloud]'") from None
    try:
        table = pq.ParquetFile(pa.PythonFile(stream, mode="r"))
        column, line = _column(table.schema_arrow.names, name), 0
        for batch in table.iter_batches(batch_size=4096, columns=[column]):
            for value in batch.column(0).to_pylist():
                line += 1
                yield line, value
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("not a whole Parquet file", file=name, remedy="copy or make it again") from error


def _csv_rows(stream: Any, name: str) -> Iterator[tuple[int, Any]]:
    reader = csv.reader(_text(stream), strict=True)
    try:
        head = next(reader, [])
        at = head.index(_column(head, name))
        for row in reader:
            if row:
                yield reader.line_num, row[at] if len(row) == len(head) else None
    except csv.Error as error:
        reason = f"not a CSV table ({error})"
        raise DataError(reason, file=name, line=reader.line_num, remedy="correct the row") from error


def _json_rows(stream: Any, name: str) -> Iterator[tuple[int, Any]]:
    for line, text in enumerate(_text(stream), 1):
        if not text.strip():
            continue
        try:
            row = parse_json(text)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError("not a JSON object", file=name, line=line, remedy="correct the row")
        yield line, row[_column(list(row), name)]


def _text(stream: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(_Raw(stream)), "utf-8-sig", "surrogateescape", newline="")


class _Raw(io.RawIOBase):
    """What ``io`` needs to read text from any stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


__all__ = ["COLUMNS", "is_manifest", "rows_of"]
