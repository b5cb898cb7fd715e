"""YOLO v5 to v11: ``data.yaml``, ``images/`` and, for each image, ``labels/STEM.txt`` with one box per line.

A line is ``class x_centre y_centre width height``, in fractions of the image size, or the polygon ``class x1 y1 x2 y2
x3 y3 ...``, which becomes its bounding box. An empty label file means that the slice has no tumour. Without a label
file, nothing is known about the slice, and training leaves it out. ``download:`` in ``data.yaml`` is never executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectclf.errors import DataError
from detectclf.files import check_inside, resolve_inside
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    box_classes,
    by_split,
    copy_images,
    files_with,
    image_files,
    read_text,
    split_name,
    write_bytes,
)
from detectclf.formats.raw import RawBox, RawSlice, parse_number, unusable_box
from detectclf.formats.yaml_text import read_yaml
from detectclf.types import Dataset, Sample

_MARKERS = ("data.yaml", "data.yml", "dataset.yaml")


def looks_like(folder: Path) -> bool:
    """Whether the folder is a YOLO export."""
    return any((folder / name).is_file() for name in _MARKERS)


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a YOLO export; see :mod:`detectclf.formats`."""
    file = next(folder / name for name in _MARKERS if (folder / name).is_file())
    content = read_yaml(file, folder)
    names = _class_names(content, file, faults)
    root = _inside(folder, str(content.get("path") or "."))
    slices: list[RawSlice] = []
    for key in ("train", "val", "valid", "test"):
        value = content.get(key) or []
        for stated in value if isinstance(value, list) else [value]:
            images = _images_folder(root, stated, file)
            if not images.is_dir():
                # Roboflow names a test folder even where the export has none.
                faults.warning("missing_split", file, f"{key}: the folder {stated} does not exist")
                continue
            slices += _read_split(split_name(key), check_inside(folder, images), folder, names, faults)
    return assemble(slices, names, folder, faults)


def _class_names(content: dict[str, Any], file: Path, faults: Faults) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict):
        numbers = {parse_number(key): value for key, value in names.items()}
        if set(numbers) != set(range(len(names))):
            raise DataError("names: its keys are not 0, 1, 2, ...", file=file, remedy="correct data.yaml")
        names = [numbers[i] for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        raise DataError("names: is not a list of class names", file=file, remedy="correct data.yaml")
    if len(set(names)) < len(names):
        faults.error("duplicate_class", file, f"names: has a class twice: {', '.join(names)}")
    if "nc" in content and content["nc"] != str(len(names)):
        faults.error("class_count", file, f"nc is {str(content['nc'])[:20]}, but names has {len(names)} classes")
    return names


def _images_folder(root: Path, stated: object, file: Path) -> Path:
    if not isinstance(stated, str) or stated.endswith(".txt"):
        raise DataError("a list of image files is not supported", file=file, remedy="name folders in data.yaml")
    # Roboflow writes ../train/images and means the folder of data.yaml itself.
    return _inside(root, stated.removeprefix("../"))


def _inside(root: Path, stated: str) -> Path:
    return resolve_inside(root, stated.rstrip("/") or ".")


def _labels_folder(images: Path) -> Path:
    if images.name == "images":
        return images.parent / "labels"
    # Ultralytics: images/train beside labels/train.
    return images.parent.parent / "labels" / images.name if images.parent.name == "images" else images


def _read_split(split: str, images: Path, folder: Path, names: list[str], faults: Faults) -> list[RawSlice]:
    labels = _labels_folder(images)
    slices = []
    stems = set()
    for path in image_files(images):
        check_inside(folder, path)
        stems.add(path.stem)
        file = labels / f"{path.stem}.txt"
        boxes = None
        if file.exists():
            boxes = _read_boxes(file, folder, names, faults)
        else:
            faults.warning(
                "missing_label_file",
                path,
                "has no label file, so its boxes are not known; an empty file would mean none",
            )
        slices.append(RawSlice(path, path.name, split, file, boxes, relative=True))
    for file in files_with(labels, ".txt"):
        if file.stem not in stems and file.name != "classes.txt":
            faults.reject("orphan_annotation", file, "no image has this name", read_text(file, folder))
    return slices


def _read_boxes(file: Path, folder: Path, names: list[str], faults: Faults) -> list[RawBox]:
    boxes = []
    for line, text in enumerate(read_text(file, folder).splitlines(), 1):
        if not text.strip():
            continue
        columns = text.split()
        label = _class_name(columns[0], names, file, line, faults)
        numbers = [parse_number(column) for column in columns[1:]]
        corners = _corners(numbers)
        if corners is None:
            faults.error(
                "yolo_columns", file, f"{len(columns)} columns; a box has 5, a polygon has 7, 9, 11, ...", line
            )
        if corners is None or label is None:
            faults.drop("unusable_annotation", file, text, line)
        boxes.append(RawBox(corners, label, line) if corners else unusable_box(line))
    return boxes


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


def _corners(numbers: Sequence[float]) -> tuple[float, float, float, float] | None:
    if len(numbers) == 4:
        x, y, width, height = numbers
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[::2], numbers[1::2]
        # min() and max() may skip a NaN; a sum does not.
        lost = 0.0 * sum(numbers)
        return min(xs) + lost, min(ys) + lost, max(xs) + lost, max(ys) + lost
    return None


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
