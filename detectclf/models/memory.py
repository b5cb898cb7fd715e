"""Keeping freed memory within the process, where giving it back costs more than the arithmetic it makes room for."""

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
    """Tells glibc to serve large tensors from the heap and to keep what is freed; once per process.

    By default every buffer of some MiB is mapped and unmapped anew, and the kernel fills it with zeros page by page:
    a quarter of the time of a training step on a CPU. Other allocators are left alone, and so is whoever has set
    glibc's own variables, which say the same things.

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
