"""YOLO v5 to v11: ``data.yaml``, ``images/`` and, for each image, ``labels/STEM.txt`` with one box per line.

A line is ``class x_centre y_centre width height``, in fractions of the image size, the polygon ``class x1 y1 x2 y2
x3 y3 ...``, which becomes its bounding box, or a box with keypoints where ``data.yaml`` has ``kpt_shape``
(:mod:`detectclf.formats.yolo_rows`). An empty label file means that the slice has no tumour. Without a label
file, nothing is known about the slice, and training leaves it out. ``download:`` in ``data.yaml`` is never executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectclf.errors import DataError, UnsafeError
from detectclf.files import check_inside
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    box_classes,
    by_split,
    copy_images,
    files_with,
    image_files,
    read_text,
    write_bytes,
)
from detectclf.formats.image_names import alike
from detectclf.formats.raw import RawBox, RawSlice, parse_number, unusable_box
from detectclf.formats.yolo_layout import MARKERS, folder_alike, layout_file, read_layout
from detectclf.formats.yolo_rows import boxes_of_rows
from detectclf.types import Dataset, Sample

_CLASS_LIST = "classes.txt"

_Lines = list[tuple[int, str]]
"""``(line, text)`` of each line of a label file that is not blank."""


def looks_like(folder: Path) -> bool:
    """Whether the folder is a YOLO export: by ``data.yaml``, or by a YAML file of another name that leads to labels.

    Such a file may also lie beside another export, left over from a training.
    """
    file = layout_file(folder)
    return file is not None and (file.name in MARKERS or _leads_to_labels(folder))


def _leads_to_labels(folder: Path) -> bool:
    try:
        layout = read_layout(folder, Faults(folder))
    except (DataError, UnsafeError):
        return False
    return any(_has_labels(images) for _, images in layout.images)


def _has_labels(images: Path) -> bool:
    """Whether any image of the folder has a label file."""
    labels = _labels_folder(images)
    stems = set() if labels is None else {alike(file.stem) for file in files_with(labels, ".txt")}
    return any(alike(path.stem) in stems for path in image_files(images))


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a YOLO export; see :mod:`detectclf.formats`."""
    layout = read_layout(folder, faults)
    read = [found for split, images in layout.images for found in _read_split(split, images, folder, faults)]
    _add_boxes(read, layout.names, layout.keypoints, faults)
    used = {raw.stated_in for raw, _ in read}
    folders = [labels for _, images in layout.images if (labels := _labels_folder(images)) is not None]
    for file in (f for labels in dict.fromkeys([folder, *folders]) for f in files_with(labels, ".txt")):
        if file.name == _CLASS_LIST:
            _check_class_list(file, layout.names, folder, faults)
        elif file not in used and file.parent != folder:
            faults.reject("orphan_annotation", file, "no image has this name", read_text(file, folder))
    return assemble([raw for raw, _ in read], layout.names, folder, faults)


def _check_class_list(file: Path, names: list[str], folder: Path, faults: Faults) -> None:
    """Compares the classes that labelImg and CVAT list beside labels: in another order, every label means another."""
    listed = [line.strip() for line in read_text(file, folder).splitlines() if line.strip()]
    if listed != names:
        stated, meant = (", ".join(part)[:200] for part in (listed, names))
        detail = f"lists the classes {stated}, but data.yaml {meant}: what the numbers in labels mean is not clear"
        faults.error("class_order", file, detail)


def _labels_folder(images: Path) -> Path | None:
    """The folder of the labels, in any case of its letters; ``None`` where there is none."""
    if alike(images.name) == "images":
        return folder_alike(images.parent, ["labels"])
    if alike(images.parent.name) == "images":
        # Ultralytics: images/train beside labels/train.
        return folder_alike(images.parent.parent, ["labels", images.name])
    return images


