"""What lies in a folder whose annotations are of another tool, and how to get ones that are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from detectclf.errors import DataError, UnsafeError
from detectclf.files import read_bytes

_YOLO_NAMES = frozenset({"obj.data", "obj.names", "_darknet.labels", "classes.txt"})
"""Files that lie beside YOLO labels, of CVAT and Darknet, Roboflow, and labelImg and Label Studio."""
_WRITE_YAML = (
    "these are YOLO labels without data.yaml; write a data.yaml beside it, with train: (the folder of the images) and "
    "names: (the classes in order)"
)
_KEYS = (
    (("shapes", "imagePath"), "these are labelme's own files; convert them to COCO with labelme2coco"),
    (("regions", "shape_attributes"), "this is VIA's own file; export from VIA as COCO"),
    (("asset", "regions"), "these are VoTT's own files; export from VoTT as Pascal VOC"),
    (("from_name", "to_name"), "this is Label Studio's own file; export from Label Studio as COCO"),
    (("geometryType",), "these are Supervisely's own files; export from Supervisely as COCO"),
    (("classTitle",), "these are Supervisely's own files; export from Supervisely as COCO"),
)
"""Keys of JSON files that tell a tool."""
_PACKED = (".zip", ".7z", ".rar", ".tar.gz")
_LIMIT_FILES, _LIMIT_FOLDERS, _LIMIT_BYTES = 5, 50, 1 << 22


def remedy(folder: Path) -> str | None:
    """What to do where ``folder`` holds annotations of a tool that is not read; ``None`` where none is known."""
    for path in _some_files(folder):
        name = path.name.casefold()
        if name in _YOLO_NAMES:
            return f"{path.relative_to(folder).as_posix()}: {_WRITE_YAML}"
        if name.endswith(_PACKED):
            return f"unpack {path.relative_to(folder).as_posix()}"
        if name.endswith(".json"):
            content = _content(path, folder)
            for keys, what in _KEYS:
                if all(f'"{key}"'.encode() in content for key in keys):
                    return f"{path.relative_to(folder).as_posix()}: {what}"
    return None


def _some_files(folder: Path) -> Iterator[Path]:
    """The first files that may tell a tool, of the first folders."""
    for number, (where, subs, names) in enumerate(os.walk(folder)):
        subs[:] = sorted(name for name in subs if not name.startswith(".") and name != "__MACOSX")
        told = [n for n in sorted(names) if n.casefold() in _YOLO_NAMES]
        rest = [n for n in sorted(names) if n.casefold().endswith((".json", *_PACKED))]
        yield from (Path(where) / name for name in [*told, *rest[:_LIMIT_FILES]] if not name.startswith("."))
        if number == _LIMIT_FOLDERS:
            return


def _content(path: Path, folder: Path) -> bytes:
    try:
        return read_bytes(path, limit_bytes=_LIMIT_BYTES, root=folder)
    except (DataError, UnsafeError):
        return b""


__all__ = ["remedy"]
