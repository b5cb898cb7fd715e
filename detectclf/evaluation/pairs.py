"""Every pair of evaluations on the slices that all share: paired tests of accuracy and mAP.

Two runs differ in accuracy where both the exact McNemar test (1947) and the paired bootstrap over independent groups
say so, and in mAP where both a randomisation test and the paired bootstrap do. A group is a patient where it is known,
and a source slice elsewhere. No p is smaller than an exact test on the groups that differ could give, and p values are
adjusted for the number of pairs (Holm 1979). Otherwise the runs tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from detectclf.config import EvaluateConfig
from detectclf.evaluation.aligned import Aligned, boxes_of
from detectclf.evaluation.bootstrap import bootstrap
from detectclf.evaluation.detection import map_figures
from detectclf.evaluation.entries import Entry, Key
from detectclf.evaluation.intervals import interval
from detectclf.evaluation.leakage import common_groups
from detectclf.evaluation.matching import Matches, match_by_class
from detectclf.evaluation.paired_tests import least_p, mcnemar_exact, paired_p, randomisation_p
from detectclf.evaluation.weighted import Bools, Floats, Ints, WeightedFigures, joined, on_slices, ratio
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR

LEVEL = 0.05
_ROUNDING = 1.01
"""Pixels by which true boxes may differ between copies of a data set in different formats."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of the first run minus that of the second, field names as ``compare --json`` has them.

    Attributes:
        difference, interval: ``None`` where either run lacks the figure.
        sources_differ: independent groups on which the runs differ.
        p: of the paired bootstrap.
        p_mcnemar: of accuracy only.
        p_randomisation: of mAP only, where the bootstrap finds a difference.
        p_holm: the largest of these, adjusted for the number of pairs.
        verdict: the better run, a tie, or that the runs are not comparable.
    """

    difference: float | None
    interval: list[float] | None
    sources_differ: int
    p: float | None = None
    p_mcnemar: float | None = None
    p_randomisation: float | None = None
    p_holm: float | None = None
    verdict: str = "not comparable"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs on their ``slices`` common slices."""

    first: str
    second: str
    slices: int
    accuracy: Difference
    mAP: Difference  # noqa: N815 - the name of the figure everywhere in the field


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One run on the common slices; ``drawn`` are its figures in each resample, after the published ones."""

    name: str
    data: Aligned
    right: Bools
    matches: dict[str, Matches]
    drawn: dict[str, Floats]


def compare_pairs(entries: Sequence[Entry], config: EvaluateConfig) -> tuple[tuple[Pair, ...], list[str]]:
    """All pairs of the evaluations among ``entries``, and which of their slices were left out, a line each."""
    evaluated = [entry for entry in entries if entry.data is not None]
    if len(evaluated) < 2:
        return (), []
    # Names of files and folders change when data are split or converted anew; pixels do not.
    by_content = all(entry.knows_content for entry in evaluated)
    tables = [entry.table(by_content=by_content) for entry in evaluated]
    named = sorted(set.intersection(*(set(table) for table in tables)))
    shared = [key for key in named if _same_boxes(key, evaluated, tables)]
    if not shared:
        return (), ["the evaluations share no slice with the same truth: they cannot be compared"]
    common = [key for key in shared if not _seen_by_any(key, evaluated, tables)]
    if not common:
        return (), [
            (
                f"no winner: each of the {len(shared)} slices in every evaluation is one that a run was trained on; "
                "evaluate on other slices"
            )
        ]
    notes = [] if by_content else ["slices are paired by name and folder: not every evaluation keeps their digests"]
    notes += [
        f"{entry.name}: {len(table) - len(shared)} of its slices are not in every evaluation; tests leave them out"
        for entry, table in zip(evaluated, tables, strict=True)
        if len(table) > len(shared)
    ]
    if len(common) < len(shared):
        notes.append(f"tests leave out {len(shared) - len(common)} of {len(shared)} slices that a run was trained on")
    groups = _groups(evaluated, tables, common)
    notes.append(_unit_note(evaluated, tables, common, groups))
    runs = [
        _run(entry.name, entry.take([table[key] for key in common]), groups, config)
        for entry, table in zip(evaluated, tables, strict=True)
    ]
    couples = list(combinations(runs, 2))
    accuracy = _judged([_accuracy(*couple, groups) for couple in couples], couples)
    mean_ap = _judged([_mean_ap(*couple, groups, config) for couple in couples], couples)
    pairs = [
        Pair(first.name, second.name, len(common), a, m)
        for (first, second), a, m in zip(couples, accuracy, mean_ap, strict=True)
    ]
    return tuple(pairs), notes


def _same_boxes(key: Key, entries: Sequence[Entry], tables: Sequence[Mapping[Key, int]]) -> bool:
    """Whether the true boxes of a slice agree, but for the rounding of formats that hold whole pixels."""
    boxes = [entry.samples[table[key]].boxes_xyxy for entry, table in zip(entries, tables, strict=True)]
    return all(bool(np.allclose(boxes[0], other, rtol=0, atol=_ROUNDING)) for other in boxes[1:])


def _seen_by_any(key: Key, entries: Sequence[Entry], tables: Sequence[Mapping[Key, int]]) -> bool:
    return any(entry.seen[table[key]] for entry, table in zip(entries, tables, strict=True))


def _groups(entries: Sequence[Entry], tables: Sequence[Mapping[Key, int]], common: Sequence[Key]) -> Ints:
    """Independent group of each common slice, by all that any evaluation knows of copies and patients."""
    rows = [(entry.groups, [table[key] for key in common]) for entry, table in zip(entries, tables, strict=True)]
    return common_groups(*(np.asarray(groups, dtype=np.int64)[at] for groups, at in rows))


def _unit_note(
    entries: Sequence[Entry], tables: Sequence[Mapping[Key, int]], common: Sequence[Key], groups: Ints
) -> str:
    """Which slices are tested by patient."""
    known = np.zeros(len(common), dtype=np.bool_)
    for entry, table in zip(entries, tables, strict=True):
        samples = entry.data.samples if entry.data is not None else ()
        known |= np.array([samples[table[key]].patient is not None for key in common], dtype=np.bool_)
    patients, others = len(np.unique(groups[known])), len(np.unique(groups[~known]))
    return (
        f"tests are by patient where known: {int(known.sum())} slices of {patients} patients; "
        f"by source slice elsewhere: {int((~known).sum())} slices of {others} source groups"
    )


def _run(name: str, data: Aligned, groups: Ints, config: EvaluateConfig) -> _Run:
    right = np.array(
        [s.label is not None and s.label == p.label for s, p in zip(data.samples, data.predictions, strict=True)],
        dtype=np.bool_,
    )
    matches = match_by_class(boxes_of(data.take(data.boxed.tolist()), fused=True).of_known_type(), data.tumor_classes)
    figures = joined(
        [
            ratio(right, [s.label not in (None, ANY_TUMOR) for s in data.samples], "run.accuracy"),
            on_slices(map_figures(matches, "run", "per_class"), data.boxed),
        ]
    )
    # One seed for all runs: each resample draws the same slices of every run, which makes the comparison paired.
    return _Run(name, data, right, matches, _published_and_drawn(figures, groups, config))


def _published_and_drawn(figures: WeightedFigures, groups: Ints, config: EvaluateConfig) -> dict[str, Floats]:
    drawn = bootstrap(figures, groups, count=max(config.bootstrap, 1), seed=config.seed)
    ones = figures(np.ones((1, len(groups))))
    return {name: np.concatenate([ones[name], values]) for name, values in drawn.items()}


def _difference(first: _Run, second: _Run, key: str, sources: int) -> Difference:
    nothing = np.array([np.nan])
    differences = first.drawn.get(key, nothing) - second.drawn.get(key, nothing)
    if not np.isfinite(differences[0]):
        return Difference(None, None, sources)
    p = paired_p(differences[1:])
    return Difference(
        float(differences[0]), interval(differences[1:]), sources, None if p is None else max(p, least_p(sources))
    )


def _accuracy(first: _Run, second: _Run, groups: Ints) -> Difference:
    sources = len(np.unique(groups[first.right != second.right]))
    found = _difference(first, second, "run.accuracy", sources)
    return replace(found, p_mcnemar=mcnemar_exact(first.right, second.right))


def _mean_ap(first: _Run, second: _Run, groups: Ints, config: EvaluateConfig) -> Difference:
    sources = len(np.unique(groups[_boxes_differ(first.data, second.data)]))
    found = _difference(first, second, "run.mAP", sources)
    if found.p is None or found.p >= LEVEL:
        return found  # a tie by the bootstrap stays one, whatever the slower test gives
    p = randomisation_p(
        first.matches,
        second.matches,
        groups[first.data.boxed],
        count=max(config.bootstrap, 1),
        seed=config.seed,
    )
    return replace(found, p_randomisation=p)


def _boxes_differ(first: Aligned, second: Aligned) -> Bools:
    """``(I,)`` whether the runs predict different boxes on a slice whose boxes are known."""

    def boxes(p: Prediction) -> tuple[Any, ...]:
        return p.boxes_xyxy.tolist(), p.box_labels, p.scores.tolist()

    rows = zip(first.samples, first.predictions, second.predictions, strict=True)
    return np.array([s.boxed and boxes(p) != boxes(q) for s, p, q in rows], dtype=np.bool_)


def _judged(found: Sequence[Difference], couples: Sequence[tuple[_Run, _Run]]) -> list[Difference]:
    """Adds the p values adjusted by Holm and the verdicts."""
    worst = {k: max(d.p, d.p_mcnemar or 0.0, d.p_randomisation or 0.0) for k, d in enumerate(found) if d.p is not None}
    adjusted: dict[int, float] = {}
    highest = 0.0
    for rank, k in enumerate(sorted(worst, key=lambda k: worst[k])):
        highest = max(highest, min(1.0, worst[k] * (len(worst) - rank)))
        adjusted[k] = highest
    return [
        replace(d, p_holm=adjusted[k], verdict=_verdict(d, adjusted[k], *couples[k])) if k in adjusted else d
        for k, d in enumerate(found)
    ]


def _verdict(found: Difference, p: float, first: _Run, second: _Run) -> str:
    if p >= LEVEL or not found.difference:
        return "tie"
    return f"{(first if found.difference > 0 else second).name} is better"
