"""Which slices show the same source slice: exact, re-encoded, resized, mirrored, rotated, adjusted, cropped, noised.

Three steps, none of which compares every pair: (1) each fingerprint becomes a short vector that mirroring and
rotation do not change; (2) a k-d tree finds the few nearest neighbours of each slice; (3) only these are aligned and
compared in detail. Slices connected by matching pairs form a group. Versions that were turned by a few degrees,
sheared, cropped or have blocks cut out come last (:mod:`~detectclf.duplicates.unnamed`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from detectclf.cores import decoding_threads
from detectclf.duplicates.alignment import local_contrast
from detectclf.duplicates.disjoint_sets import DisjointSets
from detectclf.duplicates.fingerprints import SIDE, Fingerprints, Rows
from detectclf.duplicates.kinds import KINDS, kinds_of
from detectclf.duplicates.pairs import are_copies, view
from detectclf.duplicates.unnamed import join_unnamed
from detectclf.duplicates.versions import join_named
from detectclf.progress import Progress
from detectclf.types import FloatArray

Indices = npt.NDArray[np.int64]

# The search for copies of a slice ends after so many neighbours in a row that are none.
_PATIENCE = 6
_NEIGHBOURS = 20
_REACH = 0.50
_DIMENSIONS = 24
_BATCH = 256


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Slices that show one source slice.

    Attributes:
        members: their indices, ascending, at least two.
        kind: how they differ, the strongest difference in the group: ``exact``, ``reencoded``, ``resized``,
            ``adjusted``, ``noised``, ``cut_out``, ``cropped``, ``sheared``, ``mirrored``, ``flipped`` (up-down),
            ``rotated``, ``transposed``, or ``version`` where it is not sure. Nothing depends on it.
        kinds: how each member differs from the first (``exact`` for the first itself).
    """

    members: tuple[int, ...]
    kind: str
    kinds: tuple[str, ...]


def find_copies(fingerprints: Fingerprints) -> list[CopyGroup]:
    """Groups of copies, ordered by their first member.

    Each slice is compared in detail with at most a fixed number of others. Time grows as N log N, but for the products
    of vectors in the search for versions, which take about five minutes of a core for 100,000 slices.
    """
    rows = fingerprints.rows
    joined = DisjointSets(len(rows))
    representatives = _join_exact(rows, np.flatnonzero(fingerprints.readable), joined)
    distinct = representatives[_has_detail(rows)[representatives]]
    if len(distinct) > 1:
        with Progress("comparing pairs of slices") as progress:
            # Whole slices find copies whose head box moved with a strong change of contrast; heads alone find copies
            # that were cropped or padded.
            for head in (False, True):
                _join_alike(rows, distinct, joined, head, progress)
        join_named(rows["thumb"], fingerprints.names, distinct, joined)
        join_unnamed(rows["thumb"], distinct, joined)
    groups = [group for group in joined.sets() if len(group) > 1]
    described = []
    with (
        Progress("describing groups of copies", len(groups)) as progress,
        ThreadPoolExecutor(decoding_threads()) as pool,
    ):
        for group, kinds in zip(groups, pool.map(partial(kinds_of, rows), groups), strict=True):
            described.append(CopyGroup(tuple(group), max(kinds, key=KINDS.index), kinds))
            progress.advance()
    return described


def copies_between(
    kept: Fingerprints, other: Fingerprints, *, find: Callable[[Fingerprints], list[CopyGroup]] = find_copies
) -> Indices:
    """Indices of the slices of ``other`` that are copies of a slice of ``kept``, ascending.

    Finds the test slices that a model was trained on, also by the fingerprints stored with a run.

    Args:
        kept, other: fingerprints of both.
        find: finds the groups of copies, :func:`find_copies` or a function that caches its result.
    """
    both = Fingerprints(
        np.concatenate([kept.rows, other.rows]),
        kept.names + other.names,
        kept.splits + other.splits,
        kept.sources + other.sources,
    )
    copies: set[int] = set()
    for group in find(both):
        if group.members[0] < len(kept):
            copies.update(member - len(kept) for member in group.members if member >= len(kept))
    return np.array(sorted(copies), dtype=np.int64)


def _join_exact(rows: Rows, readable: Indices, joined: DisjointSets) -> Indices:
    """Joins slices of equal pixels and returns one of each, so that exact copies do not crowd out other neighbours."""
    first: dict[bytes, int] = {}
    for index in readable.tolist():
        known = first.setdefault(rows["digest"][index].tobytes(), index)
        if known != index:
            joined.join(known, index)
    return np.array(sorted(first.values()), dtype=np.int64)


def _has_detail(rows: Rows) -> npt.NDArray[np.bool_]:
    # Nearly constant slices all look alike: only equal pixels make them copies.
    return np.asarray((rows["levels"][:, 1] - rows["levels"][:, 0] >= 4) & (rows["size"].min(axis=1) >= 16))


