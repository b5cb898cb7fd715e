"""The order of slices that lie in shards: from shard to shard, so that few of them are read at a time.

An epoch takes whole shards in random order, in windows: as many shards as hold ``buffer`` slices, but at most
``MOST_SHARDS // 2``, so that the copies of two windows are kept where shards lie in a store. Within a window the order
is random. It depends on the random numbers given alone: whoever knows how many slices were drawn can go on from there
without reading one of them, which a buffer that is filled from a stream cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectclf.stored_shards import MOST_SHARDS, StoredSpan
from detectclf.types import Sample

Indices = npt.NDArray[np.int64]

STORED_BUFFER = 10_000
"""Slices of a window where nobody says how many, for shards of a store."""


@dataclass(frozen=True, eq=False)
class Shards:
    """Which slice lies in which shard.

    Attributes:
        of_slice: ``(N,)`` number of the shard of each slice.
        buffer: slices of a window.
    """

    of_slice: Indices
    buffer: int

    def windows(self, rng: np.random.Generator) -> Indices:
        """``(N,)`` number of the window of each slice, in an epoch of random order."""
        sizes = np.bincount(self.of_slice)
        numbers = np.zeros(len(sizes), dtype=np.int64)
        window = shards = slices = 0
        for shard in rng.permutation(len(sizes)):
            if slices >= self.buffer or shards >= MOST_SHARDS // 2:
                window, shards, slices = window + 1, 0, 0
            numbers[shard] = window
            shards, slices = shards + 1, slices + int(sizes[shard])
        return numbers[self.of_slice]

    def one_after_the_other(self) -> Indices:
        """``(N,)`` the slices shard by shard."""
        return np.argsort(self.of_slice, kind="stable")


def within_windows(order: Indices, windows: Indices, rng: np.random.Generator) -> Indices:
    """``order`` window by window, in random order within each.

    Args:
        order: ``(M,)`` slices, any of them several times or not at all.
        windows: ``(N,)`` number of the window of each slice.
        rng: random numbers.
    """
    return order[np.lexsort((rng.random(len(order)), windows[order]))]


def shards_of(samples: Sequence[Sample], buffer: int | None) -> Shards | None:
    """The shards that slices are read from one after the other; ``None`` where they may be read in any order.

    Args:
        samples: the slices; one that lies in no shard is its own.
        buffer: slices of a window, as ``data.shuffle_buffer``; 0 for all in any order, ``None`` for
            ``STORED_BUFFER`` where a shard lies in a store, else 0.
    """
    if buffer is None:
        buffer = STORED_BUFFER if any(isinstance(s.span, StoredSpan) for s in samples) else 0
    if buffer == 0 or all(sample.span is None for sample in samples):
        return None
    numbers: dict[str, int] = {}
    places = (s.span.uri if isinstance(s.span, StoredSpan) else str(s.path) for s in samples)
    return Shards(np.array([numbers.setdefault(place, len(numbers)) for place in places], dtype=np.int64), buffer)


__all__ = ["STORED_BUFFER", "Shards", "shards_of", "within_windows"]
