"""Slices in shards of a store (``s3://``, ``gs://``, ...): bytes of a shard, read from a copy of the whole shard.

Copies lie in the user's cache folder, where all processes of a machine share them. There are never more than
``MOST_SHARDS`` and those that are being written: the one that was read longest ago goes. So data need not fit the disk.
Whoever reads slices in an order that jumps between more shards has each copied again and again; see
:mod:`detectclf.datasets.batches`.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from detectclf.cache import cache_folder
from detectclf.errors import ConfigError, DataError, UnsafeError
from detectclf.files import ByteSpan, atomic_write, read_bytes
from detectclf.storage import read_stored, shown

MOST_SHARDS = 16
"""Copies that are kept."""

LIMIT_SHARD_BYTES = 2**30
"""Largest shard, bytes: a process holds one in memory while it is copied."""

_TRIES = 5
_SUFFIX = ".shard"


@dataclass(frozen=True, slots=True)
class StoredSpan(ByteSpan):
    """Where an encoded image lies inside a shard of a store.

    Attributes:
        uri: of the shard.
        stamp: changes with the shard's content.
        size: of the shard, bytes.
    """

    uri: str
    stamp: str
    size: int


def read_content(
    path: str | Path, *, limit_bytes: int, root: str | Path | None = None, span: ByteSpan | None = None
) -> bytes:
    """As :func:`detectclf.files.read_bytes`, also for a span in a shard of a store; ``path`` then is only its name.

    Raises:
        UnsafeError, DataError: as there; also where the shard has changed since it was listed, or is too large.
        StorageError, ConfigError: the store refuses or does not answer, or there is no cache folder.
    """
    if not isinstance(span, StoredSpan):
        return read_bytes(path, limit_bytes=limit_bytes, root=root, span=span)
    for _ in range(_TRIES):
        copy = copy_of(span)
        try:
            return read_bytes(copy, limit_bytes=limit_bytes, span=ByteSpan(span.offset, span.length))
        except DataError:
            if copy.exists():
                raise  # else another process took its place for a newer one
    reason = f"more than {MOST_SHARDS} shards are read at once"
    raise DataError(reason, file=shown(span.uri), remedy="lower data.shuffle_buffer, or train fewer models at once")


def copies_folder() -> Path:
    """Where the copies lie; raises ConfigError where the user wants no cache."""
    folder = cache_folder()
    if folder is None:
        raise ConfigError("shards of a store need a cache folder", remedy="set DETECTCLF_CACHE to a folder")
    return folder / "shards"


def copy_of(span: StoredSpan) -> Path:
    """The copy of the shard in which ``span`` lies, made now if it is not there; raises as :func:`read_content`."""
    folder = copies_folder()
    # By the stamp it is known which file a signed URL meant.
    said = f"{shown(span.uri)} {span.stamp}".encode("utf-8", "surrogatepass")
    name = hashlib.blake2b(said, digest_size=16).hexdigest()
    copy = folder / (name + _SUFFIX)
    with suppress(OSError):
        if copy.stat().st_size == span.size:  # else a disk that failed has cut it
            os.utime(copy)  # by this the one that was read longest ago is known
            return copy
    if span.size > LIMIT_SHARD_BYTES:
        limit = f"larger than the limit of {LIMIT_SHARD_BYTES} bytes"
        raise UnsafeError(limit, file=shown(span.uri), remedy="write smaller shards")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name[0]}.lock"):  # of processes that want the same shard one copies it
            if not copy.exists() or copy.stat().st_size != span.size:
                content = read_stored(span.uri, LIMIT_SHARD_BYTES)
                if len(content) != span.size:
                    reason = "has changed since it was listed, or is cut short"
                    raise DataError(reason, file=shown(span.uri), remedy="start again")
                atomic_write(copy, content)
                # Afterwards: whoever wrote at the same time is counted too.
                _remove_oldest(folder)
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise DataError(reason, file=folder, remedy="free some space or set DETECTCLF_CACHE") from error
    return copy


def _remove_oldest(folder: Path) -> None:
    ages = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError):
            ages.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(ages)[: max(0, len(ages) - MOST_SHARDS)]:
        path.unlink(missing_ok=True)


__all__ = ["LIMIT_SHARD_BYTES", "MOST_SHARDS", "StoredSpan", "copies_folder", "copy_of", "read_content"]
