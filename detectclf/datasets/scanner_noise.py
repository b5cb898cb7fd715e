"""Noise of scanners and their electronics on a slice: what a brain MRI may have and still be one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.types import Pixels

NOISE_LEAST, NOISE_STRONG, NOISE_MOST = 4.0, 12.0, 25.0
"""Standard deviation of the noise of each channel, grey levels: the least, of strong noise the least, the largest."""
SPIKE_MOST = 10.0
"""Largest amplitude of the wave that one spike in k-space makes, grey levels."""
STRIPES_MOST = 6.0
"""Largest step of stripes from interference, grey levels."""


KINDS = 3
"""Noise, waves as of spikes in k-space, stripes as of interference."""


def with_scanner_noise(pixels: Pixels, kind: int, rng: np.random.Generator) -> Pixels:
    """A copy with noise, with waves as of spikes in k-space, or with stripes as of interference.

    Noise of a magnitude image is Rician: Gudbjartsson & Patz, "The Rician distribution of noisy MRI data" (1995).
    One sample of k-space that is far too large is a wave over the whole picture; a few of them are a herringbone.

    Args:
        pixels: ``(H, W)`` uint8.
        kind: 0 to ``KINDS - 1``.
        rng: source of strength and place.

    Returns:
        ``(H, W)`` uint8, a new array.
    """
    if kind == 0:
        return _noisy(pixels, rng.uniform(NOISE_LEAST, NOISE_MOST), rng)
    if kind == 1:
        waves = sum(_wave(pixels.shape, rng) for _ in range(int(rng.integers(1, 4))))
        return _levels(pixels + rng.uniform(1.0, SPIKE_MOST) * waves)
    # Crossed waves of sharp edges are the other kind of herringbone.
    step = _wave(pixels.shape, rng) * (_wave(pixels.shape, rng) if rng.random() < 0.5 else 1.0) > 0
    return _levels(pixels + rng.uniform(0.5, STRIPES_MOST) * (2.0 * step - 1.0))


def with_strong_noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A copy with noise that :mod:`detectclf.imaging.artefacts` removes, ``(H, W)`` uint8."""
    return _noisy(pixels, rng.uniform(NOISE_STRONG, NOISE_MOST), rng)


def _noisy(pixels: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    real, imaginary = rng.normal(0.0, sigma, (2, *pixels.shape))
    return _levels(np.hypot(pixels + real, imaginary))


def _wave(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A plane wave of amplitude 1 of any direction, 10 to 120 periods across the picture."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape)
    # Lines of k-space are read along one axis, so interference is more often upright or level than oblique.
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0.0, np.pi)])
    phase = 2 * np.pi * rng.uniform(10.0, 120.0) * (columns * np.cos(angle) + rows * np.sin(angle))
    return np.asarray(np.cos(phase + rng.uniform(0.0, 2 * np.pi)))


def _levels(values: npt.NDArray[np.floating[Any]]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


__all__ = ["KINDS", "with_scanner_noise", "with_strong_noise"]
