"""Records on disk as they are made, a line each, so that a program that is killed loses none of them."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from detectclf.documents import parse_json
from detectclf.errors import DataError


class Journal:
    """A file of JSON lines that grows by one flushed line per record, and is renamed when it is complete.

    What an earlier run left is taken over first, in order: :meth:`peek` shows its next record and :meth:`skip` takes it
    over. The first :meth:`write` drops what was not taken over, such as half a line.

    Args:
        file: the file, which need not be there.

    Attributes:
        count: records that were taken over or written.
        failed: how many of them have an ``error``.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.count = self.failed = 0
        self._bytes = 0
        self._out: BinaryIO | None = None
        self._earlier = _whole_lines(file)
        self._next = next(self._earlier, None)

    def peek(self) -> dict[str, Any] | None:
        """The next record of the earlier run; ``None`` after its last one."""
        return None if self._next is None else self._next[0]

    def skip(self, count: int = 1) -> None:
        """Takes over the next records of the earlier run, which must be there."""
        for _ in range(count):
            if self._next is None:
                raise DataError(
                    "lacks records that the run had made", file=self.file, remedy="remove it and predict again"
                )
            self._counted(*self._next)
            self._next = next(self._earlier, None)

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record.

        Raises:
            DataError: the file cannot be written, such as on a full disk.
        """
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        try:
            out = self._opened()
            out.write(line)
            out.flush()
        except OSError as error:
            raise _unwritable(self.file, error) from error
        self._counted(record, len(line))

    def records(self) -> Iterator[dict[str, Any]]:
        """All records so far, read from the file."""
        for (record, _), _ in zip(_whole_lines(self.file), range(self.count), strict=False):
            yield record

    def finish(self, target: Path | None) -> None:
        """Renames the file to ``target``, in one step and once it is on the disk; ``None`` removes it.

        Raises:
            DataError: it cannot be renamed.
        """
        try:
            out = self._opened()
            os.fsync(out.fileno())
            self.close()
            if target is None:
                self.file.unlink()
            else:
                self.file.replace(target)
        except OSError as error:
            raise _unwritable(target or self.file, error) from error

    def close(self) -> None:
        """Closes the file, which stays."""
        self._earlier.close()
        if self._out is not None:
            self._out.close()
            self._out = None

    def _counted(self, record: dict[str, Any], size: int) -> None:
        self.count, self._bytes = self.count + 1, self._bytes + size
        self.failed += record.get("error") is not None

    def _opened(self) -> BinaryIO:
        if self._out is None:
            self._earlier.close()
            self._next = None
            self._out = self.file.open("ab")
            self._out.truncate(self._bytes)
        return self._out


def records_in(file: Path) -> Iterator[dict[str, Any]]:
    """The records in a file that is complete; none where it is not there.

    Raises:
        DataError: it cannot be read.
    """
    return (record for record, _ in _whole_lines(file))


def _whole_lines(file: Path) -> Generator[tuple[dict[str, Any], int], None, None]:
    """Each record with the bytes of its line, up to the first line that is not whole."""
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file, remedy="check its permission") from error
    with stream:
        for line in stream:
            try:
                record = parse_json(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if not isinstance(record, dict):
                return
            yield record, len(line)


def _unwritable(file: Path, error: OSError) -> DataError:
    reason = f"cannot be written ({error.strerror})"
    return DataError(reason, file=file, remedy="free some space or check its permission, then go on with --resume")


__all__ = ["Journal", "records_in"]
