"""Unpacks an untrusted zip archive: within limits, and never outside the given folder."""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from detectclf.errors import DataError, UnsafeError
from detectclf.files import resolve_inside

_BLOCK = 1 << 20
_ENCRYPTED = 0x1
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
            targets = _check(entries, archive, folder, limits)
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


def _check(entries: list[zipfile.ZipInfo], archive: Path, folder: Path, limits: ZipLimits) -> list[Path]:
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
            raise DataError(f"{entry.filename[:120]!r} is encrypted", file=archive.name, remedy="unpack it yourself")
        if entry.compress_type not in _METHODS:
            raise DataError("uses a rare compression method", file=archive.name, remedy="pack it again with deflate")
        if entry.file_size > limits.file_bytes:
            raise _unsafe(archive, f"{entry.filename[:120]!r} unpacks to {entry.file_size} bytes")
        # Small genuine files may be packed very tightly; a bomb needs size.
        if entry.file_size > _BLOCK and entry.file_size > limits.ratio * max(entry.compress_size, 1):
            raise _unsafe(
                archive, f"{entry.filename[:120]!r} unpacks to more than {limits.ratio:g} times its size: a zip bomb"
            )
    return [resolve_inside(folder, entry.filename.rstrip("/") or "..") for entry in entries]


def _write(pack: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, archive: Path) -> None:
    written = 0
    # "x", so that an entry cannot overwrite an earlier one of the same name.
    with pack.open(entry) as source, target.open("xb") as sink:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > entry.file_size:
                raise _unsafe(archive, f"{entry.filename[:120]!r} is larger than it declares")
            sink.write(block)
    if written != entry.file_size:
        raise zipfile.BadZipFile(f"{entry.filename} is cut short")


def _unsafe(archive: Path, reason: str) -> UnsafeError:
    return UnsafeError(reason, file=archive.name, remedy="do not use this archive")
