"""Whether two runs differ in mAP: a paired randomisation test over source groups.

If neither run is better, which of the two gave the boxes of a source is a coin's choice (Fisher 1935; Noreen 1989;
Smucker et al. 2007 for rankings). Unlike resampling this keeps its level with few sources and with figures that are
no means: of equally good runs on 30 drawn slices it named a winner in 14 of 400 pairs, the paired bootstrap alone in 15
of 150.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from detectclf.evaluation.bootstrap import map_family
from detectclf.evaluation.matching import ClassMatches, Floats

_CELLS = 4_000_000
"""Cells of one array (draws x detections, some 20 per slice and run): bounds memory on large splits."""


def randomisation_p(
    first: Mapping[str, ClassMatches],
    second: Mapping[str, ClassMatches],
    groups: npt.NDArray[np.int64],
    *,
    count: int,
    seed: int,
) -> float:
    """Two-sided p of "neither run has the higher mAP", from ``count`` draws, counted so that it is never 0.

    Args:
        first, second: matches of the two runs on the same slices with the same true boxes, at the COCO thresholds.
        groups: ``(I,)`` source group of each slice; the boxes of a whole group change hands.
        count: draws.
        seed: seed of the drawing.
    """
    family = map_family({name: _pooled(first[name], second[name]) for name in first}, "x", "per_class")

    def differences(own: Floats) -> Floats:
        """``own``: ``(B, I)``, 1 where a slice's boxes stay with their run, 0 where they change hands."""
        there, back = np.concatenate([own, 1 - own], axis=1), np.concatenate([1 - own, own], axis=1)
        return np.asarray(family(there)["x.mAP"] - family(back)["x.mAP"])

    _, member = np.unique(groups, return_inverse=True)
    sources = int(member.max()) + 1
    found = abs(float(differences(np.ones((1, len(groups))))[0]))
    random = np.random.default_rng(seed)
    chunk = max(1, min(200, _CELLS // (40 * len(groups))))
    as_far = 0
    for start in range(0, count, chunk):
        own = random.integers(0, 2, (min(chunk, count - start), sources))[:, member].astype(np.float64)
        as_far += int((np.abs(differences(own)) >= found - 1e-12).sum())
    return (as_far + 1) / (count + 1)


def _pooled(first: ClassMatches, second: ClassMatches) -> ClassMatches:
    """Both runs' detections in one order; slice ``i`` of the second run is slice ``I + i``."""
    scores = np.concatenate([first.scores, second.scores])
    order = np.argsort(-scores, kind="stable")
    return ClassMatches(
        np.concatenate([first.slices, second.slices + len(first.truths)])[order],
        scores[order],
        np.concatenate([first.hits, second.hits], axis=1)[:, order],
        np.concatenate([first.truths, second.truths]),
    )
