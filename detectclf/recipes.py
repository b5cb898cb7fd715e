"""Reads settings: defaults of :mod:`detectclf.config`, then a recipe (YAML), ``--set key=value`` and named flags.

Each overrides the one before. An unknown key is an error, which names its dotted path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from detectclf.config import Settings, present_name
from detectclf.documents import parse_yaml, read_yaml
from detectclf.errors import ConfigError

Recipe = TypeVar("Recipe", bound=Settings)


def configs_folder() -> Path:
    """Folder of the YAML files that are shipped: recipes, and search spaces in ``spaces/``."""
    packaged = Path(str(resources.files("detectclf"))) / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the YAML recipes in the package."""
    return {p.stem: p for p in sorted(configs_folder().glob("*.yaml"))}


def load_recipe(
    kind: type[Recipe],
    recipe: str | None = None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Recipe:
    """Builds ``kind`` from defaults < recipe < ``--set`` assignments < named flags.

    Args:
        kind: the settings class.
        recipe: name of a shipped recipe, or path of a YAML file.
        assignments: ``dotted.key=value`` strings; the value is read as YAML.
        flags: dotted key -> value; flags that are ``None`` have no effect.

    Raises:
        ConfigError: unknown key, invalid value, or unreadable file.
    """
    merged: dict[str, Any] = kind().model_dump(exclude_unset=False)
    file, stated = None, dict[str, Any]()
    if recipe is not None:
        file = _find_recipe(recipe)
        stated = _with_present_names(_read_yaml(file), file)
        _merge(merged, stated)
    for text in assignments:
        _assign_text(merged, text)
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(merged, key, value)
    return _validated(kind, merged, file, stated)


_ELSEWHERE = {
    "learning_rate": "lr", "wd": "weight_decay", "optim": "optimizer", "batch": "batch_size", "amp": "precision",
    "imgsz": "image_size", "img_size": "image_size", "resolution": "image_size", "pretrained": "weights",
    "early_stopping": "patience", "warmup": "warmup_epochs", "rotation": "rotate_degrees", "degrees": "rotate_degrees",
    "k_folds": "folds", "freeze": "frozen", "ema": "ema_decay", "max_epochs": "epochs", "gpu": "device",
}  # fmt: skip
"""What settings are called in other programs -> their names here."""


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """``recipe`` with other values.

    Args:
        recipe: all settings.
        values: dotted key -> value.

    Raises:
        ConfigError: unknown key or invalid value.
    """
    merged = recipe.model_dump()
    for key, value in values.items():
        _assign(merged, key, value)
    return _validated(type(recipe), merged, None, {})


def _validated(kind: type[Recipe], merged: Mapping[str, Any], file: Path | None, stated: Mapping[str, Any]) -> Recipe:
    """The settings; an error names ``file`` where the value at fault is ``stated`` there."""
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        # A setting that does not exist says most: it may be that of another stage.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"])
        unknown, inner = first["type"] == "extra_forbidden", first["input"]
        while unknown and isinstance(inner, Mapping) and inner:  # an unknown group: name its first setting
            key, inner = next(iter(inner.items()))
            where += f".{key}"
        meant = _ELSEWHERE.get(_last(where), where)
        reason = f"unknown setting{close_to(meant, setting_names(kind()))}" if unknown else first["msg"]
        reason = reason.removeprefix("Value error, ")
        at_fault = file if _states(stated, first["loc"], merged) else None
        raise ConfigError(f"{where}: {reason}", file=at_fault, remedy="see `detectclf config show`") from error


def setting_names(settings: Settings, prefix: str = "") -> list[str]:
    """The dotted names of all settings."""
    names: list[str] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        names += setting_names(value, f"{prefix}{name}.") if isinstance(value, Settings) else [prefix + name]
    return names


def close_to(typed: str, known: Iterable[str]) -> str:
    """``, did you mean training.lr?`` where ``typed`` is one of ``known`` with a slip, or its last part; else empty."""
    names = list(known)
    ends = [name for name in names if _last(name) == _last(typed)]
    # Their first parts are alike anyway.
    near = [n for n in get_close_matches(typed, names, 1, 0.7) if get_close_matches(_last(typed), [_last(n)], 1, 0.5)]
    found = ends[:3] or near
    if not found:  # such as `epoch` for training.epochs
        last = {_last(name): name for name in names}
        found = [last[end] for end in get_close_matches(_last(typed), last, 1, 0.75)]
    return f", did you mean {' or '.join(found)}?" if found else ""


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _states(content: Any, place: Sequence[str | int], merged: Any) -> bool:
    """Whether a recipe states the value at fault, and neither ``--set`` nor a flag has replaced it."""
    for part in place:
        if not isinstance(content, Mapping):
            break  # inside a value, such as a list
        if part not in content:
            return False
        content, merged = content[part], merged[part]
    return bool(content == merged)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict) and key != "class_map":
            _merge(base[key], value)
        else:
            base[key] = value


def _with_present_names(content: Mapping[str, Any], file: Path, group: str = "") -> dict[str, Any]:
    """Renames settings in every layer by itself: a later layer must override an earlier one by whatever name."""
    renamed: dict[str, Any] = {}
    for key, value in content.items():
        name = present_name(f"{group}{key}").removeprefix(group)
        if name in renamed:
            raise ConfigError(f"{group}{name} is given by its former name, too", file=file, remedy="keep one of them")
        renamed[name] = _with_present_names(value, file, f"{group}{key}.") if isinstance(value, Mapping) else value
    return renamed


def _assign_text(base: dict[str, Any], text: str) -> None:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set {text!r} is not key=value", remedy="write it like --set training.epochs=20")
    _assign(base, present_name(key.strip()), parse_yaml(value, f"--set {text}", error=ConfigError, remedy="quote it"))


def _assign(base: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for depth, part in enumerate(parents):
        inner = base.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(parents[: depth + 1])}: is a value, not a group of settings")
        base = inner
    base[last] = value


def _find_recipe(recipe: str) -> Path:
    shipped = shipped_recipes()
    if recipe in shipped:
        return shipped[recipe]
    path = Path(recipe)
    if path.is_file():
        return path
    raise ConfigError(
        f"no such recipe{close_to(recipe, shipped)}",
        file=recipe,
        remedy=f"give a YAML file or one of: {', '.join(shipped) or 'none shipped'}",
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    content = read_yaml(path, error=ConfigError, remedy="correct or replace it")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError("a recipe must be a mapping of settings", file=path, remedy="see the files in configs/")
    return content


__all__ = ["changed", "close_to", "configs_folder", "load_recipe", "setting_names", "shipped_recipes"]
