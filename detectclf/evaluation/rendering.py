"""The jinja2 templates of the report, the leader board and the model card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from detectclf.errors import one_line
from detectclf.evaluation.headlines import show, show_interval

if TYPE_CHECKING:
    from jinja2 import Environment


_ENTITY = re.compile(r"&(?=#?\w+;)")


def environment() -> Environment:
    """The templates with their filters; HTML is escaped, an unknown name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("detectclf.evaluation"),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters.update(
        show=show, percent=lambda value: show(value, percent=True), interval=show_interval, plain=markdown_text
    )
    return templates


def markdown_text(value: object) -> str:
    """``value`` on one line, with the characters that Markdown or HTML reads as markup escaped.

    Angle brackets become entities: not every reader of Markdown knows a backslash before them.
    """
    text = _ENTITY.sub("&amp;", one_line(value)).replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + ch if ch in "\\`*_[]|#~" else ch for ch in text)


def flat(metadata: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested metadata as (dotted name, value) pairs; lists of plain values on one line."""
    if isinstance(metadata, Mapping):
        for key, value in metadata.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(metadata, list) and any(isinstance(item, (Mapping, list)) for item in metadata):
        for number, item in enumerate(metadata, start=1):
            yield from flat(item, f"{prefix} {number}")
    elif isinstance(metadata, list):
        yield prefix, ", ".join(str(item) for item in metadata) or "none"
    else:
        yield prefix, "–" if metadata is None else str(metadata)
