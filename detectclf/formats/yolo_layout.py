"""What ``data.yaml`` of a YOLO export says: classes, keypoints, and the folder of each split.

Paths in it are often those of the machine that the export was made on. They are read inside the folder of the file
itself, where they can mean only one folder; nothing outside is ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectclf.errors import DataError, UnsafeError
from detectclf.files import check_inside, read_bytes, resolve_inside
from detectclf.formats.faults import Faults
from detectclf.formats.files import files_with, image_files, split_name, subfolders
from detectclf.formats.image_names import alike
from detectclf.formats.raw import parse_number
from detectclf.formats.yaml_text import read_yaml

MARKERS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")

_KEYS = {"names", "train"}
_LIMIT_BYTES = 1 << 20  # of a file that is only looked at


@dataclass(frozen=True, slots=True)
class Layout:
    """A ``data.yaml``.

    Attributes:
        names: the classes, by their numbers in labels.
        keypoints: columns that keypoints take in a row of labels; ``None`` where there are none.
        images: ``(split, folder of its images)``.
    """

    names: list[str]
    keypoints: int | None
    images: list[tuple[str, Path]]


def layout_file(folder: Path) -> Path | None:
    """The ``data.yaml`` of ``folder``, or the one YAML file under another name that is such a one by its keys."""
    usual = next((folder / name for name in MARKERS if (folder / name).is_file()), None)
    if usual is not None:
        return usual
    found = [file for file in files_with(folder, ".yaml", ".yml") if _keys(file, folder) >= _KEYS]
    return found[0] if len(found) == 1 else None


def _keys(file: Path, folder: Path) -> set[str]:
    try:
        text = read_bytes(file, limit_bytes=_LIMIT_BYTES, root=folder)
    except (DataError, UnsafeError):
        return set()
    return {line.split(b":")[0].decode("ascii", "replace") for line in text.splitlines() if b":" in line}


def read_layout(folder: Path, faults: Faults) -> Layout:
    """Reads the ``data.yaml`` of ``folder``.

    Raises:
        DataError: it cannot be used.
        UnsafeError: a split leads out of the folder, and none inside is meant.
    """
    file = layout_file(folder)
    if file is None:
        raise DataError("no data.yaml", file=folder, remedy="write one with train:, val: and names:")
    content = read_yaml(file, folder)
    names = _class_names(content, file, faults)
    root = _root(folder, content.get("path"), file, faults)
    images: dict[Path, str] = {}
    for key in ("train", "val", "valid", "test"):
        value = content.get(key) or []
        for stated in value if isinstance(value, list) else [value]:
            found = _images_folder(root, stated, split_name(key), file)
            if found is None:
                # Roboflow names a test folder even where the export has none.
                faults.warning("missing_split", file, f"{key}: the folder {stated} does not exist")
            elif images.setdefault(check_inside(folder, found), split_name(key)) != split_name(key):
                detail = f"{key}: the folder {stated} is that of {images[found]} too, and is read for that only"
                faults.error("split_twice", file, detail)
    return Layout(names, _keypoint_columns(content, file), [(split, sub) for sub, split in images.items()])


def folder_alike(root: Path, parts: Sequence[str]) -> Path | None:
    """The folder below ``root`` with the names ``parts``; where there is none, the one that differs in case only."""
    for part in parts:
        exact = root / part
        near = [sub for sub in subfolders(root) if alike(sub.name) == alike(part)]
        there = exact in near
        if not there and len(near) != 1:
            return None
        root = exact if there else near[0]
    return root


def _root(folder: Path, stated: object, file: Path, faults: Faults) -> Path:
    """The folder that ``path:`` means, or that of the file itself where it means none inside."""
    if not isinstance(stated, str) or not stated.strip():
        return folder
    try:
        absolute = stated.startswith("/")
        root = check_inside(folder, stated) if absolute else resolve_inside(folder, stated.rstrip("/") or ".")
        if root.is_dir():
            return root
    except (UnsafeError, OSError, ValueError):
        pass
    detail = f"path: {stated[:120]!r} is no folder in here, perhaps of another machine; the folder of this file is read"
    faults.warning("path_elsewhere", file, detail)
    return folder


def _images_folder(root: Path, stated: object, split: str, file: Path) -> Path | None:
    """The folder that the value of a split means; ``None`` where there is none."""
    if not isinstance(stated, str) or stated.endswith(".txt"):
        raise DataError("a list of image files is not supported", file=file, remedy="name folders in data.yaml")
    # Roboflow writes ../train/images and means the folder of data.yaml itself.
    name = stated.replace("\\", "/").removeprefix("../")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    unsafe = None
    try:
        resolve_inside(root, name.rstrip("/") or ".")
    except UnsafeError as error:
        unsafe = error
    inside = [part for part in parts if part != ".."]
    # Without its beginning, the path of another machine still names the split.
    tails = [inside[i:] for i in range(len(inside)) if split in map(split_name, inside[i:])] if unsafe else [inside]
    found = next((sub for tail in tails if (sub := folder_alike(root, tail)) is not None), None)
    if found is None and unsafe is not None:
        raise unsafe
    if found is not None and not image_files(found):
        return folder_alike(found, ["images"]) or found
    return found


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


def _keypoint_columns(content: dict[str, Any], file: Path) -> int | None:
    """How many columns keypoints take, by ``kpt_shape: [points, 2 or 3]``; ``None`` where ``data.yaml`` has none."""
    stated = content.get("kpt_shape")
    if stated is None:
        return None
    points, each = map(parse_number, stated) if isinstance(stated, list) and len(stated) == 2 else (0.0, 0.0)
    if not points.is_integer() or not 1 <= points <= 10_000 or each not in (2, 3):
        raise DataError("kpt_shape: is not [number of points, 2 or 3]", file=file, remedy="correct data.yaml")
    return int(points * each)


__all__ = ["MARKERS", "Layout", "folder_alike", "layout_file", "read_layout"]
