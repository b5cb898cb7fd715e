"""A limit on the time of a call that waits for another machine, which may send a byte now and then for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """The result of ``call()``, which runs in a thread of its own and is left behind there if it takes too long.

    Timeouts of sockets start again with every byte, so that they limit no whole answer.

    Raises:
        TimeoutError: it has not ended after ``seconds``.
        BaseException: what ``call`` raised.
    """
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no whole answer within {seconds:g} s")
    return done[0]


__all__ = ["within"]
