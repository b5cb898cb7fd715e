"""The embedded sample data: drawn MRI slices with known tumours, written as a Roboflow COCO export.

They are for trying the package and for tests. They look like MRI at a glance and teach nothing about patients.
Tumour slices and healthy ones come from the same heads and the same scanner, so that only the tumour tells them
apart. Everything follows from the seed, to the byte on one machine with one version of the libraries.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detectclf.errors import DataError
from detectclf.files import atomic_folder
from detectclf.sample_data.heads import HEADS, axial_low
from detectclf.sample_data.tissue import SIZE, Head, Mask, smooth_noise
from detectclf.sample_data.tumors import TUMORS
from detectclf.types import CANONICAL_CLASSES, NEGATIVE_CLASS, FloatArray, Pixels

PLANES: tuple[str, ...] = tuple(HEADS)
"""``axial``, ``coronal``, ``sagittal``."""

RATIOS: dict[str, float] = {"train": 0.70, "valid": 0.15, "test": 0.15}

# Category names and file prefixes as in the real export, so that aliases and checks of names are exercised too.
_CATEGORIES = {"glioma": "Glioma", "meningioma": "Meningioma", "no_tumor": "No Tumor", "pituitary": "Pituitary"}
_PREFIXES = {"glioma": "gl", "meningioma": "me", "no_tumor": "no", "pituitary": "pi"}
_EMPTY_EVERY = 4
JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True, eq=False)
class DrawnSlice:
    """One drawn slice.

    Attributes:
        pixels: ``(256, 256)`` uint8.
        box_xyxy: ``(4,)`` float32, tight round the tumour; ``None`` on a healthy slice.
        head_xyxy: ``(4,)`` float32, tight round the head.
        plane: ``axial``, ``coronal`` or ``sagittal``.
    """

    pixels: Pixels
    box_xyxy: FloatArray | None
    head_xyxy: FloatArray
    plane: str


def sample_slice(seed: int | tuple[int, ...], kind: str, plane: str | None = None) -> DrawnSlice:
    """Draws one slice.

    Args:
        seed: same seed, kind and plane: same slice; another kind with the same seed and plane: the same head, posture
            and noise with another tumour.
        kind: ``glioma``, ``meningioma``, ``pituitary`` or ``no_tumor``.
        plane: ``axial``, ``coronal`` or ``sagittal``; by default one of them at random.

    Raises:
        DataError: unknown kind or plane.
    """
    if kind not in CANONICAL_CLASSES or (plane is not None and plane not in HEADS):
        raise DataError(
            f"cannot draw {kind!r} in plane {plane!r}",
            remedy=f"kinds: {', '.join(CANONICAL_CLASSES)}; planes: {', '.join(HEADS)}",
        )
    choice, anatomy, growth, scanner = np.random.default_rng(seed).spawn(4)
    drawn = PLANES[choice.integers(len(PLANES))]
    plane = plane or drawn
    levels = HEADS[plane]
    draw = levels[choice.integers(len(levels))]
    if kind == "pituitary" and plane == "axial":
        draw = axial_low  # the only axial level that meets the sella
    head = draw(anatomy)
    tumor = TUMORS[kind](head, growth) if kind != NEGATIVE_CLASS else None
    return _scan(head, tumor, plane, scanner)


def _scan(head: Head, tumor: Mask | None, plane: str, rng: np.random.Generator) -> DrawnSlice:
    """Lays the head down a little askew, then blur, coil, gain and noise of the scanner."""
    import cv2

    map_x, map_y = _posture(rng)
    levels = head.levels * (1 + 0.035 * smooth_noise(rng, 5))
    # the neck goes on under the canvas, and the coil does not reach far down there
    below = np.pad(levels, ((0, SIZE // 4), (0, 0)), mode="reflect")
    below *= np.interp(np.arange(len(below)), [190, 300], [1, 0.35]).astype(np.float32)[:, None]
    moved = cv2.remap(below, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    blurred = cv2.GaussianBlur(moved, (0, 0), float(rng.uniform(0.6, 0.95)))
    field = 1 + float(rng.uniform(0.04, 0.14)) * smooth_noise(rng, 190)
    signal = blurred * field * float(rng.uniform(0.75, 0.95))
    # magnitude of a complex signal with Gaussian noise in both parts: Rician (Gudbjartsson & Patz 1995)
    sigma = float(rng.uniform(0.008, 0.025))
    real, imaginary = rng.standard_normal((2, SIZE, SIZE), dtype=np.float32) * np.float32(sigma)
    magnitude = np.hypot(signal + real, imaginary)
    pixels = np.clip(np.rint(255 * magnitude), 0, 255).astype(np.uint8)

    def extent(mask: Mask) -> FloatArray:
        inside = cv2.remap(mask.astype(np.float32), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return _extent(inside >= 0.5)

    return DrawnSlice(pixels, None if tumor is None else extent(tumor), extent(head.head), plane)


def _posture(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Where each pixel of the slice reads the drawn head: turned, scaled, shifted and gently bent."""
    angle, scale = np.radians(rng.uniform(-9, 9)), rng.uniform(0.88, 1.04)
    shift_x, shift_y = rng.uniform(-6, 6, 2)
    middle = (SIZE - 1) / 2
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - np.float32(middle)
    x, y = (x - shift_x) / scale, (y - shift_y) / scale
    bend = float(rng.uniform(0.6, 1.7))
    map_x = np.cos(angle) * x + np.sin(angle) * y + middle + bend * smooth_noise(rng, 110)
    map_y = np.cos(angle) * y - np.sin(angle) * x + middle + bend * smooth_noise(rng, 110)
    return map_x.astype(np.float32), map_y.astype(np.float32)


