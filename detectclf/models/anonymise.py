"""Removes the folders from paths that are published, because they may identify a person or a machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def without_folders(value: Any) -> Any:
    """A copy of JSON-like ``value`` in which only the last name is left of every path.

    Args:
        value: mappings, lists, tuples and plain values, nested. Every ``Path`` is a path, and so is every string that
            is an absolute path, or ends with one after ``=``, as in a word of a command; other strings stay.
    """
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_folders(item) for item in value)
    if isinstance(value, Path):
        return value.name
    return _plain(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    name, equals, path = text.partition("=")
    if equals and Path(path).is_absolute():
        return f"{name}={Path(path).name}"
    return Path(text).name if Path(text).is_absolute() else text


__all__ = ["without_folders"]
