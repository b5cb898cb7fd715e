"""Exports as they come: what can be read in one way is read, what is not read is named, the rest has a remedy."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export_examples import box, coco, draw, image

from detectclf.audit.check import check
from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.errors import DataError, DetectclfError, UnsafeError
from detectclf.formats import detect_format, read
from detectclf.formats.faults import Faults
from detectclf.types import Dataset

Make = Callable[[Path], object]
BOX = [8, 8, 20, 20]
POLYGON = [[8, 8, 28, 9, 27, 28, 9, 27]]


def _read(folder: Path) -> tuple[Dataset, Faults]:
    faults = Faults(folder)
    return read(folder, faults), faults


def _coco_as(change: Callable[[dict[str, Any]], object]) -> Make:
    """A COCO export whose content is changed before it is written."""

    def make(folder: Path) -> None:
        coco(folder, [image(1)], [box(1, 1, BOX)])
        file = folder / "train/_annotations.coco.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return make


def _ids(kind: Callable[[int], object]) -> Make:
    def change(content: dict[str, Any]) -> None:
        for key, names in (("images", ["id"]), ("categories", ["id"]), ("annotations", ["image_id", "category_id"])):
            for record in content[key]:
                record.update({name: kind(record[name]) for name in names})

    return _coco_as(change)


def _masked(segmentation: object) -> Make:
    def change(content: dict[str, Any]) -> None:
        del content["annotations"][0]["bbox"]
        content["annotations"][0]["segmentation"] = segmentation

    return _coco_as(change)


def _named(stated: str, file: str) -> Make:
    def make(folder: Path) -> None:
        coco(folder, [image(1, stated)], [box(1, 1, BOX)], make=False)
        draw(folder / "train" / file)

    return make


def _moved(annotations: str, pictures: str, name: str = "slice1.png") -> Make:
    def make(folder: Path) -> None:
        coco(folder, [image(1, name)], [box(1, 1, BOX)], make=False)
        (folder / annotations).parent.mkdir(parents=True, exist_ok=True)
        (folder / "train/_annotations.coco.json").rename(folder / annotations)
        if not any((folder / "train").iterdir()):
            (folder / "train").rmdir()
        draw(folder / pictures)

    return make


def _inside(where: str) -> Make:
    return lambda folder: coco(folder / where, [image(1)], [box(1, 1, BOX)])


def _yolo(text: str, images: str = "train/images/a.png", labels: str = "train/labels/a.txt") -> Make:
    def make(folder: Path) -> None:
        draw(folder / images)
        (folder / labels).parent.mkdir(parents=True, exist_ok=True)
        (folder / labels).write_text("0 0.28125 0.375 0.3125 0.416666667\n")
        (folder / "data.yaml").write_text(text.replace("HERE", str(folder)) + "\nnames: [glioma]\n")

    return make


def _table(text: str, *files: str) -> Make:
    def make(folder: Path) -> None:
        for seed, file in enumerate(files):
            draw(folder / "train" / file, seed=seed)
        name = "_annotations.csv" if "xmin" in text else "_classes.csv"
        (folder / "train" / name).write_text(text)

    return make


def _voc(images: str, annotations: str, name: str = "a.png") -> Make:
    def make(folder: Path) -> None:
        draw(folder / images / "a.png")
        (folder / annotations).mkdir(parents=True, exist_ok=True)
        corners = "<xmin>9</xmin><ymin>9</ymin><xmax>28</xmax><ymax>28</ymax>"
        item = f"<object><name>Glioma</name><bndbox>{corners}</bndbox></object>"
        (folder / annotations / "a.xml").write_text(f"<annotation><filename>{name}</filename>{item}</annotation>")

    return make


def _with(make: Make, file: str, text: str) -> Make:
    def both(folder: Path) -> None:
        make(folder)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)

    return both


def _renamed(make: Make, old: str, new: str) -> Make:
    return lambda folder: [make(folder), (folder / old).rename(folder / new)]


def _and(make: Make, *files: str) -> Make:
    return lambda folder: [make(folder), *(draw(folder / file, seed=9 + i) for i, file in enumerate(files))]


TRAIN = "train: train/images"
ACCENT = "lésion.png"
READ: dict[str, tuple[Make, set[str]]] = {
    "ids as texts": (_ids(str), set()),
    "ids as floats": (_ids(float), set()),
    "ids that are names": (_ids(lambda n: f"id-{n}"), set()),
    "a polygon without bbox": (_masked(POLYGON), set()),
    "a polygon without the list round it": (_masked(POLYGON[0]), set()),
    "run lengths": (_masked({"counts": [8 * 48 + 8, *[20, 28] * 19, 20], "size": [48, 64]}), set()),
    "ids as texts of floats": (_ids(lambda n: f"{n}.0"), set()),
    "ids with zeros in front": (_ids(lambda n: f"000{n}"), set()),
    "sides as texts": (_coco_as(lambda c: c["annotations"][0].update(bbox=["8", "8.0", "20", "20"])), set()),
    "a polygon of pairs": (_masked([[[8, 8], [28, 9], [27, 28], [9, 27]]]), set()),
    "run lengths in a list": (_masked([{"counts": [8 * 48 + 8, *[20, 28] * 19, 20], "size": [48, 64]}]), set()),
    "run lengths as floats": (_masked({"counts": [392.0, *[20.0, 28.0] * 19, 20.0], "size": [48.0, 64.0]}), set()),
    "names in another case": (_named("SLICE1.PNG", "slice1.png"), {"name_differs"}),
    "names with %20": (_named("a%20b.png", "a b.png"), {"name_differs"}),
    "files with %20": (_named("a b.png", "a%20b.png"), {"name_differs"}),
    "names with the split in front": (_named("train/a.png", "a.png"), {"name_differs"}),
    "names with images/ in front": (_named("images/a.png", "a.png"), {"name_differs"}),
    "names with a path of another machine": (_named("/home/me/mri/train/a.png", "a.png"), {"name_differs"}),
    "names with a path of Windows": (_named("C:\\mri\\train\\a.png", "a.png"), {"name_differs"}),
    "names with a path of Label Studio 1.16": (
        _named("..\\..\\label-studio\\media\\upload\\4\\a.png", "a.png"),
        {"name_differs"},
    ),
    "names with a URL of Label Studio": (_named("/data/local-files/?d=mri/a.png", "a.png"), {"name_differs"}),
    "names with a URL": (_named("https://example.org/mri/a.png", "a.png"), {"name_differs"}),
    "names with a blank at the end": (_named("a.png ", "a.png"), {"name_differs"}),
    "names with ./ in front": (_named("./a.png", "a.png"), set()),
    "accents of macOS": (_named(ACCENT, unicodedata.normalize("NFD", ACCENT)), {"name_differs"}),
    "Label Studio": (_moved("result.json", "images/slice1.png", "images/slice1.png"), set()),
    "Label Studio on Windows": (_moved("result.json", "images/slice1.png", "images\\slice1.png"), set()),
    "Supervisely's COCO": (_moved("annotations.json", "img/slice1.png"), set()),
    "Roboflow's file beside images/": (_moved("train/_annotations.coco.json", "train/images/slice1.png"), set()),
    "VOC in small letters": (_voc("images", "annotations"), set()),
    "VOC in each split": (_voc("train/images", "train/annotations"), set()),
    "VOC with pictures beside annotations/": (_voc("train", "train/annotations"), set()),
    "VOC that names a picture of Windows": (_voc("train", "train", "C:\\mri\\a.png"), {"name_differs"}),
    "VOC without a name": (_voc("train", "train", ""), set()),
    "data.yaml of another name": (_renamed(_yolo(TRAIN), "data.yaml", "brain.yaml"), set()),
    "dataset.yml": (_renamed(_yolo(TRAIN), "data.yaml", "dataset.yml"), set()),
    "what macOS and Windows leave": (
        _with(_with(_inside("."), "__MACOSX/train/._slice1.png", "x"), "train/Thumbs.db", "x"),
        set(),
    ),
    "FiftyOne": (_moved("labels.json", "data/slice1.png"), set()),
    "CVAT": (_moved("annotations/instances_default.json", "images/slice1.png"), set()),
    "annotations in capitals": (_moved("Annotations/instances_train.json", "train/slice1.png"), set()),
    "a file for each split": (_moved("train.json", "images/slice1.png"), set()),
    "a file in the split's folder": (_moved("train/coco.json", "train/slice1.png"), set()),
    "relative to annotations/": (
        _moved("annotations/train.json", "images/slice1.png", "../images/slice1.png"),
        {"name_differs"},
    ),
    "an export in a folder": (_inside("brain.v1i.coco"), set()),
    "an export in a folder in a folder": (_inside("data/brain"), set()),
    "path of another machine": (_yolo(f"path: /content/brain\n{TRAIN}"), {"path_elsewhere"}),
    "path to the side": (_yolo(f"path: ../datasets/brain\n{TRAIN}"), {"path_elsewhere"}),
    "path that is not there": (_yolo(f"path: datasets/brain\n{TRAIN}"), {"path_elsewhere"}),
    "path of Windows": (_yolo(f"path: C:\\data\\brain\n{TRAIN}"), {"path_elsewhere"}),
    "path as it is": (_yolo(f"path: HERE\n{TRAIN}"), set()),
    "split of another machine": (_yolo("train: /content/brain/train/images"), set()),
    "split in another case": (_yolo(TRAIN, "Train/Images/a.png", "Train/labels/a.txt"), set()),
    "labels in another case": (_yolo(TRAIN, labels="train/Labels/A.TXT"), set()),
    "split without images": (_yolo("train: train"), set()),
    "split with a backslash": (_yolo("train: train\\images"), set()),
}


@pytest.mark.parametrize(("make", "codes"), READ.values(), ids=READ)
def test_one_certain_reading_is_taken(tmp_path: Path, make: Make, codes: set[str]) -> None:
    make(tmp_path)
    found, faults = _read(tmp_path)
    assert {p.code for p in faults.problems} == codes
    (sample,) = found.samples
    assert sample.split == ("default" if "default" in str(sorted(tmp_path.rglob("*.json"))) else "train")
    assert sample.boxes_xyxy.round(3).tolist() == [[8, 8, 28, 28]]


def _class_folders(folder: Path) -> None:
    for seed, name in enumerate(("glioma/a.png", "no_tumor/b.png")):
        draw(folder / name, seed=seed)


SPLITS = "path: .\ntrain: images/train\nval: images/val\nnames: [glioma]\n"
TABLE = "filename, glioma, no_tumor\na.png, 1, 0\n"
# What a training leaves beside its data: settings with train: and names:, which lead to no labels.
BESIDE: dict[str, tuple[Make, str, str, int]] = {
    "VOC, the splits do not exist": (_voc("JPEGImages", "Annotations"), SPLITS, "voc", 1),
    "VOC, the split is that of its images": (
        _voc("JPEGImages", "Annotations"),
        "train: JPEGImages\nnames: [glioma]\n",
        "voc",
        1,
    ),
    "classes in a table, its split has images": (
        _table(TABLE, "a.png"),
        "train: train\nnames: [glioma]\n",
        "classes-csv",
        1,
    ),
    "class folders": (_class_folders, SPLITS, "folder", 2),
    "COCO, the file cannot be read as a layout": (_inside("."), "train: [{\nnames: x\n", "coco", 1),
    "VOC, a list of images": (
        _voc("JPEGImages", "Annotations"),
        "train: train.txt\nnames: [glioma]\n",
        "voc",
        1,
    ),
    "VOC, the split leads out": (
        _voc("JPEGImages", "Annotations"),
        "train: /elsewhere/pictures\nnames: [glioma]\n",
        "voc",
        1,
    ),
}


@pytest.mark.parametrize(("make", "text", "format", "count"), BESIDE.values(), ids=BESIDE)
def test_a_stray_yaml_does_not_make_an_export_yolo(
    tmp_path: Path, make: Make, text: str, format: str, count: int
) -> None:
    make(tmp_path)
    (tmp_path / "tumor.yaml").write_text(text)
    assert detect_format(tmp_path) == (format, None)
    assert len(_read(tmp_path)[0].samples) == count


REFUSED: dict[str, tuple[Make, str]] = {
    "two files differ in case only": (
        lambda f: [_named("A.png", "a.PNG")(f), draw(f / "train/a.png", seed=2)],
        "missing_image",
    ),
    "the name of another split": (_named("valid/a.png", "a.png"), "missing_image"),
    "a folder that says something": (_named("patient2/a.png", "a.png"), "missing_image"),
    "no id": (_coco_as(lambda c: c["images"][0].pop("id")), "bad_record"),
    "an id that is none": (_coco_as(lambda c: c["images"][0].update(id=True)), "bad_record"),
    "run lengths that are none": (_masked({"counts": "~~~", "size": [48, 64]}), "bad_record"),
    "run lengths beyond the image": (_masked({"counts": [0, 10**9], "size": [48, 64]}), "bad_record"),
    "a polygon of two points": (_masked([[1, 2, 3, 4]]), "bad_record"),
    "corners in bbox": (
        _coco_as(lambda c: c["annotations"][0].update(bbox=[8, 8, 28, 28], segmentation=POLYGON)),
        "bbox_is_corners",
    ),
    "a split named twice": (
        lambda f: _yolo(f"{TRAIN}\nval: train/images")(f),
        "split_twice",
    ),
}


@pytest.mark.parametrize(("make", "code"), REFUSED.values(), ids=REFUSED)
def test_what_can_mean_several_things_is_an_error(tmp_path: Path, make: Make, code: str) -> None:
    make(tmp_path)
    assert code in {p.code for p in _read(tmp_path)[1].errors}


STOPPED: dict[str, tuple[Make, str, type[DetectclfError]]] = {
    "a quote in a header": (_table('filename, "glioma\na.png, 1\nb.png, 0\n', "a.png", "b.png"), "quote", DataError),
    "a quote in a row": (_table('filename, glioma\n"a.png, 1\nb.png, 1\n', "a.png", "b.png"), "quote", DataError),
    "a quote that another one closes": (
        _table('filename, glioma, x"y\n"a.png, 1, 0\nb.png, 1, 0"\n', "a.png", "b.png"),
        "quote",
        DataError,
    ),
    "a quote in a table of boxes": (
        _table('filename,width,height,class,xmin,ymin,xmax,ymax\n"a.png,64,48,glioma,8,8,28,28\n', "a.png"),
        "quote",
        DataError,
    ),
    "a key twice": (_yolo(f"{TRAIN}\ntrain: other/images"), "'train' twice", DataError),
    "a class number twice": (_yolo(f"{TRAIN}\nnames: {{0: glioma, 0: pituitary}}"), "twice", DataError),
    "several exports": (
        lambda f: [_inside("one")(f), _inside("two")(f)],
        "name one of its folders: one, two",
        DataError,
    ),
    "a picture up and up": (_named("../../a.png", "a.png"), r"'\.\.'", UnsafeError),
    "YOLO of CVAT 1.1": (
        _with(_and(lambda f: None, "obj_train_data/a.png"), "obj.data", "classes = 1\n"),
        "without data.yaml",
        DataError,
    ),
    "YOLO of Label Studio": (
        _with(_and(lambda f: None, "images/a.png"), "classes.txt", "glioma\n"),
        "data.yaml",
        DataError,
    ),
    "Darknet of Roboflow": (
        _with(_and(lambda f: None, "train/a.png"), "train/_darknet.labels", "glioma\n"),
        "without data.yaml",
        DataError,
    ),
    "labelme": (
        _with(_and(lambda f: None, "a.png"), "a.json", '{"shapes": [], "imagePath": "a.png"}'),
        "labelme2coco",
        DataError,
    ),
    "VIA": (
        _with(_and(lambda f: None, "a.png"), "via.json", '{"a": {"regions": [{"shape_attributes": {}}]}}'),
        "from VIA",
        DataError,
    ),
    "VoTT": (
        _with(_and(lambda f: None, "a.png"), "x-asset.json", '{"asset": {}, "regions": []}'),
        "from VoTT",
        DataError,
    ),
    "Label Studio's own": (
        _with(_and(lambda f: None, "images/a.png"), "p.json", '[{"from_name": "label", "to_name": "image"}]'),
        "from Label Studio",
        DataError,
    ),
    "Supervisely's own": (
        _with(_and(lambda f: None, "ds/img/a.png"), "ds/ann/a.png.json", '{"objects": [{"classTitle": "g"}]}'),
        "from Supervisely",
        DataError,
    ),
    "an archive in the folder": (lambda f: (f / "brain.zip").write_bytes(b"PK"), "unpack brain.zip", DataError),
    "images beside masks": (_and(lambda f: None, "images/a.png", "masks/a.png"), "no annotations", DataError),
    "a split outside": (_yolo("train: ../../elsewhere"), r"'\.\.'", UnsafeError),
    "a split of another machine that is not here": (_yolo("train: /content/elsewhere"), "absolute", UnsafeError),
}


@pytest.mark.parametrize(("make", "words", "kind"), STOPPED.values(), ids=STOPPED)
def test_what_cannot_be_read_as_a_whole_names_the_remedy(
    tmp_path: Path, make: Make, words: str, kind: type[DetectclfError]
) -> None:
    make(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        _read(tmp_path)
    assert caught.value.remedy


def _copied(make: Make, name: str) -> Make:
    def both(folder: Path) -> None:
        make(folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("filename, glioma\n")

    return both


def _and_file(make: Make, name: str) -> Make:
    def both(folder: Path) -> None:
        make(folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"of no matter")

    return both


UNREAD: dict[str, tuple[Make, str, str]] = {
    "a split that data.yaml lacks": (
        _and(_yolo(TRAIN), "valid/images/b.png", "valid/images/c.png"),
        "valid/images",
        "2 images",
    ),
    "a split without annotations": (_and(_inside("."), "valid/b.png"), "valid", "1 images"),
    "a folder deeper": (_and(_inside("."), "train/more/b.png"), "train/more", "1 images"),
    "class folders of a class": (
        lambda f: [draw(f / "train/glioma/a.png"), draw(f / "train/glioma/2/b.png", seed=2)],
        "train/glioma/2",
        "1 images",
    ),
    "a class beside the splits": (
        lambda f: [draw(f / "train/glioma/a.png"), draw(f / "pituitary/b.png", seed=2)],
        "pituitary",
        "1 images",
    ),
    "VOC's split beside Annotations": (
        lambda f: [
            draw(f / "JPEGImages/a.png"),
            draw(f / "valid/b.png", seed=2),
            (f / "Annotations").mkdir(),
            (f / "Annotations/a.xml").write_text("<annotation></annotation>"),
            (f / "valid/b.xml").write_text("<annotation/>"),
        ],
        "valid",
        "1 images",
    ),
    "a second annotation file": (_copied(_inside("."), "train/_classes.csv"), "train", "1 annotation files"),
    "labelme's files in class folders": (
        _with(lambda f: draw(f / "train/glioma/a.png"), "train/glioma/a.json", "{}"),
        "train/glioma",
        "1 annotation files",
    ),
    "YOLO's files in class folders": (
        _with(lambda f: draw(f / "train/glioma/a.png"), "train/glioma/a.txt", "0 0.5 0.5 0.1 0.1"),
        "train/glioma",
        "1 annotation files",
    ),
    "an annotation file without slices": (_copied(_inside("."), "valid/_classes.csv"), "valid", "1 annotation files"),
}

UNREAD |= {
    f"{why}, {name}": (_and_file(_inside("."), name), str(Path(name).parent), words)
    for name, why, words in [
        ("valid/valid.zip", "a split that was not unpacked", "1 archives"),
        ("valid/all.tar.gz", "a split that was not unpacked", "1 archives"),
        ("more/test.7z", "a folder of archives", "1 archives"),
        ("train/scan.HEIC", "a photograph of a telephone", "1 files of other formats"),
        ("valid/slices.npy", "arrays", "1 files of other formats"),
        ("train/1.mat", "the figshare set as published", "1 files of other formats"),
    ]
}


@pytest.mark.parametrize("name", ["README.dataset.txt", "notes.md", "train.cache", ".hidden.zip", "__MACOSX/a.zip"])
def test_files_that_hold_no_slices_are_not_named(tmp_path: Path, name: str) -> None:
    _and_file(_inside("."), name)(tmp_path)
    assert not [p for p in check([tmp_path]).problems if p.code.startswith("unread")]


@pytest.mark.parametrize(("make", "where", "words"), UNREAD.values(), ids=UNREAD)
def test_what_is_not_read_is_counted_and_named(
    tmp_path: Path, make: Make, where: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path)
    named = [p for p in check([tmp_path]).problems if p.code.startswith("unread")]
    assert any(p.file == where and p.detail.startswith(words) for p in named)
    with caplog.at_level(logging.WARNING):
        open_dataset(DataConfig(sources=(tmp_path,)))
    assert any(f"{where}: {words}" in line for line in caplog.messages)


def test_pictures_without_a_row_are_not_healthy_where_a_row_finds_no_picture(tmp_path: Path) -> None:
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    _table(f"{header}gone.png,64,48,glioma,8,8,28,28\n", "a.png")(tmp_path)
    found, faults = _read(tmp_path)
    assert [p.code for p in faults.errors] == ["missing_image"]
    assert [(s.name, s.boxed, s.label) for s in found.samples] == [("a.png", False, None)]


LONG = "a" * 300 + ".png"
VOC = "<annotation><filename>{}</filename></annotation>"
LONG_NAMES: dict[str, Make] = {
    "coco": _named(LONG, "a.png"),
    "coco in folders": _named("images/" + LONG, "a.png"),
    "voc": lambda f: [draw(f / "train/a.png"), (f / "train/a.xml").write_text(VOC.format(LONG))],
    "voc without its picture": lambda f: [draw(f / "train/b.png"), (f / "train/a.xml").write_text(VOC.format(LONG))],
    "voc with Annotations": lambda f: [
        draw(f / "JPEGImages/a.png"),
        (f / "Annotations").mkdir(),
        (f / "Annotations/a.xml").write_text(VOC.format("x/" * 5000 + "a.png")),
    ],
    "csv": _table(f"filename,width,height,class,xmin,ymin,xmax,ymax\n{LONG},64,48,glioma,8,8,28,28\n", "a.png"),
    "classes-csv": _table(f"filename, glioma\n{LONG}, 1\n", "a.png"),
    "createml": lambda f: [
        draw(f / "train/a.png"),
        (f / "train/_annotations.createml.json").write_text(json.dumps([{"image": LONG}])),
    ],
    "path of data.yaml": _yolo(f"path: {LONG}\n{TRAIN}"),
    "split of data.yaml": _yolo(f"{TRAIN}\nval: {LONG}"),
    "split of data.yaml on another machine": _yolo(f"{TRAIN}\nval: {'x/' * 5000}"),
}


@pytest.mark.parametrize("make", LONG_NAMES.values(), ids=LONG_NAMES)
def test_names_too_long_for_a_file_are_faults_like_others(tmp_path: Path, make: Make) -> None:
    make(tmp_path)
    found = check([tmp_path])
    assert found.problems
    json.dumps(found.to_record())


@pytest.mark.parametrize("stated", ["a.jpg", "a", "a.jpeg"])
def test_a_missing_image_names_the_one_with_another_suffix(tmp_path: Path, stated: str) -> None:
    _named(stated, "a.png")(tmp_path)
    (found,) = [p for p in _read(tmp_path)[1].errors if p.code == "missing_image"]
    assert "a.png is, if that is meant" in found.detail


def test_cvat_s_own_xml_is_named(tmp_path: Path) -> None:
    _with(_and(lambda f: None, "images/a.png"), "annotations.xml", "<annotations><version>1.1</version></annotations>")(
        tmp_path
    )
    assert any("CVAT" in p.detail and "COCO" in p.detail for p in _read(tmp_path)[1].errors)
