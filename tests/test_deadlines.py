"""A limit on the time of a call: what comes too late is closed, and says nothing."""

from __future__ import annotations

import threading

import pytest

from detectclf.deadlines import within


class _Answer:
    """An answer of another machine."""

    def __init__(self, *, fails: bool) -> None:
        self.closed, self._fails = threading.Event(), fails

    def close(self) -> None:
        self.closed.set()
        if self._fails:
            raise OSError("connection lost")


@pytest.mark.parametrize("fails", [False, True], ids=["closes", "cannot be closed"])
def test_an_answer_that_comes_too_late_is_closed_without_a_word(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    answer, late = _Answer(fails=fails), threading.Event()

    def call() -> _Answer:
        late.wait(30)
        return answer

    before = set(threading.enumerate())
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        within(0.01, call)
    (thread,) = set(threading.enumerate()) - before
    late.set()
    thread.join(30)
    assert answer.closed.is_set() and not caplog.records


def test_an_error_of_the_call_is_the_callers() -> None:
    def call() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        within(30, call)
