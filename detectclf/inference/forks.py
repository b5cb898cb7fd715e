"""Ends OpenCV's worker threads before this process is forked, so that the new process can exit.

When a process exits, OpenCV waits for its workers. A forked process has no copy of them: where one of them held its
lock at the time of the fork, the exit would wait for ever. OpenCV starts workers again when it next needs them.
"""

from __future__ import annotations

import os
import sys

_threads: list[int] = []
"""How many threads OpenCV was allowed before the forks that are under way."""


def _end_workers() -> None:
    # Not imported here: a program that never decoded a picture has no workers.
    cv2 = sys.modules.get("cv2")
    if cv2 is None or not hasattr(cv2, "setNumThreads"):  # not there, or half imported by another thread
        return
    allowed = cv2.getNumThreads()
    if allowed > 1:
        _threads.append(allowed)
        cv2.setNumThreads(1)


def _allow_workers() -> None:
    if _threads:
        sys.modules["cv2"].setNumThreads(_threads.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_end_workers, after_in_parent=_allow_workers, after_in_child=_allow_workers)
