"""``data show``: a contact sheet of slices with their boxes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.config import AugmentConfig, ShowRecipe
from detectclf.pipelines.pictures import write_picture
from detectclf.types import ANY_TUMOR, ANY_TUMOR_INDEX, Dataset, Sample

if TYPE_CHECKING:
    from detectclf.drawing.sheets import Tile

log = logging.getLogger(__name__)

SIDE = 320
"""Pixels of an augmented slice, as a detector sees it."""


def show(
    recipe: ShowRecipe, out: Path, *, augmented: bool = False, split: str | None = None, n: int = 16, seed: int = 0
) -> dict[str, Any]:
    """Draws ``n`` slices of all classes with their boxes.

    Args:
        recipe: the data, and how slices are augmented.
        out: the picture to write.
        augmented: draw slices as training sees them, with painted lesions and drawn slices.
        split: only this one.
        n: slices.
        seed: of the choice and of augmentation.
    """
    from detectclf.datasets.dataset import open_dataset, require_split
    from detectclf.drawing.sheets import contact_sheet, sample_tiles, spread
    from detectclf.formats.files import slice_classes

    # Boxes of the negative class are drawn, but training leaves them out.
    if not augmented and recipe.augment != AugmentConfig():
        log.warning("augment.* settings have no effect without --augmented")
    data = recipe.data.model_copy(update={"negative_boxes": "drop" if augmented else "keep"})
    dataset = open_dataset(data)
    if augmented:
        if split not in (None, data.train_split):
            log.warning("no training sees the split %s: its slices are drawn as if one did", split)
        split = split or data.train_split
    dataset = dataset if split is None else require_split(dataset, split)
    samples = spread(dataset, n, seed)
    tiles = _augmented_tiles(recipe, dataset, samples, seed) if augmented else sample_tiles(samples)
    names = slice_classes(dataset)
    if ANY_TUMOR not in names and any(tile.label == ANY_TUMOR for tile in tiles):
        names = [*names, ANY_TUMOR]
    title = f"{Path(recipe.data.sources[0]).name}: {len(tiles)} {'augmented ' if augmented else ''}slices"
    people = {s.patient for s in samples if s.patient is not None}
    title += f" of {len(people)} patients" if people else ""
    write_picture(contact_sheet(tiles, names, title=title), out)
    return {"wrote": str(out), "detail": f"{len(tiles)} slices"}


def _augmented_tiles(recipe: ShowRecipe, dataset: Dataset, samples: Sequence[Sample], seed: int) -> list[Tile]:
    """``samples`` as training sees them; boxes are left out where they are not known."""
    from detectclf.datasets.augment import classification_augment, detection_augment
    from detectclf.datasets.index import SliceIndex
    from detectclf.datasets.loading import ClassificationSlices, DetectionSlices, Slices
    from detectclf.drawing.sheets import Tile
    from detectclf.pipelines.synthesis import synthesis_of

    synthesis = synthesis_of(recipe, dataset.samples, SliceIndex())
    shared: dict[str, Any] = {"seed": seed, "negative": dataset.negative, "synthesis": synthesis, "cache": "none"}
    parts: list[Slices] = []
    if boxed := [s for s in samples if s.boxed]:
        augment = detection_augment(recipe.augment, seed=seed, shapes=synthesis.shapes)
        parts.append(DetectionSlices(boxed, dataset.tumor_classes, SIDE, augment, **shared))
    if named := [s for s in samples if not s.boxed and s.label is not None]:
        change = classification_augment(recipe.augment, seed=seed, shapes=synthesis.shapes)
        parts.append(ClassificationSlices(named, dataset.classes, SIDE, change, **shared))

    def name(index: int, classes: Sequence[str]) -> str:
        return ANY_TUMOR if index == ANY_TUMOR_INDEX else classes[index]

    tiles = []
    for part in parts:
        for (image, target), sample in zip((part[i] for i in range(len(part))), part.samples, strict=True):
            pixels = np.rint(image[0].numpy() * 255).astype(np.uint8)
            caption = f"{sample.split}/{sample.name}"
            if "boxes" not in target:
                empty = sample.boxes_xyxy[:0]
                tiles.append(Tile(pixels, empty, (), name(target["label"], part.classes), f"{caption} · boxes unknown"))
                continue
            labels = tuple(name(k, part.classes) for k in target["labels"].tolist())
            tiles.append(
                Tile(pixels, target["boxes"].numpy(), labels, labels[0] if labels else dataset.negative, caption)
            )
    return tiles
