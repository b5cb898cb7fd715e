"""Progress on stderr: a bar with the time left on a terminal, a line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

PAUSE_S = 10.0
"""Seconds between two lines where there is no terminal; work that takes less says nothing."""


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says every :data:`PAUSE_S` seconds that work without countable steps goes on, unless a :class:`Progress` does.

    Args:
        what: the work, such as ``measuring the figures``.
    """
    if not _shown():
        yield
        return
    ended, began = threading.Event(), time.monotonic()

    def say() -> None:
        while not ended.wait(PAUSE_S):
            if not _counted:
                print(f"{what}: {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)

    thread = threading.Thread(target=say, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


_counted: list[str] = []
"""The work that a :class:`Progress` shows at present."""


def _shown() -> bool:
    return logging.getLogger("detectclf").isEnabledFor(logging.INFO)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


class Progress:
    """How far a piece of work has got: ``with Progress("reading slices", 2197) as progress: ... progress.advance()``.

    Args:
        what: the work, such as ``reading slices``.
        total: steps in all; may be set until the work begins, and then by :meth:`expect`.
        done: steps that were done before; may be set until the work begins.
        show: whether anything is shown; by default where the package's log shows its ``INFO`` lines.
    """

    def __init__(self, what: str, total: int = 0, *, done: int = 0, show: bool | None = None) -> None:
        self.what, self.total, self.done = what, total, done
        self.show = _shown() if show is None else show
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        _counted.append(self.what)
        self._first = self.done
        self._began = self._last_line = time.monotonic()
        if self.show and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Bar(
                *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
            )
            self._task = self._bar.add_task(self.what, total=self.total, completed=self.done)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        _counted.remove(self.what)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, steps: int = 1, detail: str = "") -> None:
        """Counts ``steps`` more as done; ``detail`` says where it is, such as ``epoch 3/12: loss 0.4121``."""
        self.done += steps
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, description=detail or self.what)
            return
        now = time.monotonic()
        if self.show and self.done > self._first and now - self._last_line >= PAUSE_S:
            self._last_line = now
            left = (now - self._began) / (self.done - self._first) * (self.total - self.done)
            self.note(f"{detail or f'{self.what}: {self.done} of {self.total}'}, {_duration(left)} left")

    def expect(self, steps: int) -> None:
        """Says that ``steps`` are left, where that shows only as the work goes on."""
        self.total = self.done + steps
        if self._bar is not None:
            self._bar.update(self._task, total=self.total)

    def note(self, text: str) -> None:
        """One line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self.show:
            print(text, file=sys.stderr, flush=True)


__all__ = ["Progress", "working"]
