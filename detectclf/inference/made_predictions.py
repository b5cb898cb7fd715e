"""Predictions read back from what ``predict`` wrote, whichever engine and layout it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detectclf.documents import parse_json
from detectclf.errors import DataError
from detectclf.inference.records import FORMATS
from detectclf.inference.run_description import RUN_FILE, parse_run
from detectclf.inference.shards import records_of
from detectclf.prediction import Origin, Prediction
from detectclf.storage import StoredFolder, is_uri, shown

_LIMIT_BYTES = 2**36


def read_predictions(out: str, sha256: str, box_threshold: float) -> list[Prediction]:
    """The predictions in ``out``, a folder or URI, without what each stage said alone.

    Args:
        out: the ``--out`` of a ``predict`` that came to its end; one file as JSON Lines, or shards.
        sha256: digest of the model that must have made them.
        box_threshold: of that model.

    Raises:
        DataError: it is none, not finished, damaged, or by another model.
        StorageError, ConfigError: its store cannot be reached.
    """
    folder, said = StoredFolder(out), shown(out)
    if not folder.exists(RUN_FILE):
        raise DataError(f"has no {RUN_FILE}", file=said, remedy="name the --out of a `detectclf predict`")
    run = parse_run(folder.read(RUN_FILE), folder.path(RUN_FILE))
    if not run["finished"]:
        raise DataError("its predictions are not finished", file=said, remedy="go on with detectclf predict --resume")
    if run["model"].get("sha256") != sha256:
        made_by = f"{run['model'].get('name')} {run['model'].get('version')}"
        raise DataError(f"its predictions are by another model ({made_by})", file=said, remedy="name it with --model")
    records = records_of(folder) if "shard_size" in run["settings"] else _lines(folder)
    try:
        with np.errstate(over="raise"):  # a number beyond float32 would become infinite
            return [_prediction(record, box_threshold) for record in records]
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError("holds a record that is none", file=said, remedy="predict again") from error


def _lines(folder: StoredFolder) -> Iterator[dict[str, Any]]:
    name = FORMATS["jsonl"].file
    if not folder.exists(name):
        raise DataError(f"has no {name}", file=shown(folder.name), remedy="predict with --format jsonl")
    yield from map(parse_json, folder.read(name, _LIMIT_BYTES).splitlines())


def _prediction(record: dict[str, Any], box_threshold: float) -> Prediction:
    image, boxes = record["image"], record["boxes"] or ()
    place = {"study": record.get("study"), "axis": record.get("axis")}
    number = {"frame" if place["study"] is None else "number": record.get("frame")}
    return Prediction(
        image,
        label=record["class"],
        probabilities=dict(record["probabilities"] or {}),
        boxes_xyxy=np.array([box["xyxy"] for box in boxes], dtype=np.float32).reshape(-1, 4),
        box_labels=tuple(box["class"] for box in boxes),
        scores=np.array([box["score"] for box in boxes], dtype=np.float32),
        box_threshold=box_threshold,
        flags=tuple(record["flags"] or ()),
        width=record["width"],
        height=record["height"],
        model=record["model"],
        origin=Origin(None if is_uri(image) else Path(image), **place, **number),
        error=record["error"],
        error_exit=0 if record["error"] is None else 2,
    )


__all__ = ["read_predictions"]
