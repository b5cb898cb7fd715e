"""Drawn slices: a head, perhaps a tumour in it, and the scanner's blur, shading and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectclf.sample_data.heads import PLANES, Head, draw_head
from detectclf.sample_data.tissue import SIZE, smooth_noise
from detectclf.sample_data.tumors import TUMORS
from detectclf.types import FloatArray, Mask, Pixels


class DrawnSlice(NamedTuple):
    """``(256, 256)`` uint8 pixels, and the tight boxes, ``(4,)`` float32 xyxy, of the head and of the tumour if any."""

    pixels: Pixels
    head_xyxy: FloatArray
    tumor_xyxy: FloatArray | None


def sample_slice(seed: int | tuple[int, ...], kind: str, plane: str) -> DrawnSlice:
    """Draws one slice.

    Args:
        seed: the same seed, kind and plane give the same slice; another kind gives the same head, position and noise
            with another tumour (in planes with one level).
        kind: ``glioma``, ``meningioma``, ``pituitary`` or ``no_tumor``.
        plane: ``axial``, ``coronal`` or ``sagittal``.
    """
    choice, anatomy, growth, scanner = np.random.default_rng(seed).spawn(4)
    levels = PLANES[plane]
    # A pituitary tumour needs the level that shows the sella, which is the last one.
    head = draw_head(levels[-1 if kind == "pituitary" else choice.integers(len(levels))], anatomy)
    return _scan(head, TUMORS[kind](head, growth) if kind in TUMORS else None, scanner)


def _scan(head: Head, tumor: Mask | None, rng: np.random.Generator) -> DrawnSlice:
    """Positions the head, then adds texture, blur, shading by the coil and noise."""
    import cv2

    map_x, map_y = _position(rng)

    def moved(drawn: FloatArray) -> FloatArray:
        below = np.pad(drawn, ((0, SIZE // 4), (0, 0)), mode="reflect")  # the neck goes on below the canvas
        return np.asarray(cv2.remap(below, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    def box(mask: Mask) -> FloatArray:
        inside = moved(mask.astype(np.float32)) >= 0.5
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)

    levels = moved(head.levels * (1 + 0.035 * smooth_noise(rng, 5)))
    levels *= np.interp(map_y, [190, 300], [1, 0.35])  # the coil hardly reaches the neck
    shading = rng.uniform(0.75, 0.95) * (1 + rng.uniform(0.04, 0.14) * smooth_noise(rng, 190))
    signal = cv2.GaussianBlur(levels, (0, 0), rng.uniform(0.6, 0.95)) * shading
    # Magnitude of a complex signal with Gaussian noise in both parts: Rician (Gudbjartsson & Patz 1995).
    real, imaginary = rng.normal(0, rng.uniform(0.008, 0.025), (2, SIZE, SIZE))
    pixels = np.clip(np.rint(255 * np.hypot(signal + real, imaginary)), 0, 255).astype(np.uint8)
    return DrawnSlice(pixels, box(head.head), None if tumor is None else box(tumor))


def _position(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """x and y in the drawn head of each pixel of the slice: turned, scaled, shifted and gently bent."""
    angle, scale, aspect = np.radians(rng.uniform(-9, 9)), rng.uniform(0.88, 1.04), rng.uniform(0.95, 1.05)
    middle = (SIZE - 1) / 2
    y, x = (np.mgrid[:SIZE, :SIZE] - middle - rng.uniform(-6, 6, (2, 1, 1))) / scale
    x, bend = x / aspect, rng.uniform(0.6, 1.7)
    map_x = np.cos(angle) * x + np.sin(angle) * y + middle + bend * smooth_noise(rng, 110)
    map_y = np.cos(angle) * y - np.sin(angle) * x + middle + bend * smooth_noise(rng, 110)
    return map_x.astype(np.float32), map_y.astype(np.float32)
