"""Unpacks an untrusted zip archive: within limits, into memory or a folder, and never outside that folder."""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from detectclf.errors import DataError, UnsafeError, one_line
from detectclf.files import resolve_inside

_log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_ENCRYPTED = 0x1
_DIRECTORY_ENTRY = 512  # bytes of the central directory for a file; a name rarely takes more
# Roboflow and all common tools write these; for rarer methods, zipfile reports damage with other exceptions.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """Limits of an archive.

    Attributes:
        files: most entries.
        file_bytes: most bytes of one unpacked file.
        total_bytes: most bytes of all unpacked files together.
        ratio: most unpacked bytes per packed byte of one file; deflate reaches 1032, label files stay under 100.
    """

    files: int = 1_000_000
    file_bytes: int = 4 * 2**30
    total_bytes: int = 64 * 2**30
    ratio: float = 200.0


def unpack(archive: Path, folder: Path, limits: ZipLimits | None = None) -> int:
    """Unpacks ``archive`` into ``folder``, which must exist and should be empty.

    Declared sizes are checked before anything is written, and real sizes while writing, because a hostile archive may
    declare wrong ones.

    Hidden entries, such as ``.git/hooks/post-checkout`` and ``__MACOSX/._a.jpg``, are left out with a warning: no
    export needs them, and other programs may act on them.

    Returns:
        The number of files written.

    Raises:
        UnsafeError: a bomb, too many or too large files, a path out of the folder, a symlink or other special file.
        DataError: not a zip, damaged, or encrypted.
        OSError: the disk is full or not writable.
    """
    limits = limits or ZipLimits()
    try:
        with zipfile.ZipFile(archive) as pack:
            entries = pack.infolist()
            _check(entries, archive.name, limits)
            entries = _shown(entries, archive.name)
            targets = [resolve_inside(folder, entry.filename.rstrip("/") or "..") for entry in entries]
            for entry, target in zip(entries, targets, strict=True):
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _write(pack, entry, target, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise DataError("not a whole zip archive", file=archive.name, remedy="download it again") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UnsafeError(
            "two entries have the same path", file=archive.name, remedy="do not use this archive"
        ) from error
    return sum(not entry.is_dir() for entry in entries)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A file in an archive in memory.

    Attributes:
        name: its path in the archive.
        read: unpacks it; may be called once the archive's limits were checked, at any time and in any thread.
            Raises DataError where it is damaged, UnsafeError where it is larger than it declares.
        head: gives its first 132 bytes, or fewer; raises as ``read`` does.
    """

    name: str
    read: Callable[[], bytes]
    head: Callable[[], bytes]


def members(content: bytes | BinaryIO, name: str, limits: ZipLimits | None = None) -> list[Member]:
    """The files of an archive, checked as by :func:`unpack`; each is unpacked only when it is read.

    Args:
        content: the archive, in memory or as an open file, which has to stay open.
        name: what errors call it.
        limits: of the archive.

    Raises:
        UnsafeError: a bomb, too many or too large files, a symlink or other special file.
        DataError: not a zip, damaged, or encrypted.
    """
    limits = limits or ZipLimits()
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    _check_directory(file, name, limits)
    try:
        pack = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise DataError("not a whole zip archive", file=name, remedy="send it again") from error
    entries = pack.infolist()
    _check(entries, name, limits)

    def member(entry: zipfile.ZipInfo) -> Member:
        return Member(
            entry.filename,
            lambda: _read(pack, entry, name, entry.file_size),
            lambda: _read(pack, entry, name, 132, whole=False),
        )

    return [member(entry) for entry in entries if not entry.is_dir()]


def _check_directory(file: BinaryIO, name: str, limits: ZipLimits) -> None:
    # zipfile makes an object for every entry before they can be counted, so their bytes are looked at first.
    file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16 - 22))
    content = file.read()
    end = content.rfind(b"PK\5\6")
    if end < 0 or len(content) < end + 22:
        raise DataError("not a whole zip archive", file=name, remedy="send it again")
    (size,) = struct.unpack_from("<I", content, end + 12)
    if size > limits.files * _DIRECTORY_ENTRY:
        raise _unsafe(name, f"its list of files has {size} bytes")


def _read(pack: zipfile.ZipFile, entry: zipfile.ZipInfo, archive: str, most: int, whole: bool = True) -> bytes:
    try:
        with pack.open(entry) as source:
            content = source.read(most + whole)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        raise DataError(f"{entry.filename[:120]!r} is damaged", file=archive, remedy="pack it again") from error
    if whole and len(content) > most:
        raise _unsafe(archive, f"{entry.filename[:120]!r} is larger than it declares")
    if whole and len(content) < most:
        raise DataError(f"{entry.filename[:120]!r} is damaged: it is cut short", file=archive, remedy="pack it again")
    return content


def _check(entries: list[zipfile.ZipInfo], archive: str, limits: ZipLimits) -> None:
    if len(entries) > limits.files:
        raise _unsafe(archive, f"{len(entries)} entries, more than {limits.files}")
    total = sum(entry.file_size for entry in entries)
    if total > limits.total_bytes:
        raise _unsafe(archive, f"unpacks to {total} bytes, more than {limits.total_bytes}")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(archive, f"{entry.filename[:120]!r} is a symlink or special file")
        if entry.flag_bits & _ENCRYPTED:
            raise DataError(f"{entry.filename[:120]!r} is encrypted", file=archive, remedy="unpack it yourself")
        if entry.compress_type not in _METHODS:
            raise DataError("uses a rare compression method", file=archive, remedy="pack it again with deflate")
        if entry.file_size > limits.file_bytes:
            raise _unsafe(archive, f"{entry.filename[:120]!r} unpacks to {entry.file_size} bytes")
        # Small genuine files may be packed very tightly; a bomb needs size.
        if entry.file_size > _BLOCK and entry.file_size > limits.ratio * max(entry.compress_size, 1):
            raise _unsafe(
                archive, f"{entry.filename[:120]!r} unpacks to more than {limits.ratio:g} times its size: a zip bomb"
            )


def _shown(entries: list[zipfile.ZipInfo], archive: str) -> list[zipfile.ZipInfo]:
    """The entries that are not hidden."""
    hidden = [entry for entry in entries if _is_hidden(entry.filename)]
    if hidden:
        _log.warning(
            "%s: %d hidden entries are left out, such as %r", archive, len(hidden), one_line(hidden[0].filename[:120])
        )
    return [entry for entry in entries if not _is_hidden(entry.filename)]


def _is_hidden(name: str) -> bool:
    # Some file systems drop characters of format, such as joiners, from names. `..` is refused elsewhere.
    plain = "".join(ch for ch in name if unicodedata.category(ch) != "Cf")
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in re.split(r"[/\\]", plain))


def _write(pack: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, archive: Path) -> None:
    written = 0
    # "x", so that an entry cannot overwrite an earlier one of the same name.
    with pack.open(entry) as source, target.open("xb") as sink:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > entry.file_size:
                raise _unsafe(archive.name, f"{entry.filename[:120]!r} is larger than it declares")
            sink.write(block)
    if written != entry.file_size:
        raise zipfile.BadZipFile(f"{entry.filename} is cut short")


def _unsafe(archive: str, reason: str) -> UnsafeError:
    return UnsafeError(reason, file=archive, remedy="do not use this archive")
