"""The folder of a run: it is for one training at a time, and what a killed one left half-written is removed."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from detectclf.errors import DataError, TrainingError
from detectclf.leftovers import is_unfinished

LOCK_WAIT_S = 6.0
"""How long a new process waits for the one before to be gone: of a training that was killed, loader processes notice it
within five seconds, and processes of torchrun within one."""

_LOCK = ".lock"
# Checkpoints of earlier versions were written by safetensors, by way of such a file.
_OLD_LEFTOVERS = ".tmp??????"


def check_folder(path: Path) -> None:
    """Makes sure that nothing but a run is in ``path``, if it is there at all.

    Raises:
        DataError: it is a file, or a folder with other things in it.
    """
    if path.exists() and not path.is_dir():
        raise DataError("is a file, not a folder", file=path, remedy="choose another --out")
    if not path.is_dir() or (path / "config.yaml").is_file() or (path / "model.json").is_file():
        return
    # A training that was killed at once leaves its lock, and a config.yaml that it had not finished.
    if any(inside.name != _LOCK and not is_unfinished(inside) for inside in path.iterdir()):
        raise DataError("is not empty and not a run directory", file=path, remedy="choose another --out")


def lock_folder(path: Path) -> FileLock:
    """Keeps other processes from training into ``path`` until the lock is released or this process is gone.

    Raises:
        TrainingError: another process does.
        OSError: no file can be made in it.
    """
    lock = FileLock(path / _LOCK)
    try:
        lock.acquire(timeout=LOCK_WAIT_S)
    except Timeout:
        reason, remedy = "another process is training into this folder", "wait until it ends, or choose another --out"
        raise TrainingError(reason, file=path, remedy=remedy) from None
    return lock


def remove_leftovers(path: Path) -> None:
    """Removes files that a training was writing when it was killed.

    Raises:
        OSError: they cannot be removed.
    """
    for folder in (path, path / "last"):
        for inside in list(folder.iterdir()) if folder.is_dir() else []:
            if is_unfinished(inside) or (folder.name == "last" and inside.match(_OLD_LEFTOVERS)):
                inside.unlink(missing_ok=True)
