"""Joins augmented versions by content alone: slices of alike texture that an affine motion brings onto each other.

Each slice is compared with the few whose texture is most alike (:mod:`~detectclf.duplicates.texture`), and with the one
most like it or its mirror image place by place. Where the two lie on each other is first looked for among rotations,
mirrorings and shifts, by correlation of their detail.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectclf.cores import decoding_threads
from detectclf.duplicates.affine import affine_similarity, flat, rotation, warp
from detectclf.duplicates.alignment import ORIENTATIONS, halve, local_contrast, standardise
from detectclf.duplicates.disjoint_sets import DisjointSets
from detectclf.duplicates.texture import ZOOMS, layout, nearest, views
from detectclf.progress import Progress
from detectclf.types import FloatArray

Indices = npt.NDArray[np.int64]

SAME_CONTENT = 0.94
"""Similarity after affine alignment from which on slices of any name are versions of one; neighbours reach 0.934."""

# Measured on the slices of half of the patients of figshare 1512427, and on versions of them (docs/log.md).
_CANDIDATES = 4
_LEAST_COSINE = 0.45, 0.45, 0.65, 0.65  # of each rank
_LEAST_IN_PLACE = 0.7
_LEAST_DETAIL = 0.38
_ANGLES = (0, -10, 10, -20, 20, -30, 30)  # degrees: two versions are turned by 15 to either side
_SHIFT = 6  # pixels of 32
_BATCH = 128
_TRIED, _AS_LIKELY = 3, 0.9  # orientations, and their least detail as a share of the best one's


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """How alike ``N`` pairs of thumbnails are, and where they lie on each other.

    Attributes:
        alike: ``(N,)`` correlation of their detail after alignment; 0 where they are no versions.
        orientation: ``(N,)`` index into ``ORIENTATIONS`` of what turns one into the other.
        motion: ``(N, 2, 3)`` what remains, as in :func:`~detectclf.duplicates.affine.warp`.
    """

    alike: FloatArray
    orientation: Indices
    motion: FloatArray


def join_unnamed(thumbs: npt.NDArray[np.uint8], members: Indices, joined: DisjointSets) -> None:
    """Joins those ``members`` that look like augmented versions of each other, whatever their names."""
    if len(members) < 2:
        return
    pairs, zooms = candidates(thumbs[members])
    with Progress("comparing slices of alike texture", len(pairs)) as progress:
        for rank in range(_CANDIDATES):
            ranked = np.flatnonzero(pairs[:, 2] == rank)
            chosen = np.array([i for i in ranked if _apart(joined, members, pairs[i])], np.int64)
            progress.advance(len(ranked) - len(chosen))
            batches = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]

            def alike(batch: Indices) -> FloatArray:
                moving, fixed = (thumbs[members[pairs[batch, side]]].astype(np.float32) for side in (0, 1))
                return match(moving, fixed, zooms[batch]).alike

            with ThreadPoolExecutor(max_workers=decoding_threads()) as pool:
                for batch, found in zip(batches, pool.map(alike, batches), strict=True):
                    progress.advance(len(batch))
                    for a, b in members[pairs[batch[found >= SAME_CONTENT], :2]].tolist():
                        joined.join(a, b)


def _apart(joined: DisjointSets, members: Indices, pair: Indices) -> bool:
    return joined.find(int(members[pair[0]])) != joined.find(int(members[pair[1]]))


def candidates(thumbs: npt.NDArray[np.uint8]) -> tuple[Indices, FloatArray]:
    """Pairs of slices that may be versions of one: of alike texture, or alike where they lie.

    Returns:
        ``(P, 3)``: two indices and the rank of the second among those most like the first, or the other way round;
        ``(P,)``: the zoom of the first at which the second is most like it.
    """
    turned, zooms = _alike_in_texture(thumbs)
    known = {tuple(sorted(pair)) for pair in turned[zooms == 1, :2].tolist()}
    new = [(*pair, 0) for pair in _alike_in_place(thumbs) if pair not in known]
    still = np.array(new, np.int64).reshape(-1, 3)
    return np.concatenate([still, turned]), np.concatenate([np.ones(len(still), np.float32), zooms])


def _alike_in_place(thumbs: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs that look alike without being moved, or mirrored: what is cut out changes texture more than places."""
    places, mirrored = layout(thumbs), layout(thumbs[:, :, ::-1])
    found = set()
    for seen in (places, mirrored):
        cosine, index = nearest(places, seen, 1)
        for one in np.flatnonzero(cosine[:, 0] >= _LEAST_IN_PLACE).tolist():
            other = int(index[one, 0])
            found.add((min(one, other), max(one, other)))
    return sorted(found)


