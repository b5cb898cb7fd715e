"""What drawn heads are made of: grey levels of contrast T1, smooth noise, outlines, and a folded cortex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from detectclf.types import FloatArray

Mask = npt.NDArray[np.bool_]
Points = Sequence[tuple[float, float]]

SIZE = 256
"""Side of the canvas, pixels; 1 pixel is about 0.9 mm of a head."""

# Grey levels of a T1 slice after contrast, 0 to 1. Fat is suppressed, so that what takes up contrast is brightest:
# a small model has to learn this from few slices in minutes.
AIR, BONE, CSF, MARROW, MUSCLE = 0.015, 0.06, 0.11, 0.28, 0.28
GREY, WHITE, GLAND, FAT, VESSEL = 0.35, 0.45, 0.50, 0.60, 0.62


_Y, _X = np.mgrid[:SIZE, :SIZE].astype(np.float32) + np.float32(0.5)
_GRID: tuple[FloatArray, FloatArray] = (_X, _Y)


@dataclass(slots=True, eq=False)
class Head:
    """A drawn slice without a tumour, before the scanner's blur and noise.

    Attributes:
        levels: ``(SIZE, SIZE)`` float32 grey levels, 0 to 1.
        head: everything that is not air outside.
        brain: cerebrum, where tumours of brain and meninges grow.
        sella: ``(x, y)`` of the pituitary gland, pixels; ``None`` where the slice does not meet it.
        upright: whether up in the picture is up in the head (coronal, sagittal).
    """

    levels: FloatArray
    head: Mask
    brain: Mask
    sella: tuple[float, float] | None = None
    upright: bool = False


def grid() -> tuple[FloatArray, FloatArray]:
    """x and y of each pixel's middle, each ``(SIZE, SIZE)``."""
    return _GRID


def smooth_noise(rng: np.random.Generator, wavelength: float) -> FloatArray:
    """Random field of about unit variance, ``(SIZE, SIZE)``, that varies over ``wavelength`` pixels."""
    weights = _cubic_weights(wavelength / 2)
    knots = rng.standard_normal((weights.shape[1], weights.shape[1]), dtype=np.float32)
    return np.asarray(weights @ knots @ weights.T * np.float32(1.3), dtype=np.float32)


@lru_cache(maxsize=32)
def _cubic_weights(step: float) -> FloatArray:
    """``(SIZE, knots)`` weights of random knots ``step`` pixels apart, by the cubic kernel of Keys (1981)."""
    count = int(np.ceil(SIZE / step)) + 3
    place = 1 + (np.arange(SIZE) + 0.5) / step
    t = np.abs(place[:, None] - np.arange(count))
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0)).astype(np.float32)


def outline(points: Points, rng: np.random.Generator, jitter: float = 2.0) -> Mask:
    """The inside of a smooth closed curve through ``points`` (``x``, ``y`` in pixels), each moved by ``jitter``."""
    from PIL import Image, ImageDraw

    knots = np.asarray(points, dtype=np.float64)
    knots = knots + rng.uniform(-jitter, jitter, knots.shape)
    canvas = Image.new("1", (SIZE, SIZE))
    curve = _catmull_rom(np.roll(knots, 1, 0), knots, np.roll(knots, -1, 0), np.roll(knots, -2, 0))
    ImageDraw.Draw(canvas).polygon(curve, fill=1)
    return np.array(canvas, dtype=bool)


def stroke(points: Points, width: float, rng: np.random.Generator, jitter: float = 1.5) -> Mask:
    """A smooth open line through ``points``, ``width`` pixels thick."""
    from PIL import Image, ImageDraw

    knots = np.asarray(points, dtype=np.float64)
    knots = knots + rng.uniform(-jitter, jitter, knots.shape)
    ends = np.vstack([knots[:1], knots, knots[-1:]])
    canvas = Image.new("1", (SIZE, SIZE))
    curve = _catmull_rom(ends[:-3], ends[1:-2], ends[2:-1], ends[3:])
    ImageDraw.Draw(canvas).line(curve, fill=1, width=max(1, round(width)), joint="curve")
    return np.array(canvas, dtype=bool)


def _catmull_rom(
    before: npt.NDArray[np.float64],
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
) -> list[tuple[float, float]]:
    """Points of the curve from each ``start`` to its ``end``, both ends included (Catmull & Rom 1974)."""
    t = np.linspace(0, 1, 12)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (before, start, end, after))
    cubic = (3 * p1 - p0 - 3 * p2 + p3) * t**3 + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (p2 - p0) * t + 2 * p1
    return [(float(x), float(y)) for x, y in 0.5 * cubic.reshape(-1, 2)]


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Mask:
    """The inside of an ellipse with half-axes ``rx`` and ``ry``, turned by ``degrees``."""
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    reach = max(rx, ry) + 1  # only the window that it can touch is looked at: slices have many small ellipses
    rows = slice(max(0, int(y - reach)), max(0, int(y + reach) + 1))
    columns = slice(max(0, int(x - reach)), max(0, int(x + reach) + 1))
    px, py = (axis[rows, columns] for axis in grid())
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    u, v = (px - x) * c + (py - y) * s, (py - y) * c - (px - x) * s
    inside[rows, columns] = (u / rx) ** 2 + (v / ry) ** 2 <= 1
    return inside


def mirrored(points: Points) -> list[tuple[float, float]]:
    """The same points on the other side of the mid-line."""
    return [(SIZE - x, y) for x, y in points]


