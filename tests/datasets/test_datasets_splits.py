"""Grouped, stratified splits: no leak, shares kept, same seed same split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectclf.datasets.splits import check_groups, grouped_split, large_groups
from detectclf.duplicates.copies import CopyGroup
from detectclf.errors import DataError
from detectclf.types import Dataset, Sample


def sample(number: int, label: str, boxed: bool = True) -> Sample:
    boxes = np.array([[1, 2, 30, 40]], np.float32) if boxed else np.zeros((0, 4), np.float32)
    labels = (label,) if boxed else ()
    return Sample(Path(f"{number}.png"), f"{number}.png", "train", label, boxes, labels, boxed=boxed)


def dataset(counts: dict[tuple[str, bool], int]) -> Dataset:
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    samples = tuple(sample(n, label, boxed) for n, (label, boxed) in enumerate(kinds))
    return Dataset(samples, tuple(sorted({label for label, _ in counts})))


def group(*members: int) -> CopyGroup:
    return CopyGroup(tuple(members), "mirrored", ("exact",) + ("mirrored",) * (len(members) - 1))


def split_of(dataset: Dataset) -> dict[str, str]:
    return {s.name: s.split for s in dataset.samples}


def test_every_stratum_gets_its_share() -> None:
    counts = {("glioma", True): 100, ("glioma", False): 20, ("no_tumor", False): 60, ("pituitary", True): 40}
    result = grouped_split(dataset(counts), ratios={"train": 0.5, "valid": 0.25, "test": 0.25})
    for (label, boxed), count in counts.items():
        of = Counter(s.split for s in result.samples if s.label == label and bool(s.box_labels) == boxed)
        assert of == {"train": count // 2, "valid": count // 4, "test": count // 4}


def test_small_strata_do_not_pile_up_in_one_split() -> None:
    # Ten strata of one slice each: alone each belongs to train, together they must still meet the shares.
    data = dataset({(f"class{n}", True): 1 for n in range(10)})
    for ratios in ({"a": 1.0, "b": 1.0}, {"a": 0.7, "b": 0.2, "c": 0.1}):
        found = Counter(s.split for s in grouped_split(data, ratios=ratios).samples)
        assert found == {name: round(10 * share / sum(ratios.values())) for name, share in ratios.items()}


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=40),
    labels=st.integers(1, 4),
    seed=st.integers(0, 5),
    ratios=st.lists(st.floats(0.05, 1), min_size=1, max_size=4),
)
def test_groups_stay_whole_and_shares_hold(sizes: list[int], labels: int, seed: int, ratios: list[float]) -> None:
    ends = np.cumsum(sizes)
    groups = [group(*range(end - size, end)) for size, end in zip(sizes, ends.tolist(), strict=True) if size > 1]
    data = Dataset(tuple(sample(n, f"c{n % labels}") for n in range(int(ends[-1]))), ("c",))
    names = {f"s{n}": share for n, share in enumerate(ratios)}
    if len(sizes) < len(ratios):
        with pytest.raises(DataError, match=rf"too few for {len(ratios)} splits with a slice in each; add slices"):
            grouped_split(data, groups, names, seed)
        return
    result = grouped_split(data, groups, names, seed)
    assert set(result.splits) == set(names), "each gets a group"
    of = split_of(result)
    assert set(of) == {s.name for s in data.samples}
    for one in groups:
        assert len({of[f"{member}.png"] for member in one.members}) == 1
    for name, share in names.items():
        wanted = share / sum(ratios) * len(data.samples)
        # Above its share by less than a group, so below it by less than that for each of the other splits.
        assert -(len(ratios) - 1) * max(sizes) <= sum(s == name for s in of.values()) - wanted <= max(sizes)
    assert split_of(grouped_split(data, groups, names, seed)) == of


@pytest.mark.parametrize(
    ("sizes", "ratios"),
    [
        ([3] * 8, (0.7, 0.2, 0.1)),  # the share of test is less than a group
        ([22, 1, 1], (0.7, 0.2, 0.1)),  # one group is more than the share of any split
        ([1, 1, 1], (0.98, 0.01, 0.01)),  # just enough groups
        ([5, 4], (0.5, 0.5)),
        ([9, 9, 9, 1, 1], (1, 1, 1, 1, 1)),  # folds
    ],
)
def test_every_split_gets_a_group_where_there_are_enough(sizes: list[int], ratios: tuple[float, ...]) -> None:
    ends = np.cumsum(sizes).tolist()
    groups = [group(*range(end - size, end)) for size, end in zip(sizes, ends, strict=True) if size > 1]
    names = {f"s{n}": share for n, share in enumerate(ratios)}
    for labels in (1, 2):
        data = Dataset(tuple(sample(n, f"c{n % labels}") for n in range(ends[-1])), ("c",))
        for seed in range(10):
            assert set(grouped_split(data, groups, names, seed).splits) == set(names)


def test_seed_changes_the_split() -> None:
    data = dataset({("glioma", True): 40})
    splits = [split_of(grouped_split(data, seed=seed)) for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_nothing_but_the_split_changes() -> None:
    data = dataset({("glioma", True): 5, ("no_tumor", False): 5})
    result = grouped_split(data)
    before = {s.name: s for s in data.samples}
    assert result.classes == data.classes
    for s in result.samples:
        old = before[s.name]
        assert (s.path, s.label, s.box_labels, s.boxed) == (old.path, old.label, old.box_labels, old.boxed)
        assert np.array_equal(s.boxes_xyxy, old.boxes_xyxy)
    assert [s.split for s in result.samples] == sorted((s.split for s in result.samples), key="train valid test".find)


@pytest.mark.parametrize(
    ("ratios", "reason"),
    [
        ({}, "numbers of 0 or more"),
        ({"train": -1.0, "valid": 2.0}, "numbers of 0 or more"),
        ({"train": float("nan")}, "numbers of 0 or more"),
        ({"train": float("inf")}, "numbers of 0 or more"),
        ({"train": 0.0, "valid": 0.0}, "all 0"),
    ],
)
def test_bad_ratios(ratios: dict[str, float], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        grouped_split(dataset({("glioma", True): 4}), ratios=ratios)


def test_share_of_zero_gets_nothing() -> None:
    result = grouped_split(dataset({("glioma", True): 9}), ratios={"train": 0.8, "valid": 0.2, "test": 0.0})
    assert result.splits == ("train", "valid")


def test_foreign_or_overlapping_groups_are_refused() -> None:
    data = dataset({("glioma", True): 4})
    for groups in ([group(0, 9)], [group(0, 1), group(1, 2)]):
        with pytest.raises(DataError, match="groups of copies"):
            grouped_split(data, groups)


def test_leak_is_named() -> None:
    with pytest.raises(DataError, match=r"leak: a in train and b of the same group in test"):
        check_groups(["train", "test"], [[0, 1]], ["a", "b"])


def test_empty_dataset() -> None:
    assert grouped_split(Dataset((), ())).samples == ()


@pytest.mark.parametrize(("sizes", "count", "said"), [((40,), 40, 1), ((7,), 20, 0), ((8, 12), 100, 1), ((9,), 100, 0)])
def test_giant_groups_are_said(sizes: tuple[int, ...], count: int, said: int) -> None:
    assert len(large_groups([range(size) for size in sizes], count)) == said
