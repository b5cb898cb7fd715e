"""Files and folders by name, on this machine or in a store that fsspec reaches (``s3://``, ``gs://``, ...)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from detectclf.errors import DataError
from detectclf.files import atomic_write, open_regular, read_bytes
from detectclf.store_calls import Stream, ask, store_of
from detectclf.uris import file_name, is_uri, shown

_LIMIT_BYTES = 2**44


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
        store, path = store_of(name)
        with store.open(path, "rb") as file:
            content: bytes = file.read(limit_bytes + 1)
            return content

    content = ask(read, name)
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
        store, path = store_of(name)
        return store.open(path, "rb")

    return Stream(ask(opened, name), name)  # type: ignore[return-value]


def stored_stamp(uri: str) -> tuple[str, int]:
    """What changes with the content of a file of a store, and its bytes; raises as :func:`read_stored`.

    Of a web server it is the tag that it gives the content, where it gives one, so that a URL that was signed again
    means the same file.
    """

    def asked() -> tuple[str, int]:
        store, path = store_of(uri)
        if "http" not in store.protocol:
            return str(store.ukey(path)), int(store.size(path))
        info = store.info(path)
        tags = [str(info[tag]) for tag in ("ETag", "Content-MD5", "Digest") if info.get(tag)]
        return " ".join(tags) or str(store.ukey(path)), int(info["size"] or 0)

    return ask(asked, uri)


def list_stored(uri: str) -> Iterator[str]:
    """The names of the files that a URI means, sorted: a file, all files below a folder, or those that match a glob.

    Raises:
        DataError, StorageError, ConfigError: as :func:`read_stored`.
    """
    store, path = ask(lambda: store_of(uri), uri)
    # A name that is there is no pattern.
    if any(sign in path for sign in "*?[") and not ask(lambda: store.exists(path), uri):
        found = sorted(ask(lambda: store.glob(path), uri))
        if not found:
            raise DataError("nothing matches", file=shown(uri), remedy="check the pattern")
        yield from (store.unstrip_protocol(each) for each in found)
    elif "::" in uri or not ask(lambda: store.isdir(path), uri):
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
    store, path = ask(lambda: store_of(uri), uri)
    ask(lambda: store.info(path), uri)


def _walked(store: Any, path: str, uri: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    # A folder at a time: a bucket may hold more names than the memory does.
    steps = store.walk(path, detail=True, on_error="raise")
    # Not again: a generator that failed has ended, and the rest of the names would be lost.
    while (step := ask(lambda: next(steps, None), uri, again=False)) is not None:
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
            store, path = store_of(f"{self.name}/{file}")
            if getattr(store, "local_file", False) or not getattr(store, "async_impl", False):
                store.makedirs(path.rpartition("/")[0], exist_ok=True)
            store.pipe_file(path, data)

        ask(write, self.name)

    def remove(self, file: str) -> None:
        """Removes ``file``, which need not be there; raises StorageError where it cannot be removed."""

        def remove() -> None:
            if is_uri(self.name):
                store, path = store_of(self.path(file))
                store.rm_file(path)
            else:
                Path(self.path(file)).unlink()

        with suppress(DataError):  # it is not there
            ask(remove, self.name)

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
            store, path = store_of(f"{self.name}/{folder}")
            store.invalidate_cache()
            try:
                found: list[dict[str, Any]] = store.ls(path, detail=True)
            except FileNotFoundError:
                return []
            return found

        rows = ask(listed, self.name)
        return {row["name"].rpartition("/")[2]: int(row["size"] or 0) for row in rows if row["type"] == "file"}

    def read_all(self, files: list[str]) -> dict[str, bytes]:
        """Name -> bytes of many small files, several at once where a store can."""
        if not is_uri(self.name):
            return {file: self.read(file) for file in files}

        def read() -> dict[str, bytes]:
            store, root = store_of(self.name)
            found = store.cat([f"{root}/{file}" for file in files]) if files else {}
            return {name[len(root) + 1 :]: content for name, content in found.items()}

        return ask(read, self.name)

    def exists(self, file: str) -> bool:
        """Whether ``file`` is there."""
        if not is_uri(self.name):
            return Path(self.path(file)).exists()

        def there() -> bool:
            store, path = store_of(self.path(file))
            store.invalidate_cache()
            found: bool = store.exists(path)
            return found

        return ask(there, self.name)


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
