"""COCO: Roboflow's ``_annotations.coco.json`` in each split folder, and plain COCO with an ``annotations/`` folder.

Boxes are ``[x, y, width, height]`` in pixels, 0-based. Roboflow's first category is a dummy root, the supercategory of
the others; it is not a class unless an annotation uses it. An image may have a ``patient``, a text or a whole number.

Plain COCO may also lie beside its pictures or their folder under any name, as Label Studio (``result.json`` with
``images/``) and FiftyOne (``labels.json`` with ``data/``) write it. Ids may be numbers or texts. An annotation without
``bbox`` has the box round its ``segmentation``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectclf.errors import DataError, UnsafeError
from detectclf.files import check_inside, read_bytes
from detectclf.formats.assemble import assemble
from detectclf.formats.coco_masks import extent
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    box_classes,
    by_split,
    copy_images,
    files_with,
    is_split_name,
    split_files,
    split_name,
    subfolders,
    write_bytes,
)
from detectclf.formats.image_names import ImageFinder
from detectclf.formats.json_text import LIMIT_BYTES, Record, objects_in, read_json, records_of
from detectclf.formats.raw import Corners, RawBox, RawSlice, as_number, parse_number, stated_size, text_of, unusable_box
from detectclf.pseudonyms import pseudonym
from detectclf.types import Dataset

MARKER = "_annotations.coco.json"
_KEYS = (b'"images"', b'"annotations"', b'"categories"')

Key = int | str
"""An id, see :func:`_key`."""


def looks_like(folder: Path) -> bool:
    """Whether the folder is a COCO export."""
    return bool(_annotation_files(folder))


def looks_like_loosely(folder: Path) -> bool:
    """Whether the folder holds COCO under a name of no format, which only its content tells."""
    return bool(_loose_files(folder))


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a COCO export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    classes: dict[str, None] = {}
    for split, file, image_folders in _annotation_files(folder) or _loose_files(folder):
        content = read_json(file, faults, folder)
        _check_patients(content, file, faults)
        names, declared = _categories(content, file, faults)
        classes.update(dict.fromkeys(declared))
        slices += _slices(content, names, split, file, image_folders, faults)
    return assemble(slices, classes, folder, faults)


def _check_patients(content: Any, file: Path, faults: Faults) -> None:
    """Keeps the pseudonyms of patients, and notes what is none: :func:`read_json` leaves nothing of it."""
    images = content.get("images") if isinstance(content, dict) else None
    for image in images if isinstance(images, list) else ():
        if isinstance(image, Record) and "patient" in image:
            identity = image.pop("patient")
            if isinstance(identity, str | int) and not isinstance(identity, bool):
                image["patient"] = pseudonym(str(identity))
            elif identity is not None:
                faults.warning("bad_patient", file, "a patient is no text and no whole number; not used", image.line)


def _annotation_files(folder: Path) -> list[tuple[str, Path, list[Path]]]:
    """``(split, annotation file, folders in which its images may lie)``."""
    roboflow = split_files(folder, MARKER)
    if roboflow:
        return [
            (split, file, [p for p in (file.parent, file.parent / "images") if p.is_dir()]) for split, file in roboflow
        ]
    files = [f for s in subfolders(folder) if s.name.casefold() == "annotations" for f in files_with(s, ".json")]
    instances = [f for f in files if f.name.startswith("instances_")]
    result = []
    for file in instances or files:
        stem = re.sub(r"^instances_", "", file.stem)
        split = re.sub(r"_?(19|20)\d\d$", "", stem)
        names = dict.fromkeys((stem, split, *(s.name for s in subfolders(folder) if split_name(s.name) == split)))
        # The names come from file names, so one may be "..".
        folders = [folder / parent / name for name in names if name.strip(".") for parent in ("", "images")]
        folders = [check_inside(folder, p) for p in (*folders, folder / "images", folder) if p.is_dir()]
        result.append((split_name(split), file, folders))
    return result


def _loose_files(folder: Path) -> list[tuple[str, Path, list[Path]]]:
    """As :func:`_annotation_files`, for files of any name that lie in the folder, or in those of its splits."""
    result = []
    for sub in (folder, *(s for s in subfolders(folder) if is_split_name(s.name) or s.name.casefold() == "labels")):
        for file in files_with(sub, ".json"):
            words = [word for word in re.split(r"[^a-z]+", file.stem.casefold()) if is_split_name(word)]
            split = split_name(words[0] if words else sub.name if is_split_name(sub.name) else "train")
            if not _is_coco(file, folder):
                continue
            own = [s.name for s in subfolders(folder) if split_name(s.name) == split]
            names = ["images", "data", "img", file.stem, *own, *(f"images/{name}" for name in own)]
            folders = [
                p for p in (sub, *(parent / name for parent in (sub, folder) for name in names), folder) if p.is_dir()
            ]
            result.append((split, file, [check_inside(folder, p) for p in dict.fromkeys(folders)]))
    return result


def _is_coco(file: Path, folder: Path) -> bool:
    try:
        data = read_bytes(file, limit_bytes=LIMIT_BYTES, root=folder)
    except (DataError, UnsafeError):
        return False  # nothing says that it is an annotation at all
    return all(key in data for key in _KEYS)


def _key(value: object) -> Key | None:
    """An id as written by different tools: ``1``, ``1.0`` and ``"1"`` are the same; ``None`` where it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        return int(text.split(".")[0]) if re.fullmatch(r"-?[0-9]{1,18}(\.0*)?", text) else text or None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _categories(content: Any, file: Path, faults: Faults) -> tuple[dict[Key, str], list[str]]:
    """Category id -> name, and the names that are classes."""
    names: dict[Key, str] = {}
    parents: set[str] = set()
    roots: set[str] = set()
    for number, name, category in _identified(content, "category", "categories", "name", file, faults):
        names[number] = name
        parent = text_of(category, "supercategory")
        if parent in (None, "none", name):
            roots.add(name)
        if parent is not None and parent != name:
            parents.add(parent)
    used = {names.get(key) for a in _annotations(content) if (key := _key(a.get("category_id"))) is not None}
    dummies = {name for name in roots & parents if name not in used}
    return names, [name for name in names.values() if name not in dummies]


