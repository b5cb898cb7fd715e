"""The slice index: what one pass over the bytes of a data set finds out about each slice.

A slice is read once. Its fingerprint, faults and digest are kept in the user's cache (:mod:`detectclf.cache`) under its
path, size and times, and later uses, in this command or the next, take them from there. A slice that
changed is read anew, and so is one that was written in the last two seconds, since a second change might leave no trace
in its times. The groups of copies among many slices are kept as well: finding them takes longer than reading.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from detectclf.cache import Cache, cache_folder
from detectclf.cores import decoding_threads
from detectclf.duplicates.atlas import load_atlas
from detectclf.duplicates.copies import CopyGroup, copies_between, find_copies
from detectclf.duplicates.disjoint_sets import join_names
from detectclf.duplicates.fingerprints import ROW, Fingerprints, Rows, fingerprint
from detectclf.duplicates.versions import names_key
from detectclf.imaging.images import examine_image, read_pixels
from detectclf.progress import Progress
from detectclf.stored_shards import StoredSpan
from detectclf.types import Pixels, Sample
from detectclf.uris import shown
from detectclf.version import __version__, installed_version

_DECODERS = ("pillow", "opencv-python-headless", "pydicom", "nibabel")


@cache
def version() -> bytes:
    """Changes with what is kept, with how it is found (also between releases), and with what decodes pictures."""
    return repr((1, __version__, *map(installed_version, _DECODERS))).encode()


Item = TypeVar("Item")

_SETTLED_S = 2.0
_SHA256_BYTES = 32
_BLOCK = 256

Faults = tuple[tuple[str, str], ...]
"""``(code, detail)`` of each fault of an image, as :class:`~detectclf.imaging.images.Examined` has them."""


class _Entry(NamedTuple):
    row: bytes
    readable: bool
    sha256: bytes
    faults: Faults


@dataclass(frozen=True, eq=False)
class IndexedSlices:
    """The entries of some samples; row ``i`` belongs to ``samples[i]``.

    Attributes:
        samples: as given.
        rows: ``(N,)`` fingerprints, of the first frame where a file has several.
        readable: ``(N,)`` whether :func:`~detectclf.imaging.images.read_pixels` gives a slice.
        sha256: of the encoded bytes of each; empty where they cannot be read.
        faults: of the image of each.
    """

    samples: tuple[Sample, ...]
    rows: Rows
    readable: npt.NDArray[np.bool_]
    sha256: tuple[bytes, ...]
    faults: tuple[Faults, ...]

    @cached_property
    def fingerprints(self) -> Fingerprints:
        """Of the slices that can be read; the others have rows that match nothing."""
        rows = self.rows
        hidden = ~self.readable & (rows["size"][:, 0] > 0)
        if hidden.any():  # else without a copy: of a hundred thousand slices it takes 420 MB
            rows = rows.copy()
            rows[hidden] = np.zeros(1, dtype=ROW)
        names, splits, sources, patients = (
            tuple(getattr(s, key) for s in self.samples) for key in ("name", "split", "source", "patient")
        )
        aliases = join_names(dict.fromkeys(s.patient_names for s in self.samples if s.aliases))
        return Fingerprints(rows, names, splits, sources, patients, aliases=aliases)


class SliceIndex:
    """Reads slices, each once, and keeps their fingerprints, faults and digests.

    Safe to use from several threads. One index serves a whole command.

    Args:
        cache: where entries are kept; by default the user's.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        self.cache = Cache(cache_folder()) if cache is None else cache
        # Entries that are not on disk (yet).
        self._known: dict[bytes, bytes] = {}
        self._pending: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def read(self, sample: Sample) -> Pixels:
        """The pixels of a sample; if it is not in the index yet, its entry is made from the same read.

        Raises:
            DataError, UnsafeError: as :func:`~detectclf.imaging.images.read_pixels`.
        """
        key, settled = _key(sample)
        if self._find([key]):
            return read_pixels(sample)
        pixels, entry = self._examine(sample, key, settled)
        if pixels is None or not entry.readable:
            return read_pixels(sample)  # which says what is wrong
        return pixels

    def look_up(self, samples: Sequence[Sample]) -> IndexedSlices:
        """The entries of ``samples``, in their order; those that are new or changed are read, with progress."""
        count = len(samples)
        rows = np.zeros(count, dtype=ROW)
        readable, sha256, faults = np.zeros(count, dtype=np.bool_), [b""] * count, [Faults()] * count

        def fill(position: int, entry: _Entry) -> None:
            rows[position] = np.frombuffer(entry.row, dtype=ROW)[0]
            readable[position], sha256[position], faults[position] = entry.readable, entry.sha256, entry.faults

        keys = [_key(sample) for sample in samples]
        missing = []
        for block in _blocks(range(count), _BLOCK):
            found = self._find([keys[i][0] for i in block])
            for i in block:
                if keys[i][0] in found:
                    fill(i, _unpack(found[keys[i][0]]))
                else:
                    missing.append(i)
        # Shard by shard: whoever jumps between those of a store has them copied again and again.
        missing.sort(key=lambda i: _place(samples[i]))
        with (
            Progress("reading slices", count, done=count - len(missing)) as progress,
            ThreadPoolExecutor(decoding_threads()) as pool,
        ):
            # In blocks: a hundred thousand waiting tasks would hold memory for nothing.
            for block in _blocks(missing, _BLOCK):
                for i, entry in zip(
                    block, pool.map(lambda i: self._examine(samples[i], *keys[i])[1], block), strict=True
                ):
                    fill(i, entry)
                    progress.advance()
        self.flush()
        return IndexedSlices(tuple(samples), rows, readable, tuple(sha256), tuple(faults))

    def knows(self, samples: Sequence[Sample]) -> bool:
        """Whether :meth:`look_up` would read none of ``samples``."""
        keys = [_key(sample)[0] for sample in samples]
        return all(self._find(block).keys() == set(block) for block in _blocks(keys, _BLOCK))

    def find_copies(self, fingerprints: Fingerprints) -> list[CopyGroup]:
        """As :func:`detectclf.duplicates.copies.find_copies`, from the cache where it was asked before."""
        key = _key_of_rows(b"copies, versions by content and their kinds" + names_key(fingerprints.names), fingerprints)
        known = self._find([key])
        if known:
            groups = json.loads(known[key])
            return [CopyGroup(tuple(members), kind, tuple(kinds)) for members, kind, kinds in groups]
        found = find_copies(fingerprints)
        self._keep(key, json.dumps([[g.members, g.kind, g.kinds] for g in found]).encode(), True)
        self.flush()
        return found

    def match_atlas(self, fingerprints: Fingerprints) -> npt.NDArray[np.int64]:
        """As :meth:`detectclf.duplicates.atlas.Atlas.match`, from the cache where it was asked before."""
        key = _key_of_rows(b"atlas in eight orientations", fingerprints)
        known = self._find([key])
        if known:
            return np.frombuffer(known[key], dtype="<i8").astype(np.int64)
        found = load_atlas().match(fingerprints)
        self._keep(key, found.astype("<i8").tobytes(), True)
        self.flush()
        return found

    def copies_between(self, kept: Fingerprints, other: Fingerprints) -> npt.NDArray[np.int64]:
        """Indices of those slices of ``other`` that are copies of slices of ``kept``, of its slices of the atlas too.

        As :func:`detectclf.duplicates.copies.copies_between`, from the cache where it was asked before.
        """
        found = copies_between(kept, other, find=self.find_copies)
        if not kept.atlas_slices:
            return found
        rows = self.match_atlas(other)
        known = np.isin(load_atlas().sources[rows], kept.atlas_slices) & (rows >= 0)
        return np.union1d(found, np.flatnonzero(known)).astype(np.int64)

    def flush(self) -> None:
        """Writes to disk what is not there yet."""
        with self._lock:
            pending = dict(self._pending)
        if not pending:
            return
        stored = self.cache.put(pending)
        with self._lock:
            for key, value in pending.items():
                self._pending.pop(key, None)
                if not stored:
                    self._known[key] = value

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._lock:
            found = {k: v for k in keys for store in (self._known, self._pending) if (v := store.get(k)) is not None}
        return found | self.cache.get([key for key in keys if key not in found])

    def _examine(self, sample: Sample, key: bytes, settled: bool) -> tuple[Pixels | None, _Entry]:
        examined = examine_image(sample.path, span=sample.span, root=sample.source or None)
        row = np.zeros(1, dtype=ROW) if examined.pixels is None else fingerprint(examined.pixels)
        entry = _Entry(row.tobytes(), examined.readable, examined.sha256, tuple(examined.faults))
        # What failed may be a disk's fault, or that of a decoder not installed: the next command tries again.
        self._keep(key, _pack(entry), settled and examined.pixels is not None)
        return examined.pixels, entry

    def _keep(self, key: bytes, value: bytes, settled: bool) -> None:
        with self._lock:
            (self._pending if settled else self._known)[key] = value
            full = len(self._pending) >= _BLOCK
        if full:
            self.flush()


