"""What the API pages need beside the docstrings: links for Sphinx roles, and a table of each group of settings.

A griffe extension, named in mkdocs.yml. It reads source text and imports nothing of the package.
"""

from __future__ import annotations

import html
import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`(~?)([\w.]+)`")
SETTINGS_MODULE = "detectclf.config"
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}


class Docstrings(griffe.Extension):
    """Rewrites docstrings before they are rendered."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Turns Sphinx roles into links."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(_link, obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Appends a table of its settings to the docstring of every class of the settings module."""
        if cls.parent is None or cls.parent.path != SETTINGS_MODULE or cls.docstring is None:
            return
        rows = [_row(member) for member in cls.attributes.values() if _is_setting(member)]
        if rows:
            head = ["| setting | type | default | meaning |", "|---|---|---|---|"]
            cls.docstring.value += "\n\n" + "\n".join([*head, *rows])


def _link(match: re.Match[str]) -> str:
    short, path = match.groups()
    shown = path.rpartition(".")[2] if short else path
    # Optional: a name that has no page, private or of another package, stays plain text.
    return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'


def _is_setting(member: griffe.Attribute) -> bool:
    # Class variables lack the label, pydantic's own `model_config` the annotation.
    return "instance-attribute" in member.labels and member.annotation is not None


def _row(member: griffe.Attribute) -> str:
    meaning = " ".join(member.docstring.value.split()) if member.docstring is not None else ""
    cells = [_code(member.name), _code(_type(member)), _code(_default(member)), meaning.replace("|", "&#124;")]
    return "| " + " | ".join(cells) + " |"


def _code(text: str) -> str:
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def _type(member: griffe.Attribute) -> str:
    """The annotation as a reader wants it: ``Annotated[int, Field(ge=1, le=9)]`` becomes ``int ≥ 1, ≤ 9``."""
    text = str(member.annotation)
    for name, alias in (member.module.attributes if member.module is not None else {}).items():
        if str(alias.value).startswith("Annotated["):
            text = re.sub(rf"\b{name}\b", str(alias.value), text)
    text = re.sub(r"Annotated\[(.+?), Field\((.*?)\)\]", lambda m: f"{m[1]} {_bounds(m[2])}", text)
    return re.sub(r"Literal\[(.+?)\]", lambda m: m[1].replace("'", "").replace(", ", " | "), text)


def _bounds(text: str) -> str:
    pairs = (part.split("=", 1) for part in text.split(", "))
    return ", ".join(f"{BOUNDS.get(name, name)} {value.replace(' ', '')}" for name, value in pairs)


def _default(member: griffe.Attribute) -> str:
    text = str(member.value).strip("'")
    return "{}" if text == "Field(default_factory=dict)" else text


__all__ = ["Docstrings"]
