"""What the rows of YOLO labels mean: boxes, polygons, or poses.

After the class a row has four numbers (a box), an even number of at least six (a polygon), or, where ``data.yaml``
states ``kpt_shape``, a box and its keypoints. Trackers and models write more columns after a box (confidence, track),
and so do poses whose ``data.yaml`` is lost; read as polygons, all their boxes would be wrong without a word. So a
polygon must be plausible as an outline, and rows that may also be boxes with more columns are refused.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from detectclf.formats.raw import Corners

Numbers = Sequence[float]
"""The numbers of one row, after its class."""

_SOLIDITY = 0.5
"""A polygon fills at least this share of its convex hull: a tour of keypoints or of other columns crosses itself."""
_FAR = 0.5
"""A polygon may leave the image by less than this share of it; ids of tracks are further away."""
_ROUNDING = 0.01
"""By how much the box of a tracker or model may leave the image, as a share of it."""
_SPREAD = 0.3
"""Two keypoints are at least this share of a side of their box apart."""
_WIDE = 0.6
"""More keypoints that reach over this share of a side of their box belong to it."""
_MANY, _STEP, _MOST = 20, 0.08, 0.8
"""More points than these, most of them this near to the one before (as a share of the diagonal) are an outline, perhaps
of several parts that are joined by lines, so that it is far from its hull; keypoints are further apart."""
_LOW = 0.02
"""Most scores of classes are below this; so near to the edges of the image, no outline has most of its coordinates."""
_SURE = 4
"""So many rows that all have a box in their first four columns did not come about by chance."""
_CUT = "keep the first five columns if they are a box, or say kpt_shape in data.yaml if they are a pose"


def boxes_of_rows(files: Sequence[Sequence[Numbers]], keypoints: int | None = None) -> list[list[Corners | str]]:
    """The box of every row, or why it has none, for all label files of a data set together.

    Args:
        files: the rows of each file.
        keypoints: how many columns the keypoints of a pose take; ``None`` where the rows are no poses.

    Returns:
        For each row ``xyxy`` in shares of the image, or the reason why it cannot be read.
    """
    doubtful = set() if keypoints is not None else _doubtful_lengths([row for rows in files for row in rows])
    return [_file(rows, keypoints, doubtful) for rows in files]


def _file(rows: Sequence[Numbers], keypoints: int | None, doubtful: set[int]) -> list[Corners | str]:
    read = [_row(row, keypoints, doubtful) for row in rows]
    # Rows of one file come from one tool: where one is no polygon, the others only look like some.
    alone = keypoints is not None or not any(
        isinstance(c, str) for c, row in zip(read, rows, strict=True) if _long(row)
    )
    if alone:
        return read
    reason = f"another row of this file is no polygon; {_CUT}"
    return [
        f"{len(row) + 1} columns, but {reason}" if _long(row) and not isinstance(found, str) else found
        for found, row in zip(read, rows, strict=True)
    ]


def _row(numbers: Numbers, keypoints: int | None, doubtful: set[int]) -> Corners | str:
    columns = f"{len(numbers) + 1} columns"
    if len(numbers) == 4 or (keypoints is not None and len(numbers) == 4 + keypoints):
        x, y, width, height = numbers[:4]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if keypoints is not None:
        return f"{columns}; kpt_shape in data.yaml means 5 for a box and {5 + keypoints} for a pose"
    if len(numbers) == 5:
        return f"{columns}: a box with a confidence or a track, it seems; keep the first five columns"
    if not _long(numbers):
        return f"{columns}; a box has 5, a polygon has 7, 9, 11, ..."
    if not all(map(math.isfinite, numbers)):
        return math.nan, math.nan, math.nan, math.nan
    if not _is_outline(numbers):
        return f"{columns}, which are no outline; {_CUT}"
    if len(numbers) in doubtful:
        return f"{columns}, which may be a polygon or a box with more columns; {_CUT}"
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _long(numbers: Numbers) -> bool:
    return len(numbers) >= 6 and len(numbers) % 2 == 0


def _doubtful_lengths(rows: Sequence[Numbers]) -> set[int]:
    """Lengths of rows that may be boxes with more columns as well as polygons, judged by all rows of that length."""
    by_length: dict[int, list[Numbers]] = defaultdict(list)
    for row in rows:
        if _long(row) and all(map(math.isfinite, row)):
            by_length[len(row)].append(row)
    boxes = {length: _may_be_boxes(found) for length, found in by_length.items()}
    # One polygon of many may look like a box by chance, if the others do not.
    found = {n for n, alike in boxes.items() if alike and (len(by_length[n]) >= _SURE or all(boxes.values()))}
    # Rows of one length are of one kind: where most are no outline, the others only look like some.
    return found | {n for n, alike in by_length.items() if 2 * sum(map(_is_outline, alike)) <= len(alike)}


def _may_be_boxes(rows: Sequence[Numbers]) -> bool:
    """Whether all ``rows`` of one length have a box in their first four numbers, and most what belongs to one."""
    if not all(map(_has_box, rows)):
        return False
    if len(rows[0]) == 6:
        # Triangles are rare: three corners that are a box inside the image in every row are none.
        return len(rows) >= _SURE or all(_is_score_or_track(row[4:]) or _holds(row, row[4:]) for row in rows)
    return 2 * sum(_is_pose(row) or _are_scores(row[4:]) for row in rows) >= len(rows)


def _has_box(numbers: Numbers) -> bool:
    x, y, width, height = numbers[:4]
    sides = ((x, width), (y, height))
    inside = all(side > 0 and 2 * min(at, 1 - at) + 2 * _ROUNDING >= side for at, side in sides)
    return inside and not _is_parallelogram(numbers) and not _is_dense(numbers)


def _is_score_or_track(rest: Numbers) -> bool:
    return any(0 <= score <= 1 and track >= 0 and track.is_integer() for score, track in (rest, rest[::-1]))


def _are_scores(rest: Numbers) -> bool:
    """Whether ``rest`` are the probabilities of classes, or scores of each class by itself: most are near zero."""
    low = sum(share < _LOW for share in rest)
    return all(0 <= share <= 1 for share in rest) and (abs(sum(rest) - 1) <= _ROUNDING or 2 * low > len(rest))


def _ends_in_track(numbers: Numbers) -> bool:
    """Whether a polygon is followed by a confidence and a track: as a point, far from those before and after it."""
    *outline, score, track = numbers
    if len(outline) < 10 or not 0 <= score <= 1 or track < 1 or not track.is_integer():
        return False
    points = np.asarray(outline, np.float64).reshape(-1, 2)
    away = np.linalg.norm(points[[0, -1]] - (score, track), axis=1).min()
    return bool(away > np.linalg.norm(np.ptp(points, axis=0)) / 2)


def _holds(numbers: Numbers, point: Numbers) -> bool:
    """Whether the box in the first four numbers holds ``point``, or the point is 0, 0: one that was not marked."""
    near = (abs(p - at) <= side / 2 + _ROUNDING for p, at, side in zip(point, numbers[:2], numbers[2:4], strict=True))
    return not any(point) or all(near)


def _is_pose(numbers: Numbers) -> bool:
    rest = numbers[4:]
    readings = [list(zip(rest[::2], rest[1::2], strict=True))]
    if len(rest) % 3 == 0 and all(seen in (0, 1, 2) for seen in rest[2::3]):
        readings.append(list(zip(rest[::3], rest[1::3], strict=True)))
    return any(_are_keypoints(points, numbers) for points in readings)


def _are_keypoints(points: list[tuple[float, float]], numbers: Numbers) -> bool:
    """Whether ``points`` lie inside the box of a row and round its centre."""
    import cv2

    seen = [point for point in points if any(point)]
    if not all(_holds(numbers, point) for point in points):
        return False
    reach = [max(along) - min(along) for along in zip(*seen, strict=True)]
    spread = max((far / side for far, side in zip(reach, numbers[2:4], strict=False)), default=1.0)
    if len(seen) < 2 or spread >= (_SPREAD if len(seen) == 2 else _WIDE):
        return True
    # The first point of a polygon is one of its corners, the first two numbers of a pose are the box's centre.
    hull = cv2.convexHull(np.asarray(seen, np.float32))
    return bool(cv2.pointPolygonTest(hull, (numbers[0], numbers[1]), measureDist=False) >= 0)


def _is_parallelogram(numbers: Numbers) -> bool:
    """Whether four points are an oriented box, as in the OBB exports of Ultralytics and Roboflow."""
    return len(numbers) == 8 and all(
        abs(numbers[i] - numbers[i + 2] + numbers[i + 4] - numbers[i + 6]) < 0.004 for i in (0, 1)
    )


def _is_dense(numbers: Numbers) -> bool:
    """Whether the points follow each other closely from the first on: a box would be two points away from the rest."""
    points = np.asarray(numbers, np.float32).reshape(-1, 2)
    if len(points) <= _MANY or _are_scores(numbers[4:]):
        return False
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    near = steps < _STEP * np.linalg.norm(np.ptp(points[2:], axis=0))
    return bool(near[:2].all() and near.mean() > _MOST)


def _is_outline(numbers: Numbers) -> bool:
    import cv2

    points = np.asarray(numbers, np.float32).reshape(-1, 2)
    if points.min() <= -_FAR or points.max() >= 1 + _FAR:
        return False
    if _ends_in_track(numbers):
        return False
    if np.ptp(points, axis=0).min() == 0:
        return True  # a line without area is a fault of its own, which the check of boxes names
    if _is_dense(numbers):
        return True
    hull = cv2.contourArea(cv2.convexHull(points))
    return bool(hull > 1e-9 and cv2.contourArea(points) >= _SOLIDITY * hull)


__all__ = ["boxes_of_rows"]
