"""Which settings of a run may change when it is resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detectclf.config import Settings
from detectclf.errors import ConfigError

# May differ when a run is resumed: they change how long or where it runs, not what a step learns. Slices are known
# again by their content, and a table of patients by the splits that it makes.
_FREE = (
    "training.epochs",
    "training.patience",
    "training.device",
    "training.precision",
    "training.save_every_steps",
    "training.trackers",
    "data.cache",
    "data.workers",
    "data.sources",
    "data.patients",
)
# What else of the data is named by a path; `--allow-changed-data` frees it.
_PATHS = ("data.lesion_masks", "data.head_maps")


def check_same_settings(
    path: Path,
    settings: Mapping[str, Any],
    recipe: Settings,
    *,
    allow_changed_data: bool = False,
    fixed: Sequence[str] = (),
) -> None:
    """Makes sure that a run is resumed with the settings that it was started with.

    Args:
        path: the run, for the error.
        settings: those in its ``config.yaml``.
        recipe: the present ones.
        allow_changed_data: masks and label maps may be in other folders.
        fixed: settings that may not change either.

    Raises:
        ConfigError: it is not.
    """
    free = _FREE + _PATHS if allow_changed_data else _FREE
    before, now = dict(_flat(_with_defaults(settings, recipe))), dict(_flat(recipe.model_dump(mode="json")))
    for key in sorted(before.keys() | now.keys()):
        if (key not in free or key in fixed) and before.get(key) != now.get(key):
            reason = f"was started with {key} = {before.get(key)}, not {now.get(key)}"
            raise ConfigError(reason, file=path, remedy="give the same settings, or another --out")


def _with_defaults(settings: Mapping[str, Any], recipe: Settings) -> Mapping[str, Any]:
    """``settings`` with defaults for what was added after them; these keep the old behaviour."""
    try:
        return type(recipe).model_validate(settings).model_dump(mode="json")
    except ValidationError:
        return settings  # written by a version that accepted more


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
