"""The records of predictions in four formats, read back by other programs."""

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


def test_csv_has_one_row_per_box(tmp_path: Path) -> None:
    file = write_records(RECORDS, tmp_path, "csv")
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["image"], row["box_class"]) for row in rows] == [
        ("a.jpg", "glioma"), ("a.jpg", "pituitary"), ("bad.jpg", ""), ('b, "c".jpg', "")
    ]  # fmt: skip
    assert [rows[1][key] for key in ("x1", "y1", "x2", "y2")] == ["10.0", "5.0", "17.5", "25.25"]
    assert rows[0]["flags"] == "low_confidence;class_box_conflict" and float(rows[0]["p_meningioma"]) == 0.2
    assert {key for key, value in rows[2].items() if value} == {"image", "error"}


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", "-2+3", "\t=1", " =1", "\r=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_holds_no_formulas(tmp_path: Path, text: str) -> None:
    """A name, a class and an error are texts of strangers; numbers stay numbers, below 0 too."""
    boxed = replace(PREDICTIONS[0], image=text, label=text, probabilities={text: 0.7}, box_labels=(text, "-0.5"))
    records = [boxed.to_record(), Prediction(text, error=text).to_record()]
    with write_records(records, tmp_path, "csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    cells = [cell for row in rows for cell in row]
    assert f"'{text}" in rows[1] and cells.count(f"'{text}") >= 5 and f"p_{text}" in rows[0]
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


@pytest.mark.parametrize("format", FORMATS)
def test_which_picture_of_a_file_it_was_is_written(tmp_path: Path, format: str) -> None:
    slices = [replace(prediction("a.nii", boxes), origin=Origin(frame=7, axis="coronal")) for boxes in (0, 1)]
    text = write_records([p.to_record() for p in (*slices, prediction("b.jpg"))], tmp_path, format).read_text()
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [(row["frame"], row["axis"]) for row in rows] == [("7", "coronal")] * 2 + [("", "")] * 2
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
    assert write_records([], tmp_path, "csv").read_text().startswith("image,class,confidence,box_class")
