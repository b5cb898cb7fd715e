"""Threads that decode pictures, and that neither an interruption nor the end of the program waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE_S = 1.0


class DecodingPool:
    """A small ``ThreadPoolExecutor`` of daemon threads.

    The interpreter joins the threads of ``concurrent.futures`` when it ends, so that one read that hangs (a network
    share that is gone) would hold up Ctrl-C for ever.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"decoding-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """``function(*args, **kwargs)`` in one of the threads."""
        future: Future[T] = Future()
        self._work.put((future, lambda: function(*args, **kwargs)))
        return future

    def close(self) -> None:
        """Drops what has not begun, and ends the threads; one that hangs is left behind after a second."""
        with suppress(Empty):
            while True:
                self._work.get_nowait()
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + _PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (task := self._work.get()) is not None:
            future, call = task
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del task, future, call  # else an idle thread would keep a picture in memory


__all__ = ["DecodingPool"]
