"""COCO: Roboflow's ``_annotations.coco.json`` in each split folder, and plain COCO with an ``annotations/`` folder.

Boxes are ``[x, y, width, height]`` pixels, 0-based. Roboflow puts a dummy root category first, whose name is the
supercategory of the others; it is no class unless an annotation uses it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from detectclf.files import check_inside
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    box_classes,
    by_split,
    copy_image,
    files_with,
    find_image,
    output_names,
    split_folders,
    split_name,
    subfolders,
    write_bytes,
)
from detectclf.formats.json_text import Record, objects_in, read_json, records_of
from detectclf.formats.raw import RawBox, RawSlice, as_number, stated_size, text_of
from detectclf.types import Dataset

MARKER = "_annotations.coco.json"
HOLDS_BOXES = True


def looks_like(folder: Path) -> bool:
    """Whether the folder is a COCO export."""
    return bool(_annotation_files(folder))


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a COCO export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    classes: dict[str, None] = {}
    for split, file, image_folders in _annotation_files(folder):
        content = read_json(file, faults, folder)
        names, declared = _categories(content, file, faults)
        classes.update(dict.fromkeys(declared))
        slices += _slices(content, names, split, file, image_folders, faults)
    return assemble(slices, classes, folder, faults)


def _annotation_files(folder: Path) -> list[tuple[str, Path, list[Path]]]:
    """``(split, annotation file, folders that its images may lie in)``."""
    roboflow = split_folders(folder, lambda sub: (sub / MARKER).is_file())
    if roboflow:
        return [(split, sub / MARKER, [sub]) for split, sub in roboflow]
    files = files_with(folder / "annotations", ".json")
    instances = [f for f in files if f.name.startswith("instances_")]
    result = []
    for file in instances or files:
        stem = re.sub(r"^instances_", "", file.stem)
        split = re.sub(r"_?(19|20)\d\d$", "", stem)
        names = dict.fromkeys((stem, split, *(s.name for s in subfolders(folder) if split_name(s.name) == split)))
        # The names come from file names, so that ".." may be among them.
        places = [folder / parent / name for name in names if name.strip(".") for parent in ("", "images")]
        places = [check_inside(folder, p) for p in (*places, folder / "images", folder) if p.is_dir()]
        result.append((split_name(split), file, places))
    return result


def _categories(content: Any, file: Path, faults: Faults) -> tuple[dict[int, str], list[str]]:
    """Category id -> name, and the names that are classes."""
    names: dict[int, str] = {}
    parents: set[str] = set()
    roots: set[str] = set()
    for category in records_of(content, "categories", file, faults):
        number, name = category.get("id"), text_of(category, "name")
        if not isinstance(number, int) or name is None:
            faults.error("bad_record", file, f"category {str(category)[:80]} has no id or name", category.line)
            faults.drop("bad_record", file, category, category.line)
            continue
        if number in names:
            detail = f"category id {number} is {names[number]} and {name}"
            faults.error("duplicate_category_id", file, detail, category.line)
            faults.drop("duplicate_category_id", file, category, category.line)
            continue
        names[number] = name
        parent = text_of(category, "supercategory")
        if parent in (None, "none", name):
            roots.add(name)
        if parent is not None and parent != name:
            parents.add(parent)
    used = {names.get(a["category_id"]) for a in _annotations(content) if isinstance(a.get("category_id"), int)}
    dummies = {name for name in roots & parents if name not in used}
    return names, [name for name in names.values() if name not in dummies]


def _annotations(content: Any) -> list[dict[str, Any]]:
    values = content.get("annotations")
    return [a for a in values if isinstance(a, dict)] if isinstance(values, list) else []


def _slices(
    content: Any, names: dict[int, str], split: str, file: Path, folders: list[Path], faults: Faults
) -> list[RawSlice]:
    by_id: dict[int, RawSlice] = {}
    for image in records_of(content, "images", file, faults):
        number, name = image.get("id"), text_of(image, "file_name")
        if not isinstance(number, int) or name is None:
            faults.error("bad_record", file, f"image {str(image)[:80]} has no id or file_name", image.line)
            faults.drop("bad_record", file, image, image.line)
            continue
        if number in by_id:
            detail = f"image id {number} is {by_id[number].name} and {name}"
            faults.error("duplicate_image_id", file, detail, image.line)
            faults.drop("duplicate_image_id", file, image, image.line)
            continue
        size = stated_size(image.get("width"), image.get("height"))
        path = find_image(name, folders)
        by_id[number] = RawSlice(path, name, split, file, [], stated_size=size, line=image.line)
    values = content.get("annotations", [])
    seen: set[int] = set()
    for annotation in objects_in(values if isinstance(values, list) else [values], "annotations", file, faults):
        _add_box(annotation, by_id, names, seen, file, faults)
    return list(by_id.values())


def _add_box(
    annotation: Record,
    by_id: dict[int, RawSlice],
    names: dict[int, str],
    seen: set[int],
    file: Path,
    faults: Faults,
) -> None:
    number, image, category = (annotation.get(key) for key in ("id", "image_id", "category_id"))
    what, line = f"annotation {str(number)[:20]}", annotation.line
    if isinstance(number, int):
        if number in seen:
            faults.error("duplicate_annotation_id", file, f"{what}: the id is there twice", line)
        seen.add(number)
    if not isinstance(image, int) or image not in by_id:
        faults.error("orphan_annotation", file, f"{what}: no image has the id {str(image)[:20]}", line)
        faults.drop("orphan_annotation", file, annotation, line)
        return
    target = by_id[image].boxes
    assert target is not None
    label = names.get(category) if isinstance(category, int) else None
    if label is None:
        faults.error("unknown_class", file, f"{what} of {by_id[image].name}: no category {str(category)[:20]}", line)
        faults.drop("unknown_class", file, annotation, line)
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        faults.error("bad_record", file, f"{what} of {by_id[image].name}: bbox is not four numbers", line)
        faults.drop("bad_record", file, annotation, line)
        label, box = None, [0.0] * 4
    x, y, width, height = (as_number(value) for value in box)
    target.append(RawBox((x, y, x + width, y + height), label, line))


def write(dataset: Dataset, out: Path) -> None:
    """Writes a Roboflow-like COCO export: images and ``_annotations.coco.json`` in one folder per split."""
    classes = box_classes(dataset)
    # Ids start at 1: 0 is Roboflow's dummy root, which other tools expect there.
    categories = [{"id": 0, "name": "classes", "supercategory": "none"}]
    categories += [{"id": i, "name": c, "supercategory": "classes"} for i, c in enumerate(classes, 1)]
    for split, samples in by_split(dataset):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for sample, name in zip(samples, output_names(samples), strict=True):
            copy_image(sample, out / split / name)
            for box, label in zip(sample.boxes_xyxy, sample.box_labels, strict=True):
                x1, y1, x2, y2 = (float(v) for v in box)
                record = {"id": len(annotations), "image_id": len(images), "category_id": classes.index(label) + 1}
                annotations.append(
                    {**record, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                )
            images.append({"id": len(images), "file_name": name, "width": sample.width, "height": sample.height})
        content = {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": annotations}
        write_bytes(out / split / MARKER, json.dumps(content))


__all__ = ["HOLDS_BOXES", "looks_like", "read", "write"]
