"""Patients of whom a training has slices on both sides: in what it learns from and in what it is validated on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from detectclf.config import DataConfig
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients import with_patients
from detectclf.types import Dataset, Sample

log = logging.getLogger(__name__)


def known_patients(
    train: Sequence[Sample], valid: Sequence[Sample], index: SliceIndex
) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Both splits with the patients that the atlas knows beside those that are stated."""
    samples = with_patients(Dataset((*train, *valid), ()), index).samples
    return samples[: len(train)], samples[len(train) :]


def note_shared_patients(train: Sequence[Sample], valid: Sequence[Sample], data: DataConfig) -> None:
    """Warns where a patient is on both sides, which makes the figures of validation look too good."""
    if data.folds is not None and not data.held_out:
        return  # a final model: its slices of valid are in train on purpose
    shared = {s.patient for s in train if s.patient is not None} & {s.patient for s in valid}
    if shared:
        log.warning(
            "%d patients have slices in both %s and %s (%d of %d slices of %s): its figures are not those of new "
            "patients; `detectclf data split` keeps patients together",
            len(shared),
            data.train_split,
            data.valid_split,
            sum(s.patient in shared for s in valid),
            len(valid),
            data.valid_split,
        )


__all__ = ["known_patients", "note_shared_patients"]
