"""Planes through a head: chosen at random, cut with a bend, and finished with tissues that no map tells apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from detectclf.datasets.drawn_heads.label_maps import LabelMap
from detectclf.datasets.drawn_heads.tissues import INSIDE_SKULL, Tissue, where
from detectclf.types import FloatArray, Pixels

View = Literal["axial", "coronal", "sagittal"]
VIEWS: tuple[View, ...] = ("axial", "coronal", "sagittal")
VIEW_SHARES = (0.5, 0.25, 0.25)

# To the right and down on the slice, in the head's axes (right, front, head): the nose is up on axial slices and on the
# left of sagittal ones, as on the real slices.
_AXES: dict[View, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "axial": ((1, 0, 0), (0, -1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, -1, 0), (0, 0, -1)),
}

TILT_DEGREES = 10.0
BEND_MM = 3.0
SCALP_MM = 35.0  # both sides of the head together
FILLS = (0.72, 1.12)
STRIPPED_FILLS = (0.6, 0.98)
FAT_UNDER_SKIN_MM = 5.0
ORBIT_MM = 16.0
BESIDE_FALX_MM = 5.0
ABOVE_SELLA_MM = 18.0
KEEP = 0.36
"""Farthest that the site lies from the middle of the slice along an axis, as a share of the slice's edge."""


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Where a slice lies in a head.

    Attributes:
        view: nearest anatomical plane.
        centre: ``(3,)`` voxel in the middle of the slice.
        right, down: ``(3,)`` voxels per pixel.
        step_mm: edge of a pixel.
        site: column and row, in pixels, of the voxel that the plane was laid through.
    """

    view: View
    centre: FloatArray
    right: FloatArray
    down: FloatArray
    step_mm: float
    site: tuple[float, float]


def choose_plane(
    head: LabelMap, site: FloatArray, view: View, *, stripped: bool, size: int, rng: np.random.Generator
) -> Plane:
    """A slightly tilted plane through the voxel ``site``, with a random field of view.

    Args:
        head: that is cut.
        site: ``(3,)`` voxel in the plane.
        view: nearest anatomical plane.
        stripped: whether only the brain is to fill the frame.
        size: pixels of the slice's edge.
        rng: source of tilt, field of view and shift.
    """
    brain_mm = (head.brain_high - head.brain_low) * head.voxel_mm
    length = float(brain_mm[1] if view != "coronal" else brain_mm[0 if stripped else 1])
    fill = rng.uniform(*(STRIPPED_FILLS if stripped else FILLS))
    frame_mm = (length + (0.0 if stripped else SCALP_MM)) / fill
    if view != "axial":  # a map without neck is no higher than this
        most = rng.uniform(1.0, 1.2) * (1.0 if view == "coronal" else 1.15)
        frame_mm = min(frame_mm, float(head.tissues.shape[2] * head.voxel_mm[2]) * most)
    step_mm = frame_mm / size
    right, down = (np.array(axis, dtype=np.float64) for axis in _AXES[view])
    turn = _rotation(np.deg2rad(rng.normal(0, TILT_DEGREES / 2, size=3).clip(-TILT_DEGREES, TILT_DEGREES)))
    right, down = turn @ right, turn @ down
    middle = (head.brain_low + head.brain_high) / 2 * head.voxel_mm
    if not stripped:
        middle = middle + (np.array([0, 4, 0]) if view == "axial" else np.array([0, 8, -rng.uniform(5, 40)]))
    middle = middle + rng.normal(0, 0.03 * frame_mm, size=3)
    if view != "axial":
        # The frame ends about where the map ends: no scan shows a head cut off above an empty lower part.
        middle[2] = max(middle[2], 0.5 * frame_mm * rng.uniform(0.85, 1.0))
    # The head stays in the middle of the frame, unless the site would come near the border.
    from_middle = site * head.voxel_mm - middle
    keep = KEEP * frame_mm
    across, along = (float(np.clip(from_middle @ axis, -keep, keep)) for axis in (right, down))
    centre = site * head.voxel_mm - across * right - along * down
    pixel = (across / step_mm + size / 2, along / step_mm + size / 2)
    scale = step_mm / head.voxel_mm
    return Plane(
        view,
        (centre / head.voxel_mm).astype(np.float32),
        (right * scale).astype(np.float32),
        (down * scale).astype(np.float32),
        step_mm,
        pixel,
    )


def _rotation(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``(3, 3)`` rotation about the three axes, one after another, by ``(3,)`` radians."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    return turn


def smooth_field(cells: int, size: int, rng: np.random.Generator) -> FloatArray:
    """``(size, size)`` float32 smooth random values of about unit deviation, from a grid of ``cells`` squared."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    # the last factor of four need not be cubic, and costs a third when it is not
    between = max(size // 4, cells)
    grid = np.asarray(cv2.resize(grid, (between, between), interpolation=cv2.INTER_CUBIC))
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def cut(head: LabelMap, plane: Plane, size: int, rng: np.random.Generator) -> Pixels:
    """``(size, size)`` uint8 tissues of ``plane``, bent at random by up to a few millimetres; nearest voxels."""
    steps = np.arange(size, dtype=np.float32) + np.float32(0.5 - size / 2)
    bend = np.float32(rng.uniform(0.2, 1.0) * BEND_MM)
    flat = np.zeros((size, size), dtype=np.int32)
    for axis, length in enumerate(head.tissues.shape):
        voxels = smooth_field(5, size, rng) * (bend / head.voxel_mm[axis])
        voxels += (plane.centre[axis] + steps * plane.right[axis])[None, :]
        voxels += (steps * plane.down[axis])[:, None]
        # half up and cut off: rounding of positive numbers, several times faster than rint
        index = np.clip(voxels + np.float32(0.5), 0, length - 1).astype(np.int32)
        flat *= length
        flat += index
    values = head.tissues.ravel()
    tissues = values.take(flat)
    if plane.view == "sagittal":
        _show_beside_falx(head, tissues, flat)
    # single voxels of another label are common outside the brain; the median of labels is always one of them
    speckless = cv2.medianBlur(tissues, 5)
    return np.where(where(tissues, *INSIDE_SKULL), tissues, speckless)


def _show_beside_falx(head: LabelMap, tissues: Pixels, flat: npt.NDArray[np.int32]) -> None:
    """Replaces the falx and the fluid beside it by what lies next to them, in place.

    Scans are thicker than the gap between the halves of the brain: a sagittal slice along it shows the convolutions.
    """
    _, depth, height = head.tissues.shape
    at = np.flatnonzero(where(tissues, Tissue.FALX, Tissue.FLUID).ravel())
    index = flat.ravel()[at]
    x, z = index // (depth * height), index % height
    middle_x = float(head.brain_low[0] + head.brain_high[0]) / 2
    beside = BESIDE_FALX_MM / float(head.voxel_mm[0])
    high = z > float(head.sella[2] + ABOVE_SELLA_MM / head.voxel_mm[2])
    gap = high & (np.abs(x - middle_x) < beside)
    to_x = np.rint(np.where(x < middle_x, middle_x - beside, middle_x + beside)).astype(np.int64)
    tissues.ravel()[at[gap]] = head.tissues.ravel().take((index + (to_x - x) * (depth * height))[gap])


def tell_apart(tissues: Pixels, step_mm: float, rng: np.random.Generator) -> Pixels:
    """Divides soft tissue into fat and muscle, and lines the skull with dura; fluid gets a few small vessels.

    The maps have one label for all soft tissue outside the brain. Fat lies under the skin, round the eyes and in thin
    planes between muscles.

    Args:
        tissues: ``(H, W)`` uint8; changed in place.
        step_mm: edge of a pixel.
        rng: source of the pattern.

    Returns:
        ``tissues``.
    """
    size = len(tissues)
    soft = tissues == Tissue.FAT
    deep = cv2.distanceTransform(
        (~where(tissues, Tissue.SKIN, Tissue.AIR)).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3
    )
    patches = smooth_field(int(rng.integers(10, 26)), size, rng)
    thin = float(rng.uniform(0.03, 0.2))
    fat = (np.abs(patches) < thin) | (smooth_field(14, size, rng) > float(rng.uniform(0.8, 1.6)))
    muscle = soft & (deep > FAT_UNDER_SKIN_MM / step_mm * rng.uniform(0.7, 2)) & ~fat
    if (eyes := tissues == Tissue.EYE).any():
        far = cv2.distanceTransform((~eyes).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
        muscle &= far > ORBIT_MM / step_mm
    tissues[muscle] = Tissue.MUSCLE
    fluid = tissues == Tissue.FLUID
    bone = cv2.dilate((tissues == Tissue.BONE).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    tissues[fluid & bone] = Tissue.DURA
    spots = smooth_field(max(size // 4, 8), size, rng)
    tissues[fluid & ~bone & (spots > 1.7)] = Tissue.SMALL_VESSEL
    return tissues
