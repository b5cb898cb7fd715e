"""What drawn heads are made of: smooth regions, smooth noise, and the textures of tissue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectclf.types import FloatArray, Mask

Points = npt.NDArray[np.float64]

SIZE = 256
"""Side of the canvas, pixels; one pixel is about 0.9 mm of a head."""

# T1 after contrast, 0 to 1. Fat is suppressed, so that enhancing tumours are brightest: a small model has to learn this
# from few slices in minutes.
LEVELS = {
    "air": 0.015, "bone": 0.06, "csf": 0.11, "fissure": 0.11, "ventricle": 0.11, "humor": 0.14, "muscle": 0.31,
    "grey": 0.35, "nucleus": 0.39, "falx": 0.4, "mucosa": 0.4, "white": 0.41, "orbit": 0.48, "gland": 0.5,
    "callosum": 0.52, "marrow": 0.53, "fat": 0.6, "vessel": 0.6,
}  # fmt: skip
"""Tissue -> grey level."""

GRID_Y, GRID_X = np.mgrid[:SIZE, :SIZE].astype(np.float32) + np.float32(0.5)
"""y and x of the centre of each pixel."""


def region(points: Points, width: float = 0.0) -> Mask:
    """The inside of the closed Catmull-Rom spline through ``points``; given a ``width``, a line along the open one.

    Args:
        points: ``(N, 2)`` x and y, pixels; one point and a ``width`` give a disc.
        width: thickness of the line, pixels.
    """
    import cv2
    from scipy.interpolate import CubicHermiteSpline

    around = np.pad(points, ((2, 2), (0, 0)), mode="edge" if width else "wrap")
    spline = CubicHermiteSpline(np.arange(len(around)), around, np.gradient(around, axis=0))
    curve = spline(np.linspace(2, len(points) + (1 if width else 2), 12 * len(points)))
    sixteenths = np.rint(16 * (curve - 0.5)).astype(np.int32)
    canvas = np.zeros((SIZE, SIZE), dtype=np.uint8)
    if width:
        cv2.polylines(canvas, [sixteenths], isClosed=False, color=1, thickness=round(width), shift=4)
    else:
        cv2.fillPoly(canvas, [sixteenths], color=1, shift=4)
    return canvas.astype(bool)


def smooth_noise(rng: np.random.Generator, wavelength: float) -> FloatArray:
    """Random field of about unit variance, ``(SIZE, SIZE)``, that varies over ``wavelength`` pixels."""
    import cv2

    knots = rng.standard_normal((int(2 * SIZE / wavelength) + 3,) * 2, dtype=np.float32)
    return np.asarray(1.3 * cv2.resize(knots, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def depth_inside(mask: Mask) -> FloatArray:
    """Distance of each pixel in ``mask`` from its edge, pixels; 0 outside."""
    import cv2

    # ten times faster than SciPy's
    return np.asarray(
        cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32
    )


def skin(head: Mask) -> FloatArray:
    """The highest grey level at each pixel: skin fades into air."""
    return np.asarray(np.interp(depth_inside(head), [0, 1, 2.5], [LEVELS["air"], 0.5, 1]), dtype=np.float32)


def skull_and_scalp(head: Mask, cavity: Mask, rng: np.random.Generator) -> FloatArray:
    """Grey levels from ``cavity`` outwards: fluid, inner table, marrow, outer table, scalp."""
    out = depth_inside(~cavity) / np.clip(1 + 0.12 * smooth_noise(rng, 70), 0.75, 1.35)
    csf, bone, fat, marrow = LEVELS["csf"], LEVELS["bone"], LEVELS["fat"], rng.uniform(0.14, 0.28)
    layers = [csf, bone, bone, marrow, marrow, bone, bone, fat]
    shell = np.interp(out, [2.5, 3.5, 4.7, 5.7, 7.5, 8.5, 10, 11], layers) * (1 + 0.07 * smooth_noise(rng, 12))
    return np.asarray(np.minimum(shell, skin(head)), dtype=np.float32)


def cortex(brain: Mask, rng: np.random.Generator, deepest: float) -> FloatArray:
    """A folded brain: sulci down to ``deepest`` pixels, a grey ribbon along them, white matter within.

    Sulci are the zero lines of a smooth random field. The field is read part way between each pixel and the nearest
    point of the surface, so that its lines leave the surface at a right angle and then wander, as gyri do.
    """
    import cv2
    from scipy.ndimage import distance_transform_edt

    depth, near = distance_transform_edt(brain, return_indices=True)
    here = np.stack([GRID_Y, GRID_X])
    wander = 2.2 * np.stack([smooth_noise(rng, 22), smooth_noise(rng, 22)])
    y, x = (near + 0.35 * (here - near) + wander).astype(np.float32)
    field = cv2.remap(smooth_noise(rng, 17), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    from_line = np.abs(field) / (np.hypot(*np.gradient(field)) + 0.02)
    reach = deepest * np.clip(0.65 + 0.3 * smooth_noise(rng, 30), 0.15, 1)
    sulcus = brain & (from_line < 1.25 - 0.5 * depth / deepest) & (depth < reach)
    white = np.clip((depth_inside(brain & ~sulcus) - 2.8 + 0.6 * smooth_noise(rng, 25)) / 1.6, 0, 1)
    levels = np.where(sulcus, LEVELS["csf"] + 0.06, LEVELS["grey"] + 0.1 * white) * (1 + 0.025 * smooth_noise(rng, 9))
    return np.asarray(cv2.GaussianBlur(levels, (0, 0), 0.5), dtype=np.float32)


def folia(rng: np.random.Generator, x: float, y: float) -> FloatArray:
    """A cerebellum: thin leaves round a white core at ``(x, y)``."""
    distance = np.hypot(GRID_X - x, GRID_Y - y) + 3 * smooth_noise(rng, 24)
    core = np.clip((20 + 5 * smooth_noise(rng, 12) - distance) / 6, 0, 1)
    leaves = LEVELS["grey"] + 0.05 + 0.07 * np.sin(distance * (2 * np.pi / 5.2))
    return np.asarray(leaves * (1 - core) + LEVELS["white"] * core, dtype=np.float32)


def soft_tissue(rng: np.random.Generator) -> FloatArray:
    """Muscles with seams and pads of fat between them, much alike on both sides."""
    one_side = smooth_noise(rng, 34)
    bundles = 0.7 * (one_side + one_side[:, ::-1]) + 0.2 * smooth_noise(rng, 14)
    seams = 0.75 * np.exp(-((bundles / (np.hypot(*np.gradient(bundles)) + 0.03) / 2.6) ** 2))
    pads = 1 / (1 + np.exp(-7 * (bundles + 0.2 * smooth_noise(rng, 8) - 1.15)))
    muscle = 0.27 + 0.028 * smooth_noise(rng, 8) + 0.034 * smooth_noise(rng, 18)
    fat = np.maximum(seams * np.clip(0.7 + 0.4 * smooth_noise(rng, 20), 0, 1), pads)
    return np.asarray(np.clip(muscle + 0.22 * fat, LEVELS["bone"], 1), dtype=np.float32)
