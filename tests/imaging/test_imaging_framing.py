"""The head in a picture is found on any background; slices that it fills are shown as they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectclf.imaging.framing import LONGEST_SLICE, Part, framed
from detectclf.sample_data.slices import DrawnSlice, sample_slice
from detectclf.types import FloatArray, Pixels


def part_of(pixels: Pixels) -> Part:
    return framed(pixels).part


def drawn(kind: str = "glioma", plane: str = "axial", seed: int = 1) -> DrawnSlice:
    return sample_slice(seed, kind, plane)


def pasted(slice_: DrawnSlice, share: float, *, level: int = 0, words: bool = False) -> tuple[Pixels, FloatArray]:
    """The slice on ``share`` of a larger picture of one grey level, perhaps with words, and the box of its head."""
    side = 640
    canvas, small = np.full((side, side), level, dtype=np.uint8), round(side * share)
    left, top = (side - small) // 3, (side - small) // 2
    canvas[top : top + small, left : left + small] = cv2.resize(slice_.pixels, (small, small))
    if words:
        for row in (40, 600):
            ink = 20 if level > 128 else 230
            cv2.putText(canvas, "Figure 1. T1 with contrast", (20, row), cv2.FONT_HERSHEY_SIMPLEX, 0.9, ink, 2)
    return canvas, slice_.head_xyxy * (small / 256) + np.array([left, top] * 2, dtype=np.float32)


def between_strips(before: int, after: int, *, high: bool, level: int = 0, side: int = 40) -> np.ndarray:
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
    wide, high = (between_strips(before, after, high=high, level=level) for high in (False, True))
    assert part_of(wide) == Part(start, 0, length, 40), reason
    assert part_of(high) == Part(0, start, 40, length), reason
    assert np.array_equal(part_of(wide).of(wide), wide[:, start : start + length])


def test_no_more_is_cut_than_makes_a_square() -> None:
    """A slice has air of its own, of the colour of the frame."""
    picture = np.zeros((100, 300), dtype=np.uint8)
    picture[30:70, 120:160] = np.random.default_rng(0).integers(100, 256, (40, 40), dtype=np.uint8)
    assert part_of(picture) == Part(90, 0, 100, 100)
    picture[:, :] = np.roll(picture, -118, axis=1)  # now it begins at 2: a square round its middle would begin outside
    assert part_of(picture) == Part(0, 0, 100, 100)


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
    part = part_of(picture)
    # Of the ramp the first levels are as flat as JPEG leaves them.
    assert part.width >= 0.9 * picture.shape[1] and part.height == picture.shape[0], reason


def test_ripples_of_jpeg_are_flat_and_words_are_not() -> None:
    picture = between_strips(60, 60, high=False, level=100)
    picture[:, :60] += np.random.default_rng(1).integers(0, 5, (40, 60), dtype=np.uint8)
    assert part_of(picture) == Part(60, 0, 40, 40)
    picture[20, 5] = 200
    assert part_of(picture) == Part(5, 0, 95, 40)


@settings(deadline=None)
@given(st.integers(0, 90), st.integers(0, 90), st.integers(0, 255), st.booleans())
def test_what_is_cut_is_flat_and_what_is_left_is_no_shorter_than_wide(
    before: int, after: int, level: int, high: bool
) -> None:
    picture = between_strips(before, after, high=high, level=level, side=30)
    part = part_of(picture)
    kept = np.zeros(picture.shape, dtype=bool)
    part.of(kept)[:] = True
    cut = picture[~kept].astype(int)
    assert (np.abs(cut - level) <= 8).all()
    assert min(part.width, part.height) == min(picture.shape)
    assert max(picture.shape) <= LONGEST_SLICE * 30 or max(part.width, part.height) <= max(picture.shape)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_slice_that_its_head_fills_is_shown_as_it_is(plane: str) -> None:
    """As in training: nothing is cut, cleaned or said."""
    for seed in range(6):
        pixels = drawn(plane=plane, seed=seed).pixels
        shown = framed(pixels)
        assert shown.part == Part(0, 0, 256, 256) and shown.head is not None
        assert not shown.several and not shown.more
        np.testing.assert_array_equal(shown.pixels, pixels)


@pytest.mark.parametrize(
    ("share", "level", "words", "more", "reason"),
    [
        (0.5, 0, False, False, "small in a black frame: an even frame is nothing to speak of"),
        (0.35, 0, False, False, "smaller"),
        (0.5, 255, False, False, "on white paper"),
        (0.5, 110, False, False, "on grey"),
        (0.5, 0, True, True, "with words, on black"),
        (0.5, 255, True, True, "with words, on a page"),
        (0.4, 235, True, True, "smaller, on a page"),
    ],
)
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_small_head_is_cropped_to(plane: str, share: float, level: int, words: bool, more: bool, reason: str) -> None:
    picture, head = pasted(drawn(plane=plane), share, level=level, words=words)
    shown = framed(picture)
    left, top, right, bottom = head
    part = shown.part
    slack = 0.03 * (right - left)
    assert part.left <= left + slack and part.top <= top + slack, reason
    assert part.left + part.width >= right - slack and part.top + part.height >= bottom - slack, reason
    assert max(right - left, bottom - top) >= 0.6 * max(part.width, part.height), reason
    assert (shown.more, shown.several) == (more, False), reason
    corners = shown.pixels[[1, 1], [1, -2]]
    assert (corners < 60).all(), f"{reason}: what lies outside the head is black"


def test_of_several_heads_one_is_taken_and_it_is_said() -> None:
    heads = [drawn(seed=seed).pixels for seed in range(4)]
    sheet = np.vstack([np.hstack(heads[:2]), np.hstack(heads[2:])])
    shown = framed(sheet)
    assert shown.several and shown.more and shown.part.width < 300


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((3, 3), dtype=np.uint8),
        np.full((1, 1), 200, dtype=np.uint8),
        np.full((2, 500), 9, dtype=np.uint8),
        np.random.default_rng(0).integers(0, 256, (640, 640), dtype=np.uint8),
        np.kron(np.indices((20, 20)).sum(axis=0) % 2 * 255, np.ones((20, 20))).astype(np.uint8),
    ],
    ids=["tiny", "one pixel", "a line", "noise", "squares"],
)
def test_any_picture_has_a_part(pixels: Pixels) -> None:
    shown = framed(pixels)
    part = shown.part
    assert part.width > 0 and part.height > 0 and shown.pixels.shape == (part.height, part.width)
    assert part.left >= 0 and part.top >= 0
    assert part.left + part.width <= pixels.shape[1] and part.top + part.height <= pixels.shape[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(1, 200), st.integers(1, 200))
def test_whatever_is_shown_lies_inside(seed: int, width: int, height: int) -> None:
    pixels = cv2.resize(drawn(seed=seed).pixels, (width, height))
    shown = framed(pixels)
    assert shown.pixels.shape == (shown.part.height, shown.part.width) == shown.part.of(pixels).shape


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize(
    ("level", "reason"),
    [
        (30, "nearly black"),
        (60, "darker than the head"),
        (128, "as bright as the head, without a step"),
        (255, "brighter"),
    ],
)
def test_air_of_another_grey_level_is_made_black_and_nothing_else(level: int, reason: str, plane: str) -> None:
    pixels = drawn(plane=plane).pixels
    air = (cv2.GaussianBlur(pixels, (0, 0), 2) < 25).astype(np.uint8)
    _, labels = cv2.connectedComponents(np.pad(air, 1, constant_values=1))
    outside = labels[1:-1, 1:-1] == labels[0, 0]
    shown = framed(np.where(outside, np.uint8(level), pixels))
    assert shown.part == Part(0, 0, 256, 256) and shown.head is not None and not shown.more, reason
    # Tissue of this very grey level at the rim cannot be told from air.
    assert (shown.pixels != np.where(outside, 0, pixels)).mean() < 0.001, reason


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize(
    ("level", "sigma", "reason"),
    [(200, 3, "a good scan"), (200, 10, "a noisy photograph"), (90, 5, "as bright as tissue"), (50, 5, "dark grey")],
)
def test_a_noisy_background_is_made_black(level: int, sigma: float, reason: str, share: float) -> None:
    pixels = drawn().pixels
    air = (cv2.GaussianBlur(pixels, (0, 0), 2) < 25).astype(np.uint8)
    _, labels = cv2.connectedComponents(np.pad(air, 1, constant_values=1))
    outside = labels[1:-1, 1:-1] == labels[0, 0]
    small = cv2.resize(np.where(outside, np.uint8(level), pixels), None, fx=share, fy=share)
    rim = (256 - small.shape[0]) // 2
    picture = np.pad(small, rim, constant_values=level) + np.random.default_rng(0).normal(0, sigma, (256, 256))
    shown = framed(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    assert shown.head is not None and shown.part.width < 1.2 * 256 * share and not shown.more, reason
    corner = shown.pixels[:12, :12]
    assert (corner == 0).mean() > 0.9, reason
