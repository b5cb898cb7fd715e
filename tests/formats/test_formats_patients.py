"""Patients in exports: COCO keeps them as pseudonyms, and no id of a clinic is written anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export_examples import box, coco, draw, image

from detectclf.audit.fix import fix
from detectclf.datasets.patients import stated_patients
from detectclf.formats import FORMATS, read, write
from detectclf.formats.convert import convert
from detectclf.formats.faults import Faults
from detectclf.formats.files import encoded_image
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


@pytest.mark.parametrize("name", FORMATS)
def test_patients_come_through_every_format(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where names had to change: of one name in two classes, and of one stem with two suffixes."""
    source = tmp_path / "in"
    for split, classes in (("train", ("Glioma", "Pituitary")), ("test", ("Glioma",))):
        for label in classes:
            for n, file in enumerate(("a.png", "a.jpg", "b.png")):
                draw(source / split / label / file, seed=100 * len(split) + 10 * len(label) + n)
    dataset = read(source, Faults(source))
    holds = FORMATS[name].holds_boxes
    samples = tuple(
        replace(s, patient=pseudonym(f"{ID}{n % 4}") if n % 4 else None, boxed=holds)
        for n, s in enumerate(dataset.samples)
    )
    boxes = np.array([[4, 4, 20, 20]], dtype=np.float32)
    if holds:
        samples = tuple(replace(s, boxes_xyxy=boxes, box_labels=(s.label or "",)) for s in samples)
    out = tmp_path / "out"
    write(replace(dataset, samples=samples), out, name)
    again = read(out, Faults(out))
    table = out / "patients.csv"
    assert table.exists() == (not FORMATS[name].holds_patients) == ("cannot hold patients" in caplog.text)
    stated = stated_patients(again.samples, table if table.exists() else None)
    assert stated.note() is None
    pixels = {s.path.read_bytes(): s.patient for s in samples}
    assert len(pixels) == len(samples)
    assert [s.patient for s in stated.samples] == [pixels[encoded_image(s)] for s in stated.samples]
    assert ID not in caplog.text and (not table.exists() or ID not in table.read_text())


@pytest.mark.parametrize("name", FORMATS)
def test_without_patients_there_is_no_table(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    convert(export(tmp_path / "in", [None]), tmp_path / "out", name, drop_boxes=True)
    assert not (tmp_path / "out" / "patients.csv").exists() and "patients" not in caplog.text


@pytest.mark.parametrize(
    ("images", "annotations", "more"),
    [
        ([], [{**box(2, 99, [1, 1, 5, 5]), "patient": ID}], {}),  # in a record of a box that is left out
        ([], [{**box(2, 99, [1, 1, 5, 5]), "info": {"Patient_Name": ID}}], {}),  # deeper, under another name
        ([], [[{"patient": ID}]], {}),  # no object
        ([ID], [], {}),  # an id in the place of an image
        ([[{"patient": ID}]], [], {}),
        ([{"patient": {"name": ID}, "id": 3}], [], {}),  # an image without a name
        ([], [{**box(2, {"patient": ID}, [1, 1, 5, 5])}], {}),  # in a number that messages quote
        ([], [], {"categories": [{"id": 1, "name": "Glioma"}, {"patient": ID}]}),  # in a record that messages quote
        ([], [], {"info": {"patients": [ID]}}),
        ([], [{"ESCAPED": ID, "id": 2}], {}),  # a key that is written with an escape
    ],
)
def test_no_record_that_is_left_out_is_logged_with_an_id(
    images: list[object], annotations: list[object], more: dict[str, object], tmp_path: Path
) -> None:
    source = coco(tmp_path / "in", [image(1)], [box(1, 1, [4, 4, 20, 20])])
    file = source / "train/_annotations.coco.json"
    content = json.loads(file.read_text())
    content["images"] += images
    content["annotations"] += annotations
    file.write_text(json.dumps({**content, **more}).replace("ESCAPED", r"p\u0061tient"))
    done = fix([source], tmp_path / "out")
    faults = Faults(source)
    read(source, faults)
    texts = [done.log.read_text(), str(faults.problems), str(faults.changes)]
    texts += [p.read_text() for p in (tmp_path / "out").rglob("*.json")]
    assert ID in file.read_text() and not [text for text in texts if ID in text]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("_classes.csv", f"filename, Glioma, Patient\na.png, 1\na.png, 1, 0, {ID}\n"),  # a row with a cell too many
        (
            "a.xml",
            f"<annotation><filename>a.png</filename><object><patient>{ID}</patient></object></annotation>",
        ),
        ("_annotations.createml.json", json.dumps([{"image": "a.png", "annotations": [{"patientId": ID}]}])),
    ],
)
def test_other_formats_log_no_id_either(name: str, text: str, tmp_path: Path) -> None:
    draw(tmp_path / "train/a.png")
    (tmp_path / "train" / name).write_text(text)
    faults = Faults(tmp_path)
    read(tmp_path, faults)
    assert faults.changes and ID not in str(faults.changes) + str(faults.problems)


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
