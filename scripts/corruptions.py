"""Twelve ways in which slices are worse than those of the data sets, each at three strengths, for benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from detectclf.imaging.heads import look
from detectclf.types import FloatArray, Pixels

STRENGTHS = ("mild", "middle", "strong")

Floats = npt.NDArray[np.float64]


class Changed(NamedTuple):
    """A changed slice with its boxes."""

    pixels: Pixels
    boxes: FloatArray


Change = Callable[[Pixels, FloatArray, float, np.random.Generator], Changed]


@dataclass(frozen=True, slots=True)
class Corruption:
    """How slices are changed.

    Attributes:
        change: makes a changed slice of pixels, boxes, strength and random numbers.
        strengths: mild, middle and strong.
        unit: what the strengths are.
    """

    change: Change
    strengths: tuple[float, float, float]
    unit: str


def _levels(values: npt.NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _noise(pixels: Pixels, boxes: FloatArray, sigma: float, rng: np.random.Generator) -> Changed:
    """Rician noise, as in magnitude images."""
    real, imaginary = rng.normal(0, sigma, (2, *pixels.shape))
    return Changed(_levels(np.hypot(pixels + real, imaginary)), boxes)


def _spikes(pixels: Pixels, boxes: FloatArray, strength: float, rng: np.random.Generator) -> Changed:
    """A few samples of k-space that are far too large: oblique stripes of ``strength`` grey levels each."""
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]] / max(pixels.shape)
    waves = np.zeros(pixels.shape)
    for _ in range(3):
        angle, frequency, phase = rng.uniform(0, np.pi), rng.uniform(20, 90), rng.uniform(0, 2 * np.pi)
        waves += np.cos(2 * np.pi * frequency * (columns * np.cos(angle) + rows * np.sin(angle)) + phase)
    return Changed(_levels(pixels + strength * waves), boxes)


def _herringbone(pixels: Pixels, boxes: FloatArray, strength: float, rng: np.random.Generator) -> Changed:
    """Two crossed waves over the whole picture."""
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]] / max(pixels.shape)
    frequency = rng.uniform(40, 80)
    wave = np.sign(np.cos(2 * np.pi * frequency * (columns + rows)) * np.cos(2 * np.pi * 6 * (columns - rows)))
    return Changed(_levels(pixels + strength * wave), boxes)


def _stripes(pixels: Pixels, boxes: FloatArray, strength: float, rng: np.random.Generator) -> Changed:
    """Bright lines at even distances, on head and air."""
    every = int(rng.integers(6, 16))
    lines = (np.arange(pixels.shape[0]) // (every // 2) % 2 * strength)[:, None]
    return Changed(_levels(pixels + lines), boxes)


def _ghosts(pixels: Pixels, boxes: FloatArray, share: float, rng: np.random.Generator) -> Changed:
    """Faint copies along one axis, as of motion."""
    axis, parts = int(rng.integers(2)), int(rng.integers(3, 6))
    step = pixels.shape[axis] // parts
    copies = (np.roll(pixels.astype(float), step, axis) + np.roll(pixels.astype(float), -step, axis)) / 2
    return Changed(_levels((1 - share) * pixels + share * copies), boxes)


def _bias(pixels: Pixels, boxes: FloatArray, largest: float, rng: np.random.Generator) -> Changed:
    """Uneven brightness, as of a coil at one side."""
    grid = (1 + rng.uniform(-largest, largest, (3, 3))).astype(np.float32)
    field = cv2.resize(grid, pixels.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return Changed(_levels(pixels * field), boxes)


def _small(pixels: Pixels, boxes: FloatArray, side: float, rng: np.random.Generator) -> Changed:
    """Shrunk to ``side`` pixels and enlarged again."""
    small = cv2.resize(pixels, (int(side), int(side)), interpolation=cv2.INTER_AREA)
    return Changed(_levels(cv2.resize(small, pixels.shape[::-1], interpolation=cv2.INTER_LINEAR)), boxes)


def _gamma(pixels: Pixels, boxes: FloatArray, gamma: float, rng: np.random.Generator) -> Changed:
    """Another tone: brighter or darker."""
    exponent = gamma if rng.random() < 0.5 else 1 / gamma
    return Changed(_levels(255 * (pixels / 255.0) ** exponent), boxes)


def _jpeg(pixels: Pixels, boxes: FloatArray, quality: float, rng: np.random.Generator) -> Changed:
    """Compressed too much."""
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return Changed(np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), dtype=np.uint8), boxes)


def _view(pixels: Pixels, boxes: FloatArray, share: float, rng: np.random.Generator) -> Changed:
    """The slice on ``share`` of a larger frame of one grey level, anywhere on it."""
    height, width = pixels.shape
    small = cv2.resize(pixels, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
    canvas = np.full(pixels.shape, int(rng.choice([0, 0, 0, 90, 255])), dtype=np.uint8)
    left, top = (int(rng.integers(0, a - b + 1)) for a, b in ((width, small.shape[1]), (height, small.shape[0])))
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return Changed(canvas, (boxes * share + np.array([left, top] * 2)).astype(np.float32))


def _turned(pixels: Pixels, boxes: FloatArray, degrees: float, rng: np.random.Generator) -> Changed:
    """Turned by ``degrees`` to either side. A box becomes that of the turned ellipse inside it."""
    height, width = pixels.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees * float(rng.choice([-1, 1])), 0.85)
    turned = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_AREA)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    extent = np.sqrt((matrix[None, :, :2] ** 2 * half[:, None, :] ** 2).sum(axis=2))
    return Changed(_levels(turned), np.concatenate([middles - extent, middles + extent], axis=1).astype(np.float32))


def _background(pixels: Pixels, boxes: FloatArray, level: float, rng: np.random.Generator) -> Changed:
    """Air of another grey level, as where the background was cut away or inverted."""
    heads = look(pixels, whole=True).heads
    if not heads:
        return Changed(pixels, boxes)
    head = np.zeros(pixels.shape, dtype=np.uint8)
    cv2.fillPoly(head, [heads[0].outline.astype(np.int32)], 1)
    return Changed(np.where(head > 0, pixels, np.uint8(level)), boxes)


CORRUPTIONS: Mapping[str, Corruption] = {
    "noise": Corruption(_noise, (8, 20, 40), "standard deviation, grey levels"),
    "spikes in k-space": Corruption(_spikes, (3, 8, 20), "grey levels each"),
    "herringbone": Corruption(_herringbone, (1.5, 4, 10), "grey levels"),
    "stripes": Corruption(_stripes, (1, 4, 12), "grey levels"),
    "ghosts": Corruption(_ghosts, (0.05, 0.15, 0.3), "share"),
    "bias field": Corruption(_bias, (0.2, 0.4, 0.7), "gain"),
    "few pixels": Corruption(_small, (192, 128, 64), "pixels"),
    "tone": Corruption(_gamma, (1.3, 1.7, 2.5), "gamma"),
    "JPEG": Corruption(_jpeg, (50, 20, 8), "quality"),
    "small in the frame": Corruption(_view, (0.7, 0.5, 0.35), "share of the frame"),
    "turned": Corruption(_turned, (10, 30, 45), "degrees"),
    "background": Corruption(_background, (30, 128, 255), "grey level"),
}


def corrupted(name: str, strength: int, pixels: Pixels, boxes: FloatArray, seed: int) -> Changed:
    """A slice changed by one of :data:`CORRUPTIONS`.

    Args:
        name: of the corruption.
        strength: 0 mild, 1 middle, 2 strong.
        pixels: ``(H, W)`` uint8.
        boxes: ``(N, 4)`` pixels.
        seed: of what is random; the same slice has the same seed at every strength.
    """
    corruption = CORRUPTIONS[name]
    return corruption.change(pixels, boxes, corruption.strengths[strength], np.random.default_rng(seed))
