"""A cache on disk, in the user's cache folder: safe to lose, and safe with several processes.

One SQLite file. Where it cannot be read or written (a read-only or full disk), the program goes on without it and says
so in one line; a damaged file is made again. ``DETECTCLF_CACHE`` names another folder, or ``none`` for no cache.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from detectclf.leftovers import scratch_folder

log = logging.getLogger(__name__)

_LIBRARIES = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
}

FILE = "slices.sqlite"
LIMIT = 250_000
"""Most entries kept; the oldest are dropped first. The entry of a slice takes about 4.4 KB."""

_CHECK_BYTES = 8
_WAIT_S = 10.0
_CHUNK = 500  # keys per query; SQLite takes at least 999 variables


def cache_folder() -> Path | None:
    """The folder of the cache, which need not exist; ``None`` where the user wants none."""
    wanted = os.environ.get("DETECTCLF_CACHE")
    if wanted == "none":
        return None
    if wanted:
        return Path(wanted).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("detectclf", appauthor=False)


def keep_library_folders() -> None:
    """Lets matplotlib and torch keep their own caches in ours, where a command would make folders in other places.

    Without a cache, or where it cannot be written, they use a temporary folder that goes with the process.
    """
    folder = cache_folder()
    if folder is None or not _writable(folder):
        stack = ExitStack()
        folder = stack.enter_context(scratch_folder())
        atexit.register(stack.close)
    for variable, name in _LIBRARIES.items():
        os.environ.setdefault(variable, str(folder / name))


def _writable(folder: Path) -> bool:
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


class Cache:
    """A mapping of bytes to bytes on disk.

    Args:
        folder: where its file lies; made where needed, readable by the user alone. ``None``: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those of ``keys`` that are there and undamaged."""
        found: dict[bytes, bytes] = {}
        with self._lock:
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                query = f"SELECT key, value FROM entries WHERE key IN ({','.join('?' * len(chunk))})"
                found.update(self._run(query, chunk))
        return {key: value[_CHECK_BYTES:] for key, value in found.items() if value[:_CHECK_BYTES] == _check(value)}

    def put(self, entries: Mapping[bytes, bytes]) -> bool:
        """Stores ``entries``; returns whether that succeeded."""
        rows = [(key, _check(bytes(_CHECK_BYTES) + value) + value) for key, value in entries.items()]
        with self._lock:
            connection = self._open()
            if connection is None:
                return False
            try:
                with connection:
                    connection.executemany("INSERT OR REPLACE INTO entries (key, value) VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                self._failed(error)
                return False
        return True

    def close(self) -> None:
        """Closes the file; it is opened again when needed."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def _run(self, query: str, values: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        connection = self._open()
        if connection is None:
            return []
        try:
            return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._failed(error)
        return []

    def _open(self) -> sqlite3.Connection | None:
        if self.folder is None:
            return None
        if self._connection is not None and self._process == os.getpid():
            return self._connection
        # After a fork the parent's connection must not be used, nor closed.
        self._process = os.getpid()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._connection = _connect(self.folder / FILE)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                (self.folder / FILE).unlink()
                self._connection = _connect(self.folder / FILE)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
        return self._connection

    def _failed(self, error: sqlite3.Error) -> None:
        """Makes a damaged file anew; goes on without one that cannot be used, such as a locked or read-only one."""
        if isinstance(error, sqlite3.OperationalError):
            self._give_up(error)
        else:
            self._discard()

    def _discard(self) -> None:
        """Removes a damaged file; a new one is made when the cache is next used."""
        try:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            if self.folder is not None:
                (self.folder / FILE).unlink(missing_ok=True)
        except (OSError, sqlite3.Error) as error:  # such as on a read-only disk
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("going on without the cache of slices in %s (%s)", self.folder, error)
        self.folder = self._connection = None


def _connect(file: Path) -> sqlite3.Connection:
    if not file.exists():
        file.touch(mode=0o600)  # thumbnails of slices are for the user alone, whatever folder was named
    connection = sqlite3.connect(file, timeout=_WAIT_S, check_same_thread=False)
    try:
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
            if [row[1] for row in connection.execute("PRAGMA table_info(entries)")] != ["key", "value"]:
                raise sqlite3.DatabaseError("not our table")
            (count,) = connection.execute("SELECT COUNT(*) FROM entries").fetchone()
            if count > LIMIT:
                old = "SELECT rowid FROM entries ORDER BY rowid LIMIT ?"
                connection.execute(f"DELETE FROM entries WHERE rowid IN ({old})", (count - LIMIT * 9 // 10,))
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _check(value: bytes) -> bytes:
    """Checksum of a stored value, which starts with the bytes of its checksum; SQLite has none of its own."""
    return hashlib.blake2b(value[_CHECK_BYTES:], digest_size=_CHECK_BYTES).digest()


__all__ = ["Cache", "cache_folder", "keep_library_folders"]