def _identified(
    content: Any, noun: str, key: str, name_key: str, file: Path, faults: Faults
) -> Iterator[tuple[Key, str, Record]]:
    """``(id, name, record)`` of each record in the list ``content[key]`` that has both and whose id is new."""
    names: dict[Key, str] = {}
    for record in records_of(content, key, file, faults):
        number, name = _key(record.get("id")), text_of(record, name_key)
        if number is None or name is None:
            lacks = "an id that is a number or a text" if number is None else name_key
            detail = f"{noun} {str(record)[:80]} has no {lacks}"
            faults.reject("bad_record", file, detail, record, record.line)
        elif number in names:
            detail = f"{noun} id {number} belongs to both {names[number]} and {name}"
            faults.reject(f"duplicate_{noun}_id", file, detail, record, record.line)
        else:
            names[number] = name
            yield number, name, record


def _annotations(content: Any) -> list[dict[str, Any]]:
    values = content.get("annotations")
    return [a for a in values if isinstance(a, dict)] if isinstance(values, list) else []


def _slices(
    content: Any, names: dict[Key, str], split: str, file: Path, folders: list[Path], faults: Faults
) -> list[RawSlice]:
    by_id: dict[Key, RawSlice] = {}
    finder = ImageFinder(folders, file, faults, split)
    for number, name, image in _identified(content, "image", "images", "file_name", file, faults):
        size = stated_size(image.get("width"), image.get("height"))
        path = finder.find(name)
        patient = image.get("patient")
        by_id[number] = RawSlice(path, name, split, file, [], stated_size=size, line=image.line, patient=patient)
    finder.note()
    values = content.get("annotations", [])
    known_ids: set[Key] = set()
    for annotation in objects_in(values if isinstance(values, list) else [values], "annotations", file, faults):
        _add_box(annotation, by_id, names, known_ids, file, faults)
    return list(by_id.values())


