"""The search space of ``tune``: read from YAML, checked against the settings before the first trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from detectclf.config import ClassifierRecipe, DetectorRecipe, Dimension
from detectclf.documents import read_yaml
from detectclf.errors import ConfigError
from detectclf.pipelines.train import check_symmetry
from detectclf.recipes import changed, close_to, configs_folder, setting_names

if TYPE_CHECKING:
    from optuna.trial import Trial

Space = Mapping[str, Dimension]

# What all trials must have in common, or what changes no result.
_FIXED = (
    "model.weights",
    "training.epochs",
    "training.patience",
    "training.evaluate_every",
    "training.save_every_steps",
    "training.device",
    "training.seed",
)
_FREE_DATA = "data.balance"
_REMEDY = "see the files in configs/spaces/"
_KINDS: Mapping[str, str] = {
    "low": "must be a finite number",
    "high": "must be a finite number",
    "step": "must be a finite number above 0",
    "log": "must be true or false",
    "choices": "must be a list of two or more of: finite numbers, texts, true, false, null",
}
"""Part of a dimension -> what it must be; pydantic names one type of several only."""


def read_space(file: Path | None, kind: str, recipe: DetectorRecipe | ClassifierRecipe) -> Space:
    """The search space in ``file``, or the shipped one of the stage.

    Args:
        file: YAML, a mapping of dotted settings to :class:`~detectclf.config.Dimension`.
        kind: kind of stage.
        recipe: the settings that every trial starts from.

    Raises:
        ConfigError: unknown setting, one that cannot be searched, or values that the settings do not allow.
    """
    path = configs_folder() / "spaces" / f"{kind}.yaml" if file is None else file
    content = read_yaml(path, error=ConfigError, remedy=_REMEDY)
    if not isinstance(content, dict) or not content:
        raise ConfigError("a search space must be a mapping of settings to values", file=path, remedy=_REMEDY)
    known = setting_names(type(recipe)())
    space = {str(name): _dimension(path, str(name), value, known) for name, value in content.items()}
    for name, dimension in space.items():
        for value in dimension.samples:
            try:
                check_symmetry(kind, changed(recipe, {name: value}))
            except ConfigError as error:
                raise ConfigError(f"{value!r}: {error.reason}", file=path, remedy=f"correct {name}") from error
    return space


def _dimension(file: Path, name: str, value: Any, known: list[str]) -> Dimension:
    if name not in known:
        raise ConfigError(f"{name}: unknown setting{close_to(name, known)}", file=file, remedy=_REMEDY)
    if name in _FIXED or (name.startswith("data.") and name != _FREE_DATA):
        remedy = "remove it; give one value for all trials with --set"
        raise ConfigError(f"{name}: trials with other values of it cannot be compared", file=file, remedy=remedy)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: needs low and high, or choices", file=file, remedy=_REMEDY)
    try:
        return Dimension.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        part = str(first["loc"][0]) if first["loc"] else None
        where = name if part is None else f"{name}.{part}"
        reason = _KINDS.get(part, "unknown") if part else first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {reason}", file=file, remedy=_REMEDY) from error


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """The values of one trial: dotted setting -> value."""
    values: dict[str, Any] = {}
    for name, d in space.items():
        if d.choices is not None:
            values[name] = trial.suggest_categorical(name, d.choices)
        elif d.whole:
            values[name] = trial.suggest_int(name, int(d.low or 0), int(d.high or 0), step=int(d.step or 1), log=d.log)
        else:
            values[name] = trial.suggest_float(name, float(d.low or 0), float(d.high or 0), step=d.step, log=d.log)
    return values


def values_of(recipe: DetectorRecipe | ClassifierRecipe, space: Space) -> dict[str, Any] | None:
    """What ``recipe`` itself has for the settings of ``space``; ``None`` where one of its values is not in it."""
    found: dict[str, Any] = {}
    for name, dimension in space.items():
        value: Any = recipe
        for part in name.split("."):
            value = getattr(value, part)
        if not dimension.holds(value):
            return None
        found[name] = value
    return found
