"""Safe files: bounded reading of regular files inside a folder, and writing that is whole or not there at all.

Annotations and archives come from strangers, so a name in them may point anywhere (``../..``, an absolute path, a
symlink), and a file may be a FIFO that blocks for ever or a device without end. Everything that reads a data set
opens its files through here.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from detectclf.errors import DataError, UnsafeError
from detectclf.leftovers import hold, remove_files, temporary_folder, unfinished_name

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# C:x and C:\x name another drive on Windows; \\server\share and \x leave the folder there.
_WINDOWS_ROOT = re.compile(r"^(?:[A-Za-z]:|\\)")


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """Where an encoded image lies inside a container file such as a TFRecord: ``offset`` and ``length`` in bytes."""

    offset: int
    length: int


def check_inside(root: str | Path, candidate: str | Path) -> Path:
    """``candidate`` itself, after making sure that with all its symlinks followed it lies inside ``root``.

    Args:
        root: folder that may not be left; may be a symlink itself.
        candidate: path relative to the working directory, or absolute; need not exist.

    Raises:
        UnsafeError: ``candidate`` lies elsewhere, or has a NUL in its name.
    """
    try:
        real = os.path.realpath(candidate)
    except ValueError:
        raise UnsafeError("NUL in a file name", file=candidate, remedy="correct the name") from None
    real_root = os.path.realpath(root)
    if real != real_root and not real.startswith(real_root.rstrip(os.sep) + os.sep):
        raise UnsafeError("leads out of the data folder", file=candidate, remedy="copy the file itself into the folder")
    return Path(candidate)


def resolve_inside(root: str | Path, name: str) -> Path:
    """``root / name`` for a relative ``name`` taken from an annotation file.

    The name is judged as POSIX and as Windows would read it, so that a data set is safe or unsafe on every machine
    alike. The file need not exist.

    Raises:
        UnsafeError: ``name`` is absolute, UNC or on a drive, has ``..`` or NUL, or leads out by a symlink.
        DataError: ``name`` is empty.
    """
    if not name.strip():
        raise DataError("empty file name", file=root, remedy="give the file its name")
    reason = None
    if "\0" in name:
        reason = "NUL in a file name"
    elif name.startswith("/") or _WINDOWS_ROOT.match(name):
        reason = "absolute file name"
    elif ".." in re.split(r"[/\\]", name):
        reason = "file name with '..'"
    if reason:
        raise UnsafeError(f"{reason}: {name[:120]!r}", file=root, remedy="only names inside the data folder are read")
    return check_inside(root, Path(root) / name)


def open_regular(path: str | Path, *, limit_bytes: int, root: str | Path | None = None) -> BinaryIO:
    """Opens a regular file for reading, never waiting on it.

    Args:
        path: the file.
        limit_bytes: most bytes the file may have.
        root: where given, the file must lie inside this folder with all symlinks followed.

    Raises:
        UnsafeError: a FIFO, socket or device; larger than ``limit_bytes``; outside ``root``.
        DataError: not there, a folder, or not permitted.
    """
    if root is not None:
        check_inside(root, path)
    # O_NONBLOCK: a FIFO put in the file's place between stat and open must not block either.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check_regular(Path(path).stat(), path, limit_bytes)
        descriptor = os.open(path, flags)
    except ValueError:
        raise UnsafeError("NUL in a file name", file=path, remedy="correct the name") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path, remedy="check name and permission") from error
    try:
        _check_regular(os.fstat(descriptor), path, limit_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(status: os.stat_result, path: str | Path, limit_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise DataError("is a folder, not a file", file=path, remedy="name a file")
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
        raise UnsafeError(f"is {kind}, not a file", file=path, remedy="remove it or copy its content into a file")
    if status.st_size > limit_bytes:
        raise _oversize(path, limit_bytes)


def _oversize(path: str | Path, limit_bytes: int) -> UnsafeError:
    return UnsafeError(f"larger than the limit of {limit_bytes} bytes", file=path, remedy="split or remove the file")


def read_bytes(
    path: str | Path, *, limit_bytes: int, root: str | Path | None = None, span: ByteSpan | None = None
) -> bytes:
    """The bytes of a regular file, or of ``span`` in it.

    With ``span``, ``limit_bytes`` bounds the span and not the container.

    Raises:
        UnsafeError: as :func:`open_regular`.
        DataError: as :func:`open_regular`; also where ``span`` reaches beyond the end of the file.
    """
    if span is not None and not 0 <= span.length <= limit_bytes:
        raise _oversize(path, limit_bytes)
    limit = limit_bytes if span is None else 2**63 - 1
    with open_regular(path, limit_bytes=limit, root=root) as file:
        try:
            if span is None:
                # One byte more: a file may grow while it is read, and files such as those of /proc claim size 0.
                content = file.read(limit_bytes + 1)
            else:
                file.seek(span.offset)
                content = file.read(span.length)
        except (OSError, ValueError) as error:
            raise DataError("cannot be read", file=path, remedy="check the file and its disk") from error
    if len(content) > limit_bytes:
        raise _oversize(path, limit_bytes)
    if span is not None and len(content) < span.length:
        raise DataError("image reaches beyond the end of the file", file=path, remedy="export the data set again")
    return content


def free_folder(folder: Path) -> Path:
    """``folder``, or ``folder-2``, ``folder-3`` and so on: the first of them that is missing or empty.

    Where nobody named a folder for results, those of an earlier command stay as they are.
    """
    number, free = 1, folder
    while free.exists() and not (free.is_dir() and not any(free.iterdir())):
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def latest_folder(folder: Path) -> Path:
    """The last of ``folder``, ``folder-2``, ``folder-3`` and so on that is there, to go on with; else ``folder``."""
    number, last = 2, folder
    while (following := folder.with_name(f"{folder.name}-{number}")).is_dir():
        number, last = number + 1, following
    return last


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Writes ``path`` in one step: after a crash or a power cut it has the old content or the new, never half of it.

    The folder must exist. Text is written as UTF-8 without translating line ends.

    Raises:
        DataError: the file cannot be written, such as on a full disk.
    """
    path = Path(path)
    content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    partial = path.parent / unfinished_name()
    remove_files(path.parent)
    try:
        # O_EXCL with the default mode and not tempfile's 0600: others may read what the user's umask allows.
        with partial.open("xb") as file:
            hold(file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes sure that what was renamed in ``folder`` outlives a power cut.

    Raises:
        OSError: the disk has failed.
    """
    if os.name == "nt":
        return  # Windows opens no folders
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems have no such call, and a folder may be writable but not readable.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise


def check_free(out: str | Path) -> None:
    """Makes sure that :func:`atomic_folder` may write ``out``, before the work that fills it.

    Raises:
        DataError: it is a file or a folder that is not empty.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError("exists and is not an empty folder", file=out, remedy="choose another --out or remove it")


@contextmanager
def atomic_folder(out: str | Path) -> Iterator[Path]:
    """Gives a temporary folder beside ``out`` that becomes ``out`` when the block ends, or is removed when it fails.

    What a killed process left of the same ``out`` is removed first.

    Raises:
        DataError: ``out`` is a file or a folder that is not empty, or cannot be made.
    """
    target, stack = Path(os.path.realpath(out)), ExitStack()
    try:
        check_free(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = stack.enter_context(temporary_folder(target))
    except OSError as error:
        raise _unwritable(out, error) from error
    with stack:
        try:
            yield partial
        except OSError as error:
            # A write that failed for want of space names no file.
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _unwritable(out, error) from error
            raise
        try:
            if target.exists():
                target.rmdir()  # Windows renames onto nothing, not even an empty folder
            partial.rename(target)
        except OSError as error:
            raise _unwritable(out, error) from error


def _unwritable(path: str | Path, error: OSError) -> DataError:
    return DataError(f"cannot be written ({error.strerror})", file=path, remedy="check space and permission")


__all__ = [
    "ByteSpan",
    "atomic_folder",
    "atomic_write",
    "check_free",
    "check_inside",
    "open_regular",
    "read_bytes",
    "resolve_inside",
    "sync_folder",
]
