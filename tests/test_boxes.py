"""Overlap of boxes: by hand, and for any boxes against the formula for two of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectclf.boxes import cover, extent, iou, pairwise_iou

BOX = np.array([0, 0, 10, 10], np.float32)
OTHERS = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0], [2, 2, 4, 4]], np.float32)
NONE = np.zeros((0, 4), np.float32)


def test_iou_and_cover_by_hand() -> None:
    np.testing.assert_allclose(iou(BOX, OTHERS), [1, 1 / 3, 0, 0, 0.04])
    np.testing.assert_allclose(cover(BOX, OTHERS), [1, 1 / 2, 0, 0, 1])


def test_no_boxes() -> None:
    assert iou(BOX, NONE).shape == cover(BOX, NONE).shape == (0,)
    assert pairwise_iou(NONE, OTHERS).shape == (0, 5) and pairwise_iou(OTHERS, NONE).shape == (5, 0)


box_lists = st.lists(st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(0, 30)] * 2), max_size=5)


@given(box_lists, box_lists)
def test_pairs_are_those_of_two_boxes(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    one, two = (
        np.array([[x, y, x + w, y + h] for x, y, w, h in rows], np.float32).reshape(-1, 4) for rows in (first, second)
    )
    got = pairwise_iou(one, two)
    assert got.shape == (len(one), len(two))
    for i, (ax1, ay1, ax2, ay2) in enumerate(one.tolist()):
        for j, (bx1, by1, bx2, by2) in enumerate(two.tolist()):
            shared = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
            union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
            assert got[i, j] == pytest.approx(shared / union if union else 0.0)


@pytest.mark.parametrize(
    ("pixels", "box", "reason"),
    [
        ([(3, 5)], (5, 3, 6, 4), "a pixel is one wide"),
        ([(0, 0), (7, 9)], (0, 0, 10, 8), "from corner to corner"),
        ([(2, 6), (4, 1)], (1, 2, 7, 5), "pixels apart"),
        ([], (0, 0, 0, 0), "an empty mask"),
    ],
)
def test_extent_is_the_box_round_a_mask(pixels, box, reason: str) -> None:
    mask = np.zeros((8, 10), dtype=bool)
    for pixel in pixels:
        mask[pixel] = True
    assert extent(mask) == box
