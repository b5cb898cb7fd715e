"""Every fault that the audit knows, each planted once in a sound export."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from export_examples import box, coco, draw, image
from PIL import Image

from detectclf.audit.check import check
from detectclf.audit.fix import fix
from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.errors import DataError, UnsafeError
from detectclf.formats.convert import convert

NAN = float("nan")


def _coco(annotations: list, images: list | None = None, **options) -> Callable[[Path], object]:
    return lambda folder: coco(folder, images or [image(1), image(2)], [*annotations], **options)


def _after(change: Callable[[Path], object], annotations: list | None = None) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        coco(folder, [image(1), image(2)], annotations or [box(1, 1, [2, 2, 20, 20])])
        change(folder / "train")

    return make


def _yolo(text: str | None, more: str = "") -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        draw(folder / "train/images/a.png")
        (folder / "train/labels").mkdir()
        if text is not None:
            (folder / "train/labels/a.txt").write_text(text)
        (folder / "data.yaml").write_text(f"train: train/images\nnames: [glioma, pituitary]\n{more}")

    return make


def _class_list(text: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _yolo("0 0.5 0.5 0.2 0.2\n")(folder)
        (folder / "train/labels/classes.txt").write_text(text)

    return make


def _detection_csv(row: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        draw(folder / "train/a.png")
        (folder / "train/_annotations.csv").write_text(f"filename,width,height,class,xmin,ymin,xmax,ymax\n{row}\n")

    return make


def _voc(corners: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        draw(folder / "train/a.png")
        name = "<name>glioma</name>"
        text = f"<annotation><object>{name}<bndbox>{corners}</bndbox></object></annotation>"
        (folder / "train/a.xml").write_text(text)

    return make


def _classes_csv(row: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        draw(folder / "train/a.png")
        (folder / "train/_classes.csv").write_text(f"filename, Glioma, Pituitary\n{row}\n")

    return make


def _duplicate_key(train: Path) -> None:
    file = train / "_annotations.coco.json"
    file.write_text(file.read_text().replace('"bbox"', '"bbox": [0, 0, 1, 1], "bbox"'))


def _constant(level: int) -> Callable[[Path], object]:
    return lambda train: Image.fromarray(np.full((48, 64), level, np.uint8)).save(train / "slice1.png")


def _rippled(level: int) -> Callable[[Path], object]:
    """An empty picture as JPEG leaves it."""
    pixels = level + np.random.default_rng(0).integers(0, 3, (48, 64), dtype=np.uint8)
    return lambda train: Image.fromarray(pixels).save(train / "slice1.png")


def _animated(train: Path) -> None:
    frames = [Image.open(draw(train.parent / "scratch" / f"{i}.png", seed=i)) for i in range(3)]
    frames[0].save(train / "slice1.png", format="GIF", save_all=True, append_images=frames[1:])


def _one_pixel(folder: Path) -> None:
    coco(folder, [image(1, None, 1, 1)], [], make=False)
    draw(folder / "train/slice1.png", 1, 1)


def _named(name: str, category: int) -> Callable[[Path], object]:
    return _coco([box(1, 1, [2, 2, 20, 20], category)], [image(1, name)])


FAULTS: list[tuple[str, str, Callable[[Path], object]]] = [
    ("error", "box_not_finite", _coco([box(1, 1, [NAN, 2, 20, 20])])),
    ("error", "box_not_finite", _coco([box(1, 1, [1, 2, float("inf"), 20])])),
    ("error", "box_not_finite", _coco([box(1, 1, ["one", 2, 20, 20])])),
    ("error", "box_not_finite", _yolo("0 0.5 nan 0.2 0.2\n")),
    ("error", "box_not_finite", _yolo("0 0.1 0.1 0.5 nan 0.2 0.9\n")),  # in a polygon
    ("error", "box_inverted", _coco([box(1, 1, [30, 30, -20, 10])])),
    ("error", "box_zero_area", _coco([box(1, 1, [30, 30, 0, 10])])),
    ("error", "box_in_shares", _coco([box(1, 1, [0.2, 0.3, 0.4, 0.4])])),
    ("error", "box_in_shares", _detection_csv("a.png,64,48,glioma,0.2,0.3,0.5,0.6")),
    ("error", "box_in_shares", _voc("<xmin>0.2</xmin><ymin>0.3</ymin><xmax>0.5</xmax><ymax>0.6</ymax>")),
    ("error", "box_outside_image", _coco([box(1, 1, [30, 30, 36, 10])])),
    ("error", "box_outside_image", _coco([box(1, 1, [-3, 30, 20, 10])])),
    ("error", "box_outside_image", _coco([box(1, 1, [100, 100, 20, 10])])),  # nothing of it inside
    ("error", "box_outside_image", _yolo("0 0.9 0.5 0.4 0.2\n")),
    ("warning", "box_over_edge", _coco([box(1, 1, [30, 30, 34.9, 10])])),  # rounding
    ("warning", "box_tiny", _coco([box(1, 1, [30, 30, 3, 10])])),
    ("warning", "box_duplicate", _coco([box(1, 1, [3, 3, 9, 9]), box(2, 1, [3, 3, 9, 9])])),
    ("error", "unknown_class", _coco([box(1, 1, [3, 3, 9, 9], 17)])),
    ("error", "unknown_class", _coco([box(1, 1, [3, 3, 9, 9], "one")])),
    ("error", "unknown_class", _coco([box(1, 1, [3, 3, 9, 9], 2)], classes=["Glioma", "Meningoma"])),
    ("warning", "unused_class", _coco([box(1, 1, [3, 3, 9, 9])])),
    ("warning", "class_spelling", _coco([box(1, 1, [3, 3, 9, 9])], classes=["Glioma", "glioma_tumor"])),
    ("error", "class_spelling", _coco([box(1, 1, [3, 3, 9, 9])], classes=["Cyst", "cyst"])),
    ("error", "orphan_annotation", _coco([box(1, 99, [3, 3, 9, 9])])),
    ("error", "duplicate_annotation_id", _coco([box(1, 1, [3, 3, 9, 9]), box(1, 2, [3, 3, 9, 9])])),
    ("error", "duplicate_image_id", _coco([], [image(1), image(1, "other.png")])),
    ("error", "duplicate_image", _coco([], [image(1), image(2, "slice1.png")])),
    ("error", "duplicate_image", _coco([], [image(1), image(2, "./slice1.png")])),
    ("error", "duplicate_key", _after(_duplicate_key)),
    ("error", "bad_record", _coco([box(1, 1, [3, 3, 9])])),
    ("error", "bad_record", _coco([box(1, 1, None)])),
    ("error", "bad_record", _coco([["no object"]])),
    ("error", "size_mismatch", _coco([], [image(1, None, 640, 480)])),
    ("warning", "two_tumor_classes", _coco([box(1, 1, [3, 3, 9, 9], 1), box(2, 1, [30, 3, 9, 9], 4)])),
    ("error", "negative_with_tumor_box", _coco([box(1, 1, [3, 3, 9, 9], 1), box(2, 1, [3, 3, 40, 40], 3)])),
    ("warning", "name_contradicts_label", _named("Tr-gl_0010_jpg.rf.0a.png", 4)),
    ("warning", "name_contradicts_label", _named("Te-noTr_0003.png", 1)),
    ("warning", "missing_split", _coco([])),
    ("error", "missing_image", _after(lambda train: (train / "slice1.png").unlink())),
    ("error", "zero_byte", _after(lambda train: (train / "slice1.png").write_bytes(b""))),
    ("error", "unreadable", _after(lambda train: (train / "slice1.png").write_text("no image"))),
    (
        "error",
        "truncated",
        _after(lambda train: (train / "slice1.png").write_bytes((train / "slice1.png").read_bytes()[:2000])),
    ),
    ("warning", "wrong_extension", _after(lambda train: draw(train / "x.jpg").rename(train / "slice1.png"))),
    ("error", "multi_frame", _after(_animated)),
    ("error", "one_pixel", _one_pixel),
    ("error", "all_black", _after(_constant(0))),
    ("error", "constant", _after(_constant(90))),
    ("error", "all_black", _after(_rippled(0))),
    ("error", "constant", _after(_rippled(90))),
    ("warning", "unlisted_image", _after(lambda train: draw(train / "more.png", seed=9))),
    ("error", "yolo_columns", _yolo("0 0.5 0.5 0.2\n")),
    ("error", "yolo_columns", _yolo("0 0.5 0.5 0.2 0.2 0.9\n")),  # a box with its confidence
    ("error", "class_out_of_range", _yolo("2 0.5 0.5 0.2 0.2\n")),
    ("error", "class_out_of_range", _yolo("-1 0.5 0.5 0.2 0.2\n")),
    ("error", "class_not_integer", _yolo("0.5 0.5 0.5 0.2 0.2\n")),
    ("error", "class_not_integer", _yolo("glioma 0.5 0.5 0.2 0.2\n")),
    ("error", "yolo_columns", _yolo("0 0.5 0.5 0.2 0.2 0.9 1\n")),  # with its track: no triangle
    ("error", "class_order", _class_list("pituitary\nglioma\n")),
    ("error", "class_order", _class_list("dog\nglioma\npituitary\n")),  # labelImg's own classes come first
    ("warning", "missing_label_file", _yolo(None)),
    ("warning", "missing_split", _yolo("", "test: ../test/images\n")),
    ("error", "class_count", _yolo("", "nc: 3\n")),
    ("error", "several_classes", _classes_csv("a.png, 1, 1")),
    ("warning", "no_class", _classes_csv("a.png, 0, 0")),
    ("error", "bad_value", _classes_csv("a.png, 0, 2")),
    ("error", "bad_columns", _classes_csv("a.png, 0")),
]


@pytest.mark.parametrize(("severity", "code", "make"), FAULTS, ids=[f"{i}-{f[1]}" for i, f in enumerate(FAULTS)])
def test_fault_is_found(tmp_path: Path, severity: str, code: str, make: Callable[[Path], object]) -> None:
    make(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    found = check([tmp_path])
    assert (severity, code) in {(p.severity, p.code) for p in found.problems}
    # The fault is named once, and nothing else is made an error of.
    assert [p.code for p in found.errors] == ([code] if severity == "error" else [])
    assert all("\n" not in p.detail and (tmp_path / p.file).exists() for p in found.problems)
    json.dumps(found.to_record(), allow_nan=False)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_line_numbers(tmp_path: Path) -> None:
    _yolo("0 0.5 0.5 0.2 0.2\n\n7 0.5 0.5 0.2 0.2\n")(tmp_path)
    (problem,) = check([tmp_path]).errors
    assert (problem.file, problem.line) == ("train/labels/a.txt", 3)


PRETTY_COCO = """{"categories": [{"id": 1, "name": "glioma"}],
 "images": [{"id": 1, "file_name": "a {\\"}.png"}],
 "annotations": [
  {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 20, 20]},
  {"id": 2, "image_id": 1, "category_id": 1, "bbox": [2, 2, 0, 20]},
  {
   "id": 3, "image_id": 7, "category_id": 1, "bbox": [2, 2, 20, 20]}]}
