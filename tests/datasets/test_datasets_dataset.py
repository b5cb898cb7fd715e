"""Sources are merged, names mapped, and nothing is dropped without a word."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
from export_examples import box, coco, draw, image

from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset, require_split
from detectclf.errors import ConfigError, DataError
from detectclf.types import order_classes


def _named(folder: Path, *names: str) -> Path:
    """A detection export with one slice of each class."""
    images = [image(i) for i, _ in enumerate(names, 1)]
    return coco(folder, images, [box(i, i, [5, 5, 20, 20], i) for i, _ in enumerate(names, 1)], names)


@pytest.mark.shared
def test_real_sources_merge(shared: Path) -> None:
    found = open_dataset(DataConfig(sources=(shared / "data" / "boxed", shared / "data" / "unboxed")))
    assert found.classes == ("glioma", "meningioma", "no_tumor", "pituitary")
    assert Counter(s.split for s in found.samples if s.boxed) == {"train": 1607, "valid": 472}
    assert Counter(s.split for s in found.samples if not s.boxed) == {"train": 88, "valid": 30}
    assert all((not s.box_labels) == (s.label == "no_tumor") for s in found.samples if s.boxed)


@pytest.mark.parametrize(
    ("names", "class_map", "said"),
    [
        (("Foo", "glioma"), {"Foo": "gliom"}, "data.class_map.Foo: no class 'gliom', did you mean glioma"),
        (("Foo", "bar"), {"Foo": "no_tumr"}, "did you mean no_tumor"),  # also where the data have their own classes
        (("apple", "aple"), {"aple": "appel"}, "did you mean apple"),  # a class of the data
        (("Foo", "glioma"), {"Foo": "schwannoma"}, None),  # like none: a class of its own
        (("Foo", "glioma", "Menin"), {"Foo": "Menin", "Menin": "meningioma"}, None),  # a name of the data
        (("met_1", "met_2", "none"), {"met_1": "met", "met_2": "met"}, None),  # two of one: a class of its own
        (("met_1", "met_2"), {"met_1": "met", "met_2": "glioma"}, None),  # like a name that is mapped away
    ],
)
def test_a_slip_in_the_class_that_a_name_is_mapped_to(
    tmp_path: Path, names: tuple[str, ...], class_map: dict[str, str], said: str | None
) -> None:
    config = DataConfig(sources=(_named(tmp_path, *names),), class_map=class_map)
    if said is None:
        assert set(class_map.values()) & set(open_dataset(config).classes)
        return
    with pytest.raises(ConfigError) as error:
        open_dataset(config)
    assert said in str(error.value) and "keep it as a class of its own" in str(error.value)


@pytest.mark.parametrize("keep", [False, True])
def test_negative_boxes(tmp_path: Path, keep: bool) -> None:
    _named(tmp_path, "Glioma", "No Tumor")
    found = open_dataset(DataConfig(sources=(tmp_path,), negative_boxes="keep" if keep else "drop"))
    glioma, clean = found.samples
    assert (glioma.label, glioma.box_labels) == ("glioma", ("glioma",))
    assert (clean.label, clean.boxed) == ("no_tumor", True)
    assert clean.box_labels == (("no_tumor",) if keep else ())
    assert clean.boxes_xyxy.shape == (int(keep), 4)
    assert (found.negative, found.tumor_classes) == ("no_tumor", ("glioma",))


@pytest.mark.parametrize(
    ("names", "class_map", "classes", "negative"),
    [
        (("Glioma", "meningioma_tumor", "notumor"), {}, ("glioma", "meningioma", "no_tumor"), "no_tumor"),
        (("tumor", "cyst"), {}, ("cyst", "tumor"), None),  # the data set's own classes
        (("tumor", "healthy"), {}, ("no_tumor", "tumor"), "no_tumor"),  # own classes with a known negative
        (("no", "Yes"), {}, ("no_tumor", "Yes"), "no_tumor"),
        (("Gliom", "Meningioma"), {"Gliom": "glioma"}, ("glioma", "meningioma"), None),
        (("Gliom", "Meningioma"), {"gliom": "Glioma"}, ("glioma", "meningioma"), None),  # case does not matter
        (("metastasis", "glioma"), {"metastasis": "metastasis"}, ("glioma", "metastasis"), None),  # kept on purpose
        (("A b", "a-B"), {"a-B": "A b"}, ("A b",), None),
    ],
)
def test_class_names(
    tmp_path: Path, names: tuple[str, ...], class_map: dict[str, str], classes: tuple[str, ...], negative: str | None
) -> None:
    found = open_dataset(DataConfig(sources=(_named(tmp_path, *names),), class_map=class_map))
    assert (found.classes, found.negative) == (classes, negative)
    assert {s.label for s in found.samples} == set(classes)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Glioma", "Meningoma"), "unknown class 'Meningoma'.*did you mean meningioma.*data.class_map.Meningoma=men"),
        (("Glioma", "metastasis"), "unknown class 'metastasis'.*data.class_map.metastasis="),
        (("cyst", "Cyst"), "one class spelt 'Cyst' and 'cyst'.*data.class_map.cyst=Cyst"),
    ],
)
def test_names_that_nobody_knows(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(DataConfig(sources=(_named(tmp_path, *names),)))
    assert "\n" not in str(caught.value)


def test_unknown_class_across_sources(tmp_path: Path) -> None:
    """A second source with a class of its own is as unknown as a misspelling in the first."""
    first, second = _named(tmp_path / "a", "Glioma"), _named(tmp_path / "b", "lesion")
    with pytest.raises(DataError, match="unknown class 'lesion'"):
        open_dataset(DataConfig(sources=(first, second)))


def test_detection_and_class_folders_mix(tmp_path: Path) -> None:
    draw(tmp_path / "b/train/notumor/x.png")
    draw(tmp_path / "b/val/pituitary/y.png", seed=1)
    found = open_dataset(DataConfig(sources=(_named(tmp_path / "a", "Glioma"), tmp_path / "b")))
    assert [(s.split, s.label, s.boxed) for s in found.samples] == [
        ("train", "glioma", True),
        ("train", "no_tumor", False),
        ("valid", "pituitary", False),
    ]


def test_images_without_boxes_bring_the_negative_class(tmp_path: Path) -> None:
    coco(tmp_path, [image(1), image(2)], [box(1, 1, [1, 1, 9, 9])], ["lesion"])
    found = open_dataset(DataConfig(sources=(tmp_path,)))
    assert (found.classes, found.negative) == (("no_tumor", "lesion"), "no_tumor")


def test_two_tumor_classes_the_largest_box_decides(tmp_path: Path) -> None:
    coco(tmp_path, [image(1)], [box(1, 1, [1, 1, 9, 9], 1), box(2, 1, [20, 1, 30, 30], 4)])
    assert open_dataset(DataConfig(sources=(tmp_path,))).samples[0].label == "pituitary"


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (3, 3), (8, 8), (100, 20)])
def test_limit_spreads_over_classes(tmp_path: Path, limit: int, kept: int) -> None:
    """2 glioma and 18 meningioma slices: the rare class is kept whole as soon as its share allows."""
    images = [image(i) for i in range(20)]
    coco(tmp_path, images, [box(i, i, [1, 1, 9, 9], 1 if i < 2 else 2) for i in range(20)])
    config = DataConfig(sources=(tmp_path,), limit=limit)
    found = open_dataset(config)
    assert len(found.samples) == kept
    assert [s.name for s in found.samples] == [s.name for s in open_dataset(config).samples]
    if limit >= 4:
        assert Counter(s.label for s in found.samples)["glioma"] == 2


def test_faulty_annotations_stop_or_are_fixed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    annotations = [box(1, 1, [50, 10, 40, 20]), box(2, 2, [1, 1, 0, 5]), box(3, 3, [1, 1, 9, 9], 77)]
    coco(tmp_path, [image(1), image(2), image(3)], annotations)
    with pytest.raises(DataError, match=r"3 more|2 more") as caught:
        open_dataset(DataConfig(sources=(tmp_path,)))
    assert "detectclf data check" in str(caught.value)
    with caplog.at_level("WARNING"):
        found = open_dataset(DataConfig(sources=(tmp_path,), faults="fix"))
    assert found.samples[0].boxes_xyxy.tolist() == [[50, 10, 64, 30]]
    # A slice whose only box is of no use is not a slice without a tumour.
    assert [(s.label, s.boxed) for s in found.samples[1:]] == [(None, False), (None, False)]
    assert len([r for r in caplog.records if "fixed 3 faults" in r.message]) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "no such folder"),
        (lambda f: f.write_text("x"), "is a file"),
        (lambda f: f.mkdir(), "no annotations found"),
        (lambda f: coco(f, [], []), "no usable slice"),
        (lambda f: coco(f, [image(1)], [], make=False), "image is not there"),
    ],
)
def test_no_data(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        open_dataset(DataConfig(sources=(tmp_path / "data",)))


def test_no_source() -> None:
    with pytest.raises(DataError, match="--data"):
        open_dataset(DataConfig())


def test_missing_split(tmp_path: Path) -> None:
    found = open_dataset(DataConfig(sources=(_named(tmp_path, "Glioma"),)))
    assert len(require_split(found, "train").samples) == 1
    with pytest.raises(DataError, match=r"split 'test' is missing or empty; there is train"):
        require_split(found, "test")


def test_a_smaller_limit_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    images = [image(i) for i in range(1, 24)]
    boxes = [box(i, i, [5, 5, 20, 20], 1 if i < 15 else 2) for i in range(1, 20)]
    coco(tmp_path, images, boxes, ("Glioma", "Meningioma"))
    kept = [{s.name for s in open_dataset(DataConfig(sources=(tmp_path,), limit=n)).samples} for n in range(1, 25)]
    assert [len(names) for names in kept] == [*range(1, 24), 23]
    assert all(small <= large for small, large in itertools.pairwise(kept))


def test_classes_of_the_data_are_in_natural_order() -> None:
    names = ["grade 10", "grade 2", "b", "glioma", "²", "Grade 1"]
    ordered = order_classes(names)
    assert ordered[0] == "glioma" and ordered.index("grade 2") < ordered.index("grade 10")
