"""What a bundle is fitted on: slices that the stages were not trained on, with the outputs of the stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detectclf.config import BundleRecipe
from detectclf.errors import DataError
from detectclf.pipelines.opening import check_classes, with_known_patients
from detectclf.progress import Progress
from detectclf.types import Dataset, Novelty, Sample, StageOutputs

if TYPE_CHECKING:
    from detectclf.datasets.index import SliceIndex
    from detectclf.inference.fusion import FusionClasses
    from detectclf.inference.predictor import Predictor

PARTS, FEWEST_GROUPS = 5, 50
"""Parts that a split is divided into, so that the fusion is evaluated on other slices than it is fitted on; and the
patients and source slices that this takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Unseen:
    """Slices that the stages were not trained on, with the outputs of the stages.

    Attributes:
        dataset: the slices.
        outputs: one per slice.
        names: the classes of the stages.
        parts: number of the part of each slice. The fusion is evaluated on each part as fitted on the other parts. With
            a single part it is fitted and evaluated on the same slices, and the model card says so.
        sources: source group of each slice, if known.
        novelty: of each slice among all of them: ``usual`` or ``unusual``.
        left_out: number of slices without out-of-fold outputs.
        others: slices of the other splits.
    """

    dataset: Dataset
    outputs: list[StageOutputs]
    names: FusionClasses
    parts: list[int]
    sources: list[int] | None
    novelty: list[Novelty]
    left_out: int = 0
    others: tuple[Sample, ...] = ()


def unseen_of_split(recipe: BundleRecipe, split: str, predictor: Predictor, index: SliceIndex) -> Unseen:
    """Slices of a split with the outputs of a predictor whose stages held it out.

    Raises:
        DataError: there is no such split, no slice of known class in it, or a class that the stages do not know.
    """
    from detectclf.datasets.dataset import open_dataset, require_split
    from detectclf.datasets.patients import independent_groups

    whole = open_dataset(recipe.data, index)
    dataset = _labelled(require_split(whole, split))
    check_classes(dataset, predictor)
    outputs = []
    with Progress("predicting", len(dataset.samples)) as progress:
        for each in predictor.raw_many(dataset.samples, read=index.read):
            outputs.append(each)
            progress.advance()
    known = with_known_patients(dataset, whole, index)
    groups = independent_groups(known.samples, index.find_copies(index.look_up(known.samples).fingerprints))
    others = tuple(sample for sample in whole.samples if sample.split != split)
    novel = _novelty(known, outputs, groups)
    return Unseen(known, outputs, predictor.names, _parts(groups), None, novel, others=others)


def unseen_of_folds(folds: Path, recipe: BundleRecipe, index: SliceIndex) -> Unseen:
    """All slices with their out-of-fold outputs; see :func:`detectclf.pipelines.out_of_fold.out_of_fold`."""
    from detectclf.pipelines.out_of_fold import out_of_fold

    found = out_of_fold(folds, recipe.data, recipe.predict, index)
    # The detectors of the folds are different networks, whose features do not compare.
    usual: list[Novelty] = ["usual"] * len(found.outputs)
    return Unseen(found.dataset, found.outputs, found.names, found.folds, found.sources, usual, found.left_out)


def _parts(groups: Sequence[Sequence[int]]) -> list[int]:
    """The part of each slice, patients and copies together; a single part where there are too few of them."""
    parts = [0] * sum(map(len, groups))
    if len(groups) < FEWEST_GROUPS:
        return parts
    for number, members in enumerate(sorted(groups, key=len, reverse=True)):
        for i in members:
            parts[i] = number % PARTS
    return parts


def _novelty(dataset: Dataset, outputs: Sequence[StageOutputs], groups: Sequence[Sequence[int]]) -> list[Novelty]:
    from detectclf.datasets.patients import group_numbers
    from detectclf.inference.ood import distances, fit_ood

    kept = [o.features for o in outputs if o.features is not None]
    if len(kept) < len(outputs):
        return ["usual"] * len(outputs)
    features = np.stack(kept)
    ood = fit_ood(features, group_numbers(groups))
    if ood is None:
        return ["usual"] * len(outputs)
    return ["unusual" if far > ood.unusual else "usual" for far in distances(ood, features).tolist()]


def _labelled(dataset: Dataset) -> Dataset:
    labelled = tuple(s for s in dataset.samples if s.label is not None)
    if not labelled:
        raise DataError("no slice with a known class in this split", remedy="choose another --split or add --data")
    return replace(dataset, samples=labelled)


__all__ = ["FEWEST_GROUPS", "Unseen", "unseen_of_folds", "unseen_of_split"]