"""
CREATEML = """[{"image": "a {\\"}.png",
  "annotations": [
   {"label": "glioma", "coordinates": {"x": 20, "y": 20, "width": 10, "height": 10}},
   {"label": "glioma",
    "coordinates": {"x": 20, "y": 20, "width": 0, "height": 10}}]},
 {"picture": "b.png"}]
"""
VOC = """<annotation>
 <filename>a {&quot;}.png</filename>
 <object><name>glioma</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>
 <object>
  <name>glioma</name>
  <bndbox><xmin>2</xmin><ymin>2</ymin><xmax>1</xmax><ymax>20</ymax></bndbox>
 </object>
 <object><name>glioma</name></object>
</annotation>
"""


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("_annotations.coco.json", PRETTY_COCO, {("orphan_annotation", 6), ("box_zero_area", 5)}),
        ("_annotations.createml.json", CREATEML, {("bad_record", 6), ("box_zero_area", 4)}),
        ("a.xml", VOC, {("bad_record", 8), ("box_zero_area", 4)}),
    ],
    ids=["coco", "createml", "voc"],
)
def test_records_are_named_by_the_line_they_start_in(tmp_path: Path, name: str, text: str, found: set) -> None:
    draw(tmp_path / "train" / 'a {"}.png')
    (tmp_path / "train" / name).write_text(text)
    assert {(p.code, p.line) for p in check([tmp_path]).errors} == found


def test_orphan_label_file(tmp_path: Path) -> None:
    _yolo("")(tmp_path)
    (tmp_path / "train/labels/b.txt").write_text("")
    assert [(p.code, p.file) for p in check([tmp_path]).errors] == [("orphan_annotation", "train/labels/b.txt")]


def test_sound_export_has_no_problems(tmp_path: Path) -> None:
    for split, start in (("train", 0), ("valid", 10), ("test", 20)):
        images = [image(start + i, f"s{start + i}.png") for i in range(4)]
        coco(tmp_path, images, [box(i, start + i, [4, 4, 20, 20], i + 1) for i in range(4)], split=split)
    found = check([tmp_path])
    assert found.problems == ()
    assert found.groups == ()
    assert found.to_record() == {
        "samples": 12,
        "splits": {"train": 4, "valid": 4, "test": 4},
        "classes": {"glioma": 3, "meningioma": 3, "no_tumor": 3, "pituitary": 3},
        "problems": [],
        "groups": [],
        "leaks": 0,
        "patient_leaks": 0,
        "patients": {"slices": 0, "unknown": 12, "patients": 0, "from": {}},
    }


def test_every_error_stops_training(tmp_path: Path) -> None:
    """One code path: what the audit calls an error in the annotations, training does not read over."""
    skipped = {"truncated", "multi_frame", "one_pixel", "all_black", "constant"}  # seen only when decoded
    for index, (severity, code, make) in enumerate(FAULTS):
        if severity == "error" and code not in skipped:
            make(tmp_path / str(index))
            with pytest.raises(DataError):
                open_dataset(DataConfig(sources=(tmp_path / str(index),)))


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A slice in train, its mirror image in valid under another class, and an exact copy in train."""
    rng = np.random.default_rng(0)
    blobs = np.kron(rng.integers(20, 235, (12, 16)), np.ones((12, 12))).astype(np.uint8)
    for split in ("train", "valid"):
        (tmp_path / split / "glioma").mkdir(parents=True)
        (tmp_path / split / "pituitary").mkdir()
    Image.fromarray(blobs).save(tmp_path / "train/glioma/a.png")
    shutil.copy(tmp_path / "train/glioma/a.png", tmp_path / "train/glioma/b.png")
    Image.fromarray(blobs[:, ::-1]).save(tmp_path / "valid/pituitary/c.png")
    return tmp_path