def _key(sample: Sample) -> tuple[bytes, bool]:
    """What a slice is found by, and whether its file is old enough for that to be trusted."""
    if isinstance(sample.span, StoredSpan):
        # Wherever a path stood: the stamp of the shard says that it is the same.
        stored = repr((shown(sample.span.uri), sample.span.stamp, sample.span.offset, sample.span.length))
        return _hashed(stored), True
    try:
        status = sample.path.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except (OSError, ValueError):
        stamp = (-1, -1, -1)
    changed_s = max(stamp[1:]) / 1e9
    span = None if sample.span is None else (sample.span.offset, sample.span.length)
    # The source too: whether a file may be read depends on it. Hashed: the cache holds no names of files.
    where = [os.path.abspath(path) for path in (sample.path, sample.source)]  # noqa: PTH100 - no symlinks followed
    text = repr((where, span, stamp))
    return _hashed(text), stamp[0] >= 0 and time.time() - changed_s > _SETTLED_S


def _place(sample: Sample) -> tuple[str, int]:
    span = sample.span
    return (span.uri, span.offset) if isinstance(span, StoredSpan) else ("", 0)


def _hashed(text: str) -> bytes:
    return hashlib.blake2b(version() + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _key_of_rows(what: bytes, fingerprints: Fingerprints) -> bytes:
    """What a result on many slices is found by."""
    digest = hashlib.blake2b(what + version(), digest_size=16)
    digest.update(np.ascontiguousarray(fingerprints.rows).view(np.uint8).data)
    return digest.digest()


def _pack(entry: _Entry) -> bytes:
    known = entry.sha256.ljust(_SHA256_BYTES, b"\0")
    state = bytes([entry.readable, bool(entry.sha256)])
    return state + known + entry.row + json.dumps(entry.faults).encode("utf-8", "surrogatepass")


def _unpack(packed: bytes) -> _Entry:
    digest, rest = packed[2 : 2 + _SHA256_BYTES], packed[2 + _SHA256_BYTES :]
    faults = json.loads(rest[ROW.itemsize :].decode("utf-8", "surrogatepass"))
    named = tuple((str(code), str(detail)) for code, detail in faults)
    return _Entry(rest[: ROW.itemsize], bool(packed[0]), digest if packed[1] else b"", named)


def _blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block


__all__ = ["Faults", "IndexedSlices", "SliceIndex"]
