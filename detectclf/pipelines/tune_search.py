"""What a search is: recipe, space, folder, number of trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from detectclf.pipelines.tune_space import Space

if TYPE_CHECKING:
    from detectclf.training.runs import Recipe

Sampler = Literal["gp", "tpe", "random"]
Pruner = Literal["median", "none"]

METRICS: Mapping[str, str] = {"detector": "mAP", "classifier": "accuracy"}
"""Kind of stage -> the figure that is searched for, that of its best epoch."""


@dataclass(frozen=True)
class Search:
    """A search, in one of its processes.

    Attributes:
        kind: kind of stage.
        wanted: the recipe that the best values go into.
        recipe: the same with what all trials have in common: held-out patients, a figure for each epoch.
        space: what is searched.
        folder: its files.
        total: trials, by all processes together.
        sampler, pruner: as for :func:`detectclf.pipelines.tune.tune`.
    """

    kind: str
    wanted: Recipe
    recipe: Recipe
    space: Space
    folder: Path
    total: int
    sampler: Sampler
    pruner: Pruner

    @property
    def metric(self) -> str:
        """Name of the figure."""
        return METRICS[self.kind]
