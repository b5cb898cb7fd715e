"""Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol


class Progress(Protocol):
    """What ``fit`` tells of itself."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Training of ``epochs`` epochs with ``steps`` steps each begins; ``done`` steps were done before."""

    def step(self, epoch: int, loss: float) -> None:
        """One step of epoch ``epoch`` (from 1) is done."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is done; ``record`` is its line of ``metrics.jsonl``."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def stop(self) -> None:
        """Training has ended, well or not."""


class Silence:
    """Says nothing."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Nothing to say."""

    def step(self, epoch: int, loss: float) -> None:
        """Nothing to say."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Nothing to say."""

    def note(self, text: str) -> None:
        """Nothing to say."""

    def stop(self) -> None:
        """Nothing to say."""


class Lines:
    """Plain lines: one per epoch, and one every half minute within it, for logs."""

    pause_s = 30.0

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Remembers the length."""
        self._epochs, self._total, self._done = epochs, epochs * steps, done
        self._began, self._before = time.monotonic(), done
        self._said = self._began

    def step(self, epoch: int, loss: float) -> None:
        """A line with the time left, now and then."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= self.pause_s:
            self._said = now
            left = (now - self._began) / (self._done - self._before) * (self._total - self._done)
            self.note(f"epoch {epoch}/{self._epochs}: loss {loss:.4f}, {left / 60:.1f} min left")

    def epoch(self, record: Mapping[str, Any]) -> None:
        """The epoch's figures."""
        self.note(epoch_line(record, self._epochs))

    def note(self, text: str) -> None:
        """One line on stderr."""
        print(text, file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Nothing is left open."""


class Bar(Lines):
    """A rich progress bar over all steps, with lines above it."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Draws the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        super().start(epochs, steps, done)
        text, loss = TextColumn("{task.description}"), TextColumn("loss {task.fields[loss]}")
        columns = (text, BarColumn(), MofNCompleteColumn(), loss, TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("training", total=self._total, completed=done, loss="-")
        self._bar.start()

    def step(self, epoch: int, loss: float) -> None:
        """Moves the bar."""
        self._bar.update(self._task, advance=1, description=f"epoch {epoch}/{self._epochs}", loss=f"{loss:.4f}")

    def note(self, text: str) -> None:
        """One line above the bar."""
        if hasattr(self, "_bar"):
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            super().note(text)

    def stop(self) -> None:
        """Removes the bar."""
        if hasattr(self, "_bar"):
            self._bar.stop()


def make_progress(quiet: bool) -> Progress:
    """The kind of progress that fits the settings and stderr."""
    if quiet:
        return Silence()
    return Bar() if sys.stderr.isatty() else Lines()


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """One epoch in words, e.g. ``epoch 3/12: loss 0.4121, mAP 0.310, mAP50 0.720, 6.9 slices/s``."""
    figures = ", ".join(f"{k} {'-' if v is None else f'{v:.3f}'}" for k, v in record["metrics"].items())
    speed = f"{record['slices_per_second']:.1f} slices/s, {record['seconds']:.0f} s"
    return f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.4f}, {figures}, {speed}"
