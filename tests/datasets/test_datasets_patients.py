"""Where patients come from, whom the atlas knows, and which slices belong together."""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients import (
    group_numbers,
    identify,
    independent_groups,
    stated_patients,
    with_patients,
)
from detectclf.datasets.splits import grouped_split
from detectclf.duplicates.alignment import ORIENTATIONS
from detectclf.duplicates.copies import CopyGroup
from detectclf.duplicates.fingerprints import ROW, Fingerprints, fingerprint
from detectclf.errors import ConfigError, DataError
from detectclf.pseudonyms import pseudonym
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data
from detectclf.types import Dataset, Sample


def sample(name: str, patient: str | None = None, split: str = "train") -> Sample:
    return Sample(Path("data", split, name), name, split, None, source="data", patient=patient)


# Rows of the atlas: two of patient 1, one of patient 27.
@pytest.fixture(scope="module")
def atlas_rows() -> dict[str, np.ndarray]:
    with (resources.files("detectclf") / "assets" / "figshare_atlas.npz").open("rb") as file, np.load(file) as arrays:
        patients, thumbnails = arrays["patient"], arrays["thumbnail"]
        rows = {}
        for name, patient, nth in (("1a", 1, 0), ("1b", 1, 2), ("27", 27, 0)):
            small = Image.fromarray(thumbnails[np.flatnonzero(patients == patient)[nth]])
            rows[name] = fingerprint(np.asarray(small.resize((384, 384), Image.Resampling.NEAREST)))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    return {**rows, "other": fingerprint(noise), "unread": np.zeros(1, dtype=ROW)}


@pytest.mark.parametrize(
    ("slices", "expected", "contradictions"),
    [
        # Nothing is stated: the atlas knows its own, and nobody else; what cannot be read matches nothing.
        ([("1a", None), ("27", None), ("other", None), ("unread", None)], ["figshare-1", "figshare-27", None, None], 0),
        # Somebody numbered the patients anew: the same person, on slices that the atlas does not find too.
        ([("1a", "anon-x"), ("1b", "anon-x"), ("other", "anon-x")], ["figshare-1"] * 3, 0),
        # Two names for one person: one.
        ([("1a", "anon-x"), ("1b", "anon-y"), ("other", "anon-y")], ["figshare-1"] * 3, 0),
        # A slice without a name and others that have one are of one person by the atlas.
        ([("1a", None), ("1b", "anon-x"), ("other", "anon-x")], ["figshare-1"] * 3, 0),
        # One name for two persons: the atlas is right about its slices, nothing is known about the others.
        ([("1a", "anon-x"), ("27", "anon-x"), ("other", "anon-x")], ["figshare-1", "figshare-27", "anon-x"], 1),
        # Patients of other data stay.
        ([("other", "anon-z"), ("1a", None)], ["anon-z", "figshare-1"], 0),
    ],
)
def test_the_atlas_and_what_is_stated_agree_on_identities(
    atlas_rows: dict[str, np.ndarray],
    slices: list[tuple[str, str | None]],
    expected: list[str | None],
    contradictions: int,
) -> None:
    names = tuple(name for name, _ in slices)
    rows = np.concatenate([atlas_rows[name] for name in names])
    prints = Fingerprints(rows, names, names, names, tuple(patient for _, patient in slices))
    for _ in range(2):  # the second time from the cache
        found = identify(prints, SliceIndex())
        assert list(found.patients) == expected and found.contradictions == contradictions
        assert found.by_atlas == tuple(name not in ("other", "unread") for name in names)


