"""The files that ``predict INPUT...`` names: by name, by folder, by glob and, for ``-``, by lines on stdin."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from detectclf.errors import DataError, one_line
from detectclf.inference.containers import is_container
from detectclf.inference.picture_names import PICTURE_SUFFIX

log = logging.getLogger(__name__)

_ANNOTATIONS = frozenset({".json", ".jsonl", ".csv", ".txt", ".xml", ".yaml", ".yml", ".md", ".html"})
_PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"\x1f\x8b")


def collect_inputs(arguments: Sequence[str], stdin: BinaryIO | None = None) -> list[Path]:
    """The files that the arguments name, each once, in the order given; sorted within a folder or glob.

    An argument is one of these:

    * a file: taken whatever its suffix, even if it does not exist; prediction then gives a record with an error.
    * a folder: searched recursively for images by suffix and for DICOM files by content, since scanners give these any
      name. Hidden files and folders, our own ``*.pred.png`` and symlinks to folders are skipped; the number of other
      files, except annotations, is logged. Without any image, files that hold many are taken.
    * a glob: a name with ``*``, ``?`` or ``[`` that is not an existing file; ``**`` is recursive.
    * ``-``: paths from ``stdin``, one per line, or separated by NUL as ``find -print0`` writes them; globs are not
      expanded there.

    Args:
        arguments: as on the command line.
        stdin: bytes to read paths from; needed for ``-``.

    Raises:
        DataError: there are no arguments or one is empty, or a folder or glob holds no image.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        if not argument:  # it would mean the working directory
            raise DataError("an input is empty", remedy="name a file or folder; is a variable not set?")
        files = _from_lines(stdin) if argument == "-" else _expand(argument)
        for path in files:
            # A file that is named and also lies in a named folder is one input.
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
        files = [path for match in matches if (path := Path(match)).is_file()]
        images = [path for path in files if is_container(path.name) or _is_image(path)]
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
    # A folder of shards. Beside pictures, an archive may well hold the same ones again.
    images = images or sorted(path for path in found if is_container(path.name))
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
        raise DataError("- reads paths from stdin, and there is no stdin", remedy="name the files")
    content = stdin.read()
    if content.startswith(_PICTURE_STARTS) or content[128:132] == b"DICM":
        raise DataError("- reads paths from stdin, and stdin holds a picture", remedy="name the file instead of -")
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
    except OSError:  # such as a name that is too long; prediction will give a record with an error
        return False


__all__ = ["collect_inputs"]
