"""What lies in an export and is not read: counted and named, so that no split is lost without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from detectclf.formats.faults import Faults
from detectclf.types import Dataset

_SAID = ("unread_images", "unread_annotations", "unread_files", "path_elsewhere", "name_differs")
"""Codes that are said whenever a data set is read, not only by the audit."""

_MARKS = ("_annotations.coco.json", "_annotations.createml.json", "_annotations.csv", "_classes.csv")
_SUFFIXES = (".xml", ".tfrecord", ".record")
_PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_OTHER_PICTURES = (
    ".heic", ".heif", ".avif", ".psd", ".svg", ".mat", ".npy", ".npz", ".h5", ".hdf5", ".mha", ".mhd", ".nrrd"
)  # fmt: skip
"""Of files that may hold slices, and are in no format that is read."""
_UNREADABLE = (
    (_PACKED, "archives", "unpack them first"),
    (_OTHER_PICTURES, "files of other formats", "save pictures as PNG or JPEG"),
)
_LIMIT_FOLDERS = 20
"""Most folders that are named one by one."""
_REMEDY = {
    "yolo": "name the folder in data.yaml (train:, val:, test:)",
    "folder": "class folders lie in the split folders, pictures directly in them",
}
_USUAL = "put an annotation file for them beside them, or move them out"


def note_unread(dataset: Dataset, folder: Path, format: str, faults: Faults) -> None:
    """Notes pictures and annotation files below ``folder`` that the reader of ``format`` did not use.

    ``unlisted_image`` is a picture beside others that are read; ``unread_images`` are all pictures of a folder in which
    none is; ``unread_annotations`` are annotation files of which nothing is used; ``unread_files`` are archives, and
    pictures in formats that are not read.
    """
    used = {sample.path for sample in dataset.samples}
    noted = {problem.file for problem in faults.problems}
    beside = {path.parent for path in used}
    rest = []
    for where, pictures, files, others in _contents(folder):
        unread = [p for p in pictures if p not in used and faults.relative(p) not in noted]
        unused = [p for p in files if p not in faults.used and p not in used and faults.relative(p) not in noted]
        if where in beside:
            for path in unread:
                faults.warning("unlisted_image", path, "no annotation names this image; it is not used")
        elif unread:
            rest.append(("unread_images", where, len(unread), "images", "not one is named by what is read"))
        if unused:
            rest.append(("unread_annotations", where, len(unused), "annotation files", f"such as {unused[0].name}"))
        for suffixes, what, remedy in _UNREADABLE:
            found = [p for p in others if p.name.casefold().endswith(suffixes) and p not in faults.used]
            if found:
                rest.append(("unread_files", where, len(found), what, f"such as {found[0].name}; {remedy}"))
    for code, where, count, what, why in rest[:_LIMIT_FOLDERS]:
        remedy = f"; {_REMEDY.get(format, _USUAL)}" if code == "unread_images" else ""
        faults.warning(code, where, f"{count} {what} in this folder are not read ({why}){remedy}")
    if len(rest) > _LIMIT_FOLDERS:
        more, count = len(rest) - _LIMIT_FOLDERS, sum(row[2] for row in rest[_LIMIT_FOLDERS:])
        faults.warning("unread_images", folder, f"{count} files in {more} more folders are not read")


def lines_to_say(faults: Faults) -> list[str]:
    """What is not read, or read in another way than it says: a line each, and one for all single pictures."""
    lines = [f"{p.file}: {p.detail}" for p in faults.problems if p.code in _SAID]
    single = [p.file for p in faults.problems if p.code == "unlisted_image"]
    if single:
        lines.append(f"{len(single)} images are named by no annotation and not used, such as {single[0]}")
    return lines


def _contents(folder: Path) -> Iterator[tuple[Path, list[Path], list[Path], list[Path]]]:
    """``(folder, its pictures, its annotation files, its other files)`` of all folders.

    Without hidden ones and symlinks to others.
    """
    from detectclf.imaging.images import image_suffix

    for where, subs, names in os.walk(folder):
        subs[:] = sorted(name for name in subs if not name.startswith(".") and name != "__MACOSX")
        visible = [Path(where) / name for name in sorted(names) if not name.startswith(".")]
        pictures = [path for path in visible if image_suffix(path) is not None]
        stems = {path.stem for path in pictures}
        files: list[Path] = []
        others: list[Path] = []
        for path in visible:
            if image_suffix(path) is None:
                (files if _is_annotation(path, stems) else others).append(path)
        yield Path(where), pictures, files, others


def _is_annotation(path: Path, stems: set[str]) -> bool:
    """Whether a file is one by its name, or lies beside the picture of its name, as labelme's and YOLO's do."""
    if path.name in _MARKS or path.name.casefold().endswith(_SUFFIXES):
        return True
    return path.stem in stems and path.suffix.casefold() in (".json", ".txt")


__all__ = ["lines_to_say", "note_unread"]
