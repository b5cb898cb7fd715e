"""Leakage: which evaluated slices are copies of training slices, and which stem from the same source slice.

Both are found by content (:mod:`detectclf.duplicates.copies`), since file names prove nothing. A source slice is the
original of exact, mirrored and re-encoded copies. These data sets do not say which patient a slice shows, so neither
groups nor splits are patient-level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detectclf.evaluation.weighted import Bools, Indices, Ints

if TYPE_CHECKING:
    from detectclf.datasets.index import IndexedSlices, SliceIndex
    from detectclf.duplicates.fingerprints import Fingerprints

_NOT_CHECKED = (
    "the model has no fingerprints of its training slices, so copies of them in this split were not looked for"
)


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """Where the slices of a split come from; both arrays ``(I,)``.

    Attributes:
        groups: number of each slice's source group.
        is_copy: whether each is a copy of a training slice; ``None`` where the training slices are not known.
        notes: what could not be checked, a line each.
    """

    groups: Ints
    is_copy: Bools | None
    notes: tuple[str, ...] = ()

    def take(self, rows: Indices) -> Provenance:
        """That of the slices at positions ``rows`` only."""
        return Provenance(self.groups[rows], None if self.is_copy is None else self.is_copy[rows], self.notes)


def find_provenance(
    indexed: IndexedSlices,
    index: SliceIndex,
    train_fingerprints: Fingerprints | None,
    groups: Sequence[int] | None = None,
) -> Provenance:
    """Groups slices by source and compares them with the training slices.

    Args:
        indexed: the slices of the evaluated split.
        index: the slice index that they were looked up in.
        train_fingerprints: of the training slices, as the run recorded them.
        groups: source group of each slice where already known.

    Raises:
        ValueError: ``groups`` is not one number per slice.
    """
    count = len(indexed.samples)
    if groups is not None and len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} slices")
    known = None if groups is None else np.asarray(groups, dtype=np.int64)
    if known is not None and train_fingerprints is None:
        return Provenance(known, None, (_NOT_CHECKED,))
    prints = indexed.fingerprints
    unread = count - int(prints.readable.sum())
    notes = [f"{unread} images could not be read, so copies among them were not looked for"] if unread else []
    if known is None:
        known = np.arange(count, dtype=np.int64)
        for group in index.find_copies(prints):
            known[list(group.members)] = group.members[0]
    if train_fingerprints is None:
        return Provenance(known, None, (*notes, _NOT_CHECKED))
    is_copy = np.zeros(count, dtype=np.bool_)
    is_copy[index.copies_between(train_fingerprints, prints)] = True
    # A copy of a copy leaks too.
    return Provenance(known, np.isin(known, known[is_copy]), tuple(notes))
