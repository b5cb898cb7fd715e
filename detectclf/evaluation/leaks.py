"""Source groups of the evaluated slices, and which of them the model has seen in training.

Found by content (:mod:`detectclf.duplicates.copies`): file names prove nothing. "Source" is the slice that copies,
mirrored and re-encoded ones stem from; which patient a slice is of is not known in these data sets, so neither groups
nor splits are patient-level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from detectclf.types import Dataset

if TYPE_CHECKING:
    from detectclf.duplicates.fingerprints import Fingerprints


@dataclass(frozen=True, slots=True, eq=False)
class Origins:
    """Where the slices of a split come from; both ``(I,)``.

    Attributes:
        groups: number of each slice's source group.
        seen: whether it is a copy of a training slice; ``None`` where the training slices are not known.
        notes: what could not be found out, a line each.
    """

    groups: npt.NDArray[np.int64]
    seen: npt.NDArray[np.bool_] | None
    notes: tuple[str, ...] = ()


def find_origins(
    dataset: Dataset, train_fingerprints: Fingerprints | None, groups: Sequence[int] | None = None
) -> Origins:
    """Groups the slices of ``dataset`` by source and compares them with the training slices.

    Args:
        dataset: the evaluated split.
        train_fingerprints: of the slices trained on, as the run recorded them.
        groups: source group of each slice where already known; the pictures are then read only to find leaks.

    Raises:
        ValueError: ``groups`` is not one number per slice.
    """
    from detectclf.duplicates.copies import copies_between, find_copies
    from detectclf.duplicates.fingerprints import fingerprint_samples

    count = len(dataset.samples)
    if groups is not None and len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} slices")
    known = None if groups is None else np.asarray(groups, dtype=np.int64)
    if known is not None and train_fingerprints is None:
        return Origins(known, None, (_UNKNOWN,))
    prints = fingerprint_samples(dataset.samples)
    unread = count - int(prints.readable.sum())
    notes = [f"{unread} pictures could not be read again: whether they are copies is not known"] if unread else []
    if known is None:
        known = np.arange(count, dtype=np.int64)
        for group in find_copies(prints):
            known[list(group.members)] = group.members[0]
    if train_fingerprints is None:
        return Origins(known, None, (*notes, _UNKNOWN))
    seen = np.zeros(count, dtype=np.bool_)
    seen[np.asarray(copies_between(train_fingerprints, prints), dtype=np.intp)] = True
    # A copy of a copy is seen too.
    return Origins(known, np.isin(known, known[seen]), tuple(notes))


_UNKNOWN = (
    "the model keeps no fingerprints of the slices trained on: whether this split holds changed copies of them was not "
    "checked"
)
