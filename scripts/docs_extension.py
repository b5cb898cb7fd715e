"""What the API pages need beside the docstrings: links for Sphinx roles, entries for each of several parameters that
are documented together, and a table of each group of settings.

A griffe extension, named in mkdocs.yml. It reads source text and imports nothing of the package.
"""

from __future__ import annotations

import html
import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`(~?)([\w.]+)`")
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):\s*$")
ENTRY = re.compile(r"( +)(\w+(?:, \w+)+)(: .*)$")
SETTINGS_PACKAGE = "detectclf.config"
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}


class Docstrings(griffe.Extension):
    """Rewrites docstrings before they are rendered."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Turns Sphinx roles into links, and brings sections to the form that the parser of Google style expects."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(_link, "\n".join(_sections(obj.docstring.value.split("\n"))))

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Appends a table of its settings to the docstring of every class of the settings package."""
        if not cls.path.startswith(f"{SETTINGS_PACKAGE}.") or cls.docstring is None:
            return
        rows = [_row(member) for member in cls.attributes.values() if _is_setting(member)]
        if rows:
            head = ["| setting | type | default | meaning |", "|---|---|---|---|"]
            cls.docstring.value += "\n\n" + "\n".join([*head, *rows])


def _sections(lines: list[str]) -> list[str]:
    """The lines with ``a, b: text`` as two entries, and no colon that would make a type of prose under Returns."""
    result: list[str] = []
    section = ""
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line and not line.startswith(" "):
            section = found[1] if (found := SECTION.match(line)) else ""
        entry = ENTRY.match(line) if section in ("Args", "Attributes", "Raises") else None
        if entry is not None:
            more = at
            while more < len(lines) and lines[more].startswith(f"{entry[1]} "):
                more += 1
            for name in entry[2].split(", "):
                result += [f"{entry[1]}{name}{entry[3]}", *lines[at:more]]
            at = more
        elif section in ("Returns", "Yields") and line.startswith(" "):
            result.append(line.replace(": ", "&#58; "))
        else:
            result.append(line)
    return result


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
