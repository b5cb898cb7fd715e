"""Files that hold many pictures: TFRecord, WebDataset and other tar files, zip archives; read from begin to end."""

from __future__ import annotations

import gzip
import logging
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from detectclf.errors import DataError, DetectclfError, UnsafeError
from detectclf.formats.archive import members
from detectclf.formats.tf_example import WireError, parse_example
from detectclf.formats.tfrecord import is_record_file, record_name, records_in
from detectclf.imaging.images import MAX_FILE_BYTES, image_suffix
from detectclf.imaging.volumes import check_one_slice
from detectclf.inference.sources import Encoded
from detectclf.storage import file_name, open_stored, shown

_TAR = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
_RATIO = 200
_FREE_BYTES = 64 * 2**20
_AGAIN = "copy or make it again"

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Container:
    """A file that holds pictures.

    Attributes:
        name: its path or URI.
        skip: how many of its first pictures are left out, since they are predicted.
    """

    name: str
    skip: int = 0

    def __iter__(self) -> Iterator[Encoded]:
        """Its pictures, named ``CONTAINER/MEMBER``; where it is damaged, the last one has an error and its own name.

        Raises:
            StorageError, ConfigError: the store that it lies in refuses or does not answer.
        """
        for number, picture in enumerate(_pictures(self.name)):
            if number >= self.skip:
                yield picture


def is_container(name: str) -> bool:
    """Whether a file is a container by its name."""
    last = file_name(name)
    return is_record_file(last) or _TAR.search(last) is not None or last.lower().endswith(".zip")


def _pictures(name: str) -> Iterator[Encoded]:
    last, said = file_name(name), shown(name)
    read = _in_records if is_record_file(last) else _in_tar if _TAR.search(last) else _in_zip
    try:
        empty = True
        with closing(open_stored(name)) as stream:
            for member, content in read(stream, said):
                empty = False
                yield _checked(f"{said}/{member}" if member else said, content)
        if empty and _is_empty_shard(name):
            _log.warning("%s: no pictures in it", said)
        elif empty:  # as a folder without pictures is
            raise DataError(
                "no pictures in it", file=said, remedy="name another file, or unpack it and name the folder"
            )
    except (DataError, UnsafeError) as error:
        yield Encoded(said, error)


def _is_empty_shard(name: str) -> bool:
    """Whether a file without pictures is a shard that holds nothing at all, as programs that write many leave some."""
    last = file_name(name)
    if _TAR.search(last) is None:
        return is_record_file(last)
    with closing(open_stored(name)) as stream, tarfile.open(fileobj=stream, mode="r|*") as pack:
        return pack.next() is None


def _checked(name: str, content: bytes | DetectclfError) -> Encoded:
    if isinstance(content, bytes):
        try:
            check_one_slice(content, name)
        except (DataError, UnsafeError) as error:
            return Encoded(name, error)
    return Encoded(name, content)


def _in_records(stream: BinaryIO, name: str) -> Iterator[tuple[str, bytes | DetectclfError]]:
    for index, (_, record) in enumerate(records_in(stream)):
        if not isinstance(record, bytes):
            yield "", DataError(str(record.args[-1]), file=name, remedy=_AGAIN)
            continue
        try:
            features, _ = parse_example(record)
        except WireError as error:
            yield "", DataError(f"record {index}: {error}", file=name, remedy=_AGAIN)
            continue
        image = next(iter(features.get("image/encoded") or [b""]), b"")
        yield record_name(features, file_name(name), index), image if isinstance(image, bytes) else b""


def _in_zip(stream: BinaryIO, name: str) -> Iterator[tuple[str, bytes | DetectclfError]]:
    for member in members(stream, name):
        try:
            if _is_picture(member.name, member.head() if image_suffix(member.name) is None else b""):
                yield member.name, member.read()
        except (DataError, UnsafeError) as error:
            yield member.name, error


def _in_tar(stream: BinaryIO, name: str) -> Iterator[tuple[str, bytes | DetectclfError]]:
    packed = not name.lower().endswith(".tar")
    watched = _Watched(gzip.GzipFile(fileobj=stream) if packed else stream, stream, name)
    try:
        with tarfile.open(fileobj=watched, mode="r|") as pack:  # type: ignore[call-overload]
            for member in pack:
                if not member.isreg() or member.issparse():
                    continue
                if member.size > MAX_FILE_BYTES:
                    limit = f"larger than the limit of {MAX_FILE_BYTES} bytes"
                    yield member.name, UnsafeError(limit, file=f"{name}/{member.name}", remedy="remove it")
                    continue
                file = pack.extractfile(member)
                content = b"" if file is None else file.read()
                if len(content) < member.size:
                    raise tarfile.ReadError
                if _is_picture(member.name, content[:132]):
                    yield member.name, content
        while watched.read(2**20):
            pass
        if any(watched.last):
            raise tarfile.ReadError  # whole tar files end with blocks of zeros
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
        raise DataError("is cut short or damaged; the rest is not read", file=name, remedy=_AGAIN) from error


def _is_picture(member: str, head: bytes) -> bool:
    last = file_name(member)
    return not last.startswith(".") and (image_suffix(last) is not None or head[128:132] == b"DICM")


class _Watched:
    """A stream that knows its last bytes, and stops where a few packed bytes become too many."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, packed: Any, name: str) -> None:
        self._stream, self._packed, self._name = stream, packed, name
        self._bytes = 0
        self.last = b"\1"

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._bytes += len(content)
        self.last = (self.last + content)[-512:]
        if self._bytes > _FREE_BYTES and self._bytes > _RATIO * self._packed.tell():
            raise UnsafeError(f"unpacks to more than {_RATIO} times its size: a bomb", file=self._name)
        return content


__all__ = ["Container", "is_container"]
