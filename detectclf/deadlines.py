"""A limit on the time of a call that waits for another machine, which may send a byte now and then for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """The result of ``call()``, which runs in a thread of its own and is left behind there if it takes too long.

    Timeouts of sockets start again with every byte, so that they limit no whole answer. A result that comes too late
    is closed, if it is something that can be.

    Raises:
        TimeoutError: it has not ended after ``seconds``.
        BaseException: what ``call`` raised.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    wait([future], seconds)
    if not future.done():
        future.add_done_callback(_close)
        raise TimeoutError(f"no whole answer within {seconds:g} s")
    return future.result()


def _close(late: Future[Result]) -> None:
    close = None if late.exception() else getattr(late.result(), "close", None)
    if close is not None:
        with suppress(Exception):  # nobody waits for it any more, and futures print what a callback raises
            close()


__all__ = ["within"]
