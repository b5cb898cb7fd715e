"""Finds the split folders, annotation files and images of an export, and writes the files of a new one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from detectclf.errors import DataError, one_line
from detectclf.files import check_inside, read_bytes, resolve_inside
from detectclf.stored_shards import read_content
from detectclf.types import ANY_TUMOR, Dataset, Sample

LIMIT_TEXT_BYTES = 64 * 2**20
"""Largest annotation file of a plain-text format, bytes."""
_LIMIT_IMAGE_BYTES = 2 * 2**30
_SHARD_BYTES = 128 * 2**20  # of files that hold many pictures
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


def split_name(name: str) -> str:
    """The common name of a split (``valid`` for ``val``); other names are returned unchanged."""
    return _SPLIT_NAMES.get(name.casefold(), name)


def split_of(file: str) -> str | None:
    """The split with whose name a file's begins, such as ``val-00001.tar``; ``None`` where it does with none."""
    start = re.split(r"[-_.]", file)[0]
    return split_name(start) if is_split_name(start) else None


def is_split_name(name: str) -> bool:
    """Whether ``name`` is a common name of a split."""
    return name.casefold() in _SPLIT_NAMES


def subfolders(folder: Path) -> list[Path]:
    """The folders directly inside ``folder``, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    return [folder / name for name in names]


def split_folders(folder: Path, holds: Callable[[Path], bool]) -> list[tuple[str, Path]]:
    """``(split, its folder)`` for each subfolder that ``holds`` accepts; ``folder`` itself counts as split ``train``.

    Raises:
        UnsafeError: a split folder is a symlink that leads out of the data set.
    """
    inside = [(split_name(sub.name), check_inside(folder, sub)) for sub in subfolders(folder) if holds(sub)]
    own = [("train", folder)] if holds(folder) else []
    return own + inside


def split_files(folder: Path, name: str) -> list[tuple[str, Path]]:
    """``(split, its annotation file)`` for each split folder that has a file ``name``."""
    return [(split, sub / name) for split, sub in split_folders(folder, lambda sub: (sub / name).is_file())]


def files_with(folder: Path, *suffixes: str) -> list[Path]:
    """The files directly inside ``folder`` whose names end in one of ``suffixes`` (in any case), sorted."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.casefold().endswith(suffixes) and not e.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in names]


def image_files(folder: Path) -> list[Path]:
    """The images directly inside ``folder``, sorted, without hidden files (such as ``._a.jpg`` of macOS)."""
    from detectclf.imaging.images import IMAGE_SUFFIXES

    return [p for p in files_with(folder, *IMAGE_SUFFIXES) if not p.name.startswith(".")]


def find_image(name: str, folders: Sequence[Path]) -> Path:
    """The path of ``name`` in the first of ``folders`` that has such a file, else in the first folder.

    Raises:
        UnsafeError: ``name`` leads out of the folder.
        DataError: ``name`` is empty, or not possible as a file name.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        reason = f"{name[:80]!r} cannot be a file name"
        raise DataError(reason, file=folders[0], remedy="correct the annotation") from None
    # Tools on Windows write "images\\a.jpg".
    spellings = [name] if "\\" not in name else [name, name.replace("\\", "/")]
    paths = [resolve_inside(folder, spelling) for folder in folders for spelling in spellings]
    return next((path for path in paths if is_there(path)), paths[0])


def is_there(path: Path) -> bool:
    """Whether ``path`` exists; ``False`` for a name that the file system does not allow."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_text(path: Path, root: Path) -> str:
    """Reads a plain-text annotation file; bytes that are not UTF-8 become surrogates, as in Python's file names.

    Raises:
        DataError: the file cannot be read.
        UnsafeError: it is too large, or leads out of ``root``.
    """
    return read_bytes(path, limit_bytes=LIMIT_TEXT_BYTES, root=root).decode("utf-8-sig", "surrogateescape")