def _extent(mask: Mask) -> FloatArray:
    """The tight box of ``mask``; pixel (0, 0) covers 0 to 1."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


def write_sample_data(out: Path, n: int = 240, seed: int = 0) -> Path:
    """Writes ``n`` drawn slices as a Roboflow COCO export with the splits train, valid and test.

    The classes take turns, so every split has its share of each. A healthy slice has a box round the head, as in
    the real export, and every fourth one is an empty image without any annotation, as Roboflow writes "null" images.

    Args:
        out: folder to write; made where it is not there.
        n: slices in all, at least 12, so that each split has each class.
        seed: same seed and ``n``: same bytes.

    Returns:
        ``out``.

    Raises:
        DataError: ``n`` too small, or ``out`` is a file or a folder with something in it.
    """
    if n < 3 * len(CANONICAL_CLASSES):
        raise DataError(f"{n} slices cannot fill three splits with four classes", remedy="ask for 12 or more")
    with atomic_folder(out) as partial:
        for split, numbers in _assign(n, seed).items():
            _write_split(partial / split, numbers, seed)
    return out


def _write_split(folder: Path, numbers: list[int], seed: int) -> None:
    folder.mkdir()
    document = _document()
    for image_id, number in enumerate(numbers):
        image, annotation = _write_slice(folder, number, seed, image_id)
        document["images"].append(image)
        if annotation is not None:
            document["annotations"].append({"id": len(document["annotations"]), **annotation})
    (folder / "_annotations.coco.json").write_text(json.dumps(document), encoding="utf-8")


def _assign(n: int, seed: int) -> dict[str, list[int]]:
    """Split -> numbers of its slices; the class of slice ``i`` is ``CANONICAL_CLASSES[i % 4]``, in all splits alike."""
    rng = np.random.default_rng((seed, n))
    chosen: dict[str, list[int]] = {split: [] for split in RATIOS}
    for offset in range(len(CANONICAL_CLASSES)):
        numbers = rng.permutation(np.arange(offset, n, len(CANONICAL_CLASSES))).tolist()
        held_out = max(1, round(len(numbers) * RATIOS["valid"]))
        chosen["valid"] += numbers[:held_out]
        chosen["test"] += numbers[held_out : 2 * held_out]
        chosen["train"] += numbers[2 * held_out :]
    return {split: sorted(numbers) for split, numbers in chosen.items()}


def _write_slice(folder: Path, number: int, seed: int, image_id: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Writes one JPEG; gives its COCO image and annotation (without id)."""
    from PIL import Image

    kind = CANONICAL_CLASSES[number % len(CANONICAL_CLASSES)]
    turn = number // len(CANONICAL_CLASSES)
    # planes take turns within a class: no class can be told by its plane
    drawn = sample_slice((seed, number), kind, PLANES[turn % len(PLANES)])
    tag = hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()[:32]
    name = f"Tr-{_PREFIXES[kind]}_{turn:04d}_jpg.rf.{tag}.jpg"
    Image.fromarray(drawn.pixels).save(folder / name, quality=JPEG_QUALITY)
    image = {"id": image_id, "license": 1, "file_name": name, "height": SIZE, "width": SIZE}
    box = drawn.box_xyxy if kind != NEGATIVE_CLASS else drawn.head_xyxy
    if box is None or (kind == NEGATIVE_CLASS and turn % _EMPTY_EVERY == _EMPTY_EVERY - 1):
        return image, None
    x1, y1, x2, y2 = (float(v) for v in box)
    return image, {
        "image_id": image_id,
        "category_id": CANONICAL_CLASSES.index(kind) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "segmentation": [],
        "iscrowd": 0,
    }


def _document() -> dict[str, Any]:
    """An export without images yet; category 0 is Roboflow's dummy root."""
    names = ["Tumor", *_CATEGORIES.values()]
    categories = [
        {"id": i, "name": name, "supercategory": "none" if i == 0 else names[0]} for i, name in enumerate(names)
    ]
    return {
        "info": {"version": "1", "description": "detectclf sample data: drawn slices, no patients"},
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "categories": categories,
        "images": [],
        "annotations": [],
    }
