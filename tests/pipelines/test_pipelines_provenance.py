"""The patients that a model was trained on: of runs and bundles, with and without records, old and new."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.config import DataConfig
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients import patients_of, without_atlas_slices
from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE, Fingerprints, fingerprint
from detectclf.errors import ModelError
from detectclf.evaluation.leakage import find_provenance
from detectclf.pipelines.opening import with_known_patients
from detectclf.pipelines.out_of_fold import FoldRun, groups_and_provenance
from detectclf.pipelines.provenance import (
    PATIENTS_KEY,
    fingerprints_of,
    inherited_provenance,
    model_provenance,
    patients_metadata,
    training_patient_record,
    training_patients,
)
from detectclf.pseudonyms import KEY_VARIABLE
from detectclf.types import Dataset, Sample


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (64, 64), dtype=np.uint8)


def prints(*slices: tuple[int, str | None]) -> Fingerprints:
    """Fingerprints of slices that are no copies, each a seed and a patient."""
    rows = np.concatenate([fingerprint(noise(seed)) for seed, _ in slices])
    names = tuple(str(seed) for seed, _ in slices)
    return Fingerprints(rows, names, names, names, tuple(patient for _, patient in slices))


def of_run(folder: Path, *slices: tuple[int, str | None]) -> Path:
    folder.mkdir(parents=True)
    prints(*slices).save(folder / FINGERPRINTS_FILE)
    (folder / "model.json").write_text("{}")
    return folder


def of_bundle(folder: Path, facts: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text(json.dumps({"facts": facts}))
    return folder


RECORD = {"patients": ["anon-0123456789abcdef0123", "figshare-7"], "slices": 9, "unknown": 2}


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({PATIENTS_KEY: RECORD}, {"anon-0123456789abcdef0123", "figshare-7"}),
        ({PATIENTS_KEY: {**RECORD, "patients": []}}, None),  # nobody known: no patient can be called new
        ({PATIENTS_KEY: {**RECORD, "patients": [7, "Hans Muster", "figshare-7"]}}, {"figshare-7"}),  # not ours
        ({PATIENTS_KEY: {"patients": 3}}, None),
        ({PATIENTS_KEY: "text"}, None),
        ({}, None),  # a bundle of before
        (None, None),
    ],
)
def test_a_bundle_without_fingerprints_names_its_patients(
    facts: object, found: set[str] | None, tmp_path: Path
) -> None:
    assert training_patients(of_bundle(tmp_path / "bundle", facts)) == found


def test_a_folder_that_is_no_bundle_has_no_record(tmp_path: Path) -> None:
    assert training_patients(tmp_path) is None


def test_patients_of_runs_are_those_of_all_of_them(tmp_path: Path) -> None:
    one = of_run(tmp_path / "one", (1, "anon-a"), (2, None))
    two = of_run(tmp_path / "two", (2, "anon-b"), (3, "anon-a"))
    bare = tmp_path / "bare"
    bare.mkdir()
    assert training_patients(None, [one, two]) == {"anon-a", "anon-b"}
    record = training_patient_record(None, [one, two])
    assert record is not None and (record.slices, record.unknown) == (3, 0), "one run knows whom slice 2 shows"
    assert training_patients(None, [one, bare]) is None
    assert training_patients(None, [of_run(tmp_path / "three", (1, None))]) is None


def test_records_of_before_get_their_patients_from_the_atlas(tmp_path: Path) -> None:
    with (resources.files("detectclf") / "assets" / "figshare_atlas.npz").open("rb") as file, np.load(file) as arrays:
        number, small = int(arrays["patient"][0]), Image.fromarray(arrays["thumbnail"][0])
    rows = np.concatenate([fingerprint(np.asarray(small.resize((384, 384), 0))), fingerprint(noise(1))])
    before = Fingerprints(rows, ("a", "b"), ("train",) * 2, ("data",) * 2)
    run = tmp_path / "run"
    run.mkdir()
    before.save(run / FINGERPRINTS_FILE)
    # A file of before has no patients at all.
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(run / FINGERPRINTS_FILE, framework="numpy") as opened:
        meta = {key: value for key, value in opened.metadata().items() if key != "patients"}
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
    save_file(tensors, run / FINGERPRINTS_FILE, metadata=meta)
    assert Fingerprints.load(run / FINGERPRINTS_FILE).patients == (None, None)
    assert training_patients(None, [run]) == {f"figshare-{number}"}
    known = model_provenance(None, [run])
    assert known is not None and known.patients == (f"figshare-{number}", None)


def test_fingerprints_keep_their_patients_on_disk(tmp_path: Path) -> None:
    made = prints((1, "anon-a"), (2, None))
    made.save(tmp_path / "prints")
    assert Fingerprints.load(tmp_path / "prints").patients == made.patients == ("anon-a", None)
    assert Fingerprints.merged([prints((1, None)), made]).patients == ("anon-a", None)


def test_slices_of_the_atlas_are_kept_as_numbers(tmp_path: Path) -> None:
    with (resources.files("detectclf") / "assets" / "figshare_atlas.npz").open("rb") as file, np.load(file) as arrays:
        thumbnail, number, source = arrays["thumbnail"][40], int(arrays["patient"][40]), int(arrays["source"][40])
    slice_ = np.asarray(Image.fromarray(thumbnail).resize((384, 384), 0))
    rows = np.concatenate([fingerprint(slice_), fingerprint(noise(0))])
    whole = Fingerprints(rows, ("a", "b"), ("train",) * 2, ("data",) * 2, (f"figshare-{number}", "anon-a"))
    index = SliceIndex()
    small = without_atlas_slices(whole, index)
    assert small.names == ("b",) and small.atlas_slices == (source,)
    small.save(tmp_path / "prints")
    read = Fingerprints.load(tmp_path / "prints")
    assert read.atlas_slices == small.atlas_slices and patients_of(read) == set(whole.patients)
    assert Fingerprints.merged([read, prints((1, None))]).atlas_slices == small.atlas_slices
    # A mirrored copy of the one, and the other itself, are known; a third slice is not.
    mirrored = fingerprint(np.ascontiguousarray(slice_[:, ::-1]))
    other = np.concatenate([mirrored, fingerprint(noise(0)), fingerprint(noise(1))])
    seen = Fingerprints(other, ("c", "d", "e"), ("test",) * 3, ("data",) * 3)
    assert index.copies_between(read, seen).tolist() == index.copies_between(whole, seen).tolist() == [0, 1]


def test_slices_of_the_same_pixels_keep_all_their_patients(tmp_path: Path) -> None:
    # One slice, stated to be of two patients: whoever has either name is in training.
    run = of_run(tmp_path / "run", (1, "anon-a"), (2, "anon-b"), (1, "anon-c"))
    merged = Fingerprints.merged([Fingerprints.load(run / FINGERPRINTS_FILE)])
    assert merged.patients == ("anon-a", "anon-b") and merged.aliases == (frozenset({"anon-a", "anon-c"}),)
    merged.save(run / FINGERPRINTS_FILE)
    record = training_patient_record(None, [run])
    assert record is not None and record.patients == {"anon-a", "anon-b", "anon-c"} and record.persons == 2
    # Those that cannot be read have one digest, and are no copies.
    unread = prints((1, "anon-a"), (2, "anon-b"))
    unread.rows[:] = np.zeros(1, dtype=unread.rows.dtype)
    assert Fingerprints.merged([unread]).aliases == ()


ATLAS_NAME, STATED = "figshare-1", "anon-x"
TRAINED_AND_TESTED = [
    # why, training slices, evaluated slices (a: of the atlas), seen
    ("trained on the atlas's slice, tested on another", [("a", STATED)], [("o", STATED)], True),
    ("the other way round", [("o", STATED)], [("a", STATED)], True),
    ("both are slices of the atlas", [("a", None)], [("b", None)], True),
    ("the evaluated data name him", [("a", None)], [("o", STATED), ("b", STATED)], True),
    ("the training data name him", [("a", STATED), ("o", STATED)], [("b", None)], True),
    ("no name in common", [("a", None)], [("o", STATED)], False),
    ("another patient", [("a", STATED)], [("o", "anon-y")], False),
]


@pytest.mark.parametrize(
    ("why", "trained", "tested", "seen"), TRAINED_AND_TESTED, ids=[row[0] for row in TRAINED_AND_TESTED]
)
def test_a_patient_is_seen_by_any_of_his_names(
    why: str,
    trained: list[tuple[str, str | None]],
    tested: list[tuple[str, str | None]],
    seen: bool,
    tmp_path: Path,
) -> None:
    with (resources.files("detectclf") / "assets" / "figshare_atlas.npz").open("rb") as file, np.load(file) as arrays:
        rows = np.flatnonzero(arrays["patient"] == 1)
        small = {"a": arrays["thumbnail"][rows[0]], "b": arrays["thumbnail"][rows[2]]}

    def slices(split: str, rows: list[tuple[str, str | None]]) -> list[Sample]:
        made = []
        for name, patient in rows:
            file = tmp_path / f"{split}-{name}.png"
            picture = (
                noise(len(split)) if name == "o" else np.asarray(Image.fromarray(small[name]).resize((384, 384), 0))
            )
            Image.fromarray(picture).save(file)
            made.append(Sample(file, file.name, split, None, patient=patient))
        return made

    index = SliceIndex()
    run = tmp_path / "run"
    run.mkdir()
    prints = fingerprints_of(slices("train", trained), index)
    for small_record in (False, True):
        kept = without_atlas_slices(prints, index) if small_record else prints
        kept.save(run / FINGERPRINTS_FILE)
        data = Dataset(tuple(slices("test", tested)), ("c",))
        known = with_known_patients(data, data, index)
        record = training_patient_record(None, [run])
        assert record is not None and record.persons == 1
        found = find_provenance(index.look_up(known.samples), index, kept, record.patients)
        assert found.is_trained_on is not None and found.is_trained_on.tolist() == [seen] * len(tested), why
        assert bool(kept.atlas_slices) == any("in the atlas of figshare" in note for note in found.notes)


def test_names_under_another_key_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = []
    for seed, patient in ((2, "anon-a"), (3, None), (4, "figshare-3")):
        Image.fromarray(noise(seed)).save(tmp_path / f"{seed}.png")
        samples.append(Sample(tmp_path / f"{seed}.png", f"{seed}.png", "train", None, patient=patient))
    index = SliceIndex()
    assert fingerprints_of(samples[1:], index).keys == frozenset(), "no name depends on the key"
    run = of_run(tmp_path / "run", (9, None))
    fingerprints_of(samples, index).save(run / FINGERPRINTS_FILE)
    facts = patients_metadata([run])
    bundle = of_bundle(tmp_path / "bundle", facts)
    records = [training_patient_record(None, [run]), training_patient_record(bundle)]
    assert records[0] is not None and [r.has_other_key for r in records if r is not None] == [False, False]
    assert len(facts[PATIENTS_KEY]["keys"]) == 1
    monkeypatch.setenv(KEY_VARIABLE, "another key, long enough")
    facts[PATIENTS_KEY]["patients"] = ["anon-0123456789abcdef0123", "figshare-3"]
    other = training_patient_record(of_bundle(tmp_path / "other", facts))
    record = training_patient_record(None, [run])
    assert other is not None and other.has_other_key and record is not None and record.has_other_key
    Image.fromarray(noise(5)).save(tmp_path / "5.png")
    valid = [replace(samples[0], path=tmp_path / "5.png", patient="anon-b")]
    with pytest.raises(ModelError, match="hashed under another key"):
        inherited_provenance(run, valid, DataConfig(folds=2, held_out=(0,)), SliceIndex())


def groups_of(slices: Fingerprints, runs: Sequence[Path]) -> tuple[list[int], dict[str, frozenset[int]]]:
    of_folds = [FoldRun(path, "classifier", 2, (k,), 0) for k, path in enumerate(runs)]
    known = groups_and_provenance(slices, of_folds, SliceIndex())
    return known.groups, {path.name: found for path, found in known.trained_on.items()}


def test_a_run_that_saw_another_slice_of_the_patient_has_seen_the_patient(tmp_path: Path) -> None:
    one = of_run(tmp_path / "one", (1, "anon-a"), (2, None))
    two = of_run(tmp_path / "two", (3, "anon-b"))
    slices = prints((4, "anon-a"), (5, "anon-b"), (6, None), (2, None), (7, "anon-c"), (8, "anon-c"))
    groups, trained_on = groups_of(slices, [one, two])
    seen = {name: [group in found for group in groups] for name, found in trained_on.items()}
    assert seen == {
        "one": [True, False, False, True, False, False],
        "two": [False, True, False, False, False, False],
    }
    assert groups[4] == groups[5] and len(set(groups)) == 5


def test_one_slice_under_two_names_links_them(tmp_path: Path) -> None:
    # Slice 1 had another patient's name when the run was trained: whoever has either name is the same person.
    run = of_run(tmp_path / "run", (1, "anon-old"), (9, None))
    groups, _ = groups_of(prints((1, "anon-new"), (2, "anon-new"), (3, "anon-old"), (4, None)), [run])
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_names_that_mean_one_person_link_slices(tmp_path: Path) -> None:
    # The run knows that two names are one person's, though it saw him under one of them only.
    run = of_run(tmp_path / "run", (9, "figshare-1"))
    known = Fingerprints.load(run / FINGERPRINTS_FILE)
    replace(known, aliases=(frozenset({"anon-a", "figshare-1"}),)).save(run / FINGERPRINTS_FILE)
    groups, trained_on = groups_of(prints((1, "anon-a"), (2, "anon-a"), (3, "anon-b")), [run])
    assert groups[0] == groups[1] != groups[2]
    assert [group in trained_on["run"] for group in groups] == [True, True, False]


def test_slices_that_cannot_be_read_link_nobody(tmp_path: Path) -> None:
    run = of_run(tmp_path / "run", (9, None))
    slices = prints((1, "anon-a"), (2, "anon-a"), (3, "anon-b"), (4, "anon-b"))
    slices.rows[[1, 3]] = np.zeros(1, dtype=slices.rows.dtype)
    groups, _ = groups_of(slices, [run])
    assert groups[0] != groups[2]


def test_weights_that_saw_a_held_out_patient_are_refused(tmp_path: Path) -> None:
    start = of_run(tmp_path / "start", (1, "anon-a"))
    valid = []
    for seed, patient in ((2, "anon-a"), (3, "anon-b")):
        Image.fromarray(noise(seed)).save(tmp_path / f"{seed}.png")
        valid.append(Sample(tmp_path / f"{seed}.png", f"{seed}.png", "valid", None, patient=patient))
    data = DataConfig(folds=2, held_out=(0,))
    with pytest.raises(ModelError, match="was trained on slices of 1 patients of the validation slices"):
        inherited_provenance(start, valid, data, SliceIndex())
    assert inherited_provenance(start, valid[1:], data, SliceIndex()) is not None


def test_a_patient_has_one_name_in_all_of_the_data(tmp_path: Path) -> None:
    samples = []
    for seed, patient in ((2, "anon-a"), (3, None)):
        Image.fromarray(noise(seed)).save(tmp_path / f"{seed}.png")
        samples.append(Sample(tmp_path / f"{seed}.png", f"{seed}.png", "train", None, patient=patient))
    found = fingerprints_of(samples[1:], SliceIndex(), samples[:1])
    assert found.names == ("3.png",) and found.patients == (None,)
