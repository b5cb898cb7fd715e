"""DICOM slices that make up a volume: grouped by series, and put in the order of their positions."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from detectclf.imaging.dicom_headers import SliceHeader, Vector

_SAME_PLACE = 0.01
"""Millimetres within which two slices have one position."""
_PARALLEL = 0.999
"""Least cosine between the rows, and the columns, of a slice and the one before it: 2.5 degrees."""
_TURNED = 0.866
"""The same between a slice and the first one, 30 degrees: slices that turn about an axis are no stack."""
_MOST_STACKS = 100
"""Most orientations of a series that are told apart; slices of others are no part of a volume."""
_RAS = np.array([-1.0, -1.0, 1.0])
"""From DICOM's axes, to the patient's left, back and head, to those of NIfTI: right, front and head."""
_WIDE = 1.5
"""A gap this many times as wide as the usual one lacks a slice."""


@dataclass(frozen=True, slots=True)
class Series:
    """Slices of one DICOM series that lie one behind the other: from left to right, back to front, or feet to head.

    Attributes:
        slices: in the order of their positions, or, where these are not known, of their numbers.
        positions: millimetres along the normal, ascending; ``None`` where they are not known.
        duplicates: slices left out, since another one shows their position: copies, other times or weightings.
        gaps: places where slices are missing.
    """

    slices: tuple[SliceHeader, ...]
    positions: Vector | None
    duplicates: tuple[SliceHeader, ...] = ()
    gaps: int = 0


def find_series(headers: Iterable[SliceHeader]) -> list[Series]:
    """The volumes that slices make up, each of two slices or more, in the order of their first slices as given.

    Slices of one volume have the same study, series, patient, modality, size, echo and orientation. A series of several
    orientations, such as three planes, is several volumes. Folders of one series are one volume where they continue one
    another, and lie in one folder; where they overlap they are volumes of their own, since anonymised patients may have
    the same numbers. What is left over is no volume: single slices, and those that all lie at one place.
    """
    given: dict[tuple[Path, int | None], int] = {}
    groups: defaultdict[tuple[object, ...], list[SliceHeader]] = defaultdict(list)
    for header in headers:
        given[header.path, header.frame] = len(given)
        groups[header.series, header.modality, header.size, header.order[0]].append(header)
    found = [
        _ordered(run)
        for group in groups.values()
        for stack in _stacks(group)
        for run in _continued(stack, _places(stack) or [header.order[-1] for header in stack])
    ]
    volumes = [series for series in found if len(series.slices) > 1]
    return sorted(volumes, key=lambda series: min(given[each.path, each.frame] for each in series.slices))


def _stacks(group: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Slices of one orientation, which may drift from one to the next."""
    stacks: list[list[SliceHeader]] = []
    for header in sorted(group, key=lambda header: (header.order, header.path)):
        fits = (stack for stack in reversed(stacks) if _continues(stack, header))
        if (stack := next(fits, None)) is not None:
            stack.append(header)
        elif len(stacks) < _MOST_STACKS:
            stacks.append([header])
    return stacks


def _continues(stack: Sequence[SliceHeader], header: SliceHeader) -> bool:
    first, last, own = stack[0].orientation, stack[-1].orientation, header.orientation
    if first is None or last is None or own is None:
        return first is own
    return _parallel(last, own, _PARALLEL) and _parallel(first, own, _TURNED)


def _parallel(first: Vector, second: Vector, least: float) -> bool:
    return all(sum(first[i] * second[i] for i in part) > least for part in (range(3), range(3, 6)))


def _places(stack: Sequence[SliceHeader]) -> list[float] | None:
    """Millimetres of each slice along the normal of all, towards right, front or head; ``None`` where not known."""
    known = [(each.position, each.orientation) for each in stack if each.position and each.orientation]
    if len(known) < len(stack):
        return None
    positions, directions = np.array([place for place, _ in known]), np.array([turn for _, turn in known])
    normal = np.cross(directions[:, :3], directions[:, 3:]).mean(axis=0) * _RAS
    normal *= np.sign(normal[np.abs(normal).argmax()]) / np.linalg.norm(normal)
    return [float(place) for place in (positions * _RAS) @ normal]


def _continued(stack: Sequence[SliceHeader], places: Sequence[float]) -> Iterator[list[SliceHeader]]:
    """The slices of folders that continue one another; each of folders that overlap on its own."""
    folders: defaultdict[Path, list[tuple[float, SliceHeader]]] = defaultdict(list)
    for place, header in zip(places, stack, strict=True):
        folders[header.path.parent].append((place, header))
    ends: defaultdict[Path, list[tuple[float, int]]] = defaultdict(list)  # (last place, number of the run), as a heap
    runs: list[list[SliceHeader]] = []
    for folder, slices in sorted(folders.items(), key=lambda each: min(place for place, _ in each[1])):
        first, last = (take(place for place, _ in slices) for take in (min, max))
        heap = ends[folder.parent]
        if heap and heap[0][0] < first - _SAME_PLACE:
            _, run = heapq.heappop(heap)
        else:
            run = len(runs)
            runs.append([])
        runs[run] += [header for _, header in slices]
        heapq.heappush(heap, (last, run))
    yield from runs


def _ordered(stack: Sequence[SliceHeader]) -> Series:
    """Sorted by position, one slice each; by number where a position is not known."""
    by_number = sorted(stack, key=lambda header: (header.order, header.path))
    places = _places(by_number)
    if places is None:
        return Series(tuple(by_number), None)
    kept: list[tuple[float, SliceHeader]] = []
    duplicates = []
    # sorted() is stable: of one place, the first by time and number comes first and is kept.
    for place, header in sorted(zip(places, by_number, strict=True), key=lambda pair: pair[0]):
        if not kept or place - kept[-1][0] >= _SAME_PLACE:
            kept.append((place, header))
        else:
            duplicates.append(header)
    steps = [after - before for (before, _), (after, _) in pairwise(kept)]
    gaps = sum(step > _WIDE * median(steps) for step in steps)
    slices = tuple(header for _, header in kept)
    return Series(slices, tuple(place for place, _ in kept), tuple(duplicates), gaps)


__all__ = ["Series", "find_series"]
