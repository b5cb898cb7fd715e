"""Finds the images that an annotation file names, also where names and files differ in ways that leave one reading.

Between tools and systems names change: in case (``A.JPG``), in blanks and letters written as ``%20``, in how an accent
is composed (macOS), by the folder in front (``train/a.jpg`` in ``train/``, ``../images/a.jpg``, ``C:\\data\\a.jpg``).
Such a name means the one file that is alike; where several are, none is taken.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from detectclf.errors import UnsafeError
from detectclf.files import check_inside
from detectclf.formats.faults import Faults
from detectclf.formats.files import find_image, image_files, is_split_name, is_there, split_name

_FOLDERS = frozenset({".", "..", "images", "image", "imgs", "img", "data", "jpegimages"})
"""Names of folders in front of a file name that say nothing."""


def alike(name: str) -> str:
    """What names are compared by: case, ``%20`` and the composition of letters do not matter."""
    return unicodedata.normalize("NFC", unquote(name)).strip().casefold()


class ImageFinder:
    """Finds the images of one annotation file, and says once which names had to be read another way.

    Args:
        folders: where the images may be, the likeliest first; at least one.
        file: the annotation file, for messages.
        faults: receives ``name_differs``, by :meth:`note`.
        split: the split of the file; a name with another split in front is not taken for one of this.
    """

    def __init__(self, folders: Sequence[Path], file: Path, faults: Faults, split: str | None = None) -> None:
        self._folders, self._file, self._faults, self._split = folders, file, faults, split
        self._files: dict[str, list[Path]] | None = None
        self._differing: list[tuple[str, Path]] = []

    def find(self, name: str) -> Path:
        """The path of the image ``name``; one that is not there where no file is meant, or several may be.

        Raises:
            UnsafeError: ``name`` leads out of the folder, and no file inside is meant.
            DataError: ``name`` is empty, or not possible as a file name.
        """
        try:
            path = find_image(name, self._folders)
        except UnsafeError:
            if (meant := self._alike(name)) is None:
                raise
        else:
            if is_there(path) or (meant := self._alike(name)) is None:
                return path
        self._differing.append((name, meant))
        return meant

    def note(self) -> None:
        """Notes how many names differ from their files."""
        if self._differing:
            name, path = self._differing[0]
            count = f"{len(self._differing)} names differ from their files"
            detail = f"{count} in case, %20 or the folder in front, such as {name[:120]!r} for {path.name!r}"
            self._faults.warning("name_differs", self._file, detail)

    def _alike(self, name: str) -> Path | None:
        """The one file that ``name`` can mean."""
        if self._files is None:
            self._files = _by_name(self._folders)
        *parents, last = name.replace("\\", "/").split("/")
        # Label Studio writes "..\\..\\label-studio\\media\\upload\\4\\a.png", a path of its own machine too.
        up = next((n for n, part in enumerate(parents) if part != ".."), 0)
        elsewhere = up > 1
        parents = parents[up - 1 :] if elsewhere else parents
        if "\0" in name or ".." in (last, *parents[1:]):
            return None
        absolute = elsewhere or (bool(parents) and (parents[0] == "" or parents[0].endswith(":")))
        known = _FOLDERS | {part.casefold() for folder in self._folders for part in folder.parts}
        for parent in parents:
            if is_split_name(parent):
                if self._split not in (None, split_name(parent)):
                    return None
            elif not absolute and parent.casefold() not in known:
                return None
        found = self._files.get(alike(last), [])
        return check_inside(found[0].parent, found[0]) if len(found) == 1 else None


def _by_name(folders: Sequence[Path]) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = defaultdict(list)
    for folder in dict.fromkeys(folders):
        for path in image_files(folder):
            files[alike(path.name)].append(path)
    return files


__all__ = ["ImageFinder", "alike"]
