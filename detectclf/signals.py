"""Signals that ask a program to end are an interruption by the user: what was finished is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP.


@contextmanager
def ended_like_interrupted() -> Iterator[None]:
    """Inside the context, SIGTERM and SIGHUP raise ``KeyboardInterrupt``, as SIGINT does.

    A signal that is ignored, as SIGHUP is under ``nohup``, stays so. Only the main thread receives signals; elsewhere
    nothing changes.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in _ENDING:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


__all__ = ["ended_like_interrupted"]