@pytest.mark.parametrize(
    ("why", "slices", "aliases"),
    [
        ("nothing is stated", [("1a", None), ("other", None)], []),
        ("a patient of other data", [("other", "anon-z"), ("1a", None)], []),
        ("numbered anew", [("1a", "anon-x"), ("other", "anon-x")], [{"anon-x", "figshare-1"}]),
        ("two names for one person", [("1a", "anon-x"), ("1b", "anon-y")], [{"anon-x", "anon-y", "figshare-1"}]),
        ("one name for two persons", [("1a", "anon-x"), ("27", "anon-x")], [{"anon-x", "figshare-1", "figshare-27"}]),
    ],
)
def test_all_names_of_a_person_are_kept(
    atlas_rows: dict[str, np.ndarray], why: str, slices: list[tuple[str, str | None]], aliases: list[set[str]]
) -> None:
    names = tuple(name for name, _ in slices)
    rows = np.concatenate([atlas_rows[name] for name in names])
    prints = Fingerprints(rows, names, names, names, tuple(patient for _, patient in slices))
    found = identify(prints, SliceIndex())
    assert list(found.aliases) == aliases, why
    named = found.name([sample(name, patient) for name, patient in slices])
    for s in named:
        alike = [a for a in aliases if s.patient in a]
        assert set(s.patient_names) == (alike[0] if alike else {s.patient} - {None}), why
    again = identify(replace(prints, patients=found.patients, aliases=found.aliases), SliceIndex())
    assert (again.patients, again.aliases) == (found.patients, found.aliases), "a second look loses no name"
    groups = independent_groups(named, ())
    assert len(groups) == len({min([n for a in aliases if s.patient in a for n in a], default=s.name) for s in named})


def test_slices_of_the_atlas_are_known_in_every_orientation(atlas_rows: dict[str, np.ndarray]) -> None:
    row = atlas_rows["1a"]
    for name, turn in ORIENTATIONS:
        turned = row.copy()
        turned["thumb"] = turn(row["thumb"])
        prints = Fingerprints(turned, ("a",), ("train",), ("data",))
        assert identify(prints, SliceIndex()).patients == ("figshare-1",), name


def test_what_states_a_patient_first_counts(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\nP3_a.jpg,listed\nP3_b.jpg,\nmissing.jpg,x\n")
    export = pseudonym("export")
    slices = [sample("P3_a.jpg", export), sample("P3_b.jpg", export), sample("P3_c.jpg"), sample("c.jpg")]
    found = stated_patients(slices, table, r"^(P\d+)_")
    assert [s.patient for s in found.samples] == [pseudonym("listed"), export, pseudonym("P3"), None]
    assert found.origins == ("file", "export", "name", None)
    assert found.note() == "1 of the 2 files that it names are in the data; the first other: missing.jpg"
    assert stated_patients(slices).origins == ("export", "export", None, None)


def test_a_table_of_other_data_and_a_pattern_that_fits_nothing_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_sample_data(tmp_path / "data", n=12, seed=0)
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\nother.jpg,Muster\n")
    with caplog.at_level(logging.WARNING):
        opened = open_dataset(DataConfig(sources=(data,), patients=table, patient_pattern="^(P[0-9]+)_"))
    assert all(s.patient is None for s in opened.samples)
    assert "none of the 1 files that it names are in the data; the first other: other.jpg" in caplog.text
    assert "finds no patient" in caplog.text and "Muster" not in caplog.text


@pytest.mark.parametrize(
    ("name", "pattern", "identity"),
    [
        ("P3_a.jpg", r"^(P\d+)_", "P3"),
        ("Meningioma/P3_a.jpg", r"^(P\d+)_", "P3"),  # a folder of the class stands before the name
        ("images\\P3_a.jpg", r"^(P\d+)_", "P3"),  # written on Windows
        ("P7_/P3_a.jpg", r"(P\d+)_", "P3"),  # folders say nothing
        ("P7_/a.jpg", r"(P\d+)_", None),
        ("a" * 300 + "P3_", r"(P\d+)_", None),  # beyond the longest name of a file
    ],
)
def test_the_pattern_is_searched_in_the_name_of_the_file(name: str, pattern: str, identity: str | None) -> None:
    (found,) = stated_patients([sample(name)], None, pattern).samples
    assert found.patient == (None if identity is None else pseudonym(identity))


@pytest.mark.parametrize(
    ("table", "pattern", "said"),
    [
        (
            "file,patient\nSECRET0,a.jpg\n",
            None,
            "none of the 1 files that it names are in the data; the first other: the",
        ),
        ("file,patient\n", None, "gives no file a patient"),  # only its first line
        ("file,patient\na.jpg;P1\n", None, "gives no file a patient"),  # another separator than in the first line
        ("file,patient\na.jpg,P1\n", None, None),
        (None, r"^(X\d)", "data.patient_pattern '^(X\\\\d)' finds no patient in the names of the slices"),
        (None, r"^(a)", None),
        ("file,patient\na.jpg,P1\n", r"^(X\d)", None),  # the table names every patient: the pattern is not needed
        (None, None, None),
    ],
)
def test_what_is_odd_is_said(table: str | None, pattern: str | None, said: str | None, tmp_path: Path) -> None:
    file = None if table is None else tmp_path / "patients.csv"
    if file is not None and table is not None:
        file.write_text(table)
    found = stated_patients([sample("a.jpg")], file, pattern)
    notes = [note for note in (found.note(), found.pattern_note()) if note is not None]
    assert [note[: len(said or "")] for note in notes] == ([] if said is None else [said])
    assert "SECRET" not in str(notes)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("P(", "not a regular expression"), ("P[0-9]+", "has 0 groups"), ("(P)([0-9])", "has 2 groups")],
)
def test_a_pattern_has_one_group(pattern: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"patient_pattern: {reason}"):
        load_recipe(DataConfig, flags={"patient_pattern": pattern})


