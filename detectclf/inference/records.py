"""Writing predictions: ``predictions.*`` in four formats, and names for the pictures.

Text files are pure ASCII or UTF-8 whatever the names of the images hold: bytes of a name that are no UTF-8 come out
as escapes. Every file is written beside its place and moved there when it is whole.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectclf.errors import ConfigError, DataError
from detectclf.files import atomic_write
from detectclf.inference.inputs import PICTURE_SUFFIX
from detectclf.types import Prediction, order_classes

_BOX_COLUMNS = ("box_class", "box_score", "x1", "y1", "x2", "y2")


def json_line(prediction: Prediction) -> str:
    """The record of INTERFACE.md as one line of JSON, without the line end."""
    return json.dumps(prediction.to_record(), allow_nan=False)


def as_jsonl(predictions: Sequence[Prediction]) -> str:
    """One record per line."""
    return "".join(json_line(prediction) + "\n" for prediction in predictions)


def as_json(predictions: Sequence[Prediction]) -> str:
    """A list of records."""
    return json.dumps([p.to_record() for p in predictions], indent=1, allow_nan=False) + "\n"


def as_csv(predictions: Sequence[Prediction]) -> str:
    """One row per box, best first, with the slice's columns repeated; one row with empty box columns where none is.

    Columns: image, class, confidence, ``p_CLASS`` for each class, box_class, box_score, x1, y1, x2, y2 (pixels), flags
    (with semicolons between), width, height, model, error; frame and axis where a file holds several pictures.
    """
    classes = order_classes([name for p in predictions for name in p.probabilities])
    chances = [f"p_{name}" for name in classes]
    head = ["image", "class", "confidence", *chances, *_BOX_COLUMNS, "flags", "width", "height", "model", "error"]
    head += [key for key in ("frame", "axis") if any(getattr(p, key) is not None for p in predictions)]
    text = io.StringIO()
    # Name bytes that are no UTF-8 sit in Python strings as lone surrogates, which no encoding can write.
    table = csv.DictWriter(text, head, restval="", lineterminator="\n")
    table.writeheader()
    for prediction in predictions:
        record = prediction.to_record()
        kept = ("image", "class", "confidence", "width", "height", "model", "error", "frame", "axis")
        row = {key: record[key] for key in kept if key in record}
        row |= {f"p_{name}": value for name, value in (record["probabilities"] or {}).items()}
        row["flags"] = ";".join(record["flags"] or ())
        boxes = [
            dict(zip(_BOX_COLUMNS, (box["class"], box["score"], *box["xyxy"]), strict=True))
            for box in record["boxes"] or ()
        ]
        table.writerows(row | box for box in boxes or [{}])
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def as_coco(predictions: Sequence[Prediction]) -> str:
    """A COCO document: ``images`` with the slice's class and flags, ``annotations`` with ``score``; ids start at 1.

    UndecodedInput inputs are left out of ``images`` and listed under ``errors``.
    """
    read = [p for p in predictions if p.error is None]
    names = order_classes([name for p in read for name in (*p.probabilities, *p.box_labels)])
    ids = {name: i for i, name in enumerate(names, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, prediction in enumerate(read, 1):
        record = prediction.to_record()
        kept = ("width", "height", "class", "confidence", "probabilities", "flags", "model", "frame", "axis")
        facts = {key: record[key] for key in kept if key in record}
        images.append({"id": image_id, "file_name": record["image"], **facts})
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
        "errors": [{"file_name": p.image, "error": p.error} for p in predictions if p.error is not None],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


FORMATS: dict[str, tuple[str, Callable[[Sequence[Prediction]], str]]] = {
    "json": ("predictions.json", as_json),
    "jsonl": ("predictions.jsonl", as_jsonl),
    "csv": ("predictions.csv", as_csv),
    "coco": ("predictions.coco.json", as_coco),
}
"""Name of a format -> file name and writer."""


def write_predictions(predictions: Sequence[Prediction], out: str | Path, format: str = "jsonl") -> Path:
    """Writes ``predictions.*`` into the folder ``out`` (made where needed) in one step; gives the file.

    Raises:
        ConfigError: unknown format.
        DataError: the folder or file cannot be written, such as on a full disk.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", remedy=f"choose one of {', '.join(FORMATS)}")
    name, writer = FORMATS[format]
    folder = make_folder(out)
    atomic_write(folder / name, writer(predictions))
    return folder / name


def make_folder(out: str | Path) -> Path:
    """The folder ``out``, made where needed.

    Raises:
        DataError: it is a file, or cannot be made or written in.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be made ({error.strerror})", file=out, remedy="choose another --out") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError("cannot be written in (Permission denied)", file=out, remedy="choose another --out")
    return folder


def picture_names(inputs: Sequence[str | Path], part: str = "") -> list[str]:
    """A file name for the picture of each input: ``<stem>.pred.png``, all different also where case does not count.

    With ``part``, which names one of the pictures in each file, it is ``<stem>.PART.pred.png``.

    Inputs of equal stem all take more of their path until they differ: first the suffix (``a.png.pred.png``), then
    the folders, nearest first (``ward2__a.png.pred.png``), at last a number. Characters that some file system
    refuses become ``_``; long names are cut and given a hash.
    """
    paths = [Path(name) for name in inputs]
    stages = [[_legal(_stem(path)) for path in paths], [_legal(path.name) for path in paths]]
    deepest = max((len(path.parts) for path in paths), default=0)
    stages += [[_legal("__".join(path.parts[-depth:])) for path in paths] for depth in range(2, deepest + 1)]
    chosen = stages[0]
    for stage in stages[1:]:
        count = Counter(name.casefold() for name in chosen)
        if max(count.values(), default=0) <= 1:
            break
        chosen = [new if count[old.casefold()] > 1 else old for old, new in zip(chosen, stage, strict=True)]
    end = f".{part}{PICTURE_SUFFIX}" if part else PICTURE_SUFFIX
    return [name + end for name in _numbered(chosen)]


def _numbered(names: Sequence[str]) -> list[str]:
    taken: set[str] = set()
    different = []
    for name in names:
        candidate, number = name, 2
        while candidate.casefold() in taken:
            candidate, number = f"{name}-{number}", number + 1
        taken.add(candidate.casefold())
        different.append(candidate)
    return different


def _stem(path: Path) -> str:
    name = path.name
    return name[: -len(".nii.gz")] if name.casefold().endswith(".nii.gz") else path.stem


def _legal(name: str) -> str:
    # Windows refuses these signs and its old device names, all systems NUL and the slash; surrogates are raw bytes.
    clean = re.sub(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\ud800-\udfff\u2028\u2029\u200e\u200f\u202a-\u202e]', "_", name)
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", clean):
        clean = f"_{clean}"
    raw = clean.encode()
    if len(raw) > 200:
        clean = raw[:180].decode("utf-8", "ignore") + "-" + hashlib.sha256(raw).hexdigest()[:8]
    return clean or "slice"


__all__ = [
    "FORMATS",
    "as_coco",
    "as_csv",
    "as_json",
    "as_jsonl",
    "json_line",
    "make_folder",
    "picture_names",
    "write_predictions",
]
