"""What the engines need to know of the processor: the instructions it has, and the threads that the user allows."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_lacks(cpu: Path = Path("/proc/cpuinfo")) -> str | None:
    """The instruction set that OpenVINO needs and this CPU lacks; ``None`` where none is known to be missing.

    Its system requirements name SSE4.2 for x86; AVX2 and later ones only make it faster. A program that uses what the
    CPU lacks is ended by the system, which no error handling can turn into a message.

    Args:
        cpu: where Linux describes the CPU.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return None
    try:
        lines = cpu.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # another system
        return None
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    return None if flags is None or "sse4_2" in flags else "SSE4.2"


def thread_limit() -> int | None:
    """Threads that the user allows by ``OMP_NUM_THREADS``, which torch obeys as well; ``None`` without a limit."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


__all__ = ["cpu_lacks", "thread_limit"]