def _alike_in_texture(thumbs: npt.NDArray[np.uint8]) -> tuple[Indices, FloatArray]:
    """As :func:`candidates`, whatever rotates, shears or crops the slices."""
    vectors = views(thumbs)
    count = len(thumbs)
    found: list[npt.NDArray[np.float64]] = []
    for seen, zoom in zip(vectors, ZOOMS, strict=True):
        for base, view, swapped in ((vectors[0], seen, False), (seen, vectors[0], True)):
            if zoom == 1 and swapped:
                continue
            cosine, index = nearest(base, view, _CANDIDATES)
            one = np.repeat(np.arange(count), cosine.shape[1])
            zooms = np.full(len(one), 1 / zoom if swapped else zoom)
            found.append(np.stack([one, index.ravel(), cosine.ravel(), zooms], axis=1))
    table = np.concatenate(found)
    table = table[table[:, 2] >= min(_LEAST_COSINE)]
    table = table[np.lexsort((table[:, 1], -table[:, 2], table[:, 0]))]
    _, first = np.unique(table[:, 0] * count + table[:, 1], return_index=True)
    first.sort()
    table = table[first]
    rank = np.arange(len(table)) - np.searchsorted(table[:, 0], table[:, 0])
    table, rank = table[rank < _CANDIDATES], rank[rank < _CANDIDATES]
    likely = table[:, 2] >= np.array(_LEAST_COSINE)[rank]
    table, rank = table[likely], rank[likely]
    # Each pair once, at its better rank.
    order = np.lexsort((-table[:, 2], rank))
    table, rank = table[order], rank[order]
    low, high = table[:, :2].min(axis=1), table[:, :2].max(axis=1)
    _, first = np.unique(low * count + high, return_index=True)
    first.sort()
    pairs = np.column_stack([table[first, :2].astype(np.int64), rank[first]])
    return pairs, table[first, 3].astype(np.float32)


def match(moving: FloatArray, fixed: FloatArray, zooms: FloatArray) -> Match:
    """How alike thumbnails ``(N, 64, 64)`` are after the best affine motion.

    Args:
        moving, fixed: float32 thumbnails.
        zooms: ``(N,)`` share of the side of ``moving`` that ``fixed`` shows, roughly.
    """
    moving, fixed = _more_cut_is_fixed(moving, fixed, zooms)
    detail, starts = _starts(moving, fixed, zooms)
    rows = np.arange(len(moving))
    found = Match(np.zeros(len(moving), np.float32), detail.argmax(axis=1), starts[rows, detail.argmax(axis=1)])
    order = np.argsort(-detail, axis=1, kind="stable")
    best = detail[rows, order[:, 0]]
    # A head is nearly its own mirror image: where two orientations are as likely, both are tried.
    for rank in range(_TRIED):
        orientation = order[:, rank]
        value = detail[rows, orientation]
        likely = (value >= _LEAST_DETAIL) & (value >= _AS_LIKELY * best) & (found.alike < SAME_CONTENT)
        for number, (_, turn) in enumerate(ORIENTATIONS):
            chosen = np.flatnonzero(likely & (orientation == number))
            turned = np.ascontiguousarray(turn(fixed[chosen]))
            alike, motions = affine_similarity(turned, moving[chosen], starts[chosen, number])
            better = alike > found.alike[chosen]
            at = chosen[better]
            found.alike[at], found.orientation[at], found.motion[at] = alike[better], number, motions[better]
    return found


def _more_cut_is_fixed(moving: FloatArray, fixed: FloatArray, zooms: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both, exchanged where ``moving`` has more flat places: the edges of blocks that were cut out would steer it."""
    share = [np.array([flat(image).mean() for image in images]) for images in (moving, fixed)]
    exchanged = ((share[0] > share[1]) & (zooms == 1))[:, None, None]
    return np.where(exchanged, fixed, moving), np.where(exchanged, moving, fixed)


def _starts(moving: FloatArray, fixed: FloatArray, zooms: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The best of all rotations and shifts for each orientation: correlations ``(N, 8)``, motions ``(N, 8, 2, 3)``."""
    small = halve(moving)
    count, side = len(small), small.shape[-1]
    still = standardise(local_contrast(halve(fixed), 0.8, 3.0, 0.1))
    waves = np.fft.rfft2(np.stack([turn(still) for _, turn in ORIENTATIONS], axis=1))
    best = np.full((count, len(ORIENTATIONS)), -1, np.float32)
    starts = np.zeros((count, len(ORIENTATIONS), 2, 3), np.float32)
    reach = np.r_[: _SHIFT + 1, side - _SHIFT : side]
    for angle in _ANGLES:
        motions = (zooms[:, None, None] * rotation(angle)).astype(np.float32)
        detail = standardise(local_contrast(warp(small, motions)[0], 0.8, 3.0, 0.1))
        product = np.conj(waves) * np.fft.rfft2(detail)[:, None]
        peaks = np.fft.irfft2(product, (side, side))[:, :, reach][:, :, :, reach] / side**2
        peaks = peaks.reshape(count, len(ORIENTATIONS), -1)
        place = peaks.argmax(axis=2)
        value = np.take_along_axis(peaks, place[:, :, None], axis=2)[:, :, 0]
        y, x = np.divmod(place, len(reach))
        shift = np.stack([reach[x], reach[y]], axis=2)
        shift = np.where(shift > side // 2, shift - side, shift) / side
        found = np.repeat(motions[:, None], len(ORIENTATIONS), axis=1)
        found[:, :, :, 2] = np.einsum("nij,noj->noi", motions[:, :, :2], shift)
        better = value > best
        best[better], starts[better] = value[better], found[better]
    return best, starts


__all__ = ["SAME_CONTENT", "Match", "candidates", "join_unnamed", "match"]
