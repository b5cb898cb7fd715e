"""The extent of COCO segmentations: polygons, and run-length codes without unpacking them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectclf.formats.raw import Corners, as_number, stated_size

_LIMIT_CODE = 4_000_000
"""Most characters or runs of one mask: more than any slice needs."""


def extent(segmentation: Any) -> Corners | None:
    """``xyxy`` pixels round everything in a ``segmentation``; ``None`` where it is empty or not one.

    Numbers that are none make sides of NaN, which the check of boxes reports.
    """
    if isinstance(segmentation, dict):
        return _of_runs(segmentation.get("counts"), segmentation.get("size"))
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if len(segmentation) == 1 and isinstance(segmentation[0], dict):
        return extent(segmentation[0])
    # Some tools write one polygon without the list round it, or points as pairs.
    polygons = [segmentation] if not isinstance(segmentation[0], list) else segmentation
    polygons = [_unpaired(polygon) for polygon in polygons]
    if not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in polygons):
        return None
    values = np.array([as_number(value) for polygon in polygons for value in polygon]).reshape(-1, 2)
    low, high = values.min(axis=0), values.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _unpaired(polygon: Any) -> Any:
    if isinstance(polygon, list) and polygon and all(isinstance(point, list) and len(point) == 2 for point in polygon):
        return [value for point in polygon for value in point]
    return polygon


def _of_runs(counts: Any, size: Any) -> Corners | None:
    """Runs of background and mask in turn, down the columns of an image of ``size`` (height, width)."""
    shape = stated_size(size[1], size[0]) if isinstance(size, list) and len(size) == 2 else None
    runs = _runs(counts)
    if shape is None or runs is None:
        return None
    width, height = shape
    ends = np.cumsum(runs, dtype=np.int64)
    if len(ends) < 2 or ends[-1] > width * height:
        return None
    starts, stops = (ends - runs)[1::2], ends[1::2]
    some = stops > starts
    if not some.any():
        return None
    first, last = starts[some], stops[some] - 1
    # A run over the foot of a column goes on at the head of the next one.
    over = (first // height != last // height).any()
    top, bottom = (0, height - 1) if over else ((first % height).min(), (last % height).max())
    return float(first.min() // height), float(top), float(last.max() // height + 1), float(bottom + 1)


def _runs(counts: Any) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    if isinstance(counts, str) and len(counts) <= _LIMIT_CODE:
        runs = _decoded(counts)
    elif isinstance(counts, list) and len(counts) <= _LIMIT_CODE:
        runs = [int(n) for n in map(as_number, counts) if n.is_integer()]
        runs = runs if len(runs) == len(counts) else []
    else:
        return None
    return np.array(runs, dtype=np.int64) if runs and all(0 <= n < 2**48 for n in runs) else None


def _decoded(text: str) -> Sequence[int]:
    """The runs of COCO's compressed code: groups of five bits, each run from the third on the change to the one two
    before (``rleFrString`` in pycocotools' maskApi.c, which reads beyond the end of a damaged code)."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 50:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if not shift else []


__all__ = ["extent"]
