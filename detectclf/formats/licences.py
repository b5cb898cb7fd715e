"""The licences that an export states in its own files, for the model card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from detectclf.errors import DetectclfError, one_line
from detectclf.files import read_bytes

_LIMIT_BYTES = 256 * 2**20
_TEXTS = ("data.yaml", "README.dataset.txt", "README.roboflow.txt")
_LINE = re.compile(r"^\s*licen[sc]e\s*:\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)


def stated_licences(sources: Iterable[str | Path]) -> dict[str, str]:
    """Name of each source folder -> the licences in its COCO files, ``data.yaml`` or Roboflow's READMEs.

    Folders that state none, or do not exist any more, are left out.
    """
    found: dict[str, dict[str, None]] = {}
    for source in sources:
        folder = Path(source)
        for sub in (folder, *sorted(p for p in folder.glob("*") if p.is_dir())):
            named = [
                *_of_coco(sub / "_annotations.coco.json"),
                *(n for text in _TEXTS for n in _of_text(sub / text)),
            ]
            found.setdefault(folder.name, {}).update(dict.fromkeys(named))
    return {name: ", ".join(licences) for name, licences in found.items() if licences}


def _of_coco(file: Path) -> list[str]:
    try:
        content = json.loads(_read(file) or "{}")
    except (ValueError, RecursionError):
        return []
    rows = content.get("licenses") if isinstance(content, dict) else None
    names = [row.get("name") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [one_line(name) for name in names if isinstance(name, str) and name]


def _of_text(file: Path) -> list[str]:
    return [one_line(name.strip("'\"")) for name in _LINE.findall(_read(file))]


def _read(file: Path) -> str:
    if not file.is_file():
        return ""
    try:
        return read_bytes(file, limit_bytes=_LIMIT_BYTES).decode("utf-8", errors="replace")
    except (DetectclfError, OSError):
        return ""
