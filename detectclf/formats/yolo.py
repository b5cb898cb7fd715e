"""YOLO v5 to v11: ``data.yaml``, ``images/`` and, for each image, ``labels/STEM.txt`` with one box per line.

A line is ``class x_centre y_centre width height``, in fractions of the image size, the polygon ``class x1 y1 x2 y2
x3 y3 ...``, which becomes its bounding box, or a box with keypoints where ``data.yaml`` has ``kpt_shape``
(:mod:`detectclf.formats.yolo_rows`). An empty label file means that the slice has no tumour. Without a label
file, nothing is known about the slice, and training leaves it out. ``download:`` in ``data.yaml`` is never executed.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from detectclf.formats.yolo_rows import boxes_of_rows
from detectclf.types import Dataset, Sample

CLASS_LIST = "classes.txt"
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
    slices: list[tuple[RawSlice, list[tuple[int, str]] | None]] = []
    if (folder / CLASS_LIST).is_file():
        _check_class_list(folder / CLASS_LIST, names, folder, faults)
    for key in ("train", "val", "valid", "test"):
        value = content.get(key) or []
        for stated in value if isinstance(value, list) else [value]:
            images = _images_folder(root, stated, file)
            if not images.is_dir():
                # Roboflow names a test folder even where the export has none.
                faults.warning("missing_split", file, f"{key}: the folder {stated} does not exist")
                continue
            slices += _read_split(split_name(key), check_inside(folder, images), folder, names, faults)
    _add_boxes(slices, names, _keypoint_columns(content, file), faults)
    return assemble([raw for raw, _ in slices], names, folder, faults)


def _keypoint_columns(content: dict[str, Any], file: Path) -> int | None:
    """How many columns keypoints take, by ``kpt_shape: [points, 2 or 3]``; ``None`` where ``data.yaml`` has none."""
    stated = content.get("kpt_shape")
    if stated is None:
        return None
    points, each = map(parse_number, stated) if isinstance(stated, list) and len(stated) == 2 else (0.0, 0.0)
    if not points.is_integer() or not 1 <= points <= 10_000 or each not in (2, 3):
        raise DataError("kpt_shape: is not [number of points, 2 or 3]", file=file, remedy="correct data.yaml")
    return int(points * each)


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


def _check_class_list(file: Path, names: list[str], folder: Path, faults: Faults) -> None:
    """Compares the classes that labelImg and CVAT list beside labels: in another order, every label means another."""
    listed = [line.strip() for line in read_text(file, folder).splitlines() if line.strip()]
    if listed != names:
        stated, meant = (", ".join(part)[:200] for part in (listed, names))
        detail = (
            f"lists the classes {stated}, but data.yaml {meant}: which of them the numbers in labels mean is not clear"
        )
        faults.error("class_order", file, detail)


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


def _read_split(
    split: str, images: Path, folder: Path, names: list[str], faults: Faults
) -> Iterator[tuple[RawSlice, list[tuple[int, str]] | None]]:
    """Each slice, with the lines of its label file that are not blank."""
    labels = _labels_folder(images)
    stems = set()
    for path in image_files(images):
        check_inside(folder, path)
        stems.add(path.stem)
        file = labels / f"{path.stem}.txt"
        lines = None
        if file.exists():
            text = enumerate(read_text(file, folder).splitlines(), 1)
            lines = [(number, line) for number, line in text if line.strip()]
        else:
            faults.warning(
                "missing_label_file",
                path,
                "has no label file, so its boxes are not known; an empty file would mean none",
            )
        yield RawSlice(path, path.name, split, file, relative=True), lines
    for file in files_with(labels, ".txt"):
        if file.name == CLASS_LIST:
            _check_class_list(file, names, folder, faults)
        elif file.stem not in stems:
            faults.reject("orphan_annotation", file, "no image has this name", read_text(file, folder))


def _add_boxes(
    read: list[tuple[RawSlice, list[tuple[int, str]] | None]], names: list[str], keypoints: int | None, faults: Faults
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
