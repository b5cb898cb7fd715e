"""File names for drawn predictions, different for each input and legal on every file system."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

PICTURE_SUFFIX = ".pred.png"
"""End of the name of every drawn prediction; ``predict`` skips such files in a folder."""


def picture_names(inputs: Sequence[str | Path], part: str = "", suffix: str = PICTURE_SUFFIX) -> list[str]:
    """A file name for the picture of each input: ``<stem>.pred.png``, or ``<stem>.PART.pred.png`` with a ``part``.

    The names differ by more than case. Inputs with the same stem get more of their path until they differ: first the
    suffix (``a.png.pred.png``), then the folders, nearest first (``ward2__a.png.pred.png``), then a number. Characters
    that some file system refuses become ``_``; a long name is cut and ends with a hash.

    Args:
        inputs: paths of the files.
        part: which picture of each file it is, such as ``axial.12``; empty where a file holds one.
        suffix: end of each name.
    """
    paths = [Path(name) for name in inputs]
    candidates = [[_legal(_stem(path)) for path in paths], [_legal(path.name) for path in paths]]
    deepest = max((len(path.parts) for path in paths), default=0)
    candidates += [[_legal("__".join(path.parts[-depth:])) for path in paths] for depth in range(2, deepest + 1)]
    chosen = candidates[0]
    for longer in candidates[1:]:
        count = Counter(name.casefold() for name in chosen)
        if max(count.values(), default=0) <= 1:
            break
        chosen = [new if count[old.casefold()] > 1 else old for old, new in zip(chosen, longer, strict=True)]
    end = f".{part}{suffix}" if part else suffix
    return [name + end for name in _numbered(chosen)]


def _numbered(names: Sequence[str]) -> list[str]:
    taken: set[str] = set()
    different = []
    for name in names:
        candidate, number = name, 2
        while candidate.casefold() in taken:
            candidate, number = f"{name}-{number}", number + 1
        taken.add(candidate.casefold())
        different.append(candidate)
    return different


def _stem(path: Path) -> str:
    name = path.name
    return name[: -len(".nii.gz")] if name.casefold().endswith(".nii.gz") else path.stem


def _legal(name: str) -> str:
    # Windows refuses some characters and the names of devices; surrogates are bytes of a name that is not UTF-8.
    clean = re.sub(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\ud800-\udfff\u2028\u2029\u200e\u200f\u202a-\u202e]', "_", name)
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", clean):
        clean = f"_{clean}"
    raw = clean.encode()
    if len(raw) > 200:
        clean = raw[:180].decode("utf-8", "ignore") + "-" + hashlib.sha256(raw).hexdigest()[:8]
    return clean or "slice"


__all__ = ["PICTURE_SUFFIX", "picture_names"]
