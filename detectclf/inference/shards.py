"""Predictions in shards: a folder, local or in a store, that any number of workers write into and that can be resumed.

================================  ======================================================================================
``run.json``                      by what model and settings (:mod:`detectclf.inference.run_description`)
``plan/``, ``plan.json``           what each part goes over (:mod:`detectclf.inference.plans`); written before all else
``records/part-000000.*``         ``.jsonl`` and ``.parquet`` with the records; ``.studies.jsonl`` if there are volumes
``records/part-000000.json``      what was written, with sizes and SHA-256; written last, so that half a part is none
``records/part-000000.attempts``  how many attempts at it were begun; removed when it is finished
``manifest.json``                 all parts and their sums, once the run is finished
================================  ======================================================================================

A part is predicted by one worker at a time and always gives the same files, so that a second attempt does no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from detectclf.documents import parse_json
from detectclf.errors import ConfigError, DataError
from detectclf.inference.plans import part_name
from detectclf.storage import StoredFolder, shown

MANIFEST_FILE = "manifest.json"
_FORMAT = "detectclf-shards"
_LIMIT_BYTES = 2**32
_ATTEMPTS = ".attempts"


def write_part(
    folder: StoredFolder,
    number: int,
    records: Sequence[dict[str, Any]],
    studies: Sequence[dict[str, Any]],
    classes: Sequence[str],
    items: int,
) -> dict[str, Any]:
    """Writes the records of a part, and last what says that it is finished, which is also returned.

    Args:
        folder: the output.
        number: of the part.
        records, studies: of its pictures and slices, and of its volumes.
        classes: those of the model.
        items: how many names it goes over.
    """
    contents = {"jsonl": _lines(records), "parquet": _parquet(records, classes)}
    if studies:
        contents["studies.jsonl"] = _lines(studies)
    files = {}
    for suffix, content in contents.items():
        name = f"{part_name(number)}.{suffix}"
        folder.write(f"records/{name}", content)
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    done = {
        "part": number,
        "items": items,
        "records": len(records),
        "errors": sum(record["error"] is not None for record in records),
        "studies": len(studies),
        "studies_refused": sum(study["error"] is not None for study in studies),
        "files": files,
    }
    folder.write(f"records/{part_name(number)}.json", json.dumps(done) + "\n")
    return done


def attempts_of(folder: StoredFolder, number: int) -> int:
    """How many attempts at a part were begun that nothing is known of any more, since their process ended."""
    try:
        return int(folder.read(_attempts_file(number), limit_bytes=100))
    except (DataError, ValueError):
        return 0


def note_attempts(folder: StoredFolder, number: int, attempts: int) -> None:
    """Writes what :func:`attempts_of` reads; 0 removes it."""
    if attempts:
        folder.write(_attempts_file(number), str(attempts))
    else:
        folder.remove(_attempts_file(number))


def _attempts_file(number: int) -> str:
    return f"records/{part_name(number)}{_ATTEMPTS}"


def forget_attempts(folder: StoredFolder) -> None:
    """Removes what attempts left behind that ended between the files of their part and their own end."""
    for name in folder.sizes("records"):
        if name.endswith(_ATTEMPTS):
            folder.remove(f"records/{name}")


def finished_parts(folder: StoredFolder, parts: int) -> dict[int, dict[str, Any]]:
    """Number -> what :func:`write_part` gave, of the parts that are finished and whose files are all there."""
    sizes = folder.sizes("records")
    names = {number: f"{part_name(number)}.json" for number in range(parts)}
    there = [name for name in names.values() if name in sizes]
    contents = folder.read_all([f"records/{name}" for name in there])
    finished = {}
    for number, name in names.items():
        content = contents.get(f"records/{name}")
        if content is None:
            continue
        try:
            done = parse_json(content)
            whole = all(sizes.get(file) == about["bytes"] for file, about in done["files"].items())
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if whole:
            finished[number] = done
    return finished


def write_manifest(folder: StoredFolder, finished: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Writes ``manifest.json`` of all parts; returns it."""
    parts = [finished[number] for number in sorted(finished)]
    sums = {
        key: sum(part[key] for part in parts) for key in ("items", "records", "errors", "studies", "studies_refused")
    }
    manifest = {"format": _FORMAT, "format_version": 1, **sums, "parts": parts}
    folder.write(MANIFEST_FILE, json.dumps(manifest) + "\n")
    return manifest


def records_of(folder: StoredFolder) -> Iterator[dict[str, Any]]:
    """The records of a finished output, part by part, each checked against its SHA-256.

    Raises:
        DataError: it is not finished, or a file was changed.
    """
    if not folder.exists(MANIFEST_FILE):
        raise DataError("is not finished", file=shown(folder.name), remedy="go on with detectclf predict --resume")
    for stem, sha256 in _parts_listed(folder):
        content = folder.read(f"records/{stem}.jsonl", _LIMIT_BYTES)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(
                "is not the file that was written",
                file=shown(folder.path(f"records/{stem}.jsonl")),
                remedy=f"remove records/{stem}.json and give the predict command again with --resume",
            )
        yield from map(parse_json, content.splitlines())


def _parts_listed(folder: StoredFolder) -> list[tuple[str, str]]:
    """Name and SHA-256 of the records of each part in the manifest."""
    try:
        manifest = parse_json(folder.read(MANIFEST_FILE, _LIMIT_BYTES))
        parts = [(part_name(part["part"]), part["files"]) for part in manifest["parts"]]
        return [(stem, files[f"{stem}.jsonl"]["sha256"]) for stem, files in parts]
    except (ValueError, KeyError, TypeError) as error:
        file = shown(folder.path(MANIFEST_FILE))
        raise DataError("is damaged", file=file, remedy="give the predict command again with --resume") from error


def _lines(records: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode("ascii")


def _parquet(records: Sequence[dict[str, Any]], classes: Sequence[str]) -> bytes:
    """The records as a table, the same columns in every part; bytes of a name that are no UTF-8 as escapes."""
    pa, pq = _arrow()
    text, number = pa.string(), pa.float64()
    schema = pa.schema(
        {
            "image": text,
            "class": text,
            "confidence": number,
            "probabilities": pa.struct(dict.fromkeys(classes, number)),
            "boxes": pa.list_(pa.struct({"xyxy": pa.list_(number), "class": text, "score": number})),
            "flags": pa.list_(text),
            "width": pa.int32(),
            "height": pa.int32(),
            "model": text,
            "error": text,
            "study": text,
            "frame": pa.int32(),
            "axis": text,
        }.items()
    )
    rows = [
        {
            key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
            for key, value in record.items()
        }
        for record in records
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError("shards need pyarrow", remedy="pip install 'detectclf[cloud]'") from None
    return pa, pq


check_arrow = _arrow
"""Raises ConfigError where Parquet cannot be written, before any work."""


__all__ = [
    "MANIFEST_FILE",
    "attempts_of",
    "check_arrow",
    "finished_parts",
    "forget_attempts",
    "note_attempts",
    "records_of",
    "write_manifest",
    "write_part",
]
