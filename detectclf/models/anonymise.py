"""Removes the folders from paths that are published, because they may identify a person or a machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectclf.storage import file_name, is_uri


def without_folders(value: Any) -> Any:
    """A copy of JSON-like ``value`` in which only the last name is left of every path.

    Args:
        value: mappings, lists, tuples and plain values, nested. Every ``Path`` is a path, and so is every string that
            is an absolute path or a URI, or ends with one after ``=``, as in a word of a command; other strings stay.
            Of a URI neither a bucket nor what follows ``?``, which may be a key, is left.
    """
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_folders(item) for item in value)
    if isinstance(value, Path):
        return value.name
    return _plain(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    if is_uri(text):
        return file_name(text)
    name, equals, path = text.partition("=")
    if equals and (is_uri(path) or Path(path).is_absolute()):
        return f"{name}={_plain(path)}"
    return Path(text).name if Path(text).is_absolute() else text


__all__ = ["without_folders"]
