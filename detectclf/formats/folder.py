"""Class folders: ``train/glioma/a.jpg``, or ``glioma/a.jpg`` for a single split. Classes only, no boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from detectclf.errors import DataError
from detectclf.files import check_inside
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    by_split,
    copy_images,
    image_files,
    is_split_name,
    output_names,
    slice_classes,
    split_name,
    subfolders,
)
from detectclf.formats.raw import RawSlice
from detectclf.types import Dataset, Sample

_NOT_CLASSES = frozenset(
    {
        "images",
        "labels",
        "annotations",
        "jpegimages",
        "imagesets",
        "obj_train_data",
        "data",
        "img",
        "ann",
        "mask",
        "masks",
    }
)
"""Folders of other layouts: those of VOC, YOLO, Darknet, FiftyOne and Supervisely, and masks beside images."""


def looks_like(folder: Path) -> bool:
    """Whether the folder has class folders with images."""
    return bool(_class_folders(folder))


def _class_folders(folder: Path) -> list[tuple[str, Path]]:
    """``(split, class folder)``, also for an empty class folder if another one has images."""
    splits = [sub for sub in subfolders(folder) if is_split_name(sub.name)]
    named = [(split_name(split.name), sub) for split in splits for sub in subfolders(split)]
    # A split folder with images directly in it is not a class called "valid".
    named = named or [("train", sub) for sub in subfolders(folder) if not is_split_name(sub.name)]
    named = [(split, sub) for split, sub in named if sub.name.casefold() not in _NOT_CLASSES]
    return named if any(image_files(sub) for _, sub in named) else []


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads class folders; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    classes: dict[str, None] = {}
    for split, sub in _class_folders(folder):
        classes[sub.name] = None
        for path in image_files(check_inside(folder, sub)):
            check_inside(folder, path)
            slices.append(RawSlice(path, f"{sub.name}/{path.name}", split, sub, label=sub.name))
    return assemble(slices, classes, folder, faults)


def names(samples: Sequence[Sample]) -> list[str]:
    """``class/file`` of each sample of one split, as :func:`write` names them."""
    files: dict[str | None, Iterator[str]] = {
        label: iter(output_names([s for s in samples if s.label == label])) for label in {s.label for s in samples}
    }
    return [f"{s.label}/{next(files[s.label])}" for s in samples]


def write(dataset: Dataset, out: Path) -> None:
    """Writes one folder per split and class, without boxes.

    Raises:
        DataError: a slice has no class, or a class name is not possible as a folder name.
    """
    classes = slice_classes(dataset)
    for name in classes:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise DataError(f"class {name!r} cannot be a folder name", remedy="choose the format classes-csv")
    for split, samples in by_split(dataset):
        for label in classes:
            copy_images([s for s in samples if s.label == label], out / split / label)
        unknown = next((s for s in samples if s.label is None), None)
        if unknown is not None:
            raise DataError(f"{unknown.name} has no class", remedy="choose the format classes-csv")


__all__ = ["looks_like", "names", "read", "write"]
