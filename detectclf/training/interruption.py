"""Ends a training: on SIGINT or SIGTERM after a step, so that a checkpoint can be saved; at once with its launcher."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_EVERY_S = 0.5
_ONE_S = 3.0
"""Signals within this time are one: a signal to a process group comes again from torchrun, which passes its own on."""


class Interruption:
    """Inside the context, the first SIGINT or SIGTERM only sets a flag; another one, seconds later, stops immediately.

    Args:
        note: called with a message at the first signal.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.requested = False
        self._note = note
        self._since = 0.0
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
            if time.monotonic() - self._since > _ONE_S:
                raise KeyboardInterrupt
            return
        self.requested, self._since = True, time.monotonic()
        self._note(f"stopping after this step, then saving; interrupt again after {_ONE_S:.0f} s to stop immediately")


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
