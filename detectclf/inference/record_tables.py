"""Records as tables: CSV, COCO, YOLO labels. Of the boxes, those with a score of ``min_score`` or more are in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from detectclf.inference.picture_names import picture_names
from detectclf.spreadsheets import table_text
from detectclf.types import order_classes

Record: TypeAlias = dict[str, Any]
"""A JSON object that :meth:`detectclf.prediction.Prediction.to_record` gives."""

_PLACE = ("frame", "axis", "study")
_BOX_COLUMNS = ("class", "score", "x1", "y1", "x2", "y2")


def pictures_csv(records: Sequence[Record], min_score: float) -> str:
    """One row per picture.

    Columns: image, class, confidence, ``p_CLASS`` for each class, boxes (how many), flags (separated by semicolons),
    width, height, model, error; frame, axis, study and picture where there are any. Numbers have six decimals. A
    picture that was refused or could not be read has no class, probability or number of boxes.
    """
    probabilities = [f"p_{name}" for name in _classes(records)]
    head = ["image", "class", "confidence", *probabilities, "boxes", "flags", "width", "height", "model", "error"]
    head += [key for key in (*_PLACE, "picture") if any(key in record for record in records)]
    table: list[list[object]] = [[*head]]
    for record in records:
        row = {key: record.get(key) for key in head}
        row |= {f"p_{name}": value for name, value in (record["probabilities"] or {}).items()}
        row["boxes"] = None if record["class"] is None else len(_boxes(record, min_score))
        row["flags"] = ";".join(record["flags"] or ())
        table.append(["" if row[name] is None else _rounded(row[name]) for name in head])
    return _utf8(table_text(table))


def _rounded(value: object) -> object:
    """Six decimals: more are noise of the networks, and a spreadsheet's columns are narrow. JSON has all of them."""
    return round(value, 6) if isinstance(value, float) else value


def boxes_csv(records: Sequence[Record], min_score: float) -> str:
    """One row per box, best score first within a picture.

    Columns: image, frame, axis and study where there are any, class, score, x1, y1, x2, y2 (pixels).
    """
    place = [key for key in _PLACE if any(key in record for record in records)]
    table: list[list[object]] = [["image", *place, *_BOX_COLUMNS]]
    for record in records:
        where = [record["image"], *(record.get(key, "") for key in place)]
        table += [[*where, box["class"], _rounded(box["score"]), *box["xyxy"]] for box in _boxes(record, min_score)]
    return _utf8(table_text(table))


def coco_json(records: Sequence[Record], min_score: float) -> str:
    """A COCO document: ``images`` with class and flags of the slice, ``annotations`` with ``score``; ids start at 1.

    Inputs that could not be read are listed under ``errors``, pictures that were refused under ``refused``, with the
    flags that say why; neither are in ``images``.
    """
    read = [record for record in records if record["error"] is None and record["class"] is not None]
    refused = [record for record in records if record["error"] is None and record["class"] is None]
    ids = {name: i for i, name in enumerate(_classes(records), 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(read, 1):
        kept = ("width", "height", "class", "confidence", "probabilities", "flags", "model", *_PLACE, "picture")
        of_slice = {key: record[key] for key in kept if key in record}
        images.append({"id": image_id, "file_name": record["image"], **of_slice})
        for box in _boxes(record, min_score):
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
        "refused": [_left_out(record, "flags") for record in refused],
        "errors": [_left_out(record, "error") for record in records if record["error"] is not None],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _left_out(record: Record, why: str) -> dict[str, Any]:
    """Name and place of a picture that is in no result, without which the slices of a volume look all alike."""
    return {"file_name": record["image"], **{key: record[key] for key in (why, *_PLACE) if key in record}}


def yolo_labels(records: Sequence[Record], min_score: float) -> dict[str, str]:
    """``labels/NAME.txt`` of each picture, a row ``class cx cy w h`` per box, and ``data.yaml`` with the classes.

    ``NAME`` is the stem of the picture, with more of its path where stems are equal, and the number of a frame. Rows
    have no score, which tools that read labels would refuse. A picture without boxes has an empty file; one that was
    refused or could not be read has none, since an empty file says that there is nothing in the picture.
    """
    numbers = {name: i for i, name in enumerate(_classes(records))}
    images = list(dict.fromkeys(record["image"] for record in records))
    names = dict(zip(images, picture_names(images, suffix=""), strict=True))
    files = {}
    for record in records:
        if record["class"] is None:
            continue
        frame = "" if record.get("frame") is None else f"-{record['frame']:06d}"
        rows = [_yolo_row(numbers[box["class"]], box["xyxy"], record) for box in _boxes(record, min_score)]
        files[f"labels/{names[record['image']]}{frame}.txt"] = "".join(rows)
    said = "# Predictions of detectclf as labels. Research use, not for diagnosis.\nnames:\n"
    files["data.yaml"] = said + "".join(f"  {i}: {json.dumps(name)}\n" for name, i in numbers.items())
    return files


def _yolo_row(number: int, corners: Sequence[float], record: Record) -> str:
    x1, y1, x2, y2 = corners
    width, height = record["width"], record["height"]
    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join([str(number), *(f"{share:.6f}" for share in shares)]) + "\n"


def _boxes(record: Record, min_score: float) -> list[dict[str, Any]]:
    return [box for box in record["boxes"] or () if box["score"] >= min_score]


def _classes(records: Sequence[Record]) -> tuple[str, ...]:
    """Those of the model; boxes count too, since a record without a class has no probabilities."""
    of_slices = [name for record in records for name in record["probabilities"] or {}]
    return order_classes(of_slices + [box["class"] for record in records for box in record["boxes"] or ()])


def _utf8(text: str) -> str:
    # Python holds bytes of a name that are not UTF-8 as lone surrogates, which no encoding can write.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


__all__ = ["Record", "boxes_csv", "coco_json", "pictures_csv", "yolo_labels"]
