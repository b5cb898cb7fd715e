"""A new train / valid / test split in which no patient and no source slice lies on two sides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detectclf.datasets.patients import independent_groups
from detectclf.documents import parse_json
from detectclf.duplicates.copies import CopyGroup
from detectclf.errors import DataError, DetectclfError
from detectclf.files import read_bytes
from detectclf.types import Dataset, Sample

DEFAULT_RATIOS: Mapping[str, float] = {"train": 0.7, "valid": 0.2, "test": 0.1}
"""Share of the slices that each split gets."""

_LARGE = 8
"""Smaller groups of copies are usual also in small data sets."""

_Stratum = tuple[str, bool]


SPLIT_FILE = "detectclf-split.json"
"""In an export that ``data split`` wrote: what the split keeps together."""


def kept_together(sources: Sequence[str]) -> str | None:
    """What the splits of all ``sources`` keep together, as text; ``None`` if ``data split`` did not make them all."""
    patients = 0
    for source in sources:
        try:
            content = read_bytes(Path(source) / SPLIT_FILE, limit_bytes=2**16, root=source)
            patients += int(parse_json(content)["patients"])
        except (DetectclfError, OSError, ValueError, KeyError, TypeError):
            return None
    if not sources:
        return None
    people = f"slices of each of {patients} known patients" if patients else "no patient, since none is known"
    return f"`detectclf data split` made this split and kept copies of a slice together, and {people}"


def grouped_split(
    dataset: Dataset,
    groups: Sequence[CopyGroup] = (),
    ratios: Mapping[str, float] = DEFAULT_RATIOS,
    seed: int = 0,
) -> Dataset:
    """Assigns the samples to new splits; all slices of a patient, and all copies of a slice, go to the same one.

    Stratified by class and by presence of a box: within each stratum every split is filled in proportion. The largest
    groups are assigned first, so that no split exceeds its share by more than the size of a group. Every split gets a
    group: the last ones go where there is none yet.

    Args:
        dataset: the samples, with their patients where known; their present splits do not matter.
        groups: copies, as :func:`~detectclf.duplicates.copies.find_copies` gives them for ``dataset.samples``.
        ratios: split name -> share; they are scaled to sum to 1.
        seed: the same seed gives the same split.

    Returns:
        The same samples with new ``split`` values, in the order of the new splits, else as before. Samples of one
        name in one split keep their names; writers make file names unique.

    Raises:
        DataError: ratios that are not positive, groups of another data set, or fewer groups of one patient or of copies
            than splits.
    """
    shares = _shares(ratios)
    units = _units(dataset.samples, groups)
    _check_enough(dataset.samples, units, len(shares))
    rng = np.random.default_rng(seed)
    # Random order first, then by size (sort is stable): equal sizes stay shuffled.
    order = sorted((units[i] for i in rng.permutation(len(units))), key=len, reverse=True)
    total = Counter(_stratum(sample) for sample in dataset.samples)
    wanted = {(name, key): share * count for name, share in shares.items() for key, count in total.items()}
    room = {name: share * len(dataset.samples) for name, share in shares.items()}
    assigned = [""] * len(dataset.samples)
    empty = dict.fromkeys(shares)
    for number, unit in enumerate(order):
        content = Counter(_stratum(dataset.samples[i]) for i in unit)
        # Full splits take no more: many small strata, each best put into the largest split, would overfill it.
        fits = [name for name in shares if 2 * room[name] >= len(unit)] or [max(shares, key=lambda n: room[n])]
        if len(order) - number <= len(empty):
            fits = list(empty)
        needs = {name: _need(name, content, wanted, room) for name in fits}
        name = max(fits, key=lambda n: needs[n])
        for key, count in content.items():
            wanted[name, key] -= count
        room[name] -= len(unit)
        empty.pop(name, None)
        for index in unit:
            assigned[index] = name
    check_groups(assigned, units, [sample.name for sample in dataset.samples])
    rank = {name: number for number, name in enumerate(shares)}
    moved = [replace(s, split=name) for s, name in zip(dataset.samples, assigned, strict=True)]
    return replace(dataset, samples=tuple(sorted(moved, key=lambda s: rank[s.split])))


def check_groups(splits: Sequence[str], groups: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Makes sure that no group of slices, such as those of one patient, lies in two splits.

    Raises:
        DataError: one does; the message names two of its slices.
    """
    for members in groups:
        first = members[0]
        for member in members[1:]:
            if splits[member] != splits[first]:
                one, other = f"{names[first]} in {splits[first]}", f"{names[member]} of the same group"
                raise DataError(
                    f"leak: {one} and {other} in {splits[member]}",
                    remedy="split by patients and groups of copies",
                )


def large_groups(groups: Sequence[Sequence[int]], count: int) -> list[tuple[str, int]]:
    """``(what to say, first member)`` of each group of copies that holds a tenth or more of ``count`` slices.

    Different pictures that look alike, such as drawn or nearly empty ones, may be joined to one group; a split cannot
    take it apart.
    """
    large = [group for group in groups if len(group) >= _LARGE and len(group) * 10 >= count]
    return [
        (f"{len(group)} of {count} slices are taken for copies of one slice: look at some of them", group[0])
        for group in large
    ]


def _shares(ratios: Mapping[str, float]) -> dict[str, float]:
    if not ratios or any(not math.isfinite(share) or share < 0 for share in ratios.values()):
        raise DataError(f"ratios must be numbers of 0 or more, not {dict(ratios)}", remedy="give such as 0.7,0.2,0.1")
    total = sum(ratios.values())
    if total <= 0:
        raise DataError("ratios are all 0", remedy="give such as 0.7,0.2,0.1")
    # A split of share 0 gets nothing, not the last leftover.
    return {name: share / total for name, share in ratios.items() if share > 0}


def _units(samples: Sequence[Sample], groups: Sequence[CopyGroup]) -> list[list[int]]:
    """Indices that must stay together: of a patient, of copies, and every other sample alone."""
    grouped: set[int] = set()
    for group in groups:
        if grouped & set(group.members) or not all(0 <= member < len(samples) for member in group.members):
            raise DataError("groups of copies overlap, or belong to another data set", remedy="find the copies again")
        grouped.update(group.members)
    return independent_groups(samples, groups)


def _check_enough(samples: Sequence[Sample], units: Sequence[Sequence[int]], splits: int) -> None:
    if len(units) >= splits or not samples:
        return
    patients = len({s.patient for s in samples if s.patient is not None})
    if len(units) == 1 and patients == 1:
        reason = f"all {len(samples)} slices are of one patient"
    else:
        reason = f"the {len(samples)} slices make only {len(units)} groups of one patient or of copies"
    unit = " without a patient in two of them" if patients else " with a slice in each"
    remedy = f"add slices{' of other patients' if patients else ''}, or ask for fewer splits"
    raise DataError(f"{reason}, too few for {splits} splits{unit}", remedy=remedy)


def _stratum(sample: Sample) -> _Stratum:
    return (sample.label or "", len(sample.box_labels) > 0)


def _need(
    name: str, content: Counter[_Stratum], wanted: Mapping[tuple[str, _Stratum], float], room: Mapping[str, float]
) -> tuple[float, float]:
    """How many slices of these strata split ``name`` still lacks; then, to break ties, how many of any."""
    short = sum(count * wanted[name, key] for key, count in content.items()) / sum(content.values())
    return short, room[name]
