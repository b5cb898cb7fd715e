"""How the slices of a group of copies differ: what a reader is told of each, and of the group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from detectclf.duplicates.affine import flat, warp
from detectclf.duplicates.alignment import ORIENTATIONS, standardise
from detectclf.duplicates.fingerprints import Rows
from detectclf.duplicates.pairs import SAME_HEAD, SAME_SLICE, compare
from detectclf.duplicates.texture import ZOOMS
from detectclf.duplicates.unnamed import SAME_CONTENT, Match, match
from detectclf.types import FloatArray

Indices = npt.NDArray[np.int64]

# Weakest first; "version" where it is not sure what was done, as with one that is like a third slice of the group only.
KINDS = (
    "exact",
    "reencoded",
    "resized",
    "adjusted",
    "noised",
    "cut_out",
    "cropped",
    "sheared",
    "version",
    "mirrored",
    "flipped",
    "rotated",
    "transposed",
)

# Measured on versions of real slices (docs/log.md).
_AS_IT_IS = 0.97
"""Pairs more alike than this as whole slices are not rotated or sheared."""
_SURE = 0.9
"""The motion of pairs that are less alike after alignment is not sure."""
_EXACT = 0.965
"""Contrast, noise and blocks that were cut out feign small motions, of pairs that are less alike."""
_MOVED = 0.015
"""Least sine of a rotation or shear, and least zoom or shift of a crop as a share of the side."""
_STILL = 0.04
"""What they feign is less than this of each."""
_CUT, _DARKER = 0.01, 0.3
"""Least share of the thumbnail in such blocks, and by how many of its standard deviations they are darker."""
_BATCH = 256


def kinds_of(rows: Rows, members: Sequence[int]) -> tuple[str, ...]:
    """How each of ``members`` differs from the first, by names of ``KINDS``; ``exact`` for the first itself."""
    kinds = ["exact"] * len(members)
    first = rows[members[0]]
    differ = np.flatnonzero((rows["digest"][list(members)] != first["digest"]).any(axis=1))
    # In batches: a group may be as large as the data set.
    for batch in (differ[start : start + _BATCH] for start in range(0, len(differ), _BATCH)):
        others = rows[[members[i] for i in batch]]
        firsts = np.repeat(rows[[members[0]]], len(others))
        for at, kind in zip(batch.tolist(), _kinds(firsts, others), strict=True):
            kinds[at] = kind
    return tuple(kinds)


def _kinds(first: Rows, others: Rows) -> list[str]:
    whole, orientation, motion, _ = compare(first, others)
    kinds = [_kind(*pair) for pair in zip(first, others, orientation.tolist(), motion, strict=True)]
    doubtful = np.flatnonzero(whole < _AS_IT_IS)
    if not len(doubtful):
        return kinds
    first, others, whole = first[doubtful], others[doubtful], whole[doubtful]
    heads, turned, *_ = compare(first, others, head=True)
    found = _aligned(*(rows["thumb"].astype(np.float32) for rows in (others, first)))
    for i, at in enumerate(doubtful.tolist()):
        name = None
        if found.alike[i] >= _SURE:
            name = _moved(first[i], others[i], found, i)
        elif heads[i] >= SAME_HEAD:
            # Another part of the frame round the head is shown.
            name = ORIENTATIONS[turned[i]][0].replace("same", "cropped")
        if name is not None or whole[i] < SAME_SLICE:
            kinds[at] = name or "version"
    return kinds


def _aligned(moving: FloatArray, fixed: FloatArray) -> Match:
    """The best match at any zoom of either."""
    found = match(moving, fixed, np.ones(len(moving), np.float32))
    for zoom in (*ZOOMS[1:], *(1 / zoom for zoom in ZOOMS[1:])):
        rest = np.flatnonzero(found.alike < SAME_CONTENT)
        if not len(rest):
            break
        again = match(moving[rest], fixed[rest], np.full(len(rest), zoom, np.float32))
        better = again.alike > found.alike[rest]
        at = rest[better]
        found.alike[at], found.orientation[at] = again.alike[better], again.orientation[better]
        found.motion[at] = again.motion[better]
    return found


def _moved(first: np.void, other: np.void, found: Match, at: int) -> str | None:
    """What the motion of pair ``at`` does; ``None`` where it does nothing, or too little to be sure."""
    motion = found.motion[at]
    name, turn = ORIENTATIONS[int(found.orientation[at])]
    if name != "same":
        return name
    width, height = map(float, first["size"])
    linear = motion[:, :2] * np.array([[1, width / height], [height / width, 1]])  # thumbnails are squares
    (a, b), (c, d) = linear.tolist()
    turned, uneven = abs(c - b) / 2, max(abs(b + c), abs(a - d))
    moved = max(abs(a - 1), abs(d - 1), *map(abs, motion[:, 2].tolist()))
    still = max(abs(b), abs(c), moved) < _STILL and not _is_noised(first, other)
    if still and _cut_share(first, other, turn, motion) >= _CUT:
        return "cut_out"
    least = _MOVED if found.alike[at] >= _EXACT else _STILL
    if turned >= least and uneven < 2 * _MOVED:
        return "rotated"
    if max(abs(b), abs(c)) >= least:
        return "sheared"
    return "cropped" if moved >= least else None


def _is_noised(first: np.void, other: np.void) -> bool:
    return abs(float(first["noise"]) - float(other["noise"])) > 2.0


def _cut_share(first: np.void, other: np.void, turn: Callable[[FloatArray], FloatArray], motion: FloatArray) -> float:
    """Share of the thumbnail where one of the two is flat and dark, and the other as bright as most of what it shows.

    What a change of contrast makes black was dark before.
    """
    still = np.ascontiguousarray(turn(first["thumb"].astype(np.float32)))[None]
    moving, inside = warp(other["thumb"].astype(np.float32)[None], motion[None])
    even = [flat(image[0]) for image in (still, moving)]
    level = [standardise(image)[0] for image in (still, moving)]
    cut = np.zeros(still.shape[1:], np.bool_)
    for here, there in ((0, 1), (1, 0)):
        shown = level[there][~even[there]]
        bright = level[there] > np.median(shown) if shown.size else cut
        cut |= even[here] & ~even[there] & bright & (level[there] - level[here] > _DARKER)
    return float((cut & (inside[0] > 0)).mean())


def _kind(first: np.void, other: np.void, orientation: int, motion: FloatArray) -> str:
    """How two slices differ that are alike as they are, mirrored or turned by a right angle."""
    name = ORIENTATIONS[orientation][0]
    if name != "same":
        return name
    if np.abs(motion).max() > 0.01:
        return "cropped"
    if _is_noised(first, other):
        return "noised"
    if np.abs(first["levels"] - other["levels"]).max() > 6:
        return "adjusted"
    a, b = standardise(first["thumb"][None].astype(np.float32)), standardise(other["thumb"][None].astype(np.float32))
    if np.abs(a - b).mean() > 0.05:
        return "adjusted"
    return "resized" if (first["size"] != other["size"]).any() else "reencoded"


__all__ = ["KINDS", "kinds_of"]
