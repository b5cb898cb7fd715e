"""``config show``: every setting with its default, the values it may have and what it means."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from detectclf.config import (
    BundleRecipe,
    ClassifierRecipe,
    DetectorRecipe,
    EvaluateRecipe,
    ServeConfig,
    Settings,
)
from detectclf.errors import ConfigError
from detectclf.recipes import close_to

RECIPES: Mapping[str, tuple[type[Settings], str]] = {
    "detector": (DetectorRecipe, "train-detector"),
    "classifier": (ClassifierRecipe, "train-classifier"),
    "bundle": (BundleRecipe, "bundle"),
    "evaluate": (EvaluateRecipe, "evaluate"),
    "serve": (ServeConfig, "serve"),
}
"""Stage or command -> its settings, and the command that ``--set`` and ``--config`` give them to."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: dotted name, as ``--set`` takes it.
        default: its value where nobody sets it, as YAML has it.
        values: what it may be.
        meaning: what it does, with its unit.
    """

    key: str
    default: Any
    values: str
    meaning: str


def show_settings(stage: str, text: str = "") -> list[Setting]:
    """The settings of ``stage``, a key of :data:`RECIPES`, that have ``text`` in their name or meaning.

    Raises:
        ConfigError: there is no such stage.
    """
    if stage not in RECIPES:
        remedy = f"choose {', '.join(RECIPES)}"
        raise ConfigError(f"no settings of {stage!r}{close_to(stage, RECIPES)}", remedy=remedy)
    settings = _settings_of(RECIPES[stage][0](), "")
    return [s for s in settings if text.casefold() in f"{s.key} {s.meaning}".casefold()]


def settings_table(stage: str, settings: Sequence[Setting]) -> str:
    """The settings as text: name and default in a line, below it the values and the meaning."""
    if not settings:
        others = ", ".join(name for name in RECIPES if name != stage)
        return f"no setting of --stage {stage} has this text in its name or meaning; other stages: {others}"
    lines = [
        f"settings of `detectclf {RECIPES[stage][1]}`; change one with --set KEY=VALUE, or in a YAML file (--config)"
    ]
    for setting in settings:
        lines += ["", f"{setting.key} = {_as_yaml(setting.default)}    [{setting.values}]"]
        lines += textwrap.wrap(setting.meaning, 110, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _settings_of(settings: Settings, prefix: str) -> Iterator[Setting]:
    documented = _docstrings(type(settings))
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from _settings_of(value, f"{prefix}{name}.")
        else:
            default = settings.model_dump(mode="json", include={name})[name]
            yield Setting(prefix + name, default, _values(field.annotation, field.metadata), documented.get(name, ""))


def _docstrings(kind: type[Settings]) -> dict[str, str]:
    """Name of a setting -> the text under it in the source, which Python itself does not keep."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not issubclass(each, Settings):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for line, text in pairwise(lines):
            if isinstance(line, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(line.target)] = " ".join(str(text.value.value).replace("``", "").split())
    return found


def _values(annotation: Any, metadata: Sequence[Any]) -> str:
    """Such as ``whole number, 1 or more`` or ``adamw, sgd``."""
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    parts = get_args(annotation)
    if hasattr(annotation, "__metadata__"):  # Annotated[int, Field(ge=1)] as a part of another type
        inner = [limit for each in annotation.__metadata__ for limit in getattr(each, "metadata", [each])]
        return _values(annotation.__origin__, inner)
    if type(None) in parts:
        rest = [_values(part, metadata) for part in parts if part is not type(None)]
        return f"{' or '.join(rest)}, or null"
    if annotation is not None and get_origin(annotation) in (tuple, list):
        return f"list of {_values(parts[0], ())}"
    if get_origin(annotation) is dict:
        return f"{_values(parts[0], ())}: {_values(parts[1], ())}"
    return ", ".join([_KINDS.get(annotation, getattr(annotation, "__name__", str(annotation))), *_limits(metadata)])


_KINDS: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def _limits(metadata: Sequence[Any]) -> list[str]:
    words = {"ge": "{} or more", "gt": "above {}", "le": "{} or less", "lt": "below {}"}
    return [
        text.format(f"{getattr(limit, name):g}")
        for limit in metadata
        for name, text in words.items()
        if getattr(limit, name, None) is not None
    ]


def _as_yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("\n...\n").strip()


__all__ = ["RECIPES", "Setting", "settings_table", "show_settings"]
