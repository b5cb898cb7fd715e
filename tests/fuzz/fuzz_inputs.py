"""Changed copies of genuine files: by bytes, by words of a dictionary, and for JSON by values.

Strategies of Hypothesis, so that a finding shrinks to the smallest change that shows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

# What parsers stumble over, as bytes and as values of JSON.
WORDS = (
    b"", b"\0", b"\xff", b"\n", b"\r", b'"', b"'", b",", b";", b":", b"{", b"}", b"[", b"]", b"<", b"&", b"*", b"- ",
    b"null", b"true", b"NaN", b"1e999", b"-1", b"0", b"-0.0", b"9" * 5000, b"[" * 2000, b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"../", b"/etc/passwd", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**30, -(10**30), 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "0", "nan", "a\0b", "\ud800", "../a", "x" * 300, [], [[]], [None], [1, 2], {}, {"a": 1}, {"": None},
)  # fmt: skip


@st.composite
def changed_bytes(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` with up to six changes: bytes and words written over or in, parts doubled or left out."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        # Headers are where sizes and types are.
        most = draw(st.sampled_from((64, 512, len(content))))
        at = draw(st.integers(0, max(0, min(most, len(content)) - 1)))
        length = draw(st.integers(0, 16))
        kind = draw(st.sampled_from(("flip", "word", "insert", "remove", "double", "cut", "bytes")))
        if kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind in ("word", "insert"):
            word = draw(st.sampled_from(WORDS))
            content[at : at + (len(word) if kind == "word" else 0)] = word
        elif kind == "remove":
            del content[at : at + length]
        elif kind == "double":
            content[at:at] = content[at : at + length * 8]
        elif kind == "cut":
            del content[at:]
        elif kind == "bytes":
            content[at : at + length] = draw(st.binary(max_size=16))
    return bytes(content)


@st.composite
def changed_json(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds``, JSON documents or JSON Lines, with up to three values replaced, left out or given twice."""
    lines = [json.loads(line) for line in _documents(draw(st.sampled_from(seeds)))]
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(lines))
        parent, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(("replace", "replace", "remove", "double", "rename")))
        if kind == "replace":
            parent[key] = deepcopy(draw(st.sampled_from(VALUES)))  # a later change may be inside it
        elif kind == "remove" and parent is not lines:
            del parent[key]
        elif kind == "double" and isinstance(parent, list):
            parent.insert(key, deepcopy(parent[key]))
        elif kind == "rename" and isinstance(parent, dict):
            parent[draw(st.sampled_from(("", "x", "id", "__class__")))] = parent.pop(key)
    return "\n".join(json.dumps(line) for line in lines).encode()


def _documents(content: bytes) -> list[str]:
    text = content.decode()
    try:
        json.loads(text)
    except ValueError:
        return text.splitlines()
    return [text]


def _places(node: Any) -> Any:
    """``(parent, key)`` of every value inside ``node``."""
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    for key, value in items:
        yield node, key
        yield from _places(value)
