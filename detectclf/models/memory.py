"""Keeps freed memory in the process, because returning it to the kernel costs more than the computation itself."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

# From malloc.h; glibc has never changed them.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST_INT = 2**31 - 1
_ENVIRONMENT = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Tells glibc to allocate large tensors on the heap and to keep freed memory; once per process.

    By default every buffer of some MiB is mapped and unmapped each time, and the kernel fills it with zeros page by
    page, which takes a quarter of a training step on a CPU. Nothing is changed for other allocators, or if the user has
    set glibc's environment variables for the same purpose.

    Returns:
        Whether it was done.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _ENVIRONMENT):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT))


__all__ = ["keep_freed_memory"]
