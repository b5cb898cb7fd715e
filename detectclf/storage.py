"""Files and folders by name, on this machine or in a store that fsspec reaches (``s3://``, ``gs://``, ...).

Errors of a store never carry its own text, which may hold a key; credentials are the business of the store's library
(environment, instance role, its own files) and never part of a name.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from detectclf.errors import ConfigError, DataError, StorageError
from detectclf.files import atomic_write, open_regular, read_bytes

T = TypeVar("T")

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+(?:::|://)")
_PAUSES_S = (0.5, 2.0, 8.0)
_LIMIT_BYTES = 2**44
_EXTRA = "pip install 'detectclf[cloud]'"


def is_uri(name: str) -> bool:
    """Whether a name is a URI, and not that of a local file."""
    return _SCHEME.match(name) is not None


def file_name(name: str) -> str:
    """The last part of a path or URI."""
    # Called for every row of a manifest: pathlib would be most of the work.
    return name.partition("?")[0].rstrip("/").rpartition("/")[2] if is_uri(name) else os.path.basename(name)  # noqa: PTH119


def shown(name: str) -> str:
    """A name as records and messages carry it: without what may be a secret."""
    return re.sub(r"(?<=://)[^/@]*@", "", name.partition("?")[0]) if is_uri(name) else name


def read_stored(name: str, limit_bytes: int) -> bytes:
    """The bytes of a file; a store that does not answer is asked again.

    Raises:
        UnsafeError: larger than ``limit_bytes``, or no regular file.
        DataError: not there.
        StorageError: the store refuses or does not answer.
        ConfigError: the library for this kind of store is not installed.
    """
    if not is_uri(name):
        return read_bytes(name, limit_bytes=limit_bytes)

    def read() -> bytes:
        store, path = _store(name)
        with store.open(path, "rb") as file:
            content: bytes = file.read(limit_bytes + 1)
            return content

    content = _asked(read, name)
    if len(content) > limit_bytes:
        raise DataError(f"larger than the limit of {limit_bytes} bytes", file=shown(name), remedy="split it")
    return content


def open_stored(name: str) -> BinaryIO:
    """Opens a file for reading, to be closed by the caller; may be sought in.

    Raises:
        DataError, StorageError, ConfigError: as :func:`read_stored`; those of a store also while it is read.
    """
    if not is_uri(name):
        return open_regular(name, limit_bytes=_LIMIT_BYTES)

    def opened() -> Any:
        store, path = _store(name)
        return store.open(path, "rb")

    return _Stream(_asked(opened, name), name)  # type: ignore[return-value]


def stored_stamp(uri: str) -> tuple[str, int]:
    """What changes with the content of a file of a store, and its bytes; raises as :func:`read_stored`."""

    def asked() -> tuple[str, int]:
        store, path = _store(uri)
        return str(store.ukey(path)), int(store.size(path))

    return _asked(asked, uri)


def list_stored(uri: str) -> Iterator[str]:
    """The names of the files that a URI means, sorted: a file, all files below a folder, or those that match a glob.

    Raises:
        DataError, StorageError, ConfigError: as :func:`read_stored`.
    """
    store, path = _asked(lambda: _store(uri), uri)
    # A name that is there is no pattern.
    if any(sign in path for sign in "*?[") and not _asked(lambda: store.exists(path), uri):
        found = sorted(_asked(lambda: store.glob(path), uri))
        if not found:
            raise DataError("nothing matches", file=shown(uri), remedy="check the pattern")
        yield from (store.unstrip_protocol(each) for each in found)
    elif "::" in uri or not _asked(lambda: store.isdir(path), uri):
        yield uri
    else:
        for _, _, files in _walked(store, path, uri):
            yield from (store.unstrip_protocol(each["name"]) for _, each in sorted(files.items()))


def check_stored(uri: str) -> None:
    """Checks that a URI means something.

    Raises:
        DataError: there is nothing.
        StorageError, ConfigError: as of :func:`read_stored`.
    """
    store, path = _asked(lambda: _store(uri), uri)
    _asked(lambda: store.info(path), uri)


def _walked(store: Any, path: str, uri: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    # A folder at a time: a bucket may hold more names than the memory does.
    steps = store.walk(path, detail=True, on_error="raise")
    # Not again: a generator that failed has ended, and the rest of the names would be lost.
    while (step := _asked(lambda: next(steps, None), uri, again=False)) is not None:
        yield step


class StoredFolder:
    """A folder to write into.

    Args:
        name: its path or URI.
    """

    def __init__(self, name: str) -> None:
        self.name = name.rstrip("/") if is_uri(name) else name

    def write(self, file: str, content: bytes | str) -> None:
        """Writes ``file``, named with its folders; in a store of objects, and locally, in one step.

        Raises:
            DataError, StorageError, ConfigError: it cannot be written.
        """
        if not is_uri(self.name):
            path = Path(self.name, file)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = f"cannot be made ({error.strerror})"
                raise DataError(reason, file=path.parent, remedy="choose another --out") from error
            atomic_write(path, content)
            return
        data = content.encode() if isinstance(content, str) else content

        def write() -> None:
            store, path = _store(f"{self.name}/{file}")
            if getattr(store, "local_file", False) or not getattr(store, "async_impl", False):
                store.makedirs(path.rpartition("/")[0], exist_ok=True)
            store.pipe_file(path, data)

        _asked(write, self.name)

    def remove(self, file: str) -> None:
        """Removes ``file``, which need not be there; raises StorageError where it cannot be removed."""

        def remove() -> None:
            if is_uri(self.name):
                store, path = _store(self.path(file))
                store.rm_file(path)
            else:
                Path(self.path(file)).unlink()

        with suppress(DataError):  # it is not there
            _asked(remove, self.name)

    def read(self, file: str, limit_bytes: int = 2**30) -> bytes:
        """The bytes of ``file``; raises as :func:`read_stored`."""
        if is_uri(self.name):
            return read_stored(self.path(file), limit_bytes)
        # To its end: reading up to a limit takes as much memory as the limit allows.
        with open_regular(self.path(file), limit_bytes=limit_bytes) as stream:
            return stream.read()

    def path(self, file: str) -> str:
        """The path or URI of ``file``."""
        return f"{self.name}/{file}" if is_uri(self.name) else str(Path(self.name, file))

    def sizes(self, folder: str) -> dict[str, int]:
        """Name -> bytes of the files directly in ``folder``; empty where it is not there."""
        if not is_uri(self.name):
            try:
                with os.scandir(self.path(folder)) as entries:
                    return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
            except FileNotFoundError:
                return {}
            except OSError as error:
                reason = f"cannot be read ({error.strerror})"
                raise DataError(reason, file=self.path(folder), remedy="choose another --out") from error

        def listed() -> list[dict[str, Any]]:
            store, path = _store(f"{self.name}/{folder}")
            store.invalidate_cache()
            try:
                found: list[dict[str, Any]] = store.ls(path, detail=True)
            except FileNotFoundError:
                return []
            return found

        rows = _asked(listed, self.name)
        return {row["name"].rpartition("/")[2]: int(row["size"] or 0) for row in rows if row["type"] == "file"}

    def read_all(self, files: list[str]) -> dict[str, bytes]:
        """Name -> bytes of many small files, several at once where a store can."""
        if not is_uri(self.name):
            return {file: self.read(file) for file in files}

        def read() -> dict[str, bytes]:
            store, root = _store(self.name)
            found = store.cat([f"{root}/{file}" for file in files]) if files else {}
            return {name[len(root) + 1 :]: content for name, content in found.items()}

        return _asked(read, self.name)

    def exists(self, file: str) -> bool:
        """Whether ``file`` is there."""
        if not is_uri(self.name):
            return Path(self.path(file)).exists()

        def there() -> bool:
            store, path = _store(self.path(file))
            store.invalidate_cache()
            found: bool = store.exists(path)
            return found

        return _asked(there, self.name)


class _Stream:
    """An open file of a store, whose errors are ours."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name

    def read(self, size: int = -1) -> bytes:
        return _asked(lambda: bytes(self._file.read(size)), self._name, again=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _store(name: str) -> tuple[Any, str]:
    if "@" in urlsplit(name).netloc:
        raise ConfigError(
            f"{shown(name)}: a name must not hold credentials", remedy="give them as the store's library expects them"
        )
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ConfigError(f"{shown(name)}: needs fsspec", remedy=_EXTRA) from None
    return url_to_fs(name)  # type: ignore[no-any-return]


def _asked(question: Callable[[], T], name: str, *, again: bool = True) -> T:
    """The answer of a store, which is asked again where it does not answer."""
    pauses = iter(_PAUSES_S if again else ())
    while True:
        try:
            return question()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if not isinstance(error.__cause__, OSError) and getattr(error.__cause__, "status", 404) == 404:
                raise DataError("is not there", file=shown(name), remedy="check the name") from None
            # fsspec's HTTP says so of every failure.
            pause = next(pauses, None)
            if pause is None:
                raise _unanswered(f"does not answer ({type(error.__cause__).__name__})", name) from None
        except (ConfigError, DataError, StorageError):
            raise
        except ImportError as error:
            # The names of modules only, such as "Install s3fs to access S3".
            raise ConfigError(f"{shown(name)}: {error}", remedy=_EXTRA) from None
        except Exception as error:
            reason, may_pass = _reason(error)
            pause = next(pauses, None) if may_pass else None
            if pause is None:
                raise _unanswered(reason, name, may_pass) from None
        time.sleep(pause)


def _unanswered(reason: str, name: str, may_pass: bool = True) -> StorageError:
    remedy = "go on with --resume when it answers" if may_pass else "check credentials and permissions"
    return StorageError(reason, file=shown(name), remedy=remedy)


def _reason(error: Exception) -> tuple[str, bool]:
    """What is said of an error of a store, and whether it may pass; its own text is never said."""
    kind = type(error).__name__
    if "Credential" in kind or "Token" in kind or "ProfileNotFound" in kind:
        return "there are no credentials for it, or they are not complete", False
    if isinstance(error, PermissionError):
        return "access is refused", False
    if isinstance(error, ValueError):
        return f"cannot be reached by fsspec ({kind})", False
    return f"does not answer ({kind})", True


__all__ = [
    "StoredFolder",
    "check_stored",
    "file_name",
    "is_uri",
    "list_stored",
    "open_stored",
    "read_stored",
    "shown",
    "stored_stamp",
]
