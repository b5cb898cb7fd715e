"""Bootstrap over source groups.

Slices of one source (copies, mirrored copies) are not independent, so whole groups are drawn with replacement (cluster
bootstrap, Davison and Hinkley 1997, chapter 3.8). A resample is a row of weights, one per slice, and every figure is a
function of such rows, so thousands of resamples are a few array operations and boxes are matched once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectclf.evaluation.weighted import Floats, Ints, WeightedFigures

_CELLS = 4_000_000  # cells of one array (resamples x boxes, some 20 per slice): bounds memory on large splits


def resamples(groups: Ints, count: int, seed: int, *, chunk: int) -> Iterator[Floats]:
    """Rows of weights, in chunks of at most ``chunk`` resamples; the size of a chunk does not change the rows.

    Args:
        groups: ``(I,)`` source group of each slice, any integers.
        count: resamples in all.
        seed: seed of the random generator.
        chunk: rows per chunk.
    """
    _, member = np.unique(groups, return_inverse=True)
    sources = int(member.max()) + 1 if len(member) else 0
    if not sources:
        return
    random = np.random.default_rng(seed)
    for start in range(0, count, chunk):
        drawn = random.multinomial(sources, np.full(sources, 1 / sources), size=min(chunk, count - start))
        yield drawn[:, member].astype(np.float64)


def bootstrap(figures: WeightedFigures, groups: Ints, *, count: int, seed: int) -> dict[str, Floats]:
    """Every figure in each of ``count`` resamples: name -> ``(count,)`` values."""
    parts: dict[str, list[Floats]] = {}
    chunk = max(1, min(200, _CELLS // (20 * max(len(groups), 1))))
    for weights in resamples(groups, count, seed, chunk=chunk):
        for name, values in figures(weights).items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}
