"""Decoded slices, resized to a network's input, held in memory where they fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from detectclf.imaging.images import read_pixels, resize_pad
from detectclf.progress import Progress
from detectclf.types import Pixels, Sample

CACHE_SHARE = 0.25
"""Share of the free memory that ``cache: auto`` may take."""


class ResizedSlice(NamedTuple):
    """A slice at the size of a network's input.

    Attributes:
        pixels: ``(S, S)`` uint8, the slice at the top left, the rest padding.
        scale: input pixels over original pixels.
        width, height: of the original slice, pixels.
        inside: width and height of the slice in ``pixels``.
    """

    pixels: Pixels
    scale: float
    width: int
    height: int
    inside: tuple[int, int]


class SlicePixels:
    """Decoded slices, resized to the network's input, kept in memory where wanted.

    Args:
        samples: the slices.
        size: side of the square, pixels.
        cache: ``memory``, ``none``, or ``auto``: in memory when all of it fits in a quarter of the free memory.
    """

    def __init__(self, samples: Sequence[Sample], size: int, cache: Literal["auto", "memory", "none"]) -> None:
        self.samples, self.size = samples, size
        need = len(samples) * size * size
        self.cached = cache == "memory" or (cache == "auto" and need <= CACHE_SHARE * free_memory())
        kept = len(samples) if self.cached else 0
        # One block that loader processes share when they are forked, instead of one object per slice.
        self._block: npt.NDArray[np.uint8] = np.zeros((kept, size, size), dtype=np.uint8)
        self._geometry: list[tuple[float, int, int, tuple[int, int]] | None] = [None] * kept
        self._pending: dict[int, Future[None]] = {}
        self._error: BaseException | None = None

    def fill(self, read: Callable[[Sample], Pixels] = read_pixels) -> None:
        """Decodes everything now, on all cores; nothing to do without a cache or when it is full.

        Args:
            read: gives the pixels of a sample, such as that of the slice index.

        Raises:
            DataError: a slice cannot be read.
            UnsafeError: a slice is refused.
        """
        self.start(read)
        with Progress("decoding slices", len(self._pending)) as progress:
            for future in self._pending.values():
                future.result()
                progress.advance()
        self._pending = {}

    def start(self, read: Callable[[Sample], Pixels] = read_pixels) -> None:
        """Starts to decode everything on all cores and returns; a slice that is asked for meanwhile is decoded first.

        The first slice that cannot be read fails the next access to any slice, not only its own.

        Args:
            read: as of :meth:`fill`.
        """
        missing = [i for i, geometry in enumerate(self._geometry) if geometry is None and i not in self._pending]
        pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        for index in missing:
            self._pending[index] = pool.submit(self._keep, index, read)
            self._pending[index].add_done_callback(self._keep_error)
        pool.shutdown(wait=False)

    def stop(self) -> None:
        """Cancels what :meth:`start` was asked to decode and has not begun."""
        for future in self._pending.values():
            future.cancel()
        self._pending = {}

    def __getitem__(self, index: int) -> ResizedSlice:
        """Slice ``index``; read-only for the caller.

        Raises:
            DataError: the file cannot be read, with its name.
            UnsafeError: the file is refused.
        """
        if self._error is not None:
            raise self._error
        if self.cached and (geometry := self._geometry[index]) is not None:
            return ResizedSlice(self._block[index], *geometry)
        future = self._pending.pop(index, None)
        # One that has not begun is decoded here, without waiting for those before it.
        if future is not None and not future.cancel():
            future.result()
            return self[index]
        return self._decode(index, read_pixels)

    def _decode(self, index: int, read: Callable[[Sample], Pixels]) -> ResizedSlice:
        original = read(self.samples[index])
        pixels, scale, inside = resize_pad(original, self.size)
        geometry = (scale, original.shape[1], original.shape[0], inside)
        if self.cached:
            self._block[index] = pixels
            self._geometry[index] = geometry
        return ResizedSlice(pixels, *geometry)

    def _keep(self, index: int, read: Callable[[Sample], Pixels]) -> None:
        # Returns nothing, because the future would hold the pixels beside the cache.
        self._decode(index, read)

    def _keep_error(self, future: Future[None]) -> None:
        if not future.cancelled() and self._error is None:
            self._error = future.exception()


def free_memory() -> int:
    """Bytes of memory that are available without swapping."""
    # Comes with Accelerate; imported by name because it has no type stubs.
    psutil = import_module("psutil")
    return int(psutil.virtual_memory().available)


__all__ = ["CACHE_SHARE", "ResizedSlice", "SlicePixels", "free_memory"]
