"""The processes of a loader: how many there are, and what each does first."""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import cache
from multiprocessing.context import BaseContext
from types import TracebackType

from detectclf.cores import decoding_threads

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def default_workers(device: str, *, cached: bool) -> int:
    """Loader processes of a training whose settings name no number: one per core up to 8, or none.

    A CPU computes the network for far longer than the milliseconds that augmentation takes, so that none are needed for
    slices in memory. A GPU would wait for a single process most of the time.

    Args:
        device: type of the device that is trained on.
        cached: whether the slices are in memory.
    """
    alone = cached and (device == "cpu" or not can_fork())
    return 0 if alone else decoding_threads()


def can_fork() -> bool:
    """Whether loader processes share the memory of this one."""
    return sys.platform == "linux"


@cache
def fork_unheard() -> BaseContext:
    """Forks processes that from their first moment on do not hear SIGINT and SIGTERM; see also begin_loader_process."""
    from multiprocessing.context import ForkContext, ForkProcess

    class Process(ForkProcess):
        def start(self) -> None:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    context = ForkContext()
    context.Process = Process  # type: ignore[misc]
    return context


def begin_loader_process(_worker: int) -> None:
    """Leaves the cores to the training, and SIGINT and SIGTERM too, unless they come from it."""
    # With a thread per core in each, loader processes slow down one another and the training.
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    sys.excepthook = _unless_left
    if hasattr(signal, "sigwaitinfo"):  # Linux
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=_end_for_parent, args=(os.getppid(),), daemon=True).start()


def _unless_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints a traceback, but not that of a thread whose connection ended because the training was killed."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _end_for_parent(parent: int) -> None:
    """Ends this process when its parent asks it to, but not when a signal goes to the whole process group.

    The training stops at the end of a step, and until then it needs its loader processes.
    """
    while signal.sigwaitinfo(_SIGNALS).si_pid != parent:
        pass
    os._exit(0)


__all__ = ["begin_loader_process", "can_fork", "default_workers", "fork_unheard"]
