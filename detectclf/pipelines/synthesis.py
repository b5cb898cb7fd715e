"""Masks and drawn slices for the augmentation of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from detectclf.errors import ConfigError
from detectclf.types import Sample

if TYPE_CHECKING:
    from detectclf.config import ShowRecipe
    from detectclf.datasets.index import SliceIndex
    from detectclf.datasets.synthesis import Synthesis
    from detectclf.training.runs import Recipe


def synthesis_of(recipe: Recipe | ShowRecipe, train: Sequence[Sample], index: SliceIndex) -> Synthesis:
    """What the augmentation of ``recipe`` needs; only the slices of ``train`` lend their masks.

    Raises:
        ConfigError: slices are to be drawn, and label maps or masks are not given.
        DataError: label maps or masks cannot be read.
    """
    from detectclf.datasets.lesion_masks import LesionMasks
    from detectclf.datasets.synthesis import Synthesis

    data, augment = recipe.data, recipe.augment
    if not augment.enabled or augment.recontrast + augment.paint + augment.drawn == 0:
        return Synthesis()
    masks = None
    if data.lesion_masks is not None:
        masks = LesionMasks.load(data.lesion_masks, train, index)
    if augment.drawn == 0:
        return Synthesis(masks)
    if data.head_maps is None or masks is None:
        raise ConfigError(
            "augment.drawn needs label maps of heads and masks of tumours",
            remedy="name their folders in data.head_maps and data.lesion_masks",
        )
    from detectclf.datasets.drawn_heads.head_drawing import HeadDrawing
    from detectclf.datasets.drawn_heads.label_maps import LabelMaps

    return Synthesis(masks, HeadDrawing(LabelMaps.load(data.head_maps), masks.by_class), augment.drawn)
