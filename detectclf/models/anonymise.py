"""Removes the folders from paths that are published, because they may identify a person or a machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def without_folders(value: Any) -> Any:
    """A copy of JSON-like ``value`` in which only the last name is left of every path.

    Args:
        value: mappings, lists, tuples and plain values, nested. Every ``Path`` is a path, and so is every string that
            is an absolute path; other strings stay as they are.
    """
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_folders(item) for item in value)
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()):
        return Path(value).name
    return value


__all__ = ["without_folders"]
