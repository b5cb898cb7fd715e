"""Removes what makes a slice unlike those of the training though the head is the same: noise, and stripes of spikes.

Both are measured first, and a slice without them stays as it is. Networks and refusal then see what they know: with
noise of 20 grey levels, 69 % of tumours on contrast T1 of other scanners are called, where 12 % were (docs/log.md).

Noise: its standard deviation by Immerkær, "Fast noise variance estimation" (CVIU 1996), and non-local means (Buades et
al., CVPR 2005). Spikes in k-space, which are waves in the picture: values of its Fourier transform that stand far above
those around them, set to the level of these.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectclf.imaging.heads import shrink
from detectclf.imaging.impulses import without_impulses
from detectclf.types import FloatArray, Pixels

LEAST_NOISE = 5.0
"""Grey levels of standard deviation from which on noise is removed. Of 1,250 slices of five sources one has more."""
STRONG_NOISE = 7.5
"""The same, from which on it is said of a slice; drawn slices of the sample data have up to 7.2."""
LEAST_PEAK = 4.2
"""Height of a peak in the logarithm of the Fourier transform from which on it is a spike, in standard deviations. The
highest peaks of slices of five sources have 2.6 to 3.7."""
_OTHERS = 3.2  # the same for other spikes, where there is one
_SKIRT = 2.0  # the same for what is removed with it, over which the edges of the picture have spread it
_LONGEST = 512  # longer side, pixels, that larger pictures are shrunk to: the networks see no more of their noise
_SMALL = 192  # longer side, pixels, up to which edges are as strong as noise, and details a pixel: nothing is removed
_EVEN = 0.78  # roughness of smooth places as a share of the mean: edges of shrunk slices 0.4 to 0.8, noise 0.8 to 0.96
_PLAIN = 16  # grey levels: rows that vary less show air, which is the same from row to row
_REPEATED = 0.9  # share of new rows from which on a picture was not enlarged by repeating them
_SIDE = 256  # of the picture in which spikes are looked for
_LOW = 8  # waves per picture, up to which there are parts of heads
_REACH = 3  # waves per picture to either side of a spike that are removed with it
_CUT_OFF = 1.5  # standard deviations of the stripes: where it is darker, their lower halves were cut off at black
_MEAN = 3  # standard deviation of the mean that dark places get, in pixels of a picture of ``_SIDE``
_MOST = 0.02  # share of the Fourier transform that spikes take: where there are more, it is something else

Bools = npt.NDArray[np.bool_]


class Cleaned(NamedTuple):
    """A slice without noise and stripes.

    Attributes:
        pixels: the very same array where there were none.
        strong: whether they were so strong that it should be said.
    """

    pixels: Pixels
    strong: bool


def cleaned(pixels: Pixels) -> Cleaned:
    """A slice ``(H, W)``, uint8, without noise and without stripes."""
    import cv2

    coarse = _without_repeats(pixels)
    if coarse is not pixels:
        # The blocks' own peaks in the Fourier transform are no spikes.
        seen, strong = cleaned(coarse)
        if seen is coarse:
            return Cleaned(pixels, strong)
        return Cleaned(np.asarray(cv2.resize(seen, pixels.shape[::-1]), dtype=np.uint8), strong)
    height, width = pixels.shape
    if max(height, width) <= _SMALL or min(height, width) < _SMALL / 2:
        return Cleaned(pixels, strong=False)
    whole = without_impulses(pixels)
    factor = max(height, width) / _LONGEST
    small = whole if factor <= 1 else shrink(whole, (max(1, round(width / factor)), max(1, round(height / factor))))
    even = _without_spikes(small)
    noise = noise_level(even)
    if noise < LEAST_NOISE or not _is_everywhere(even):
        noise = 0.0
    smooth = _without_noise(even, noise) if noise else even
    if smooth is small:
        return Cleaned(whole, strong=whole is not pixels)
    large = smooth if factor <= 1 else np.asarray(cv2.resize(smooth, (width, height)), dtype=np.uint8)
    return Cleaned(large, strong=whole is not pixels or even is not small or noise >= STRONG_NOISE)


def _without_repeats(pixels: Pixels) -> Pixels:
    """The slice before it was enlarged by repeating rows and columns (nearest neighbour); itself where it was not."""
    rows = _distinct(pixels)
    if rows == pixels.shape[0]:
        return pixels  # as nearly always: columns take longer
    columns = _distinct(pixels.T)
    if columns == pixels.shape[1]:
        return pixels
    down, across = (
        ((np.arange(count) + 0.5) * (side / count)).astype(np.int64)
        for count, side in zip((rows, columns), pixels.shape, strict=True)
    )
    return np.ascontiguousarray(pixels[np.ix_(down, across)])


def _distinct(pixels: Pixels) -> int:
    """How many rows the picture has without those repeated, by the share of repeats among rows that show something."""
    count = len(pixels)
    if count < _SMALL / 2:
        return count
    above, below = pixels[:-1], pixels[1:]
    shown = above.max(axis=1) - above.min(axis=1) > _PLAIN
    if shown.sum() < count / 4:
        return count
    new = int((above != below)[shown].any(axis=1).sum())
    share = new / shown.sum()
    return count if share > _REPEATED else max(1, round(count * share))


def noise_level(pixels: Pixels) -> float:
    """The standard deviation of the noise in pixels ``(H, W)``, grey levels."""
    return float(np.sqrt(np.pi / 2) / 6 * _roughness(pixels).mean())


def _roughness(pixels: Pixels) -> npt.NDArray[np.int16]:
    import cv2

    height, width = pixels.shape
    middle = pixels[height // 4 : height - height // 4, width // 4 : width - width // 4]  # head, not air
    laplacian = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    return np.abs(np.asarray(cv2.filter2D(middle, cv2.CV_16S, laplacian), dtype=np.int16))


def _is_everywhere(pixels: Pixels) -> bool:
    """Whether smooth places are about as rough as the rest: noise; the edges of shrunk pictures are here and there."""
    import cv2

    rough = _roughness(pixels)
    side = max(4, len(rough) // 16)
    places = cv2.blur(rough.astype(np.float32), (side, side))[side // 2 :: side, side // 2 :: side]
    return bool(np.quantile(places, 0.25) >= _EVEN * rough.mean())


def _without_noise(pixels: Pixels, level: float) -> Pixels:
    import cv2

    smooth = cv2.fastNlMeansDenoising(pixels, None, h=level, templateWindowSize=5, searchWindowSize=15)
    return np.asarray(smooth, dtype=np.uint8)


def _without_spikes(pixels: Pixels) -> Pixels:
    import cv2

    found = _spikes(pixels)
    if not found.any():
        return pixels
    waves = np.fft.rfft2(pixels.astype(np.float32))
    # A spike has the same number of waves per picture at every size of the picture.
    rows, columns = min(_SIDE, waves.shape[0]) // 2, min(found.shape[1], waves.shape[1])
    near = np.zeros(waves.shape, dtype=bool)
    near[:rows, :columns], near[-rows:, :columns] = found[:rows, :columns], found[-rows:, :columns]
    height, around = _heights(waves)
    spike = near & (height > _SKIRT)
    waves[spike] *= np.exp(around[spike]) / np.abs(waves[spike])
    clean: Pixels = np.clip(np.rint(np.fft.irfft2(waves, pixels.shape)), 0, 255).astype(np.uint8)
    # In air only the upper half of each stripe was there, and a part of it is left.
    stripes = float((pixels - clean.astype(np.float32)).std())
    mean = np.asarray(cv2.GaussianBlur(clean, (0, 0), _MEAN * max(pixels.shape) / _SIDE), dtype=np.uint8)
    return np.where(mean < _CUT_OFF * stripes, mean, clean)


def _spikes(pixels: Pixels) -> Bools:
    """``(256, 129)``: where the real Fourier transform of the picture, as a square of 256 pixels, is near a spike."""
    import cv2

    square = shrink(pixels, (_SIDE, _SIDE)) if min(pixels.shape) > _SIDE else cv2.resize(pixels, (_SIDE, _SIDE))
    # Without a window the edges of the picture are a cross that is full of peaks.
    height, _ = _heights(np.fft.rfft2(square * _window()))
    height[_low()] = 0.0
    spike = (height > _OTHERS).astype(np.uint8)
    if height.max() <= LEAST_PEAK or spike.mean() > _MOST:
        return np.zeros(height.shape, dtype=bool)
    reach = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
    wrapped = cv2.copyMakeBorder(spike, _REACH, _REACH, 0, 0, cv2.BORDER_WRAP)
    near: Bools = cv2.dilate(wrapped, reach)[_REACH:-_REACH] > 0
    return near & ~_low()


def _heights(waves: npt.NDArray[np.complexfloating]) -> tuple[FloatArray, FloatArray]:
    """How far each value stands above those around it, in standard deviations, and their level; of the logarithm."""
    import cv2

    level = np.log(np.abs(waves) + 1e-3).astype(np.float32)
    around = np.asarray(cv2.medianBlur(level, 5), dtype=np.float32)
    above = level - around
    deviation = 1.4826 * np.median(np.abs(above[::3])) + 1e-6  # of every third line: a median takes long
    return np.asarray(above / deviation, dtype=np.float32), around


@lru_cache(maxsize=1)
def _window() -> FloatArray:
    """``(256, 256)`` Hann window."""
    line = np.hanning(_SIDE).astype(np.float32)
    return np.outer(line, line)


@lru_cache(maxsize=1)
def _low() -> Bools:
    """``(256, 129)``: fewer waves per picture than ``_LOW``."""
    high = np.fft.fftfreq(_SIDE, 1 / _SIDE)[:, None]
    low: Bools = np.hypot(high, np.arange(_SIDE // 2 + 1)[None]) <= _LOW
    return low


__all__ = ["LEAST_NOISE", "LEAST_PEAK", "STRONG_NOISE", "Cleaned", "cleaned", "noise_level"]
