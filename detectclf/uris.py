"""URIs, and what of them may be written or printed: no signature, key or password."""

from __future__ import annotations

import os
import re

REMOVED = "?removed"
"""Stands at the end of a URI that is written without its signature, key or password."""

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+(?:::|://)")
_SCHEMES = re.compile(r"(?:(?<=::)|^)[A-Za-z][A-Za-z0-9+.-]+(?=::|://)")
# Inside a text a path may have made one slash of two.
_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}")
# A port, an address of IPv6 and the next store of a chain have a colon too. Keys of AWS may hold slashes.
_PASSWORD = r"(?!\[[0-9a-f:.]+\][:/])[^/@:?#\s]*:(?!\d+[/?#]|:[a-z][a-z0-9+.:-]+://)"
# abfs://container@account: what stands before the @ is no user there.
_NOT_AZURE = "".join(f"(?<!{scheme}:{at})" for scheme in ("abfs", "abfss", "az", "wasb", "wasbs") for at in ("/", "//"))
# With an @ on both sides of a ? nobody knows whether the last one ends a password or stands in a query: all goes.
_REST = r"(?:[^@]*@[^?#;]*[?#;].*@.*|.*@)"
_REST_IN_TEXT = r"(?:[^@\s]*@[^?#;\s]*[?#;]\S*@\S*|\S*@)"
_USER = re.compile(rf"(?<=://)(?:{_PASSWORD}{_REST}|{_NOT_AZURE}[^/?#]*@)", re.IGNORECASE | re.DOTALL)
_USER_IN_TEXT = re.compile(
    rf"({_START.pattern})(?:{_PASSWORD}{_REST_IN_TEXT}|{_NOT_AZURE}[^\s/?#'\"]+@)", re.IGNORECASE
)
# In other schemes than HTTP's a ? may be the sign of a pattern.
_QUERY_SIGN = r"\?[\w.~%+&-]*="
_QUERY = re.compile(rf"(?<!^){_QUERY_SIGN}.*", re.DOTALL)
_HTTP = re.compile(r"https?://", re.IGNORECASE)
_PARAMETER = re.compile(r";[\w.~%-]+=[^/]*")
# A quote ends a word where no more than brackets and the like follow it.
_WORD = r"(?:[^\s'\"]|['\"](?![])},:;.>]*(?:\s|$)))"
_HTTP_IN_TEXT = re.compile(rf"https?:/{{1,2}}{_WORD}+", re.IGNORECASE)
_QUERY_IN_TEXT = re.compile(rf"{_QUERY_SIGN}{_WORD}*")


def is_uri(name: str) -> bool:
    """Whether a name is a URI, and not that of a local file."""
    return _SCHEME.match(name) is not None


def lower_schemes(name: str) -> str:
    """A URI with its schemes as libraries know them, in lower case."""
    return _SCHEMES.sub(lambda m: m[0].lower(), name)


def has_credentials(name: str) -> bool:
    """Whether a URI names a user or has a password."""
    return _USER.search(name) is not None


def file_name(name: str) -> str:
    """The last part of a path or URI."""
    # Called for every row of a manifest: pathlib would be most of the work.
    return shown(name).rstrip("/").rpartition("/")[2] if is_uri(name) else os.path.basename(name)  # noqa: PTH119


def shown(name: str) -> str:
    """A name as records and messages carry it: without what may be a secret."""
    if not is_uri(name):
        return name
    # First, since a password may hold any sign.
    name = _USER.sub("", name.removesuffix(REMOVED)) if "@" in name else name.removesuffix(REMOVED)
    if "?" not in name and "#" not in name and ";" not in name:
        return name
    http = _HTTP.search(name)
    return name[: http.start()] + _public(name[http.start() :]) if http else _QUERY.sub("", name)


def without_secrets(text: str) -> str:
    """A URI as files may keep it, or any text with the URIs in it: :data:`REMOVED` says where something is left out."""
    if is_uri(text) and ": " not in text:
        kept = shown(text)
        return kept if kept == text else kept + REMOVED
    first = _START.search(text)
    if first is None:
        return text
    before, text = text[: first.start()], _USER_IN_TEXT.sub(r"\1", text[first.start() :])
    return before + _QUERY_IN_TEXT.sub(REMOVED, _HTTP_IN_TEXT.sub(_http_kept, text))


def _public(http: str) -> str:
    """A URI of HTTP without query, fragment and parameters of its path."""
    return _PARAMETER.sub("", re.split(r"[?#]", http, maxsplit=1)[0])


def _http_kept(found: re.Match[str]) -> str:
    uri = found[0]
    public = _public(uri)
    # A sign at the end is that of a sentence.
    return uri if public == uri or uri.rstrip("?#") == public else public + REMOVED


__all__ = ["REMOVED", "file_name", "has_credentials", "is_uri", "lower_schemes", "shown", "without_secrets"]
