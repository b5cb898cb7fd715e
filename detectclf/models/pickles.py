"""Tells pickles that would run code from damaged files, without unpickling anything.

Looked into are plain pickles of every protocol, several one after another (as torch wrote them before 1.6), and those
in zip and tar archives (torch's own, TorchScript, numpy's ``.npz``), and numpy's arrays of objects.
"""

from __future__ import annotations

import io
import pickletools
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_MOST_OPERATIONS = 500_000  # a checkpoint of 10,000 tensors has 200,000; beyond that, nobody can tell: counted as code
_MOST_PICKLES = 16  # one after another; torch wrote five
_MOST_BYTES = 64 * 2**20
_MOST_ENTRIES = 100_000
_NPY_HEADER = 2**16

# What torch.save writes for tensors. Everything else that a pickle names would be imported, and then called.
_TENSORS = re.compile(
    r"collections (OrderedDict|Counter)|builtins (set|bytearray|complex)|_codecs encode|torch Size"
    r"|torch(\.cuda)?(\.sparse)? \w*(Storage|Tensor)|torch (device|[a-z]+\d\w*|per_\w+)"
    r"|torch\.nn\.parameter Parameter|torch\.storage \w+Storage|torch\._utils _rebuild_\w+"
    r"|torch\._tensor _rebuild_from_type_v2|torch\.serialization _get_layout"
)
_NAME = re.compile(r"[^\W\d][\w.]* [^\W\d][\w.]*")  # a text of two lines that begins with c is no import
_USES = frozenset({"REDUCE", "OBJ", "INST", "NEWOBJ", "NEWOBJ_EX", "BUILD", "STOP"})
_OBJECTS = re.compile(rb"['\"][|<>=]?O\d*['\"]")


def would_run_code(path: Path) -> bool:
    """Whether the file holds a pickle that names anything but tensors; ``False`` also for what is no pickle."""
    with path.open("rb") as file:
        return any(map(_runs_code, _parts(file)))


def packed_tightly(path: Path) -> bool:
    """Whether the file is a zip with compressed entries, which torch never writes and which may unpack to anything."""
    with suppress(Exception), zipfile.ZipFile(path) as pack:
        return any(entry.compress_type != zipfile.ZIP_STORED for entry in pack.infolist())
    return False


def _parts(file: BinaryIO) -> Iterator[bytes]:
    """The beginning of the file, or of each file in it where it is an archive."""
    if zipfile.is_zipfile(file):
        with suppress(Exception), zipfile.ZipFile(file) as pack:
            for entry in pack.infolist()[:_MOST_ENTRIES]:
                if "/code/" in f"/{entry.filename}":
                    yield b"cbuiltins\nexec\n."  # TorchScript keeps programs there, which run when it is used
                with suppress(Exception), pack.open(entry) as part:
                    yield part.read(_MOST_BYTES if entry.filename.endswith((".pkl", ".npy")) else 0)
        return
    file.seek(0)
    with suppress(Exception), tarfile.open(fileobj=file, mode="r:") as tape:
        for member in tape:
            content = tape.extractfile(member) if member.isreg() else None
            yield content.read(_MOST_BYTES) if content is not None else b""
        return
    file.seek(0)
    yield file.read(_MOST_BYTES)


def _runs_code(content: bytes) -> bool:
    if content.startswith(b"\x93NUMPY"):
        return _OBJECTS.search(content[:_NPY_HEADER]) is not None
    stream, left = io.BytesIO(content), _MOST_OPERATIONS
    for _ in range(_MOST_PICKLES):
        named = False
        try:
            for operation, argument, _ in pickletools.genops(stream):
                left -= 1
                named = named or _names_code(operation.name, argument)
                if left < 0 or (named and operation.name in _USES):
                    return True
        except Exception:  # no pickle, or the rest of one that is cut short: nothing more would run
            return False
    return False


def _names_code(operation: str, argument: object) -> bool:
    if operation in ("GLOBAL", "INST"):
        return bool(_NAME.fullmatch(str(argument))) and not _TENSORS.fullmatch(str(argument))
    return operation in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4")  # torch writes protocol 2, without extensions


__all__ = ["packed_tightly", "would_run_code"]
