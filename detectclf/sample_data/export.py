"""The embedded sample data: drawn MRI slices with known tumours, written as a Roboflow COCO export.

They are for trying the package and for tests: they look like MRI at a glance and say nothing about patients. Slices
with and without tumours come from the same heads and the same scanner, so that they differ in the tumour alone.
Everything follows from the seed: on one machine, the same libraries write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from detectclf.errors import DataError
from detectclf.files import atomic_folder
from detectclf.sample_data.heads import PLANES
from detectclf.sample_data.slices import sample_slice
from detectclf.sample_data.tissue import SIZE
from detectclf.types import CANONICAL_CLASSES, NEGATIVE_CLASS

HELD_OUT = 0.15
"""Share of the slices in each of the splits valid and test."""

# Names as in the real export, so that class aliases and checks of file names are exercised too. Category 0 is
# Roboflow's dummy root.
_CATEGORIES = ("Tumor", "Glioma", "Meningioma", "No Tumor", "Pituitary")
_EMPTY_EVERY = 4
_JPEG_QUALITY = 92


def write_sample_data(out: Path, n: int = 240, seed: int = 0) -> Path:
    """Writes ``n`` drawn slices as a Roboflow COCO export with the splits train, valid and test.

    The classes take turns, so that each split has its share of each. As in the real export, healthy slices have a box
    round the head; every fourth has no annotation at all, like Roboflow's "null" images.

    Args:
        out: folder to write; made where it does not exist.
        n: number of slices, at least 12, so that each split has each class.
        seed: the same ``seed`` and ``n`` give the same bytes.

    Returns:
        ``out``.

    Raises:
        DataError: ``n`` is too small, or ``out`` is a file or a folder that is not empty.
    """
    if n < 3 * len(CANONICAL_CLASSES):
        raise DataError(f"{n} slices cannot fill three splits with four classes", remedy="ask for 12 or more")
    with atomic_folder(out) as partial:
        for split, numbers in _splits(n, seed).items():
            (partial / split).mkdir()
            document = _document()
            for number in numbers:
                _add_slice(document, partial / split, number, seed)
            (partial / split / "_annotations.coco.json").write_text(json.dumps(document), encoding="utf-8")
    return out


def _splits(n: int, seed: int) -> dict[str, list[int]]:
    """Split -> numbers of its slices; the class of slice ``i`` is ``CANONICAL_CLASSES[i % 4]``."""
    rng = np.random.default_rng((seed, n))
    chosen: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for offset in range(len(CANONICAL_CLASSES)):
        numbers = rng.permutation(np.arange(offset, n, len(CANONICAL_CLASSES))).tolist()
        held_out = max(1, round(len(numbers) * HELD_OUT))
        chosen["valid"] += numbers[:held_out]
        chosen["test"] += numbers[held_out : 2 * held_out]
        chosen["train"] += numbers[2 * held_out :]
    return {split: sorted(numbers) for split, numbers in chosen.items()}


def _document() -> dict[str, Any]:
    root = _CATEGORIES[0]
    return {
        "info": {"version": "1", "description": "detectclf sample data: drawn slices, no patients"},
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "categories": [
            {"id": i, "name": name, "supercategory": root if i else "none"} for i, name in enumerate(_CATEGORIES)
        ],
        "images": [],
        "annotations": [],
    }


def _add_slice(document: dict[str, Any], folder: Path, number: int, seed: int) -> None:
    """Writes one JPEG and adds its image and box to the COCO ``document``."""
    from PIL import Image

    turn, index = divmod(number, len(CANONICAL_CLASSES))
    kind = CANONICAL_CLASSES[index]
    # Planes take turns within a class, so that the plane does not give the class away.
    drawn = sample_slice((seed, number), kind, list(PLANES)[turn % len(PLANES)])
    tag = hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()[:32]
    name = f"Tr-{kind[:2]}_{turn:04d}_jpg.rf.{tag}.jpg"
    Image.fromarray(drawn.pixels).save(folder / name, quality=_JPEG_QUALITY)
    image_id = len(document["images"])
    document["images"].append({"id": image_id, "license": 1, "file_name": name, "height": SIZE, "width": SIZE})
    if kind == NEGATIVE_CLASS and turn % _EMPTY_EVERY == _EMPTY_EVERY - 1:
        return
    x1, y1, x2, y2 = (drawn.head_xyxy if drawn.tumor_xyxy is None else drawn.tumor_xyxy).tolist()
    box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "segmentation": [], "iscrowd": 0}
    annotation_id = len(document["annotations"])
    document["annotations"].append({"id": annotation_id, "image_id": image_id, "category_id": index + 1, **box})
