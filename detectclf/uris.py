"""URIs, and what of them may be written or printed: no signature, key or password."""

from __future__ import annotations

import os
import re

REMOVED = "?removed"
"""Stands at the end of a URI that is written without its signature, key or password."""

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+(?:::|://)")
_USER = re.compile(r"(?<=://)[^/@]*@")
# In other schemes than HTTP's a ? may be the sign of a pattern.
_QUERY = re.compile(r"(?<!^)\?[\w.~%+&-]*=.*", re.DOTALL)
_HTTP = re.compile(r"https?://[^?]*")
# Inside a text, where a path may have made one slash of two.
_USER_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/{1,2})[^\s/@'\"]+@")
_QUERY_IN_TEXT = re.compile(r"(https?:/{1,2}[^\s'\"?]*)\?[^\s'\"]+|\?[\w.~%+&-]*=[^\s'\"]*")


def is_uri(name: str) -> bool:
    """Whether a name is a URI, and not that of a local file."""
    return _SCHEME.match(name) is not None


def file_name(name: str) -> str:
    """The last part of a path or URI."""
    # Called for every row of a manifest: pathlib would be most of the work.
    return shown(name).rstrip("/").rpartition("/")[2] if is_uri(name) else os.path.basename(name)  # noqa: PTH119


def shown(name: str) -> str:
    """A name as records and messages carry it: without what may be a secret."""
    if not is_uri(name):
        return name
    if "?" in name:
        name = name.removesuffix(REMOVED)
        http = _HTTP.search(name)
        name = name[: http.end()] if http else _QUERY.sub("", name)
    return _USER.sub("", name) if "@" in name else name


def without_secrets(text: str) -> str:
    """A URI as files may keep it, or any text with the URIs in it: :data:`REMOVED` says where something is left out."""
    if is_uri(text):
        kept = shown(text)
        return kept if kept == text else kept + REMOVED
    if ":/" not in text:
        return text
    return _QUERY_IN_TEXT.sub(lambda m: (m[1] or "") + REMOVED, _USER_IN_TEXT.sub(r"\1", text))


__all__ = ["REMOVED", "file_name", "is_uri", "shown", "without_secrets"]
