"""The audit of patients: who is in two splits, from what patients are known, and no name of anybody."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from export_examples import box, coco, image
from PIL import Image

from detectclf.audit.check import Audit, check
from detectclf.audit.fix import fix
from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients import independent_groups, with_patients
from detectclf.errors import DataError
from detectclf.pipelines.check import audit_text

ID = "Geheim"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Slices 0 to 3 in train, 10 to 13 in valid; patient A in both, B in train only, C on one slice."""
    patients = {0: f"{ID}A", 1: f"{ID}A", 2: f"{ID}B", 3: f"{ID}B", 10: f"{ID}A", 11: f"{ID}C", 12: None}
    for split, numbers in (("train", range(4)), ("valid", range(10, 14))):
        images = [{**image(n, f"s{n}.png"), "patient": patients.get(n)} for n in numbers]
        coco(tmp_path / "in", images, [box(n, n, [4, 4, 20, 20]) for n in numbers], split=split)
    return tmp_path / "in"


def test_a_patient_in_two_splits_is_a_warning_with_its_files(export: Path) -> None:
    audit = check([export])
    found = [p for p in audit.problems if p.code == "patient_in_two_splits"]
    assert [(p.severity, p.file, p.detail.partition(";")[0]) for p in found] == [
        ("warning", "valid/s10.png", "its patient has slices in train (2), valid (1)")
    ]
    record = audit.to_record()
    assert record["groups"] == [
        {"files": ["train/s0.png", "train/s1.png", "valid/s10.png"], "splits": ["train", "valid"], "kind": "patient"},
        {"files": ["train/s2.png", "train/s3.png"], "splits": ["train"], "kind": "patient"},
    ]
    assert (record["leaks"], record["patient_leaks"]) == (0, 1), "leaks are still those of copies"
    assert record["patients"] == {"slices": 6, "unknown": 2, "patients": 3, "from": {"export": 6}}
    text = audit_text(audit)
    assert "3 patients on 6 of 8 slices (6 by the export), 1 patients in more than one split" in text
    assert "leaks make figures look too good" in text and "no problems" not in text
    assert ID not in text and ID not in json.dumps(record)


def test_a_table_goes_before_the_export(export: Path, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\ns10.png,other\ns13.png,other\nmissing.png,x\n")
    audit = check([export], patients=table, patient_pattern=r"^s(12)\.")
    assert audit.patient_leaks == 0
    assert audit.known_patients.to_record() == {
        "slices": 8,
        "unknown": 0,
        "patients": 5,
        "from": {"file": 2, "export": 5, "name": 1},
    }
    (problem,) = [p for p in audit.problems if p.code == "patients_file"]
    assert problem.severity == "warning" and problem.file == str(table)
    assert problem.detail == "2 of the 3 files that it names are in the data; the first other: missing.png"


def test_a_table_that_cannot_be_used_stops_the_audit(export: Path, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\ns10.png,A\nvalid/s10.png,B\n")
    with pytest.raises(DataError, match=r"patients.csv:3: valid/s10.png has another patient than in line 2"):
        check([export], patients=table)


def test_a_pattern_that_fits_nothing_is_said(export: Path) -> None:
    problems = [p for p in check([export], patient_pattern=r"^(P\d+)_").problems if p.code == "patient_pattern"]
    assert [(p.severity, p.detail) for p in problems] == [
        ("warning", r"data.patient_pattern '^(P\\d+)_' finds no patient in the names of the slices")
    ]


def test_the_fixed_copy_keeps_the_patients_of_export_and_table(export: Path, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\ns12.png,D\n")
    done = fix([export], tmp_path / "out", patients=table)

    def groups(audit: Audit) -> object:
        return audit.known_patients.patients, audit.patient_leaks, [g.files for g in audit.patients]

    assert done.remaining == ()
    assert groups(check([tmp_path / "out"])) == groups(check([export], patients=table))


def test_a_table_of_several_folders_is_looked_at_once(
    export: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = coco(tmp_path / "more", [image(20, "s20.png")], [box(1, 20, [4, 4, 20, 20])])
    table = tmp_path / "patients.csv"
    cut = (export / "train/s0.png").read_bytes()[:-200]
    (export / "train/s0.png").write_bytes(cut)  # of a slice that is left out its row is no false one
    table.write_text("file,patient\ns20.png,A\ns0.png,B\ns12.png,B\n")
    fix([export, more], tmp_path / "out", patients=table)
    assert "that it names" not in caplog.text
    table.write_text("file,patient\ns20.png,A\nnone.png,B\n")
    fix([export, more], tmp_path / "again", patients=table)
    assert caplog.text.count("1 of the 2 files that it names are in the data; the first other: none.png") == 1


def test_patients_of_two_folders_are_the_same_persons(export: Path, tmp_path: Path) -> None:
    coco(tmp_path / "more", [{**image(20, "s20.png"), "patient": f"{ID}C"}], [box(1, 20, [4, 4, 20, 20])], split="test")
    audit = check([export, tmp_path / "more"])
    assert audit.patient_leaks == 2
    files = {p.file for p in audit.problems if p.code == "patient_in_two_splits"}
    assert files == {(export / "valid/s10.png").as_posix(), (tmp_path / "more/test/s20.png").as_posix()}


def test_one_name_for_several_patients_of_the_atlas_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (resources.files("detectclf") / "assets" / "figshare_atlas.npz").open("rb") as file, np.load(file) as arrays:
        rows = [int(np.flatnonzero(arrays["patient"] == patient)[0]) for patient in (1, 27)]
        small = [Image.fromarray(arrays["thumbnail"][row]) for row in rows]
    for n, (split, picture) in enumerate(zip(("train", "valid"), small, strict=True), start=1):
        record = {**image(n, f"s{n}.png", 384, 384), "patient": ID}
        (tmp_path / split).mkdir()
        picture.resize((384, 384), Image.Resampling.NEAREST).save(tmp_path / split / record["file_name"])
        coco(tmp_path, [record], [box(n, n, [4, 4, 20, 20])], split=split, make=False)
    audit = check([tmp_path])
    found = [p.detail for p in audit.problems if p.code == "patient_contradicts_atlas"]
    assert len(found) == 1 and found[0].startswith("1 of the patients given have slices of several patients")
    assert audit.known_patients.patients == 2
    # Who is right is not known, so they are kept together, and lying in two splits is a leak.
    assert audit.patient_leaks == 1 and [g.files for g in audit.patients] == [("train/s1.png", "valid/s2.png")]
    opened = with_patients(open_dataset(DataConfig(sources=(tmp_path,))), SliceIndex())
    assert [s.patient for s in opened.samples] == ["figshare-1", "figshare-27"]
    assert independent_groups(opened.samples, ()) == [[0, 1]]
    assert "1 of the patients given have slices of several patients" in caplog.text and ID not in caplog.text


def test_the_published_data(shared: Path) -> None:
    audit = check([shared / "data" / name for name in ("boxed", "unboxed")])
    assert audit.known_patients.to_record() == {
        "slices": 1647,
        "unknown": 550,
        "patients": 195,
        "from": {"atlas": 1647},
    }
    assert audit.patient_leaks == 152, "152 of the 155 patients of valid are in train too"
