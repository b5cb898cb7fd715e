"""The records of predictions in each format, read back by other programs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from detectclf.errors import ConfigError, DataError
from detectclf.inference.records import FORMATS, write_records
from detectclf.prediction import Origin, Prediction

PROBABILITIES = {"glioma": 0.7, "meningioma": 0.2, "no_tumor": 0.04, "pituitary": 0.06}


def prediction(image: str, boxes: int = 2) -> Prediction:
    corners = np.array([[10 * i, 5, 10 * i + 7.5, 25.25] for i in range(boxes)], np.float32).reshape(-1, 4)
    return Prediction(
        image,
        label="glioma",
        probabilities=PROBABILITIES,
        boxes_xyxy=corners,
        box_labels=("glioma", "pituitary")[:boxes],
        scores=np.array([0.9, 0.25], np.float32)[:boxes],
        flags=("low_confidence", "class_box_conflict"),
        width=64,
        height=48,
        model="tiny 1",
    )


PREDICTIONS = [prediction("a.jpg"), Prediction("bad.jpg", error="bad.jpg: truncated"), prediction('b, "c".jpg', 0)]
RECORDS = [p.to_record() for p in PREDICTIONS]


def test_json_and_jsonl_hold_the_records(tmp_path: Path) -> None:
    lines = write_records(RECORDS, tmp_path / "new" / "out", "jsonl").read_text().splitlines()
    listed = json.loads(write_records(RECORDS, tmp_path, "json").read_text())
    assert [json.loads(line) for line in lines] == listed == RECORDS
    assert list(listed[0]) == [
        "image", "class", "confidence", "probabilities", "boxes", "flags", "width", "height", "model", "error"
    ]  # fmt: skip
    assert listed[1] == dict.fromkeys(listed[0]) | {"image": "bad.jpg", "error": "bad.jpg: truncated"}


def test_csv_has_one_row_per_picture_and_a_file_of_boxes(tmp_path: Path) -> None:
    file = write_records(RECORDS, tmp_path, "csv")
    rows, boxes = (rows_of(each) for each in (file, tmp_path / "boxes.csv"))
    assert [(row["image"], row["boxes"]) for row in rows] == [("a.jpg", "2"), ("bad.jpg", ""), ('b, "c".jpg', "0")]
    assert rows[0]["flags"] == "low_confidence;class_box_conflict" and float(rows[0]["p_meningioma"]) == 0.2
    assert {key for key, value in rows[1].items() if value} == {"image", "error"}
    assert [(box["image"], box["class"]) for box in boxes] == [("a.jpg", "glioma"), ("a.jpg", "pituitary")]
    assert [boxes[1][key] for key in ("x1", "y1", "x2", "y2")] == ["10.0", "5.0", "17.5", "25.25"]


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))


def test_tables_and_labels_have_the_boxes_that_are_asked_for_and_json_has_all(tmp_path: Path) -> None:
    for format in FORMATS:
        write_records(RECORDS, tmp_path / format, format, min_score=0.5)
    assert [box["score"] for box in rows_of(tmp_path / "csv" / "boxes.csv")] == ["0.9"]
    assert len(json.loads((tmp_path / "coco" / "predictions.coco.json").read_text())["annotations"]) == 1
    assert (tmp_path / "yolo" / "labels" / "a.txt").read_text() == "0 0.058594 0.315104 0.117188 0.421875\n"
    for format in ("json", "jsonl", "yolo"):
        assert "pituitary" in (tmp_path / format / FORMATS[format].file).read_text().partition('"boxes"')[2]


def test_yolo_labels_are_of_what_was_answered(tmp_path: Path) -> None:
    """An empty file says that nothing is in the picture: of those refused or not read there is none."""
    refused = Prediction("x.jpg", flags=("not_a_brain_mri",), width=8, height=6, model="tiny 1")
    slices = [replace(prediction("v/a.nii", 0), origin=Origin(frame=frame)) for frame in (3, 12)]
    same = [prediction("w1/s.jpg"), prediction("w2/s.jpg")]
    records = [each.to_record() for each in (*PREDICTIONS, refused, *slices, *same)]
    write_records(records, tmp_path, "yolo")
    names = sorted(file.name for file in (tmp_path / "labels").iterdir())
    assert names == [
        "a.jpg.txt", "a.nii-000003.txt", "a.nii-000012.txt", "b, _c_.txt", "w1__s.jpg.txt", "w2__s.jpg.txt"
    ]  # fmt: skip
    assert (tmp_path / "labels" / "b, _c_.txt").read_text() == ""
    classes = yaml.safe_load((tmp_path / "data.yaml").read_text())["names"]
    assert classes == dict(enumerate(PROBABILITIES))
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == len(records), "scores, flags and errors"


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", "-2+3", "\t=1", " =1", "\r=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_holds_no_formulas(tmp_path: Path, text: str) -> None:
    """A name, a class and an error are texts of strangers; numbers stay numbers, below 0 too."""
    boxed = replace(PREDICTIONS[0], image=text, label=text, probabilities={text: 0.7}, box_labels=(text, "-0.5"))
    records = [boxed.to_record(), Prediction(text, error=text).to_record()]
    file = write_records(records, tmp_path, "csv")
    rows = []
    for each in (file, file.with_name("boxes.csv")):
        with each.open(encoding="utf-8", newline="") as stream:
            rows += csv.reader(stream)
    cells = [cell for row in rows for cell in row]
    assert f"'{text}" in rows[1] and cells.count(f"'{text}") >= 4 and f"p_{text}" in rows[0]
    assert not [cell for cell in cells if cell.strip().startswith(("=", "+", "@"))]
    assert [cell for cell in cells if cell.startswith("-")] == ["-0.5"]


def test_a_refused_picture_is_no_result(tmp_path: Path) -> None:
    """It has neither class nor box; read as no tumour, it would pass for healthy."""
    record = Prediction("x.jpg", flags=("not_a_brain_mri",), width=8, height=6, model="tiny 1").to_record()
    assert record == {
        "image": "x.jpg", "class": None, "confidence": None, "probabilities": None, "boxes": [],
        "flags": ["not_a_brain_mri"], "width": 8, "height": 6, "model": "tiny 1", "error": None,
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(write_records([*RECORDS, record], tmp_path, "csv").read_text())))
    assert {key: value for key, value in rows[-1].items() if value} == {
        "image": "x.jpg", "flags": "not_a_brain_mri", "width": "8", "height": "6", "model": "tiny 1"
    }  # fmt: skip
    coco = json.loads(write_records([record, *RECORDS], tmp_path, "coco").read_text())
    assert coco["refused"] == [{"file_name": "x.jpg", "flags": ["not_a_brain_mri"]}]
    assert "x.jpg" not in [image["file_name"] for image in coco["images"]] and len(coco["errors"]) == 1


def test_which_slices_of_a_volume_are_no_result_is_said(tmp_path: Path) -> None:
    slices = [Prediction("a.nii", flags=("not_a_brain_mri",), origin=Origin(frame=n, axis="axial")) for n in (3, 4)]
    unread = Prediction("series", error="damaged", origin=Origin(study="series", number=5))
    coco = json.loads(write_records([p.to_record() for p in (*slices, unread)], tmp_path, "coco").read_text())
    assert [(each["frame"], each["axis"]) for each in coco["refused"]] == [(3, "axial"), (4, "axial")]
    assert coco["errors"] == [{"file_name": "series", "error": "damaged", "frame": 5, "study": "series"}]


@pytest.mark.parametrize("format", FORMATS)
def test_which_picture_of_a_file_it_was_is_written(tmp_path: Path, format: str) -> None:
    slices = [replace(prediction("a.nii", boxes), origin=Origin(frame=7, axis="coronal")) for boxes in (0, 1)]
    text = write_records([p.to_record() for p in (*slices, prediction("b.jpg"))], tmp_path, format).read_text()
    if format == "csv":
        assert [(row["frame"], row["axis"]) for row in csv.DictReader(io.StringIO(text))] == [
            *[("7", "coronal")] * 2, ("", "")
        ]  # fmt: skip
        boxes = rows_of(tmp_path / "boxes.csv")
        assert [(box["image"], box["frame"]) for box in boxes] == [("a.nii", "7"), *[("b.jpg", "")] * 2]
        return
    records = {"json": json.loads, "coco": lambda text: json.loads(text)["images"]}.get(
        format, lambda text: [json.loads(line) for line in text.splitlines()]
    )(text)
    assert [(r.get("frame"), r.get("axis")) for r in records] == [(7, "coronal")] * 2 + [(None, None)]


def test_coco_is_read_by_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    file = write_records(RECORDS, tmp_path, "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["a.jpg", 'b, "c".jpg']
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert first["bbox"] == [0, 5, 7.5, 20.25] and first["score"] == pytest.approx(0.9)
    assert coco.loadCats([second["category_id"]])[0]["name"] == "pituitary"
    assert min(coco.getCatIds()) == 1
    assert json.loads(file.read_text())["errors"] == [{"file_name": "bad.jpg", "error": "bad.jpg: truncated"}]


@pytest.mark.parametrize("format", FORMATS)
def test_odd_names_and_nothing_at_all(tmp_path: Path, format: str) -> None:
    names = ["new\nline.jpg", "emoji 🧠.jpg", os.fsdecode(b"caf\xe9.jpg"), "=cmd()", "-x.jpg", "\u2028"]
    file = write_records([prediction(name).to_record() for name in names], tmp_path, format)
    text = file.read_bytes().decode("utf-8")
    assert len(text) > 100
    assert write_records([], tmp_path, format).exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = write_records(RECORDS[:1], tmp_path, "jsonl")
    before = file.read_bytes()
    broken = prediction("x.jpg").to_record() | {"confidence": float("nan")}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_records([broken], tmp_path, "jsonl")
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [file.name]
    blocked = tmp_path / "a-file"
    blocked.write_text("x")
    with pytest.raises(DataError):
        write_records(RECORDS, blocked / "out", "json")
    with pytest.raises(ConfigError, match="xml"):
        write_records(RECORDS, tmp_path, "xml")


def test_a_record_is_one_line_and_no_records_are_a_header(tmp_path: Path) -> None:
    record = prediction("new\nline.jpg").to_record()
    assert write_records([record], tmp_path, "jsonl").read_text().count("\n") == 1
    assert write_records([], tmp_path, "csv").read_text().startswith("image,class,confidence,boxes")
