"""How many cores there are to use."""

from __future__ import annotations

import os

MOST_THREADS = 8
"""Threads and processes that decode or augment, at most: more than these wait for memory."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoding_threads() -> int:
    """One per core, up to :data:`MOST_THREADS`."""
    return min(usable_cores(), MOST_THREADS)


__all__ = ["MOST_THREADS", "decoding_threads", "usable_cores"]
