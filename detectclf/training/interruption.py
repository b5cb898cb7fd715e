"""Ends a training: on SIGINT or SIGTERM after a step, so that a checkpoint can be saved; at once with its launcher."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from types import FrameType, TracebackType
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

Item = TypeVar("Item")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_EVERY_S = 0.5


class Interruption:
    """Inside the context, the first SIGINT or SIGTERM only sets a flag; a second one stops immediately.

    Args:
        note: called with a message at the first signal.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.requested = False
        self._note = note
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        # Only the main thread may set handlers; other threads (as in a notebook) receive no signals.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process was interrupted; all processes must call this at the same step."""
        if accelerator.num_processes == 1:
            return self.requested
        flag = torch.tensor([float(self.requested)], device=accelerator.device)
        return bool(accelerator.reduce(flag, reduction="sum").item() > 0)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._note("stopping after this step, then saving; interrupt again to stop immediately")


def uninterrupted(loader: Iterable[Item]) -> Iterator[Item]:
    """The items of ``loader``, whose processes are started without an ear for SIGINT and SIGTERM.

    A signal to the whole process group is for the training: it ends its loader processes itself, after its last step.
    """
    items = iter(loader)
    with _signals_held():
        first = list(islice(items, 1))
    return chain(first, items)


def end_with_launcher() -> None:
    """Ends this process within a second after its parent, the launcher of several processes, is gone.

    The launcher ends its processes when it is asked to stop, but not when it is killed: they would train on unseen,
    and write into a run that is resumed meanwhile.
    """
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(_LOOK_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="launcher watch", daemon=True).start()


@contextmanager
def _signals_held() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
