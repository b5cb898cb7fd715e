"""Writes the records of predictions as JSON, JSON Lines, CSV or COCO.

A record is :meth:`detectclf.prediction.Prediction.to_record`. File names may hold bytes that are not UTF-8; they are
written as escapes, so that every file is valid UTF-8. A file is written under another name and renamed when complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from detectclf.errors import ConfigError, DataError
from detectclf.files import atomic_write
from detectclf.spreadsheets import table_text
from detectclf.types import order_classes

Record: TypeAlias = dict[str, Any]
"""A JSON object that :meth:`detectclf.prediction.Prediction.to_record` gives."""

_BOX_COLUMNS = ("box_class", "box_score", "x1", "y1", "x2", "y2")


def _as_jsonl(records: Sequence[Record]) -> str:
    """One record per line."""
    return "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)


def _as_json(records: Sequence[Record]) -> str:
    """A list of records."""
    return json.dumps(list(records), indent=1, allow_nan=False) + "\n"


def _as_csv(records: Sequence[Record]) -> str:
    """One row per box, best score first, each with the columns of its slice; a slice without boxes has one row.

    Columns: image, class, confidence, ``p_CLASS`` for each class, box_class, box_score, x1, y1, x2, y2 (pixels), flags
    (separated by semicolons), width, height, model, error; frame, axis and study where there are any. A text that a
    spreadsheet would take for a formula begins with an apostrophe.
    """
    classes = order_classes([name for record in records for name in record["probabilities"] or {}])
    probabilities = [f"p_{name}" for name in classes]
    head = ["image", "class", "confidence", *probabilities, *_BOX_COLUMNS, "flags", "width", "height", "model", "error"]
    head += [key for key in ("frame", "axis", "study") if any(key in record for record in records)]
    table: list[list[object]] = [[*head]]
    for record in records:
        kept = ("image", "class", "confidence", "width", "height", "model", "error", "frame", "axis", "study")
        row = {key: record[key] for key in kept if key in record}
        row |= {f"p_{name}": value for name, value in (record["probabilities"] or {}).items()}
        row["flags"] = ";".join(record["flags"] or ())
        boxes = [
            dict(zip(_BOX_COLUMNS, (box["class"], box["score"], *box["xyxy"]), strict=True))
            for box in record["boxes"] or ()
        ]
        table += [[(row | box).get(name, "") for name in head] for box in boxes or [{}]]
    # Python holds bytes of a name that are not UTF-8 as lone surrogates, which no encoding can write.
    return table_text(table).encode("utf-8", "backslashreplace").decode("utf-8")


def _as_coco(records: Sequence[Record]) -> str:
    """A COCO document: ``images`` with class and flags of the slice, ``annotations`` with ``score``; ids start at 1.

    Inputs that could not be read are listed under ``errors``, pictures that were refused under ``refused``, with the
    flags that say why; neither are in ``images``.
    """
    read = [record for record in records if record["error"] is None and record["class"] is not None]
    refused = [record for record in records if record["error"] is None and record["class"] is None]
    of_boxes = [box["class"] for record in read for box in record["boxes"]]
    names = order_classes([name for record in read for name in record["probabilities"]] + of_boxes)
    ids = {name: i for i, name in enumerate(names, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(read, 1):
        kept = ("width", "height", "class", "confidence", "probabilities", "flags", "model", "frame", "axis", "study")
        of_slice = {key: record[key] for key in kept if key in record}
        images.append({"id": image_id, "file_name": record["image"], **of_slice})
        for box in record["boxes"]:
            x1, y1, x2, y2 = box["xyxy"]
            sides = [round(x2 - x1, 2), round(y2 - y1, 2)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[box["class"]],
                    "bbox": [x1, y1, *sides],
                    "area": round(sides[0] * sides[1], 2),
                    "iscrowd": 0,
                    "score": box["score"],
                }
            )
    document = {
        "info": {"description": "Predictions of detectclf. Research use, not for diagnosis."},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "none"} for name, i in ids.items()],
        "refused": [{"file_name": r["image"], "flags": r["flags"]} for r in refused],
        "errors": [{"file_name": r["image"], "error": r["error"]} for r in records if r["error"] is not None],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


FORMATS: dict[str, tuple[str, Callable[[Sequence[Record]], str]]] = {
    "json": ("predictions.json", _as_json),
    "jsonl": ("predictions.jsonl", _as_jsonl),
    "csv": ("predictions.csv", _as_csv),
    "coco": ("predictions.coco.json", _as_coco),
}
"""Name of a format -> file name and writer."""


def write_records(records: Sequence[Record], out: str | Path, format: str = "jsonl") -> Path:
    """Writes ``predictions.*`` into the folder ``out``, which is made if needed; returns the file.

    Raises:
        ConfigError: unknown format.
        DataError: the folder or file cannot be written, such as on a full disk.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", remedy=f"choose one of {', '.join(FORMATS)}")
    name, writer = FORMATS[format]
    folder = make_folder(out)
    atomic_write(folder / name, writer(records))
    return folder / name


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


__all__ = ["FORMATS", "STUDIES_FILE", "Record", "make_folder", "write_records", "write_studies"]
