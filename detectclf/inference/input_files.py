"""What ``predict INPUT...`` means: image files, folders, globs and ``-`` become one list of files in a fixed order."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from detectclf.errors import DataError, one_line

log = logging.getLogger(__name__)

PICTURE_SUFFIX = ".pred.png"
"""End of the names of our own pictures, which a folder that holds both is not searched for."""

_ANNOTATIONS = frozenset({".json", ".jsonl", ".csv", ".txt", ".xml", ".yaml", ".yml", ".md", ".html"})
_PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"\x1f\x8b")


def collect_inputs(arguments: Sequence[str], stdin: BinaryIO | None = None) -> list[Path]:
    """The files that the arguments name, each once, in the order given (sorted inside a folder or glob).

    A file that is named is taken whatever its suffix, also where it does not exist: it becomes a record with an error
    and the rest goes on. A folder is searched recursively for images by suffix, and for DICOM files of any name, as
    scanners write them; without hidden files and folders, without our own ``*.pred.png``, and without following
    symlinks to folders. How many other files it holds, but for annotations, is logged. A name with ``*``, ``?`` or
    ``[`` that is no existing file is a glob, ``**`` recursive. ``-`` reads paths from ``stdin``, one per line, or
    NUL-separated as ``find -print0`` writes them; these are no globs.

    Args:
        arguments: as on the command line.
        stdin: bytes to read paths from; needed for ``-``.

    Raises:
        DataError: nothing is named at all, or a folder or glob holds no image.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        files = _from_lines(stdin) if argument == "-" else _expand(argument)
        for path in files:
            # The same file by way of a folder and of its own name is one input.
            found.setdefault(os.path.normcase(Path(os.path.abspath(path))), path)  # noqa: PTH100
    if not found:
        raise DataError("no input", remedy="name image files, folders or globs, or - for paths on stdin")
    return list(found.values())


def _expand(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        yield from _images_in(path)
    elif any(sign in argument for sign in "*?[") and not os.path.lexists(path):
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        images = [path for match in matches if (path := Path(match)).is_file() and _is_image(path)]
        if not images:
            raise DataError("no image matches", file=argument, remedy="check the pattern, or quote the name")
        yield from images
    else:
        yield path


def _images_in(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    images = sorted(path for path in found if _is_image(path))
    if not images:
        raise DataError("no images in the folder", file=folder, remedy="name a folder with image files")
    others = sum(path.suffix.lower() not in _ANNOTATIONS for path in set(found) - set(images))
    if others:
        log.info("%s: %d images; %d other files are not read", one_line(folder), len(images), others)
    return images


def _is_image(path: Path) -> bool:
    from detectclf.imaging.images import image_suffix, is_dicom

    if path.name.casefold().endswith(PICTURE_SUFFIX):
        return False
    return image_suffix(path.name) is not None or is_dicom(path)


def _from_lines(stdin: BinaryIO | None) -> Iterator[Path]:
    if stdin is None:
        raise DataError("- reads paths from stdin, and there is none", remedy="name the files")
    content = stdin.read()
    if content.startswith(_PICTURE_STARTS) or content[128:132] == b"DICM":
        raise DataError("- reads paths from stdin, and there is a picture", remedy="name the file instead of -")
    separator = b"\0" if b"\0" in content else b"\n"
    for line in content.split(separator):
        name = os.fsdecode(line.removesuffix(b"\r") if separator == b"\n" else line)
        if not name.strip():
            continue
        path = Path(name)
        if _is_folder(path):
            yield from _images_in(path)
        else:
            yield path


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long: a record with an error, as other names that are no file
        return False


__all__ = ["PICTURE_SUFFIX", "collect_inputs"]
