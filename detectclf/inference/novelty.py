"""Is this a brain MRI at all? The distance of a slice's features to those of known slices.

Nearest neighbours in the feature space of the classifier (Sun et al., "Out-of-distribution detection with deep nearest
neighbors", ICML 2022): softmax scores are sure of photographs too. Features are centred, projected on the principal
directions of the known slices and scaled to length 1; the part of a slice outside those directions, which is large for
pictures of something else (the residual of ViM, Wang et al., CVPR 2022), counts as distance as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detectclf.models.bundle import Novelty
from detectclf.types import FloatArray

Doubles = npt.NDArray[np.float64]

DIRECTIONS = 48
"""Principal directions kept."""
NEIGHBOURS = 5
"""The distance to this nearest known slice counts: one alone may be an odd one itself."""
MOST_REFERENCES = 3000
"""Known slices kept, evenly chosen: 3,000 of 48 numbers in float16 are 280 KiB."""
KNOWN_SHARE = 0.995
"""Share of known slices (each compared with the others only) that lie within the threshold before the margin."""
MARGIN = 1.25
"""Unseen slices lie further from the known ones than these from one another: factor on the threshold, docs/log.md."""


def distances(novelty: Novelty, features: FloatArray) -> Doubles:
    """Distance ``(B,)`` of each row of ``features`` ``(B, D)`` to the known slices, 0 to about 3."""
    projected, outside = _project(features, novelty.mean, novelty.directions)
    return _nearest(projected @ novelty.references.T.astype(np.float64)) + outside


def is_novel(novelty: Novelty, features: FloatArray) -> bool:
    """Whether the slice of ``features`` ``(D,)`` is no brain MRI as far as is known."""
    return bool(distances(novelty, features[None])[0] > novelty.threshold)


def fit_novelty(features: FloatArray, groups: Sequence[int]) -> Novelty | None:
    """Learns what known slices look like.

    Args:
        features: ``(N, D)`` of the classifier, of slices that are brain MRIs.
        groups: source group of each: a slice's copies are not its neighbours.

    Returns:
        ``None`` where there are too few source slices to say.
    """
    owner = np.asarray(groups)
    if len(np.unique(owner)) < 4 * NEIGHBOURS:
        return None
    values = features.astype(np.float64)
    mean = values.mean(axis=0)
    _, _, rows = np.linalg.svd(values - mean, full_matrices=False)
    directions = rows[: min(DIRECTIONS, len(rows))].T
    projected, outside = _project(features, mean, directions)
    similarity = projected @ projected.T
    similarity[owner[:, None] == owner[None, :]] = -1.0
    threshold = float(np.quantile(_nearest(similarity) + outside, KNOWN_SHARE)) * MARGIN
    kept = np.unique(np.linspace(0, len(projected) - 1, min(MOST_REFERENCES, len(projected))).astype(np.int64))
    return Novelty(
        mean.astype(np.float32), directions.astype(np.float32), projected[kept].astype(np.float32), threshold
    )


def _project(features: FloatArray, mean: npt.ArrayLike, directions: npt.ArrayLike) -> tuple[Doubles, Doubles]:
    """Unit vectors ``(B, P)`` along the directions, and the share ``(B,)`` of each row's length that lies outside."""
    centred = features.astype(np.float64) - np.asarray(mean, dtype=np.float64)
    inside = centred @ np.asarray(directions, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1)
    within = np.linalg.norm(inside, axis=1)
    outside = np.sqrt(np.clip(1 - (within / np.maximum(length, 1e-12)) ** 2, 0, 1))
    return inside / np.maximum(within, 1e-12)[:, None], outside


def _nearest(similarity: Doubles) -> Doubles:
    """One minus the similarity ``(B, N)`` to the :data:`NEIGHBOURS`-th nearest."""
    k = min(NEIGHBOURS, similarity.shape[1])
    return np.asarray(1.0 - np.partition(similarity, -k, axis=1)[:, -k])


__all__ = ["distances", "fit_novelty", "is_novel"]
