"""Writes the records of predictions: JSON and JSON Lines as they are; CSV, COCO and YOLO labels as other programs want.

A record is :meth:`detectclf.prediction.Prediction.to_record`. File names may hold bytes that are not UTF-8; they are
written as escapes, so that every file is valid UTF-8. A file is written under another name and renamed when complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectclf.errors import ConfigError, DataError
from detectclf.files import atomic_write
from detectclf.inference.record_tables import Record, boxes_csv, coco_json, pictures_csv, yolo_labels


def _as_jsonl(records: Sequence[Record]) -> str:
    """One record per line."""
    return "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)


def _as_json(records: Sequence[Record]) -> str:
    """A list of records."""
    return json.dumps(list(records), indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True, slots=True)
class Format:
    """A format of the predictions.

    Attributes:
        file: name of its main file.
        content: records, and the lowest score of a box that is written -> content of that file.
        others: the same -> name of another file -> its content.
    """

    file: str
    content: Callable[[Sequence[Record], float], str]
    others: Callable[[Sequence[Record], float], dict[str, str]] = lambda records, min_score: {}


FORMATS: dict[str, Format] = {
    "json": Format("predictions.json", lambda records, _: _as_json(records)),
    "jsonl": Format("predictions.jsonl", lambda records, _: _as_jsonl(records)),
    "csv": Format("predictions.csv", pictures_csv, lambda *of: {"boxes.csv": boxes_csv(*of)}),
    "coco": Format("predictions.coco.json", coco_json),
    # Labels hold neither classes of slices nor scores, flags and errors.
    "yolo": Format("predictions.jsonl", lambda records, _: _as_jsonl(records), yolo_labels),
}
"""Name of a format -> what it writes. Records in JSON have every candidate box, whatever the lowest score."""


def write_records(records: Sequence[Record], out: str | Path, format: str = "jsonl", *, min_score: float = 0.0) -> Path:
    """Writes ``predictions.*``, last of the files of its format, into ``out``, which is made if needed; returns it.

    Raises:
        ConfigError: unknown format.
        DataError: the folder or file cannot be written, such as on a full disk.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", remedy=f"choose one of {', '.join(FORMATS)}")
    chosen, folder = FORMATS[format], make_folder(out)
    for name, content in chosen.others(records, min_score).items():
        make_folder((folder / name).parent)
        atomic_write(folder / name, content)
    atomic_write(folder / chosen.file, chosen.content(records, min_score))
    return folder / chosen.file


STUDIES_FILE = "studies.jsonl"
"""One record per volume."""


def write_studies(records: Sequence[Record], out: str | Path) -> Path:
    """Writes ``studies.jsonl`` into the folder ``out``; returns the file.

    Raises:
        DataError: it cannot be written.
    """
    file = make_folder(out) / STUDIES_FILE
    atomic_write(file, _as_jsonl(records))
    return file


def make_folder(out: str | Path) -> Path:
    """The folder ``out``, made if needed.

    Raises:
        DataError: it is a file, it cannot be made, or no file can be written in it.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be made ({error.strerror})", file=out, remedy="choose another --out") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError("cannot be written in (Permission denied)", file=out, remedy="choose another --out")
    return folder


__all__ = ["FORMATS", "STUDIES_FILE", "Format", "Record", "make_folder", "write_records", "write_studies"]
