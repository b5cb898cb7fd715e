"""Temporary files and folders that outlive a killed process, and are removed when the next one starts.

Whoever makes one locks it (``flock``), and the system takes the lock back when the process ends, however it ends: what
nobody locks is left over. Where there are no such locks (Windows, some network disks), it is what is a day old.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

_LOCKS = find_spec("fcntl") is not None  # not on Windows
if _LOCKS:
    import fcntl

_DAY_S = 86_400.0
_FRESH_S = 2.0  # younger files may be between two steps of their owner
_TOKEN_BYTES = 8
_FILE = re.compile(rf"\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.partial")
_SCRATCH = re.compile(r"detectclf-[0-9a-f]{16}")
_cleaned: set[Path] = set()


def hold(descriptor: int) -> None:
    """Marks an open file or folder as in use until it is closed."""
    if _LOCKS:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unfinished_name() -> str:
    """A new name for a file until its content is whole."""
    return f".{secrets.token_hex(_TOKEN_BYTES)}.partial"


def is_unfinished(path: Path) -> bool:
    """Whether ``path`` has a name of :func:`unfinished_name`."""
    return _FILE.fullmatch(path.name) is not None


def remove_files(folder: Path) -> None:
    """Removes unfinished files that :func:`detectclf.files.atomic_write` left in ``folder``; looks once per process."""
    if folder not in _cleaned:
        _cleaned.add(folder)
        _remove(folder, _FILE)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new hidden folder beside ``target``, without those of earlier processes; removed at the end if still there.

    Raises:
        OSError: it cannot be made.
    """
    name = f".{target.name[:60]}."
    _remove(target.parent, re.compile(rf"{re.escape(name)}[0-9a-f]{{16}}\.partial"))
    with _folder(target.parent, name, ".partial") as made:
        yield made


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder for temporary files in the system's place for them, without those of earlier processes."""
    place = Path(tempfile.gettempdir())
    if place not in _cleaned:
        _cleaned.add(place)
        _remove(place, _SCRATCH)
    with _folder(place, "detectclf-", "", mode=0o700) as made:
        yield made


@contextmanager
def _folder(place: Path, start: str, end: str, mode: int = 0o777) -> Iterator[Path]:
    descriptor = None
    made = place
    try:
        for _ in range(100):
            made = place / f"{start}{secrets.token_hex(8)}{end}"
            made.mkdir(mode=mode)
            if not _LOCKS:
                break
            descriptor = os.open(made, os.O_RDONLY)
            hold(descriptor)
            if made.exists():
                break
            os.close(descriptor)  # taken for left over before it was locked
            descriptor = None
        yield made
    finally:
        if made != place and made.exists():
            shutil.rmtree(made, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _remove(folder: Path, names: re.Pattern[str]) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if names.fullmatch(entry.name) and not entry.is_symlink()]:
            with suppress(OSError):
                if _is_left_over(path):
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _is_left_over(path: Path) -> bool:
    status = path.lstat()
    age = time.time() - status.st_mtime
    if not _LOCKS:
        return age > _DAY_S
    if status.st_uid != os.getuid() or (path.is_file() and age < _FRESH_S):
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return age > _DAY_S
    finally:
        os.close(descriptor)
    return True


__all__ = ["hold", "is_unfinished", "remove_files", "scratch_folder", "temporary_folder", "unfinished_name"]
