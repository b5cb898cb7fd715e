"""The order of an epoch's slices: in batches, at random, and balanced over the classes where wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from detectclf.datasets.shard_order import Shards, within_windows
from detectclf.types import Sample


class Batches(Sampler[list[int]]):
    """Indices of the batches of an epoch, for all training processes together.

    In training the order is drawn from (seed, epoch), and the last batch is filled up from that order:
    every batch is full, so that BatchNorm never meets a batch of one and processes get equal shares. Otherwise the
    order is that of the slices, and the last batch may be short.

    Args:
        length: number of slices.
        batch_size: slices per batch.
        seed: of the order; ``None`` keeps the slices' own.
        weights: ``(length,)`` how often each slice is taken in relation to the others; by default equally often. An
            epoch has ``length`` draws all the same.
        shards: in which shard each slice lies, where they are read shard by shard.
    """

    drop_last = False  # Accelerate asks for it

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int | None,
        weights: npt.NDArray[np.float64] | None = None,
        shards: Shards | None = None,
    ) -> None:
        self.length, self.batch_size, self.seed, self.weights = length, batch_size, seed, weights
        self.shards = shards
        self.epoch, self.first = 0, 0

    def begin(self, epoch: int, first: int = 0) -> None:
        """Chooses the epoch, and the batch to start from when an interrupted epoch is resumed."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for start in range(self.first * self.batch_size, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def _order(self) -> npt.NDArray[np.int64]:
        if self.seed is None:
            return np.arange(self.length) if self.shards is None else self.shards.one_after_the_other()
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.length)
        windows = None
        if self.shards is not None:
            windows = self.shards.windows(rng)
            order = within_windows(order, windows, rng)
        if self.weights is not None:
            order = _weighted(order, self.weights[order], rng)
            order = rng.permutation(order) if windows is None else within_windows(order, windows, rng)
        missing = len(self) * self.batch_size - self.length
        # From the front, or with shards from the end, whose shards are at hand.
        return np.concatenate([order, np.resize(order if windows is None else order[::-1], missing)])


def _weighted(
    order: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """As many of ``order``, each in proportion to its weight, as evenly as can be (systematic sampling)."""
    ends = np.cumsum(weights) / weights.sum() * len(order)
    picks = np.searchsorted(ends, np.arange(len(order)) + rng.random(), side="right")
    return order[np.minimum(picks, len(order) - 1)]


def balancing_weights(samples: Sequence[Sample], balance: float) -> npt.NDArray[np.float64] | None:
    """Weights for :class:`Batches` that make up for classes of few slices.

    Args:
        samples: training slices.
        balance: 0 for none (then ``None``) to 1, where every class is taken equally often.
    """
    if balance == 0:
        return None
    counts = Counter(sample.label for sample in samples)
    return np.array([counts[sample.label] ** -balance for sample in samples], dtype=np.float64)
