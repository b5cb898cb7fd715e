"""Checks of whole splits: missing splits and classes, balance of classes and box sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np

from detectclf.formats.faults import Faults
from detectclf.types import Dataset, canonical_class

_USUAL_SPLITS = ("train", "valid", "test")
_FEW = 20
"""A split of fewer slices says nothing about balance."""
_RARE = 0.1
"""A class with less than this share of the most common one is rare."""
_SHARE_GAP = 0.15
"""A class whose share of a split differs by more than this from its share of train is out of balance."""
_SIZE_RATIO = 2.0
"""Median box areas of two splits that differ by more than this factor are out of balance."""


def check_splits(dataset: Dataset, faults: Faults) -> None:
    """Notes ``missing_split``: train and valid are needed for training, test for an honest figure."""
    for name in _USUAL_SPLITS:
        if name not in dataset.splits:
            faults.warning("missing_split", faults.root, f"there is no split {name}")


def check_part(part: Dataset, faults: Faults) -> None:
    """Notes ``missing_class``, ``rare_class``, ``class_balance`` and ``box_size_balance`` of one data set."""
    counts = {split: _class_counts(part.split(split)) for split in part.splits}
    everywhere: Counter[str] = sum(counts.values(), Counter())
    if "" in everywhere:
        detail = f"{everywhere.pop('')} slices have no known class and are not used"
        faults.warning("no_class", faults.root, detail)
    for split, here in counts.items():
        total = sum(here[name] for name in everywhere)
        for name in everywhere:
            if here[name] == 0:
                faults.warning("missing_class", faults.root, f"split {split} has no slice of {name}")
        if total < _FEW:
            continue
        common, most = max(((name, here[name]) for name in everywhere), key=lambda item: item[1])
        for name in everywhere:
            if 0 < here[name] < _RARE * most:
                detail = f"split {split}: {here[name]} slices of {name} beside {most} of {common}"
                faults.warning("rare_class", faults.root, detail)
    _check_shares(counts, list(everywhere), faults)
    _check_sizes(part, faults)


def _class_counts(part: Dataset) -> Counter[str]:
    return Counter((canonical_class(s.label) or s.label) if s.label is not None else "" for s in part.samples)


def _check_shares(counts: dict[str, Counter[str]], names: list[str], faults: Faults) -> None:
    train = counts.get("train", Counter())
    reference = sum(train[name] for name in names)
    for split, here in counts.items():
        total = sum(here[name] for name in names)
        if split == "train" or min(total, reference) < _FEW:
            continue
        for name in names:
            share, usual = here[name] / total, train[name] / reference
            if abs(share - usual) > _SHARE_GAP:
                detail = f"{name} is {share:.0%} of split {split} and {usual:.0%} of train"
                faults.warning("class_balance", faults.root, detail)


def _check_sizes(part: Dataset, faults: Faults) -> None:
    medians = {}
    for split in part.splits:
        areas = [
            float((box[2] - box[0]) * (box[3] - box[1])) / (s.width * s.height)
            for s in part.split(split).samples
            for box, label in zip(s.boxes_xyxy, s.box_labels, strict=True)
            if label != part.negative and s.width and s.height
        ]
        if len(areas) >= _FEW:
            medians[split] = float(np.median(areas))
    usual = medians.get("train")
    for split, median in medians.items():
        if usual and not 1 / _SIZE_RATIO <= median / usual <= _SIZE_RATIO:
            detail = f"the median tumour box is {median:.2%} of the image in {split} and {usual:.2%} in train"
            faults.warning("box_size_balance", faults.root, detail)


__all__ = ["check_part", "check_splits"]
