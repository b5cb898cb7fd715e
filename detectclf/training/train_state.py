"""How far a training has got: everything in a checkpoint but the tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainState:
    """The progress of a training.

    Attributes:
        epoch, step: finished epochs, and finished steps of the current epoch.
        sums: sums of the losses over those steps, of this process.
        seconds: time spent on those steps.
        best, best_epoch: best value of the task's metric so far and its epoch (from 1).
        stale: epochs since the best value last rose.
        records: lines of ``metrics.jsonl``.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best: float = float("-inf")
    best_epoch: int | None = None
    stale: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)

    def to_record(self, sums: Sequence[Mapping[str, float]], steps: int) -> dict[str, Any]:
        """As JSON.

        Args:
            sums: of each process.
            steps: of an epoch.
        """
        best = self.best if self.best_epoch else None  # JSON has no infinity
        return dataclasses.asdict(self) | {"best": best, "sums": list(sums), "steps": steps}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], process: int, processes: int, steps: int) -> TrainState:
        """What :meth:`to_record` gave, for one of several processes.

        If an epoch has another number of steps now, as with changed data, the epoch is begun again. If there is another
        number of processes, each gets the mean of the sums, which leaves their mean as it is.

        Raises:
            KeyError, TypeError, ValueError: not such a record.
        """
        values, sums = dict(record), record["sums"]
        values["best"] = float("-inf") if record["best"] is None else record["best"]
        if isinstance(sums, Mapping):  # of an earlier version, which kept those of the main process
            sums = [sums]
        values["sums"] = dict(sums[process]) if len(sums) == processes else _mean(sums)
        if values.pop("steps", steps) != steps:
            values |= {"step": 0, "sums": {}, "seconds": 0.0}
        return cls(**values)


def _mean(sums: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(part[name] for part in sums) / len(sums) for name in sums[0]}