def _vectors(rows: Rows, head: bool) -> FloatArray:
    """``(N, _DIMENSIONS)``: features invariant to mirroring, flipping, rotation and contrast.

    Mirroring an image changes only the signs of its cosine coefficients, and transposing swaps them in pairs; so the
    sorted pairs of their absolute values are invariant. The principal components of largest variance are kept.
    """
    count = 12
    angle = np.pi / SIDE * (np.arange(SIDE) + 0.5)
    basis = (np.cos(np.arange(count)[:, None] * angle) * np.sqrt(2 / SIDE)).astype(np.float32)
    upper = np.triu_indices(count)
    off = upper[0] != upper[1]
    parts = []
    for start in range(0, len(rows), 1024):
        images = local_contrast(view(rows[start : start + 1024], head), 2.7, 10.7, 0.1)
        size = np.abs(basis @ images @ basis.T)
        turned = size.swapaxes(1, 2)
        larger = np.maximum(size, turned)[:, upper[0], upper[1]]
        smaller = np.minimum(size, turned)[:, upper[0], upper[1]][:, off]
        part = np.concatenate([larger, smaller], axis=1)[:, 1:]
        parts.append(part / (np.linalg.norm(part, axis=1, keepdims=True) + 1e-6))
    features = np.concatenate(parts)
    features -= features.mean(axis=0)
    # eigh of the small covariance is deterministic and needs no copy of the features.
    directions = np.linalg.eigh(features.T @ features)[1][:, -_DIMENSIONS:]
    return np.ascontiguousarray(features @ directions, dtype=np.float32)


def _nearest(vectors: FloatArray) -> tuple[npt.NDArray[np.float64], Indices]:
    """Distance and index ``(N, k)`` of the nearest neighbours of each; the distance is infinite where there is none."""
    from scipy.spatial import cKDTree

    wanted = min(_NEIGHBOURS + 1, len(vectors))
    distance, index = cKDTree(vectors).query(vectors, k=wanted, distance_upper_bound=_REACH)
    # A slice is its own nearest neighbour, or one of several at distance 0; pairs with itself are dropped later.
    return np.asarray(distance), np.asarray(index, dtype=np.int64)


def _join_alike(rows: Rows, distinct: Indices, joined: DisjointSets, head: bool, progress: Progress) -> None:
    """Compares each of ``distinct`` with its neighbours, nearest first, and joins those that are copies.

    Pairs in one set already are skipped, and a slice stops after ``_PATIENCE`` failures in a row: its copies are its
    nearest neighbours, however many there are. ``progress`` counts comparisons of a slice with a neighbour.
    """
    distance, neighbour = _nearest(_vectors(rows[distinct], head))
    near_enough = (distance < np.inf).sum(axis=1)
    # Until their vectors are known, as many of the heads as of whole slices are taken to be near.
    later = 0 if head else int(np.minimum(near_enough, _PATIENCE).sum())
    failures = np.zeros(len(distinct), np.int64)
    for rank in range(distance.shape[1]):
        active = np.flatnonzero((distance[:, rank] < np.inf) & (failures < _PATIENCE))
        near = neighbour[active, rank]
        apart = [joined.find(a) != joined.find(b) for a, b in zip(distinct[active], distinct[near], strict=True)]
        failures[active[~np.array(apart, bool)]] = 0
        active, near = active[apart], near[apart]
        # Each pair once, though both may name each other.
        order = np.unique(np.sort(np.stack([active, near], axis=1), axis=1), axis=0).reshape(-1, 2)
        alike = _alike(rows, distinct[order], head)
        failures[active] += 1
        failures[order[alike].ravel()] = 0
        for a, b in distinct[order[alike]].tolist():
            joined.join(a, b)
        # Of each slice that goes on, at least so many are left.
        left = np.minimum(near_enough - rank - 1, _PATIENCE - failures).clip(min=0)
        progress.expect(len(active) + int(left.sum()) + later)
        progress.advance(len(active))


def _alike(rows: Rows, pairs: Indices, head: bool) -> npt.NDArray[np.bool_]:
    """Which of ``pairs`` ``(N, 2)`` are copies."""

    def one(batch: Indices) -> npt.NDArray[np.bool_]:
        return are_copies(rows[batch[:, 0]], rows[batch[:, 1]], head)

    batches = [pairs[start : start + _BATCH] for start in range(0, len(pairs), _BATCH)]
    # NumPy lets go of Python's lock in its loops.
    with ThreadPoolExecutor(max_workers=decoding_threads()) as pool:
        found = list(pool.map(one, batches))
    return np.concatenate([*found, np.zeros(0, np.bool_)])


__all__ = ["CopyGroup", "copies_between", "find_copies"]
