"""The mended copy is sound, its log says what was changed, and the source stays byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from export_examples import box, coco, draw, image
from PIL import Image
from volume_examples import write_dicom

from detectclf.audit.check import check
from detectclf.audit.fix import LOG_NAME, fix
from detectclf.errors import DataError
from detectclf.formats import read
from detectclf.formats.convert import convert
from detectclf.formats.faults import Faults


def _bytes(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Six slices: a box outside, one inverted, a repeat, a zero-byte file, a sound one, one with no usable box."""
    annotations = [
        box(1, 1, [50, 10, 40, 20]),
        box(2, 2, [30, 30, -20, 10]),
        box(3, 2, [40, 4, 10, 10]),
        box(4, 2, [40, 4, 10, 10]),
        box(5, 3, [4, 4, 10, 10]),
        box(6, 4, [4, 4, 10, 10], 3),
        box(7, 5, [float("nan"), 4, 10, 10]),
        box(7, 99, [4, 4, 10, 10]),
    ]
    coco(tmp_path / "in", [image(i) for i in range(1, 7)], annotations)
    (tmp_path / "in/train/slice3.png").write_bytes(b"")
    return tmp_path / "in"


def test_mended_copy(faulty: Path, tmp_path: Path) -> None:
    before = _bytes(faulty)
    done = fix([faulty], tmp_path / "out")
    assert _bytes(faulty) == before
    assert done.remaining == ()
    assert check([tmp_path / "out"], copies=False).errors == ()
    found = {s.name: s for s in read(tmp_path / "out", Faults(tmp_path / "out")).samples}
    assert set(found) == {"slice1.png", "slice2.png", "slice4.png", "slice6.png"}
    assert found["slice1.png"].boxes_xyxy.tolist() == [[50, 10, 64, 30]]
    assert found["slice2.png"].boxes_xyxy.tolist() == [[10, 30, 30, 40], [40, 4, 50, 14]]
    assert found["slice4.png"].path.read_bytes() == (faulty / "train/slice4.png").read_bytes()


def test_log_says_enough_to_undo(faulty: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in fix([faulty], tmp_path / "out").log.read_text().splitlines()]
    assert lines[0]["action"] == "copy"
    assert (lines[0]["source"], lines[0]["format"]) == (str(faulty), "coco")
    changes = {(c["action"], c["code"], c["name"]): c for c in lines[1:]}
    outside = changes["change_box", "box_outside_image", "slice1.png"]
    assert outside["before"] == {"xyxy": [50.0, 10.0, 90.0, 30.0], "class": "Glioma"}
    assert outside["after"] == {"xyxy": [50.0, 10.0, 64.0, 30.0], "class": "Glioma"}
    assert changes["drop_box", "box_not_finite", "slice5.png"]["before"]["xyxy"] == ["nan", 4.0, "nan", 14.0]
    assert changes["leave_out", "zero_byte", "slice3.png"]["before"]["boxes"][0]["class"] == "Glioma"
    assert ("drop_box", "box_duplicate", "slice2.png") in changes
    assert ("leave_out", "nothing_known", "slice5.png") in changes


def test_records_that_are_not_copied_are_in_the_log_as_they_stood(tmp_path: Path) -> None:
    orphan, nothing = box(2, 99, [1, 1, float("nan"), 5]), box(3, 1, None)
    coco(tmp_path / "in", [image(1), image(2), image(2, "x.png")], [box(1, 1, [2, 2, 20, 20]), orphan, ["x"], nothing])
    lines = [json.loads(line) for line in fix([tmp_path / "in"], tmp_path / "out").log.read_text().splitlines()]
    dropped = [(c["code"], c["before"]["stated"]) for c in lines if c["action"] == "drop_record"]
    assert dropped == [
        ("duplicate_image_id", json.dumps(image(2, "x.png"))),
        ("bad_record", '["x"]'),
        ("orphan_annotation", json.dumps(orphan)),
        ("bad_record", json.dumps(nothing)),
    ]
    assert {c["before"]["file"] for c in lines if c["action"] == "drop_record"} == {"train/_annotations.coco.json"}


