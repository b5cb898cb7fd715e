"""Leakage: which evaluated slices are of patients, or are copies of slices, that the model was trained on.

The patient counts where it is known (:attr:`detectclf.types.Sample.patient`). Copies are found by content
(:mod:`detectclf.duplicates.copies`), since file names prove nothing. A source slice is the original of exact, mirrored
and re-encoded copies. Slices are independent where they share neither a patient nor a source slice, directly or by way
of other slices.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detectclf.duplicates.disjoint_sets import DisjointSets
from detectclf.evaluation.weighted import Bools, Indices, Ints
from detectclf.pseudonyms import is_hashed

if TYPE_CHECKING:
    from detectclf.datasets.index import IndexedSlices, SliceIndex
    from detectclf.duplicates.fingerprints import Fingerprints

_NOT_CHECKED = (
    "the model has no fingerprints of its training slices, so copies of them in this split were not looked for"
)

_COMPACT = (
    "the model keeps {count} of its training slices as numbers in the atlas of figshare 1512427: copies of them that "
    "were cropped or much changed in contrast were not found"
)


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """Where the slices of a split come from; arrays are ``(I,)``.

    Attributes:
        groups: number of each slice's independent group: its patient where known, else its source slice.
        sources: number of each slice's source group, the copies of one slice.
        has_patient: whether the patient of the slice, or of a slice of its group, is known.
        is_copy: whether each is a copy of a training slice; ``None`` where the training slices are not known.
        is_trained_on: whether a slice of its group is of a training patient or a copy of a training slice; ``None``
            where the training patients are not known.
        notes: what could not be checked, a line each.
        not_comparable: ``(I,)`` slices of patients who would be new, had the training patients been hashed under the
            same key: whether they are is not known, so they count as slices of unknown patients.
    """

    groups: Ints
    sources: Ints
    has_patient: Bools
    is_copy: Bools | None
    is_trained_on: Bools | None
    notes: tuple[str, ...] = ()
    not_comparable: Bools | None = None

    @property
    def is_new(self) -> Bools | None:
        """Whether each slice is of a patient that the model has not seen; ``None`` where that is not known."""
        return None if self.is_trained_on is None else self.has_patient & ~self.is_trained_on

    @property
    def is_new_source(self) -> Bools | None:
        """Whether each slice is of an unknown patient and no copy of a training slice; ``None`` where not known."""
        return None if self.is_copy is None else ~self.has_patient & ~self.is_copy

    def take(self, rows: Indices) -> Provenance:
        """That of the slices at positions ``rows`` only."""
        return Provenance(
            self.groups[rows],
            self.sources[rows],
            self.has_patient[rows],
            None if self.is_copy is None else self.is_copy[rows],
            None if self.is_trained_on is None else self.is_trained_on[rows],
            self.notes,
            None if self.not_comparable is None else self.not_comparable[rows],
        )


def find_provenance(
    indexed: IndexedSlices,
    index: SliceIndex,
    train_fingerprints: Fingerprints | None,
    train_patients: Collection[str] | None,
    groups: Sequence[int] | None = None,
    *,
    held_out: bool = False,
    other_key: bool = False,
) -> Provenance:
    """Groups slices by patient and source and compares them with the training slices.

    Args:
        indexed: the slices of the evaluated split.
        index: the slice index that they were looked up in.
        train_fingerprints: of the training slices, as the run recorded them.
        train_patients: all names of the patients of the training slices; whoever has one of them is in training.
        groups: source group of each slice where already known.
        held_out: no slice is a copy of a training slice.
        other_key: names among ``train_patients`` were hashed under another key than those of the slices.

    Raises:
        ValueError: ``groups`` is not one number per slice.
    """
    count = len(indexed.samples)
    if groups is not None and len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} slices")
    copies = None if held_out else train_fingerprints
    sources, notes = _sources(indexed, index, groups, copies is not None)
    is_copy: Bools | None = np.zeros(count, dtype=np.bool_) if held_out else None
    if copies is not None:
        is_copy = np.zeros(count, dtype=np.bool_)
        is_copy[index.copies_between(copies, indexed.fingerprints)] = True
        is_copy = np.isin(sources, sources[is_copy])  # a copy of a copy leaks too
        if copies.atlas_slices:
            notes.append(_COMPACT.format(count=len(copies.atlas_slices)))
    elif not held_out:
        notes.append(_NOT_CHECKED)
    names = [sample.patient_names for sample in indexed.samples]
    together = common_groups(sources, numbered(names))
    has_patient = np.isin(together, together[np.array([bool(known) for known in names], dtype=np.bool_)])
    if train_patients is None:
        return Provenance(together, sources, has_patient, is_copy, None, tuple(notes))
    seen = np.array([any(name in train_patients for name in known) for known in names], dtype=np.bool_)
    trained_on = np.isin(together, together[seen if is_copy is None else seen | is_copy])
    if not other_key:
        return Provenance(together, sources, has_patient, is_copy, trained_on, tuple(notes))
    hashed = np.array([any(map(is_hashed, known)) for known in names], dtype=np.bool_)
    doubtful = np.isin(together, together[hashed]) & ~trained_on
    return Provenance(together, sources, has_patient & ~doubtful, is_copy, trained_on, tuple(notes), doubtful)


def _sources(
    indexed: IndexedSlices, index: SliceIndex, groups: Sequence[int] | None, looked_for: bool
) -> tuple[Ints, list[str]]:
    """Source group of each slice, and a note where images could not be read for a search that was made."""
    count = len(indexed.samples)
    if groups is not None and not looked_for:
        return np.asarray(groups, dtype=np.int64), []
    prints = indexed.fingerprints
    unread = count - int(prints.readable.sum())
    notes = [f"{unread} images could not be read, so copies among them were not looked for"] if unread else []
    if groups is not None:
        return np.asarray(groups, dtype=np.int64), notes
    sources = np.arange(count, dtype=np.int64)
    for group in index.find_copies(prints):
        sources[list(group.members)] = group.members[0]
    return sources, notes


def numbered(patients: Sequence[Sequence[str]]) -> Ints:
    """``(I,)`` number of each slice's patient, of whom all names are given; one of its own where there are none.

    Slices that share a name, directly or by way of other slices, are of one patient.
    """
    joined = DisjointSets(len(patients))
    first: dict[str, int] = {}
    for row, names in enumerate(patients):
        for name in names:
            joined.join(first.setdefault(name, row), row)
    return np.array([joined.find(row) for row in range(len(patients))], dtype=np.int64)


def common_groups(*partitions: Ints) -> Ints:
    """``(I,)`` the finest groups in which slices that share a group of any of the ``(I,)`` ``partitions`` are together.

    Each has the position of its first slice as its number.
    """
    joined = DisjointSets(len(partitions[0]))
    for partition in partitions:
        first: dict[int, int] = {}
        for row, number in enumerate(partition.tolist()):
            joined.join(first.setdefault(number, row), row)
    return np.array([joined.find(row) for row in range(len(partitions[0]))], dtype=np.int64)
