"""Small exports for the tests of the formats: drawn images and annotation files written by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detectclf.types import Dataset, Sample, order_classes


def draw(path: Path, width: int = 64, height: int = 48, seed: int = 0, **options: Any) -> Path:
    """A noisy grey image, so that it is neither constant nor a copy of another seed's."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG" if path.suffix.lower() == ".png" else "JPEG", **options)
    path.write_bytes(buffer.getvalue())
    return path


def coco(
    folder: Path,
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    classes: Sequence[str] = ("Glioma", "Meningioma", "No Tumor", "Pituitary"),
    split: str = "train",
    make: bool = True,
) -> Path:
    """A Roboflow COCO export; category ids start at 1 after the dummy root. Images are drawn unless told not to."""
    categories = [{"id": 0, "name": "Tumor", "supercategory": "none"}]
    categories += [{"id": i, "name": c, "supercategory": "Tumor"} for i, c in enumerate(classes, 1)]
    content = {"categories": categories, "images": list(images), "annotations": list(annotations)}
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    for image in images if make else ():
        draw(folder / split / image["file_name"], seed=image["id"])
    return folder


def image(number: int, name: str | None = None, width: int = 64, height: int = 48) -> dict[str, Any]:
    """A COCO image record."""
    return {"id": number, "file_name": name or f"slice{number}.png", "width": width, "height": height}


def box(number: int, of: int, bbox: object, category: object = 1) -> dict[str, Any]:
    """A COCO annotation record."""
    return {"id": number, "image_id": of, "category_id": category, "bbox": bbox}


def dataset(folder: Path, slices: Sequence[tuple[str, str, Sequence[tuple[str, Sequence[float]]]]]) -> Dataset:
    """A data set of ``(split, name, [(class, xyxy)])`` with drawn 64 x 48 images."""
    samples = []
    for seed, (split, name, boxes) in enumerate(slices):
        path = draw(folder / split / name, seed=seed)
        corners = np.array([b for _, b in boxes], dtype=np.float32).reshape(-1, 4)
        labels = tuple(label for label, _ in boxes)
        tumors = [label for label in labels if label != "no_tumor"]
        label = tumors[0] if tumors else "no_tumor"
        samples.append(Sample(path, name, split, label, corners, labels, True, 64, 48, str(folder)))
    classes = order_classes([s.label for s in samples if s.label] + [b for s in samples for b in s.box_labels])
    return Dataset(tuple(samples), classes, "no_tumor", (str(folder),))
