"""Augmented versions: copies that were rotated by a few degrees, sheared, cropped by a fifth, or have blocks cut out.

Roboflow keeps the name before ``.rf.`` of the image that it makes versions of. The name alone proves nothing, since
people call many pictures ``image_1``, so slices of one such name are versions where they also look like it.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from detectclf.cores import decoding_threads
from detectclf.duplicates.affine import IDENTITY, affine_similarity, rotation, warp
from detectclf.duplicates.alignment import ORIENTATIONS, correlation, halve, local_contrast
from detectclf.duplicates.disjoint_sets import DisjointSets
from detectclf.types import FloatArray

Indices = npt.NDArray[np.int64]

SAME_NAME = 0.88
"""Versions of one name lie above."""

_COARSE = 0.4
_BATCH = 128
_STEM = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{6,}(?:\.[^.]*)?$")


def _motion(zoom: float, x: float, y: float) -> FloatArray:
    return np.array([[zoom, 0, x], [0, zoom, y]], np.float32)


_NAMED_STARTS = (IDENTITY, rotation(12), rotation(-12), rotation(24), rotation(-24), _motion(0.85, 0, 0))


def join_named(thumbs: FloatArray, names: Sequence[str], members: Indices, joined: DisjointSets) -> None:
    """Joins those ``members`` that share the name before ``.rf.`` and look like versions of each other."""
    kept = set(members.tolist())
    for group in named_groups(names):
        found = [index for index in group if index in kept]
        chain = [(a, b) for k, b in enumerate(found[1:], 1) for a in dict.fromkeys((found[0], found[k - 1]))]
        for start in _NAMED_STARTS:
            _join(thumbs, chain, [start], SAME_NAME, joined)


def named_groups(names: Sequence[str]) -> list[list[int]]:
    """Slices that share the name before ``.rf.``, by their indices."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        if (found := _STEM.match(name.replace("\\", "/").rpartition("/")[2])) is not None:
            groups[found[1]].append(index)
    return [members for members in groups.values() if len(members) > 1]


def names_apart(names: Sequence[str], groups: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Slices that share the name before ``.rf.`` and are in different ``groups`` of copies: two of each such name."""
    number = {member: group[0] for group in groups for member in group}
    apart = []
    for members in named_groups(names):
        other = next((m for m in members if number.get(m, m) != number.get(members[0], members[0])), None)
        if other is not None:
            apart.append((members[0], other))
    return apart


def names_key(names: Sequence[str]) -> bytes:
    """What the result depends on of the names: which slices share one."""
    return hashlib.blake2b(repr(named_groups(names)).encode(), digest_size=16).digest()


def _join(
    thumbs: FloatArray,
    pairs: Sequence[tuple[int, int]],
    motions: Sequence[FloatArray],
    threshold: float,
    joined: DisjointSets,
) -> None:
    apart = {(a, b): None for a, b in pairs if a != b and joined.find(a) != joined.find(b)}
    batches = list(_batches(np.array(list(apart), dtype=np.int64).reshape(-1, 2)))

    def alike(batch: Indices) -> npt.NDArray[np.bool_]:
        moving, other = (np.asarray(thumbs[batch[:, side]], np.float32) for side in (0, 1))
        found = np.zeros(len(batch), np.float32)
        for motion in motions:
            found = np.maximum(found, _best(moving, other, motion))
        return np.asarray(found >= threshold)

    with ThreadPoolExecutor(max_workers=decoding_threads()) as pool:
        for batch, same in zip(batches, pool.map(alike, batches), strict=True):
            for a, b in batch[same].tolist():
                joined.join(a, b)


def _best(moving: FloatArray, other: FloatArray, motion: FloatArray) -> FloatArray:
    """Similarity of each pair in the orientation that fits best from the start ``motion``."""
    starts = np.broadcast_to(motion, (len(moving), 2, 3)).astype(np.float32)
    detail = local_contrast(halve(warp(moving, starts)[0]), 0.8, 3.0, 0.1)
    details = local_contrast(halve(other), 0.8, 3.0, 0.1)
    coarse = np.stack([correlation(detail, turn(details)) for _, turn in ORIENTATIONS], axis=1)
    found = np.zeros(len(moving), np.float32)
    orientation = coarse.argmax(axis=1)
    for number, (_, turn) in enumerate(ORIENTATIONS):
        chosen = np.flatnonzero((orientation == number) & (coarse.max(axis=1) >= _COARSE))
        turned = np.ascontiguousarray(turn(other[chosen]))
        found[chosen] = affine_similarity(turned, moving[chosen], starts[chosen])[0]
    return found


def _batches(pairs: Indices) -> Iterator[Indices]:
    for start in range(0, len(pairs), _BATCH):
        yield pairs[start : start + _BATCH]


__all__ = ["SAME_NAME", "join_named", "named_groups", "names_apart", "names_key"]
