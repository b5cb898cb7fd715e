"""The only training loop: sum the losses of a task, check them, step. Accelerate runs it on one process or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import nn

from detectclf.config import TrainingConfig
from detectclf.datasets.batches import Batches
from detectclf.datasets.loading import make_loader
from detectclf.errors import DivergedError
from detectclf.models.memory import keep_freed_memory
from detectclf.models.transfer import TransferModel
from detectclf.models.xla import compute_now, no_gradients
from detectclf.progress import Progress
from detectclf.training.depthwise import depthwise_in_float32
from detectclf.training.environment import describe_environment, peak_memory_mib, seed_everything
from detectclf.training.epoch_text import epoch_line, resumed, stopped_early
from detectclf.training.interruption import Interruption, end_with_launcher
from detectclf.training.optimization import build_optimizer, lr_factor, moving_average, set_lr
from detectclf.training.processes import global_batch, make_accelerator, on_main, prepare_loader
from detectclf.training.resuming import Resumable
from detectclf.training.runs import Run
from detectclf.training.tasks import Task
from detectclf.training.trackers import Trackers
from detectclf.training.train_state import TrainState


@dataclass(frozen=True)
class History:
    """The result of a training: one record per epoch, as in ``metrics.jsonl``, and the best epoch (from 1)."""

    records: list[dict[str, Any]]
    best_epoch: int | None

    @property
    def best(self) -> dict[str, Any]:
        """The record of the best epoch."""
        return next((r for r in self.records if r["epoch"] == self.best_epoch), {})


def fit(
    task: Task,
    config: TrainingConfig,
    run: Run,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
    after_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> History:
    """Trains ``task.model``; the run directory then holds the averaged weights of the best epoch.

    Args:
        task: model, losses, slices and metrics.
        config: settings of the training.
        run: the run directory to write to.
        resume: continue from the run's checkpoint, if it has one, exactly as if there had been no interruption.
        progress: shows steps and epochs, in the main process.
        workers: loader processes, see :func:`detectclf.datasets.loading.make_loader`.
        after_epoch: called with the record of each epoch once its checkpoint is saved; may end the training by raising.

    Raises:
        DivergedError: a loss is not finite (with the names of the batch's files).
        TrainingError: the run cannot be written.
        ModelError: the checkpoint belongs to another model.
        DeviceError: the device is not available.
        DataError: a slice cannot be read.
        KeyboardInterrupt: SIGINT or SIGTERM arrived; the checkpoint is saved.
    """
    accelerator = make_accelerator(config)
    if accelerator.num_processes > 1:
        end_with_launcher()
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    loop = _Loop(accelerator, task, config, run, workers)
    trackers = Trackers(config.trackers, run)
    if progress is None or not accelerator.is_main_process:
        progress = Progress("training", show=False)
    if resume:
        loop.restore()
    progress.total, progress.done = config.epochs * loop.steps, loop.state.epoch * loop.steps + loop.state.step
    try:
        with progress, Interruption(progress.note) as interruption, trackers:
            on_main(accelerator, lambda: trackers.start(loop.state.records))
            environment = describe_environment(accelerator.device, loop.precision, accelerator.num_processes)
            run.write_json("env.json", environment)
            if loop.state.epoch or loop.state.step:
                progress.note(resumed(loop.state.epoch, loop.state.step, loop.steps, config.epochs))
            while loop.state.epoch < config.epochs and not (config.patience and loop.state.stale >= config.patience):
                loop.train_epoch(progress, interruption)
                loop.end_epoch(interruption)
                on_main(accelerator, lambda: trackers.log(loop.state.records))
                progress.note(epoch_line(loop.state.records[-1], config.epochs))
                if after_epoch is not None:
                    after_epoch(loop.state.records[-1])
                if interruption.agreed(accelerator):
                    raise KeyboardInterrupt
            if loop.state.epoch < config.epochs:
                progress.note(stopped_early(loop.state.epoch, config, task.metric, loop.state.best_epoch))
        if loop.state.best_epoch is None:
            loop.evaluate_last()  # such as a run that is resumed with fewer epochs than it has finished
    finally:
        task.train.pixels.stop()
        task.valid.pixels.stop()
        accelerator.free_memory()
    run.write_curves(loop.state.records, loop.state.best_epoch)
    return History(loop.state.records, loop.state.best_epoch)


class _Loop:
    """One training: model, optimiser, loaders and state."""

    def __init__(
        self, accelerator: Accelerator, task: Task, config: TrainingConfig, run: Run, workers: int | None
    ) -> None:
        self.accelerator, self.task, self.config, self.run = accelerator, task, config, run
        self.state = TrainState()
        self.precision = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
        self.batch = global_batch(config.batch_size, len(task.train), accelerator.num_processes)
        device = accelerator.device.type
        train = make_loader(task.train, batch_size=self.batch, seed=config.seed, workers=workers, device=device)
        valid = make_loader(task.valid, batch_size=self.batch, seed=None, workers=workers, device=device)
        assert isinstance(train.batch_sampler, Batches)
        self.batches = train.batch_sampler
        self.steps = len(train)
        if accelerator.device.type == "cpu" and self.precision == "bf16":
            depthwise_in_float32(task.model)
        if accelerator.device.type in ("cuda", "cpu"):
            task.model.to(memory_format=torch.channels_last)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
            convert(task.model)
        self.train, self.valid = prepare_loader(accelerator, train), prepare_loader(accelerator, valid)
        task.losses.to(accelerator.device)
        self.optimizer = accelerator.prepare_optimizer(build_optimizer(task.model, config))
        self.frozen = config.freeze_epochs > 0
        task.model.freeze_backbone(self.frozen)
        self.model: nn.Module = accelerator.prepare_model(task.losses)
        # After wrapping, which copies the main process's weights to the others: the average must start from those.
        self.average = moving_average(task.model, config.ema_decay)
        self.resumable = Resumable(accelerator, run, task.model, self.average, self.optimizer.optimizer)

    def train_epoch(self, progress: Progress, interruption: Interruption) -> None:
        """Runs the remaining steps of the current epoch."""
        state, began, saved = self.state, time.monotonic() - self.state.seconds, self.state.step
        if state.step == self.steps:  # it was interrupted in its evaluation
            self._set_lr(state.step - 1)  # for the record
            return
        self._freeze(state.epoch < self.config.freeze_epochs)
        self.model.train()
        self.task.train.epoch = state.epoch
        self.batches.begin(state.epoch, state.step)
        for batch in self.train:
            seed_everything(self.config.seed, state.epoch, state.step, self.accelerator.process_index)
            losses = self._step(batch)
            for name, value in losses.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            state.step += 1
            state.seconds = time.monotonic() - began
            progress.advance(detail=f"epoch {state.epoch + 1}/{self.config.epochs}: loss {sum(losses.values()):.4f}")
            # Between optimiser steps only: a checkpoint does not hold accumulated gradients.
            if not self.accelerator.sync_gradients or state.step == self.steps:
                continue
            self._stop_if_asked(interruption)
            if self.config.save_every_steps and state.step - saved >= self.config.save_every_steps:
                self.save()
                saved = state.step

    def _stop_if_asked(self, interruption: Interruption) -> None:
        if interruption.agreed(self.accelerator):
            self.save()
            raise KeyboardInterrupt

    def _step(self, batch: dict[str, Any]) -> dict[str, float]:
        self._set_lr(self.state.step)
        with self.accelerator.accumulate(self.model):
            losses = self.model(batch["images"].to(self.accelerator.device), batch["targets"])
            stacked = torch.stack([v.float() for v in losses.values()])
            self.accelerator.backward(stacked.sum())
            if self.accelerator.sync_gradients and self.config.clip_norm:
                self.accelerator.clip_grad_norm_(self.task.model.parameters(), self.config.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.accelerator.sync_gradients:
            self.average.update_parameters(self.task.model)
        # Read last: the device need not wait in the middle of the step. Nothing is saved of a step that failed.
        compute_now(self.accelerator.device)
        values = dict(zip(losses, stacked.detach().tolist(), strict=True))
        self._check_finite(values, batch)
        return values

    def _set_lr(self, step: int) -> None:
        set_lr(self.optimizer, lr_factor(self.state.epoch + step / self.steps, self.config))

    def _check_finite(self, losses: dict[str, float], batch: dict[str, Any]) -> None:
        bad = [name for name, value in losses.items() if not abs(value) < float("inf")]
        if bad:
            names = ", ".join(self.task.train.samples[t["image_id"]].name for t in batch["targets"])
            reason = f"{', '.join(bad)} is not finite in epoch {self.state.epoch + 1}, batch of {names}"
            remedy = "inspect those slices with `detectclf data check`, or lower training.lr and backbone_lr"
            raise DivergedError(reason, file=self.run.path, remedy=remedy)

    def end_epoch(self, interruption: Interruption) -> None:
        """Validates if due, saves the best model, writes the record and the checkpoint."""
        state, ended = self.state, self.state.epoch + 1
        due = ended % self.config.evaluate_every == 0 or ended == self.config.epochs
        metrics = self.evaluate(interruption) if due else {}
        losses = self._mean_losses()
        state.epoch = ended
        state.records.append(
            {
                "epoch": state.epoch,
                "loss": sum(losses.values()),
                "losses": losses,
                "lr": max(group["lr"] for group in self.optimizer.param_groups),
                "metrics": metrics,
                "seconds": round(state.seconds, 3),
                "slices_per_second": round(self.steps * self.batch / max(state.seconds, 1e-9), 3),
                "peak_memory_mib": peak_memory_mib(self.accelerator.device),
            }
        )
        if due:
            self._keep_best(metrics)
        state.step, state.sums, state.seconds = 0, {}, 0.0
        on_main(self.accelerator, lambda: self.run.write_history(state.records))
        self.save()

    def evaluate_last(self) -> None:
        """Evaluates and saves the current weights, for a run in which no epoch was evaluated."""
        metrics = self.evaluate()
        self.state.records[-1]["metrics"] = metrics
        self._keep_best(metrics)
        on_main(self.accelerator, lambda: self.run.write_history(self.state.records))
        self.save()

    def _keep_best(self, metrics: dict[str, float | None]) -> None:
        state, measured = self.state, metrics[self.task.metric]
        value = -1.0 if measured is None else measured
        # `patience` counts epochs.
        state.stale = 0 if value > state.best else state.stale + self.config.evaluate_every
        if value >= state.best:  # of equal epochs the later one, which was trained longer
            state.best, state.best_epoch = value, state.epoch
            metadata = {"epoch": state.epoch, "metrics": metrics, "training_slices": len(self.task.train)}
            on_main(self.accelerator, lambda: self.run.write_model(self.task, self._averaged(), metadata))

    def evaluate(self, interruption: Interruption | None = None) -> dict[str, float | None]:
        """Metrics of the averaged weights; every slice counts once, whatever the number of processes."""
        model = self._averaged().eval()
        if self.accelerator.num_processes > 1:
            # Each process has BatchNorm statistics of its own slices; all must evaluate with those of the main one.
            for buffer in model.buffers():
                broadcast(buffer)
        outputs: dict[int, Any] = {}
        with no_gradients(self.accelerator.device), self.accelerator.autocast():
            for batch in self.valid:
                batch["images"] = batch["images"].to(self.accelerator.device)
                outputs |= self.task.outputs(model, batch)
                if interruption is not None:
                    self._stop_if_asked(interruption)
        # By index, because Accelerate repeats slices to fill the last batch.
        parts = gather_object([outputs]) if self.accelerator.num_processes > 1 else [outputs]
        return self.task.metrics({index: out for part in parts for index, out in part.items()})

    def save(self) -> None:
        """Writes a checkpoint."""
        self.resumable.save(self.state, self.steps)

    def restore(self) -> None:
        """Continues from the run's newest checkpoint that is whole, if there is one."""
        self.state = self.resumable.restore(self.steps) or self.state

    def _mean_losses(self) -> dict[str, float]:
        names = sorted(self.state.sums)
        sums = torch.tensor([self.state.sums[n] for n in names])
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums.to(self.accelerator.device), reduction="mean")
        return dict(zip(names, (sums / self.steps).tolist(), strict=True))

    def _averaged(self) -> TransferModel:
        averaged = self.average.module
        assert isinstance(averaged, TransferModel)
        return averaged

    def _freeze(self, frozen: bool) -> None:
        if frozen == self.frozen:
            return
        self.task.model.freeze_backbone(frozen)
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        # DistributedDataParallel reads requires_grad only when it wraps: unfrozen layers need a new wrapping.
        self.model = self.accelerator.prepare_model(self.task.losses)
        self.frozen = frozen
