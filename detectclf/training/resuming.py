"""What of a training goes into a checkpoint, and back: model, average, optimiser, scaler and progress."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.optim import Optimizer

from detectclf.errors import ModelError
from detectclf.training.checkpoints import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    set_aside,
)
from detectclf.training.processes import on_main
from detectclf.training.runs import Run
from detectclf.training.train_state import TrainState

log = logging.getLogger(__name__)

_STATE = "place"
"""Key of the :class:`TrainState` in a checkpoint, its former name."""


@dataclass(frozen=True)
class Resumable:
    """The parts of a training that change as it goes on, in one of its processes."""

    accelerator: Accelerator
    run: Run
    model: nn.Module
    average: nn.Module
    optimizer: Optimizer

    def save(self, state: TrainState, steps: int) -> None:
        """Writes a checkpoint; all processes must call this at the same step.

        Args:
            state: of this process.
            steps: of an epoch.

        Raises:
            TrainingError: it cannot be written.
        """
        sums = gather_object([state.sums]) if self.accelerator.num_processes > 1 else [state.sums]

        def write() -> None:
            tensors = {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": optimizer_tensors(self.optimizer),
            }
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None
            save_checkpoint(self.run.last, tensors, {_STATE: state.to_record(sums, steps), "scaler": scaler})

        on_main(self.accelerator, write)

    def restore(self, steps: int) -> TrainState | None:
        """Takes the newest checkpoint that is whole; ``None`` if there is none yet.

        Args:
            steps: of an epoch.

        Raises:
            ModelError: it belongs to another model, or processes see different ones.
        """
        self.accelerator.wait_for_everyone()
        found = load_checkpoint(self.run.last)
        state = None if found is None else self._restore(found.tensors, found.state, steps)
        place = None if state is None else (state.epoch, state.step)
        if self.accelerator.num_processes > 1 and len(set(gather_object([place]))) > 1:
            reason, remedy = "processes see different checkpoints", "give an --out that all machines share"
            raise ModelError(reason, file=self.run.last, remedy=remedy)
        for path in found.damaged if found is not None and self.run.writes else ():
            text = "%s: this checkpoint is damaged; going on from the one before, after %d epochs and %d steps"
            log.warning(text, path, *(place or ()))
            set_aside(path)
        return state

    def _restore(self, tensors: Mapping[str, Mapping[str, Any]], saved: Mapping[str, Any], steps: int) -> TrainState:
        accelerator = self.accelerator
        try:
            self.model.load_state_dict(tensors["model"])
            self.average.load_state_dict(tensors["average"])
            restore_optimizer(self.optimizer, tensors.get("optimizer", {}))
            state = TrainState.from_record(saved[_STATE], accelerator.process_index, accelerator.num_processes, steps)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = "the checkpoint belongs to another model"
            raise ModelError(reason, file=self.run.last, remedy="give the settings that it was started with") from error
        if accelerator.scaler is not None and saved["scaler"]:
            accelerator.scaler.load_state_dict(saved["scaler"])
        return state
