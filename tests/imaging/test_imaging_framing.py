"""A slice in a much longer picture is found; nothing that is shown is ever cut off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectclf.imaging.framing import LONGEST_SLICE, Part, shown_part


def framed(before: int, after: int, *, high: bool, level: int = 0, side: int = 40) -> np.ndarray:
    """A square of noise between two strips of one grey level."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    lines = np.full((before + side + after, side), level, dtype=np.uint8)
    lines[before : before + side] = noise
    return lines if high else np.ascontiguousarray(lines.T)


@pytest.mark.parametrize("level", [0, 90, 255])
@pytest.mark.parametrize(
    ("before", "after", "start", "length", "reason"),
    [
        (30, 30, 30, 40, "in the middle of a screen"),
        (0, 60, 0, 40, "at one end"),
        (60, 5, 60, 40, "off the middle"),
        (10, 9, 0, 59, "not longer than slices may be: as it is"),
    ],
)
def test_flat_strips_are_cut(level: int, before: int, after: int, start: int, length: int, reason: str) -> None:
    wide, high = (framed(before, after, high=high, level=level) for high in (False, True))
    assert shown_part(wide) == Part(start, 0, length, 40), reason
    assert shown_part(high) == Part(0, start, 40, length), reason
    assert np.array_equal(shown_part(wide).of(wide), wide[:, start : start + length])


def test_no_more_is_cut_than_makes_a_square() -> None:
    """A slice has air of its own, of the colour of the frame."""
    picture = np.zeros((100, 300), dtype=np.uint8)
    picture[30:70, 120:160] = np.random.default_rng(0).integers(100, 256, (40, 40), dtype=np.uint8)
    assert shown_part(picture) == Part(90, 0, 100, 100)
    picture[:, :] = np.roll(picture, -118, axis=1)  # now it begins at 2: a square round its middle would begin outside
    assert shown_part(picture) == Part(0, 0, 100, 100)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((40, 200), dtype=np.uint8), "blank"),
        (np.random.default_rng(0).integers(0, 256, (40, 200), dtype=np.uint8), "no strips"),
        (np.tile(np.linspace(0, 255, 200).astype(np.uint8), (40, 1)), "a ramp of flat lines of different levels"),
        (np.full((1, 300), 7, dtype=np.uint8), "one line"),
    ],
)
def test_without_flat_strips_all_of_it_is_looked_at(picture: np.ndarray, reason: str) -> None:
    part = shown_part(picture)
    # Of the ramp the first levels are as flat as JPEG leaves them.
    assert part.width >= 0.9 * picture.shape[1] and part.height == picture.shape[0], reason


def test_ripples_of_jpeg_are_flat_and_words_are_not() -> None:
    picture = framed(60, 60, high=False, level=100)
    picture[:, :60] += np.random.default_rng(1).integers(0, 5, (40, 60), dtype=np.uint8)
    assert shown_part(picture) == Part(60, 0, 40, 40)
    picture[20, 5] = 200
    assert shown_part(picture) == Part(5, 0, 95, 40)


@given(st.integers(0, 90), st.integers(0, 90), st.integers(0, 255), st.booleans())
def test_what_is_cut_is_flat_and_what_is_left_is_no_shorter_than_wide(
    before: int, after: int, level: int, high: bool
) -> None:
    picture = framed(before, after, high=high, level=level, side=30)
    part = shown_part(picture)
    kept = np.zeros(picture.shape, dtype=bool)
    part.of(kept)[:] = True
    cut = picture[~kept].astype(int)
    assert (np.abs(cut - level) <= 8).all()
    assert min(part.width, part.height) == min(picture.shape)
    assert max(picture.shape) <= LONGEST_SLICE * 30 or max(part.width, part.height) <= max(picture.shape)