def test_leak_is_found(leaky: Path) -> None:
    found = check([leaky])
    assert found.leaks == 1
    (group,) = found.to_record()["groups"]
    assert group["files"] == ["train/glioma/a.png", "train/glioma/b.png", "valid/pituitary/c.png"]
    assert group["splits"] == ["train", "valid"]
    assert group["kind"] == "mirrored"
    assert "copies_disagree" in {p.code for p in found.problems}
    assert check([leaky], copies=False).leaks == 0


def test_leak_between_folders(leaky: Path) -> None:
    """Sources are judged together, and files are named so that the source can be told."""
    (leaky / "valid").rename(leaky / "moved")
    other = leaky.parent / "other"
    (other / "valid").mkdir(parents=True)
    (leaky / "moved/pituitary").rename(other / "valid/pituitary")
    shutil.rmtree(leaky / "moved")
    found = check([leaky, other])
    assert found.leaks == 1
    assert found.groups[0].files[-1] == (other / "valid/pituitary/c.png").as_posix()


def test_balance(tmp_path: Path) -> None:
    for split, gliomas in (("train", 30), ("valid", 10)):
        images = [image(i, f"{split}{i}.png") for i in range(32)]
        sizes = [10 if split == "train" else 25] * 32
        boxes = [box(i, i, [2, 2, sizes[i], sizes[i]], 1 if i < gliomas else 4) for i in range(32)]
        coco(tmp_path, images, boxes, ["Glioma", "x", "y", "Pituitary"], split=split)
    codes = {p.code for p in check([tmp_path], copies=False).problems}
    assert {"rare_class", "class_balance", "box_size_balance"} <= codes


