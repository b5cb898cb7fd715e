"""Reads untrusted YAML of exports: every scalar stays text, and no tag or alias in it is executed or expanded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectclf import documents
from detectclf.errors import DataError

_REMEDY = "export the data set again"


def read_yaml(path: Path, root: Path) -> dict[str, Any]:
    """Reads the mapping in a YAML file; its scalars stay text: ``no`` becomes ``"no"``.

    Raises:
        DataError: the file is not YAML, or not a mapping.
        UnsafeError: it is too large, or has an alias (which can expand into a bomb) or a Python object.
    """
    content = documents.read_yaml(path, error=DataError, remedy=_REMEDY, root=root, text_only=True)
    if not isinstance(content, dict):
        raise DataError("is not a YAML mapping", file=path, remedy=_REMEDY)
    return content


__all__ = ["read_yaml"]