PATIENTS = st.lists(st.sampled_from([None, None, "a", "b", "c", "d"]), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(patients=PATIENTS, seed=st.integers(0, 99))
def test_groups_are_the_connected_components_of_patients_and_copies(patients: list[str | None], seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = len(patients)
    parts = np.array_split(rng.permutation(count), max(1, count // 2))
    copies = [CopyGroup(tuple(sorted(p.tolist())), "exact", ("exact",) * len(p)) for p in parts if len(p) > 1]
    slices = [sample(f"{i}.jpg", patient) for i, patient in enumerate(patients)]
    groups = independent_groups(slices, copies)
    assert sorted(i for group in groups for i in group) == list(range(count))
    assert [min(group) for group in groups] == sorted(group[0] for group in groups)
    # Another way: reachability in a matrix of who is linked to whom.
    linked = np.eye(count, dtype=bool)
    for i in range(count):
        for j in range(count):
            linked[i, j] |= patients[i] is not None and patients[i] == patients[j]
            linked[i, j] |= any(i in c.members and j in c.members for c in copies)
    reach = np.linalg.matrix_power(linked.astype(float), count) > 0
    numbers = group_numbers(groups)
    assert all((numbers[i] == numbers[j]) == reach[i, j] for i in range(count) for j in range(count))


@settings(max_examples=50, deadline=None)
@given(patients=PATIENTS, seed=st.integers(0, 9))
def test_a_split_never_takes_a_patient_apart(patients: list[str | None], seed: int) -> None:
    data = Dataset(tuple(sample(f"{i}.jpg", patient) for i, patient in enumerate(patients)), ("c",))
    units = independent_groups(data.samples, ())
    if len(units) < 3:
        with pytest.raises(DataError, match=r"too few for 3 splits with.*; add slices"):
            grouped_split(data, seed=seed)
        return
    dealt = grouped_split(data, seed=seed)
    splits: dict[str, set[str]] = {}
    for s in dealt.samples:
        if s.patient is not None:
            splits.setdefault(s.patient, set()).add(s.split)
    assert set(dealt.splits) == {"train", "valid", "test"}
    assert len(dealt.samples) == len(patients) and all(len(found) == 1 for found in splits.values())


def test_data_of_one_patient_are_not_split() -> None:
    data = Dataset(tuple(sample(f"{i}.jpg", "anon-x") for i in range(20)), ("c",))
    with pytest.raises(DataError, match=r"^all 20 slices are of one patient, too few for 3 splits"):
        grouped_split(data)
    with pytest.raises(DataError, match=r"one patient, too few for 5 splits"):
        grouped_split(data, ratios={str(fold): 1.0 for fold in range(5)})


def test_folds_hold_patients_out(tmp_path: Path) -> None:
    data = write_sample_data(tmp_path / "data", n=24, seed=0)
    config = DataConfig(sources=(data,), folds=3, held_out=(0,))
    plain = open_dataset(config)
    table = tmp_path / "patients.csv"
    names = sorted({s.name for s in plain.samples})
    table.write_text("file,patient\n" + "".join(f"{name},P{n % 5}\n" for n, name in enumerate(names)))
    opened = open_dataset(config.model_copy(update={"patients": table}))
    train, valid = ({s.patient for s in opened.split(name).samples} for name in ("train", "valid"))
    assert len(train | valid) == 5 and not train & valid
    with pytest.raises(DataError, match="too few for 6 splits"):
        open_dataset(config.model_copy(update={"patients": table, "folds": 6}))


def test_published_slices_get_their_patients_by_content(shared: Path) -> None:
    index = SliceIndex()
    folders = tuple(shared / "data" / name for name in ("boxed", "unboxed"))
    opened = with_patients(open_dataset(DataConfig(sources=folders)), index)
    with (shared / "data" / "patients.csv").open(encoding="utf-8") as file:
        truth = {row["file"]: f"figshare-{row['patient']}" for row in csv.DictReader(file)}
    assert len(truth) == 1647
    wrong = [s.name for s in opened.samples if s.patient != truth.get(s.name)]
    assert not wrong, "1,647 of 1,647 right; 434 healthy slices and 116 with a tumour that are not listed have none"
    splits = {split: {s.patient for s in opened.samples if s.split == split and s.patient} for split in opened.splits}
    assert len(splits["train"] & splits["valid"]) == 152, "152 of the 155 patients of valid are in train too"
    assert len(splits["train"] | splits["valid"]) == 195
    healthy = [s for s in opened.samples if s.label == "no_tumor"]
    assert healthy and all(s.patient is None for s in healthy)
    # Whoever numbers the patients anew, as in the table, means the same persons.
    config = DataConfig(sources=folders, patients=shared / "data" / "patients.csv")
    assert [s.patient for s in with_patients(open_dataset(config), index).samples] == [
        s.patient for s in opened.samples
    ]


def test_other_slices_of_the_same_patients_have_the_same_names(shared: Path) -> None:
    folder = shared / "data" / "figshare"
    stated = open_dataset(DataConfig(sources=(folder,)))
    numbers = json.loads((folder / "train" / "_annotations.coco.json").read_text(encoding="utf-8"))["images"]
    truth = {image["file_name"]: f"figshare-{image['patient']}" for image in numbers}
    assert all(s.patient == pseudonym(truth[s.name].removeprefix("figshare-")) for s in stated.samples)
    found = with_patients(stated, SliceIndex())
    assert {s.name: s.patient for s in found.samples} == truth
    nameless = replace(stated, samples=tuple(replace(s, patient=None) for s in stated.samples))
    assert {s.name: s.patient for s in with_patients(nameless, SliceIndex()).samples} == truth
    assert Counter(len(g) > 0 for g in independent_groups(found.samples, ())) == {True: len(set(truth.values()))}


def test_slices_of_other_sources_are_not_of_the_atlas(shared: Path) -> None:
    data = open_dataset(DataConfig(sources=(shared / "data" / "br35h",), class_map={"Tumor (type unknown)": "glioma"}))
    assert all(s.patient is None for s in with_patients(data, SliceIndex()).samples)