def by_split(dataset: Dataset) -> list[tuple[str, list[Sample]]]:
    """``(split, its samples)``, in the order of the splits."""
    return [(name, [s for s in dataset.samples if s.split == name]) for name in dataset.splits]


def box_classes(dataset: Dataset) -> list[str]:
    """The class names for a format of boxes: all, except a negative class without boxes."""
    used = {label for sample in dataset.samples for label in sample.box_labels}
    return [c for c in slice_classes(dataset) if c in used or c != dataset.negative]


def slice_classes(dataset: Dataset) -> list[str]:
    """The class names for a format: all, and ``ANY_TUMOR`` where a slice or box has that label."""
    unknown = any(ANY_TUMOR in (s.label, *s.box_labels) for s in dataset.samples)
    return [*dataset.classes, *([ANY_TUMOR] if unknown and ANY_TUMOR not in dataset.classes else [])]


def output_names(samples: Sequence[Sample], *, unique_stems: bool = False) -> list[str]:
    """A file name without folder for each sample of one split, unique even if case is ignored.

    ``glioma/a.jpg`` becomes ``a.jpg``; a name that is already taken gets a number. With ``unique_stems``, so does
    ``a.png`` after ``a.jpg``, for formats with one annotation file per image.
    """
    taken: set[str] = set()
    result = []
    for sample in samples:
        flat = PurePosixPath(sample.name.replace("\\", "/")).name or "image"
        path, number, name = PurePosixPath(flat), 1, flat
        while (name.casefold() if not unique_stems else PurePosixPath(name).stem.casefold()) in taken:
            number += 1
            name = f"{path.stem}-{number}{path.suffix}"
        taken.add(PurePosixPath(name).stem.casefold() if unique_stems else name.casefold())
        result.append(name)
    return result


def in_shards(samples: Sequence[Sample], *, unique_stems: bool = False) -> list[list[tuple[Sample, str]]]:
    """The samples with their :func:`output_names`, as files of at most 128 MiB are to hold them."""
    shards: list[list[tuple[Sample, str]]] = [[]]
    filled = 0
    for sample, name in zip(samples, output_names(samples, unique_stems=unique_stems), strict=True):
        size = sample.span.length if sample.span else sample.path.stat().st_size
        if shards[-1] and filled + size > _SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append((sample, name))
        filled += size
    return shards


def encoded_image(sample: Sample) -> bytes:
    """Reads the encoded image of ``sample`` from its file or its container.

    Raises:
        DataError: it cannot be read.
    """
    return read_content(sample.path, limit_bytes=_LIMIT_IMAGE_BYTES, span=sample.span)


def copy_images(samples: Sequence[Sample], folder: Path, *, unique_stems: bool = False) -> list[tuple[Sample, str]]:
    """Copies the images of one split byte for byte into ``folder``; returns each sample with its new file name.

    Raises:
        DataError: an image cannot be read or written.
    """
    named = list(zip(samples, output_names(samples, unique_stems=unique_stems), strict=True))
    for sample, name in named:
        write_bytes(folder / name, encoded_image(sample))
    return named


def write_bytes(target: Path, content: bytes | str) -> None:
    """Writes a file of a new export, and makes its folder.

    The export as a whole is atomic (:func:`detectclf.files.atomic_folder`), so its files need not be.

    Raises:
        DataError: the file cannot be written, for example because the disk is full.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except (OSError, ValueError) as error:
        reason = f"cannot be written ({one_line(error.strerror if isinstance(error, OSError) else error)})"
        raise DataError(reason, file=target, remedy="check space and permission") from error


__all__ = [
    "box_classes",
    "by_split",
    "copy_images",
    "encoded_image",
    "files_with",
    "find_image",
    "image_files",
    "in_shards",
    "is_split_name",
    "is_there",
    "output_names",
    "read_text",
    "slice_classes",
    "split_files",
    "split_folders",
    "split_name",
    "split_of",
    "subfolders",
    "write_bytes",
]