def test_missing_class_in_a_split(tmp_path: Path) -> None:
    coco(tmp_path, [image(1), image(2)], [box(1, 1, [2, 2, 9, 9], 1), box(2, 2, [2, 2, 9, 9], 2)])
    coco(tmp_path, [image(3)], [box(1, 3, [2, 2, 9, 9], 1)], split="valid")
    assert "split valid has no slice of meningioma" in {p.detail for p in check([tmp_path]).problems}


def test_an_unsafe_image_does_not_hide_the_rest(tmp_path: Path) -> None:
    """The audit goes on to every other fault; training and conversion refuse, as unsafe, not as merely faulty."""
    coco(tmp_path / "in", [image(1), image(2), image(3)], [box(1, 1, [50, 10, 40, 20]), box(2, 3, [2, 2, 20, 20])])
    (tmp_path / "in/train/slice3.png").unlink()
    os.mkfifo(tmp_path / "in/train/slice3.png")
    found = check([tmp_path / "in"])
    assert found.unsafe
    assert {(p.code, p.file) for p in found.errors} == {
        ("unsafe", "train/slice3.png"),
        ("box_outside_image", "train/_annotations.coco.json"),
    }
    with pytest.raises(UnsafeError, match="FIFO"):
        open_dataset(DataConfig(sources=(tmp_path / "in",)))
    with pytest.raises(UnsafeError, match="FIFO"):
        convert(tmp_path / "in", tmp_path / "out", "yolo")
    assert fix([tmp_path / "in"], tmp_path / "out").remaining == ()
    assert not check([tmp_path / "out"]).unsafe
