"""What makes a training, a fit or an evaluation useless, a line each: said before it begins, not only in audits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from detectclf.types import ANY_TUMOR, Dataset, Sample

FEW = 20
"""Fewer slices than this, of tumours or of none, fit no calibration and no threshold."""


def before_training(dataset: Dataset, train: str, valid: str, *, boxes: bool) -> list[str]:
    """What a model of these data cannot learn.

    Args:
        dataset: all splits.
        train, valid: names of the splits that are trained on and validated on.
        boxes: whether boxes are learnt.
    """
    here = dataset.split(train).samples
    learnt = {s.label for s in here if s.label is not None}
    lines = []
    if not _tumors(here, dataset.negative):
        lines.append(f"no slice of {train} shows a tumour: the model cannot learn what one looks like")
    elif boxes and not any(label != dataset.negative for s in here for label in s.box_labels):
        lines.append(f"no slice of {train} has a tumour box: a detector of these data finds nothing")
    if dataset.negative is not None and here and dataset.negative not in learnt:
        lines.append(f"no slice of {train} is without a tumour ({dataset.negative}): the model may see one everywhere")
    for name, splits in _elsewhere(dataset, train).items():
        if name not in (*learnt, dataset.negative, ANY_TUMOR):
            lines.append(f"{name} is in {' and '.join(splits)} and on no slice of {train}: it is never learnt")
    if not _tumors(dataset.split(valid).samples, dataset.negative):
        lines.append(f"no slice of {valid} shows a tumour: the best epoch is chosen by chance")
    return lines


def before_fitting(samples: Sequence[Sample], negative: str | None, classes: Sequence[str]) -> list[str]:
    """Why calibration, fusion and thresholds that are fitted on ``samples`` mean little."""
    tumors = _tumors(samples, negative)
    counts = Counter(s.label for s in samples)
    kinds = [(tumors, "with a tumour")]
    if negative is not None:
        kinds.append((counts[negative], f"without a tumour ({negative})"))
    lines = [
        f"fitted on {count or 'no'} slices {what}: calibration and thresholds mean little with fewer than {FEW}"
        for count, what in kinds
        if count < FEW
    ]
    absent = [name for name in classes if name != negative and not counts[name]]
    if tumors and absent:
        lines.append(f"fitted on no slice of {' or '.join(absent)}: their probabilities are not calibrated")
    return lines


def never_trained(samples: Sequence[Sample], training: Mapping[str, Any]) -> list[str]:
    """Classes of ``samples`` that a stage has not learnt, as far as the model records it.

    Args:
        samples: the evaluated slices.
        training: kind of stage -> what it was trained with, as in the metadata of a bundle.
    """
    lines = []
    for kind, record in training.items():
        counts = _counts(record)
        if counts is not None:
            lacking = sorted({s.label for s in samples if s.label not in (None, ANY_TUMOR)} - counts)
            lines += [f"the {kind} was never trained on {name}: its figures here say nothing" for name in lacking]
    return lines


def _counts(record: Any) -> set[str] | None:
    for key in ("data", "train", "classes"):
        record = record.get(key) if isinstance(record, Mapping) else None
    return {name for name, count in record.items() if count} if isinstance(record, Mapping) else None


def _tumors(samples: Sequence[Sample], negative: str | None) -> int:
    return sum(s.label not in (None, negative) for s in samples)


def _elsewhere(dataset: Dataset, train: str) -> dict[str, list[str]]:
    """Class -> the other splits that have it."""
    found: dict[str, list[str]] = {}
    for split in dataset.splits:
        if split != train:
            for name in dict.fromkeys(s.label for s in dataset.split(split).samples if s.label is not None):
                found.setdefault(name, []).append(split)
    return dict(sorted(found.items()))


__all__ = ["before_fitting", "before_training", "never_trained"]