def _add_box(
    annotation: Record,
    by_id: dict[Key, RawSlice],
    names: dict[Key, str],
    known_ids: set[Key],
    file: Path,
    faults: Faults,
) -> None:
    stated = [annotation.get(key) for key in ("id", "image_id", "category_id")]
    number, image, category = map(_key, stated)
    what, line = f"annotation {str(stated[0])[:20]}", annotation.line
    if number is not None:
        if number in known_ids:
            faults.error("duplicate_annotation_id", file, f"{what}: another annotation has the same id", line)
        known_ids.add(number)
    if image is None or image not in by_id:
        faults.reject("orphan_annotation", file, f"{what}: no image has the id {str(stated[1])[:20]}", annotation, line)
        return
    target = by_id[image].boxes
    assert target is not None
    label = names.get(category) if category is not None else None
    if label is None:
        detail = f"{what} of {by_id[image].name}: no category has the id {str(stated[2])[:20]}"
        faults.reject("unknown_class", file, detail, annotation, line)
    corners = _corners(annotation, f"{what} of {by_id[image].name}", file, faults)
    target.append(unusable_box(line) if corners is None else RawBox(corners, label, line))


def _corners(annotation: Record, what: str, file: Path, faults: Faults) -> Corners | None:
    """The box of an annotation, by its ``bbox`` or else by its ``segmentation``; ``None`` after reporting a fault."""
    box, round_mask = annotation.get("bbox"), extent(annotation.get("segmentation"))
    if not isinstance(box, list) or len(box) != 4:
        if round_mask is None or box:
            detail = f"{what}: bbox is not four numbers" + ("" if box else ", and no segmentation stands for it")
            faults.reject("bad_record", file, detail, annotation, annotation.line)
            return None
        return round_mask
    x, y, width, height = (parse_number(value) if isinstance(value, str) else as_number(value) for value in box)
    if (
        round_mask is not None
        and _alike((x, y, width, height), round_mask)
        and not _alike((x, y, x + width, y + height), round_mask)
    ):
        detail = f"{what}: bbox is x1, y1, x2, y2 by its segmentation, but COCO means x, y, width, height"
        faults.reject("bbox_is_corners", file, detail, annotation, annotation.line)
        return None
    return x, y, x + width, y + height


def _alike(box: Corners, other: Corners) -> bool:
    """Whether two boxes agree to a tenth of the second one's sides, or to two pixels."""
    near = [max(2.0, 0.1 * (other[i + 2] - other[i])) for i in (0, 1)]
    return all(abs(a - b) <= near[i % 2] for i, (a, b) in enumerate(zip(box, other, strict=True)))


def write(dataset: Dataset, out: Path) -> None:
    """Writes a COCO export as Roboflow does: images and ``_annotations.coco.json`` in one folder per split."""
    classes = box_classes(dataset)
    # Class ids start at 1: other tools expect Roboflow's dummy root at 0.
    categories = [{"id": 0, "name": "classes", "supercategory": "none"}]
    categories += [{"id": i, "name": c, "supercategory": "classes"} for i, c in enumerate(classes, 1)]
    for split, samples in by_split(dataset):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for sample, name in copy_images(samples, out / split):
            for box, label in zip(sample.boxes_xyxy, sample.box_labels, strict=True):
                x1, y1, x2, y2 = (float(v) for v in box)
                record = {"id": len(annotations), "image_id": len(images), "category_id": classes.index(label) + 1}
                annotations.append(
                    {**record, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                )
            image = {"id": len(images), "file_name": name, "width": sample.width, "height": sample.height}
            images.append(image if sample.patient is None else {**image, "patient": sample.patient})
        content = {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": annotations}
        write_bytes(out / split / MARKER, json.dumps(content))


__all__ = ["looks_like", "looks_like_loosely", "read", "write"]
