"""Cross-validation: folds of patients and of source slices, one or more of them held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from detectclf.config import DataConfig
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients import with_patients
from detectclf.datasets.splits import grouped_split
from detectclf.duplicates.copies import CopyGroup
from detectclf.errors import ConfigError, DataError
from detectclf.types import Dataset, Sample


def fold_of_slices(dataset: Dataset, groups: Sequence[CopyGroup], folds: int, seed: int) -> list[int]:
    """The fold, from 0, of each slice of ``dataset``: stratified by class and box, copies and patients in one fold.

    Args:
        dataset: slices of all published splits; the splits do not matter.
        groups: copies among them, see :func:`detectclf.duplicates.copies.find_copies`.
        folds: how many.
        seed: the same seed gives the same folds.
    """
    dealt = grouped_split(dataset, groups, {str(k): 1.0 for k in range(folds)}, seed)
    fold = {_key(s): int(s.split) for s in dealt.samples}
    return [fold[_key(s)] for s in dataset.samples]


def as_fold(dataset: Dataset, config: DataConfig, index: SliceIndex) -> Dataset:
    """``dataset`` with the folds ``config.held_out`` as its valid split and the others as its train split.

    With no fold held out, everything is in the train split and fold 0 is the valid split as well: a final model has
    no unseen slices left, and the validation figures of its run only show that it learned.

    Raises:
        ConfigError: ``held_out`` names a fold that does not exist, or all of them.
        DataError: there are fewer patients than folds, or no slice in a split that ``config.fold_splits`` names.
    """
    count = config.folds or 1
    if any(k >= count for k in config.held_out) or len(set(config.held_out)) >= count:
        raise ConfigError(
            f"data.held_out {list(config.held_out)} of {count} folds", remedy=f"name some of 0 to {count - 1}, not all"
        )
    dataset = with_patients(_of_splits(dataset, config.fold_splits), index)
    groups = index.find_copies(index.look_up(dataset.samples).fingerprints)
    fold = fold_of_slices(dataset, groups, count, config.fold_seed)
    spare = {m for group in groups for m in _spare(dataset.samples, group)} if config.copies == "one" else set()
    train, valid = [], []
    for row, (sample, k) in enumerate(zip(dataset.samples, fold, strict=True)):
        if k not in config.held_out and row not in spare:
            train.append(replace(sample, split=config.train_split))
        if k in (config.held_out or (0,)):
            valid.append(replace(sample, split=config.valid_split))
    return replace(dataset, samples=(*train, *valid))


def _of_splits(dataset: Dataset, splits: Sequence[str]) -> Dataset:
    if missing := [name for name in splits if name not in dataset.splits]:
        reason = f"split {missing[0]!r} is missing or empty; there is {', '.join(dataset.splits)}"
        raise DataError(reason, file=", ".join(dataset.sources) or None, remedy="correct data.fold_splits")
    return replace(dataset, samples=tuple(s for s in dataset.samples if not splits or s.split in splits))


def _spare(samples: Sequence[Sample], group: CopyGroup) -> list[int]:
    """All of a group but its first slice with known boxes."""
    kept = next((m for m in group.members if samples[m].boxed), group.members[0])
    return [m for m in group.members if m != kept]


def _key(sample: Sample) -> tuple[str, str, int]:
    return (sample.source, str(sample.path), sample.span.offset if sample.span else -1)