def _read_split(split: str, images: Path, folder: Path, faults: Faults) -> list[tuple[RawSlice, _Lines | None]]:
    """Each slice, with the lines of its label file where it has one."""
    labels, pictures = _labels_folder(images), image_files(images)
    exact = {} if labels is None else {file.stem: file for file in files_with(labels, ".txt")}
    # A label file may differ from its image in case, unless it is that of another image.
    stems = {path.stem for path in pictures}
    others = {alike(stem): file for stem, file in exact.items() if stem not in stems}
    read: list[tuple[RawSlice, _Lines | None]] = []
    for path in pictures:
        check_inside(folder, path)
        file = exact.get(path.stem) or others.pop(alike(path.stem), None)
        lines = None
        if file is None:
            detail = "has no label file, so its boxes are not known; an empty file would mean none"
            faults.warning("missing_label_file", path, detail)
        else:
            text = enumerate(read_text(file, folder).splitlines(), 1)
            lines = [(number, line) for number, line in text if line.strip()]
        read.append((RawSlice(path, path.name, split, file or path, relative=True), lines))
    return read


def _add_boxes(
    read: list[tuple[RawSlice, _Lines | None]], names: list[str], keypoints: int | None, faults: Faults
) -> None:
    """Reads the lines of all label files together: what a row means is clear only beside the others."""
    labelled = [(raw, lines) for raw, lines in read if lines is not None]
    numbers = [[[parse_number(c) for c in text.split()[1:]] for _, text in lines] for _, lines in labelled]
    for (raw, lines), found in zip(labelled, boxes_of_rows(numbers, keypoints), strict=True):
        raw.boxes = []
        for (line, text), corners in zip(lines, found, strict=True):
            label = _class_name(text.split()[0], names, raw.stated_in, line, faults)
            if isinstance(corners, str):
                faults.error("yolo_columns", raw.stated_in, corners, line)
            if isinstance(corners, str) or label is None:
                faults.drop("unusable_annotation", raw.stated_in, text, line)
            raw.boxes.append(unusable_box(line) if isinstance(corners, str) else RawBox(corners, label, line))


def _class_name(text: str, names: list[str], file: Path, line: int, faults: Faults) -> str | None:
    number = parse_number(text)
    if not number.is_integer():  # also of NaN and infinity
        faults.error("class_not_integer", file, f"class {text[:20]!r} is not an integer", line)
        return None
    if not 0 <= number < len(names):
        faults.error(
            "class_out_of_range", file, f"class {text[:20]} does not exist; there are {len(names)}, from 0", line
        )
        return None
    return names[int(number)]


def write(dataset: Dataset, out: Path) -> None:
    """Writes ``SPLIT/images``, ``SPLIT/labels`` and ``data.yaml``; a slice of unknown boxes gets no label file."""
    import yaml

    classes = box_classes(dataset)
    keys = {"train": "train", "valid": "val", "test": "test"}
    content: dict[str, Any] = {}
    for split, samples in by_split(dataset):
        if split not in keys:
            raise DataError(f"data.yaml has no key for split {split!r}", remedy="use train, valid and test")
        content[keys[split]] = f"{split}/images"
        for sample, name in copy_images(samples, out / split / "images", unique_stems=True):
            if sample.boxed:
                label = out / split / "labels" / f"{Path(name).stem}.txt"
                write_bytes(label, "".join(_lines(sample, classes)))
    text = yaml.safe_dump({**content, "nc": len(classes), "names": classes}, sort_keys=False, allow_unicode=True)
    write_bytes(out / "data.yaml", text)


def _lines(sample: Sample, classes: list[str]) -> list[str]:
    lines = []
    for box, label in zip(sample.boxes_xyxy, sample.box_labels, strict=True):
        x1, y1, x2, y2 = (float(v) for v in box)
        shares = (
            (x1 + x2) / 2 / sample.width,
            (y1 + y2) / 2 / sample.height,
            (x2 - x1) / sample.width,
            (y2 - y1) / sample.height,
        )
        lines.append(f"{classes.index(label)} " + " ".join(f"{share:.8f}" for share in shares) + "\n")
    return lines


__all__ = ["looks_like", "read", "write"]
