"""CreateML: ``_annotations.createml.json`` in each split folder, boxes as centre and size in pixels."""

from __future__ import annotations

import json
from pathlib import Path

from detectclf.errors import DataError
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import by_split, copy_images, split_files, write_bytes
from detectclf.formats.image_names import ImageFinder
from detectclf.formats.json_text import Record, objects_in, read_json
from detectclf.formats.raw import RawBox, RawSlice, as_number, text_of, unusable_box
from detectclf.types import Dataset

MARKER = "_annotations.createml.json"


def looks_like(folder: Path) -> bool:
    """Whether the folder is a CreateML export."""
    return bool(split_files(folder, MARKER))


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a CreateML export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    for split, file in split_files(folder, MARKER):
        content = read_json(file, faults, folder)
        if not isinstance(content, list):
            raise DataError("is not a list of images", file=file, remedy="export the data set again")
        finder = ImageFinder([file.parent], file, faults, split)
        for record in objects_in(content, "images", file, faults):
            name = text_of(record, "image") or text_of(record, "imagefilename")
            if name is None:
                faults.reject("bad_record", file, f"{str(record)[:80]} names no image", record, record.line)
                continue
            annotations = record.get("annotations", [])
            values = annotations if isinstance(annotations, list) else [annotations]
            boxes = [_box(a, name, file, faults) for a in objects_in(values, f"{name}: annotations", file, faults)]
            slices.append(RawSlice(finder.find(name), name, split, file, boxes, line=record.line))
        finder.note()
    return assemble(slices, [], folder, faults)


def _box(annotation: Record, name: str, file: Path, faults: Faults) -> RawBox:
    label = text_of(annotation, "label")
    coordinates = annotation.get("coordinates")
    if label is None or not isinstance(coordinates, dict):
        detail = f"{name}: an annotation without a label or coordinates"
        faults.reject("bad_record", file, detail, annotation, annotation.line)
        return unusable_box(annotation.line)
    x, y, width, height = (as_number(coordinates.get(key)) for key in ("x", "y", "width", "height"))
    return RawBox((x - width / 2, y - height / 2, x + width / 2, y + height / 2), label, annotation.line)


def write(dataset: Dataset, out: Path) -> None:
    """Writes images and ``_annotations.createml.json`` in one folder per split."""
    for split, samples in by_split(dataset):
        records = []
        for sample, name in copy_images(samples, out / split):
            annotations = []
            for box, label in zip(sample.boxes_xyxy, sample.box_labels, strict=True):
                x1, y1, x2, y2 = (float(v) for v in box)
                coordinates = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1}
                annotations.append({"label": label, "coordinates": coordinates})
            records.append({"image": name, "annotations": annotations})
        write_bytes(out / split / MARKER, json.dumps(records))


__all__ = ["looks_like", "read", "write"]
