"""Patients in exports: COCO keeps them as pseudonyms, and no id of a clinic is written anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from export_examples import box, coco, draw, image

from detectclf.audit.fix import fix
from detectclf.formats import FORMATS, read
from detectclf.formats.convert import convert
from detectclf.formats.faults import Faults
from detectclf.pseudonyms import is_pseudonym, pseudonym

ID = "Geheim-4711"


def export(folder: Path, patients: list[object]) -> Path:
    """One slice per patient."""
    images = [{**image(n), "patient": patient} for n, patient in enumerate(patients, start=1)]
    coco(folder, images, [box(n, n, [4, 4, 20, 20]) for n in range(1, len(patients) + 1)])
    return folder


def patients_in(folder: Path) -> list[str | None]:
    return [s.patient for s in read(folder, Faults(folder)).samples]


@pytest.mark.parametrize(
    ("stated", "identity", "faults"),
    [
        (ID, ID, 0),
        (12, "12", 0),  # a number is an id as text
        (None, None, 0),
        ("  ", None, 0),
        ("unknown", None, 0),
        ("figshare-12", "figshare-12", 0),  # public
        ("anon-0123456789abcdef0123", "anon-0123456789abcdef0123", 0),  # what we wrote ourselves
        (True, None, 1),
        (1.5, None, 1),
        ([ID], None, 1),
        ({"id": ID}, None, 1),
    ],
)
def test_the_patient_of_an_image_becomes_a_pseudonym(
    stated: object, identity: str | None, faults: int, tmp_path: Path
) -> None:
    found = Faults(export(tmp_path, [stated]))
    (sample,) = read(tmp_path, found).samples
    assert sample.patient == (None if identity is None else pseudonym(identity))
    assert [p.code for p in found.problems] == ["bad_patient"] * faults
    assert all(p.severity == "warning" and ID not in p.detail for p in found.problems)


def test_patients_come_through_copies_of_the_export_and_stay_the_same(tmp_path: Path) -> None:
    source = export(tmp_path / "in", [ID, None, 7])
    before = patients_in(source)
    convert(source, tmp_path / "once", "coco")
    convert(tmp_path / "once", tmp_path / "twice", "coco")
    fix([source], tmp_path / "fixed")
    for folder in ("once", "twice", "fixed"):
        assert patients_in(tmp_path / folder) == before
        images = json.loads((tmp_path / folder / "train/_annotations.coco.json").read_text())["images"]
        assert [is_pseudonym(i["patient"]) if "patient" in i else None for i in images] == [True, None, True]


@pytest.mark.parametrize("name", FORMATS)
def test_no_id_is_written(name: str, tmp_path: Path) -> None:
    convert(export(tmp_path / "in", [ID]), tmp_path / "out", name, drop_boxes=True)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file() and ID.encode() in p.read_bytes()]


def test_records_that_are_left_out_are_logged_without_the_id(tmp_path: Path) -> None:
    nameless = {"id": 2, "patient": ID, "width": 64, "height": 48}
    again = {**image(1), "patient": ID}
    draw(tmp_path / "in/train/slice1.png")
    images = [{**image(1), "patient": ID}, again, nameless]
    coco(tmp_path / "in", images, [box(1, 1, [4, 4, 20, 20])], make=False)
    file = tmp_path / "in/train/_annotations.coco.json"
    found = Faults(tmp_path / "in")
    read(tmp_path / "in", found)
    assert {p.code for p in found.errors} == {"bad_record", "duplicate_image_id"}
    assert ID in file.read_text() and not any(ID in str(p) for p in found.problems)
    done = fix([tmp_path / "in"], tmp_path / "out")
    assert ID not in done.log.read_text() and "drop_record" in done.log.read_text()