def depth_inside(mask: Mask) -> FloatArray:
    """Distance of each inside pixel from the edge of ``mask``, pixels; 0 outside."""
    import cv2

    # OpenCV's exact transform is ten times faster than SciPy's
    return np.asarray(
        cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32
    )


def cortex(brain: Mask, rng: np.random.Generator, *, deepest: float = 26.0, spacing: float = 17.0) -> FloatArray:
    """Grey levels of a folded brain inside ``brain``: dark sulci, a grey ribbon along them, white matter within.

    Sulci are the zero lines of a smooth random field. The field is read part way between each pixel and the nearest
    point of the surface, so that its lines leave the surface at a right angle and then wander, as gyri do.

    Args:
        brain: where the tissue is; its edge is pia, so fissures are cut out of it before.
        rng: source of the folds.
        deepest: the deepest sulci end here, pixels under the surface.
        spacing: distance from sulcus to sulcus, pixels.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

    depth, (near_y, near_x) = distance_transform_edt(brain, return_indices=True)
    y, x = np.mgrid[:SIZE, :SIZE]
    inward = 0.35
    wander = [2.2 * smooth_noise(rng, 22) for _ in range(2)]
    at = [near_y + inward * (y - near_y) + wander[0], near_x + inward * (x - near_x) + wander[1]]
    field = map_coordinates(smooth_noise(rng, spacing), at, order=1, mode="nearest")
    slope = np.hypot(*np.gradient(field)) + 0.02
    from_line = np.abs(field) / slope
    reach = deepest * np.clip(0.65 + 0.3 * smooth_noise(rng, 30), 0.15, 1)
    sulcus = brain & (from_line < 0.75 + 0.5 * (1 - depth / deepest)) & (depth < reach)
    ribbon = depth_inside(brain & ~sulcus)
    thick = 3.6 + 0.6 * smooth_noise(rng, 25)
    white = np.clip((ribbon - thick) / 1.6 + 0.5, 0, 1)
    levels = GREY + (WHITE - GREY) * white
    levels = np.where(sulcus, CSF + 0.06, levels) * (1 + 0.025 * smooth_noise(rng, 9))
    return np.asarray(gaussian_filter(levels, 0.5), dtype=np.float32)


def skull_and_scalp(head: Mask, brain: Mask, rng: np.random.Generator, csf: float = 2.5) -> FloatArray:
    """Grey levels round ``brain``: fluid, inner table, marrow, outer table, then scalp up to the edge of ``head``."""
    out = depth_inside(~brain) / np.clip(1 + 0.12 * smooth_noise(rng, 70), 0.75, 1.35)
    marrow = float(rng.uniform(0.14, MARROW))
    shell = np.interp(
        out,
        [0, csf, csf + 1, csf + 2.2, csf + 3.2, csf + 5, csf + 6, csf + 7.5, csf + 8.5],
        [CSF, CSF, BONE, BONE, marrow, marrow, BONE, BONE, FAT],
    )
    shell *= 1 + 0.07 * smooth_noise(rng, 12)
    return np.asarray(np.where(head, np.minimum(shell, skin(head)), AIR), dtype=np.float32)


def soft_tissue(rng: np.random.Generator, *, symmetric: bool) -> FloatArray:
    """Grey levels of muscles with seams of fat between them, the same on both sides where ``symmetric``."""
    bundles, fine = smooth_noise(rng, 34), smooth_noise(rng, 8)
    if symmetric:
        bundles = 0.7 * (bundles + bundles[:, ::-1]) + 0.2 * smooth_noise(rng, 14)
    slope = np.hypot(*np.gradient(bundles)) + 0.03
    seam = np.exp(-((bundles / slope / 2.6) ** 2)) * np.clip(0.7 + 0.4 * smooth_noise(rng, 20), 0, 1)
    pads = 1 / (1 + np.exp(-7 * (bundles + 0.2 * fine - 1.15)))
    levels = MUSCLE * (0.95 + 0.10 * fine + 0.12 * smooth_noise(rng, 18))
    levels += (FAT - 0.1 - MUSCLE) * np.maximum(0.75 * seam, pads)
    return np.asarray(np.clip(levels, BONE, 1), dtype=np.float32)


def same(points: Points) -> list[tuple[float, float]]:
    """The points as they are, beside :func:`mirrored`."""
    return list(points)


def fill(levels: FloatArray, mask: Mask, level: float) -> None:
    """Paints one grey level, in place."""
    levels[mask] = level


def skin(head: Mask) -> FloatArray:
    """Largest grey level at each pixel of a head: skin fades into air."""
    return np.asarray(np.interp(depth_inside(head), [0, 1, 2.5], [AIR, 0.5, 1.0]), dtype=np.float32)


def folia(rng: np.random.Generator, centre: tuple[float, float]) -> FloatArray:
    """Cerebellum: thin leaves round a white core."""
    x, y = grid()
    distance = np.hypot(x - centre[0], y - centre[1]) + 3 * smooth_noise(rng, 24)
    leaves = GREY + 0.05 + 0.07 * np.sin(distance * (2 * np.pi / 5.2))
    core = np.clip((20 + 5 * smooth_noise(rng, 12) - distance) / 6, 0, 1)
    return np.asarray(leaves * (1 - core) + (WHITE - 0.02) * core, dtype=np.float32)