def test_unusable_lines_of_yolo_are_in_the_log(tmp_path: Path) -> None:
    draw(tmp_path / "in/train/images/a.png")
    (tmp_path / "in/train/labels").mkdir()
    (tmp_path / "in/train/labels/a.txt").write_text("0 .5 .5 .2 .2\n7 .5 .5 .3 .3\n0 .5 .5\n")
    (tmp_path / "in/train/labels/gone.txt").write_text("0 .1 .1 .1 .1\n")
    (tmp_path / "in/data.yaml").write_text("train: train/images\nnames: [glioma]\n")
    lines = [json.loads(line) for line in fix([tmp_path / "in"], tmp_path / "out").log.read_text().splitlines()]
    dropped = [(c["before"]["line"], c["before"]["stated"]) for c in lines if c["action"] == "drop_record"]
    assert dropped == [(2, "7 .5 .5 .3 .3"), (3, "0 .5 .5"), (None, "0 .1 .1 .1 .1\n")]


def test_one_class_in_two_spellings(tmp_path: Path) -> None:
    coco(tmp_path / "in", [image(1), image(2)], [box(1, 1, [1, 1, 9, 9], 1), box(2, 2, [1, 1, 9, 9], 2)],
         ["Glioma", "glioma_tumor"])  # fmt: skip
    lines = fix([tmp_path / "in"], tmp_path / "out").log.read_text().splitlines()
    assert read(tmp_path / "out", Faults(tmp_path / "out")).classes == ("glioma",)
    assert [json.loads(line)["before"] for line in lines[1:]] == ["Glioma", "glioma_tumor"]


def test_what_only_a_person_can_decide_is_left_and_named(tmp_path: Path) -> None:
    coco(tmp_path / "in", [image(1)], [box(1, 1, [3, 3, 9, 9], 1), box(2, 1, [3, 3, 40, 40], 3)])
    assert [p.code for p in fix([tmp_path / "in"], tmp_path / "out").remaining] == ["negative_with_tumor_box"]


def test_several_folders(faulty: Path, tmp_path: Path) -> None:
    draw(tmp_path / "b/train/glioma/a.png")
    done = fix([faulty, tmp_path / "b"], tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["b", LOG_NAME, "in"]
    assert done.remaining == ()


@pytest.mark.parametrize("run", [lambda a, b: fix([a], b), lambda a, b: convert(a, b, "yolo")])
@pytest.mark.parametrize("out", ["in", "in/train/copy", "full"])
def test_no_writing_into_the_source_or_over_something(tmp_path: Path, out: str, run) -> None:
    coco(tmp_path / "in", [image(1)], [])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept.txt").write_text("mine")
    before = _bytes(tmp_path)
    with pytest.raises(DataError, match=r"inside the data set|not an empty folder"):
        run(tmp_path / "in", tmp_path / out)
    assert _bytes(tmp_path) == before


def test_faulty_export_is_not_converted(faulty: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--fix"):
        convert(faulty, tmp_path / "out", "yolo")
    assert not (tmp_path / "out").exists()


def test_headers_that_are_copied_are_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("pydicom")
    for number in range(2):
        write_dicom(tmp_path / f"in/train/glioma/{number}.dcm", number)
    draw(tmp_path / "in/train/no_tumor/a.png")
    Image.open(tmp_path / "in/train/no_tumor/a.png").save(tmp_path / "in/train/no_tumor/b.jpg", comment=b"Doe, Jane")
    fix([tmp_path / "in"], tmp_path / "out", format="folder")
    lines = [record.getMessage() for record in caplog.records if "header" in record.getMessage()]
    assert [line.partition(",")[0] for line in lines] == [
        "2 DICOM files are copied with their headers",
        "1 pictures are copied with text in their headers (EXIF",
    ]
