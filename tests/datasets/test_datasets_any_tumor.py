"""Tumours of unknown type: which names mean them, what becomes of slices and boxes, and what training makes of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export_examples import box, coco, draw, image
from pydantic import ValidationError

from detectclf.audit.check import check
from detectclf.config import AugmentConfig, DataConfig
from detectclf.datasets.augment import classification_augment
from detectclf.datasets.class_names import means_any_tumor
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.loading import ClassificationSlices, DetectionSlices
from detectclf.errors import ConfigError, DataError
from detectclf.formats import FORMATS
from detectclf.formats.convert import convert
from detectclf.pipelines.split import split
from detectclf.training.tasks import balanced_weights
from detectclf.types import ANY_TUMOR, ANY_TUMOR_INDEX, Dataset

UNKNOWN = "Tumor (type unknown)"


def named(folder: Path, *names: str) -> Path:
    """A detection export with one slice of each class."""
    images = [image(i) for i, _ in enumerate(names, 1)]
    return coco(folder, images, [box(i, i, [5, 5, 20, 20], i) for i, _ in enumerate(names, 1)], names)


def opened(*folders: Path, names: Sequence[str] = ()) -> Dataset:
    return open_dataset(DataConfig(sources=folders, any_tumor=tuple(names)))


@pytest.mark.parametrize(
    ("names", "given", "why"),
    [
        ((UNKNOWN,), (UNKNOWN,), "as the export spells it"),
        ((UNKNOWN,), ("tumor (type  unknown)",), "case and blanks do not matter, as in class_map"),
        (("any_tumor",), (), "what we write needs no setting"),
        (("Any tumour",), (), "nor do its spellings"),
        (("Tumor", "Lesion"), ("Tumor", "Lesion"), "two such names"),
    ],
)
def test_names_become_any_tumor(tmp_path: Path, names: Sequence[str], given: Sequence[str], why: str) -> None:
    alone = opened(named(tmp_path / "a", *names), names=given)
    assert (alone.classes, alone.negative) == ((), None), why
    assert {s.label for s in alone.samples} == {label for s in alone.samples for label in s.box_labels} == {ANY_TUMOR}
    merged = opened(tmp_path / "a", named(tmp_path / "b", "Glioma", "No Tumor"), names=given)
    assert (merged.classes, merged.tumor_classes) == (("glioma", "no_tumor"), ("glioma",))
    assert Counter(s.label for s in merged.samples) == {ANY_TUMOR: len(names), "glioma": 1, "no_tumor": 1}


def test_clean_slices_beside_unknown_types_are_healthy(tmp_path: Path) -> None:
    coco(tmp_path, [image(1), image(2)], [box(1, 1, [1, 1, 9, 9])], ["lesion"])
    found = opened(tmp_path, names=["lesion"])
    assert (found.classes, found.negative) == (("no_tumor",), "no_tumor")
    assert [s.label for s in found.samples] == [ANY_TUMOR, "no_tumor"]


def test_classes_without_boxes_may_be_of_unknown_type(tmp_path: Path) -> None:
    draw(tmp_path / "train/yes/x.png")
    draw(tmp_path / "train/no/y.png", seed=1)
    found = opened(tmp_path, names=["yes"])
    assert [(s.label, s.boxed) for s in found.samples] == [("no_tumor", False), (ANY_TUMOR, False)]
    assert found.classes == ("no_tumor",)


def test_the_known_type_decides_even_if_its_box_is_smaller(tmp_path: Path) -> None:
    names = ("Glioma", UNKNOWN)
    coco(tmp_path, [image(1)], [box(1, 1, [1, 1, 5, 5], 1), box(2, 1, [20, 1, 30, 30], 2)], names)
    (slice_,) = opened(tmp_path, names=[UNKNOWN]).samples
    assert (slice_.label, slice_.box_labels) == ("glioma", ("glioma", ANY_TUMOR))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (UNKNOWN, "--any-tumor 'Tumor (type unknown)'"),
        ("lesion", "--any-tumor lesion"),
        ("Yes", "--any-tumor Yes"),
        ("positive", "--any-tumor positive"),
        ("brain tumour", "--any-tumor 'brain tumour'"),
        ("Gliom tumor", "did you mean glioma"),  # it names a type, so it is more likely a misspelling
        ("metastasis", "data.class_map.metastasis"),
    ],
)
def test_a_name_that_nobody_knows_is_never_dropped(tmp_path: Path, name: str, hint: str) -> None:
    source = named(tmp_path, "Glioma", name)
    with pytest.raises(DataError, match="unknown class") as caught:
        opened(source)
    assert hint in str(caught.value)
    (problem,) = [p for p in check([source]).problems if p.code == "unknown_class"]
    if "any-tumor" in hint:
        assert hint in problem.detail
        assert not check([source], class_map={name: ANY_TUMOR}).errors


def test_hint_words() -> None:
    assert means_any_tumor("Tumour")
    assert not means_any_tumor("unknown")  # nothing says that there is a tumour
    assert not means_any_tumor("pituitary tumor")


def test_the_negative_class_is_no_tumor_of_unknown_type(tmp_path: Path) -> None:
    source = named(tmp_path / "a", "Glioma", "No Tumor")
    for act in (
        lambda: opened(source, names=["No Tumor"]),
        lambda: check([source], class_map={"No Tumor": ANY_TUMOR}),
        lambda: convert(source, tmp_path / "b", "yolo", any_tumor=["No Tumor"]),
    ):
        with pytest.raises(ConfigError, match="is the class without a tumour"):
            act()
    with pytest.raises(ValidationError, match="in class_map and in any_tumor"):
        DataConfig(class_map={"lesion": "glioma"}, any_tumor=("lesion",))


def test_a_name_that_no_source_has_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        opened(named(tmp_path, "Glioma"), names=["lesion"])
    assert "data.any_tumor: no source has a class 'lesion'" in caplog.text


@pytest.mark.parametrize(
    ("classes", "given", "codes"),
    [
        (("Glioma",), ("Nope",), ["class_not_there"]),  # a misspelt setting, as other commands say it
        (("Glioma", UNKNOWN), ("tumor (type  unknown)",), []),
        ((UNKNOWN, "No Tumor"), (UNKNOWN,), ["no_known_type"]),  # training refuses it
        (("any_tumor",), (), ["no_known_type"]),
        (("Tumor kind A", "any_tumor"), (), []),  # a class of the data's own is a known type
        (("No Tumor",), (), []),  # no tumour at all
    ],
)
def test_check_says_what_training_would(
    tmp_path: Path, classes: Sequence[str], given: Sequence[str], codes: list[str]
) -> None:
    problems = check([named(tmp_path, *classes)], class_map=dict.fromkeys(given, ANY_TUMOR), copies=False).problems
    found = [p for p in problems if p.code in ("class_not_there", "no_known_type", "unknown_class")]
    assert [(p.severity, p.code) for p in found] == [("warning", code) for code in codes]


@pytest.mark.parametrize("given", [UNKNOWN, UNKNOWN.upper(), "tumor (type  unknown)", " Tumor_(type-unknown) "])
def test_converting_takes_the_spellings_that_other_commands_take(tmp_path: Path, given: str) -> None:
    source = named(tmp_path / "a", "Glioma", UNKNOWN)
    converted = convert(source, tmp_path / "b", "coco", any_tumor=[given])
    assert [s.label for s in converted.samples] == ["Glioma", ANY_TUMOR]
    assert [s.label for s in opened(source, names=[given]).samples] == ["glioma", ANY_TUMOR]


@pytest.mark.parametrize("to", list(FORMATS))
def test_every_format_keeps_it(tmp_path: Path, to: str) -> None:
    source = named(tmp_path / "a", "Glioma", UNKNOWN)
    convert(source, tmp_path / "b", to, any_tumor=[UNKNOWN], drop_boxes=True)
    back = opened(tmp_path / "b")
    assert back.classes == ("glioma",)
    assert Counter(s.label for s in back.samples) == {"glioma": 1, ANY_TUMOR: 1}
    if FORMATS[to].holds_boxes:
        assert Counter(label for s in back.samples for label in s.box_labels) == {"glioma": 1, ANY_TUMOR: 1}


def test_converting_a_class_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no class 'lesion'; its classes are Glioma"):
        convert(named(tmp_path / "a", "Glioma"), tmp_path / "b", "yolo", any_tumor=["lesion"])


def test_a_new_split_keeps_it_and_spreads_it(tmp_path: Path) -> None:
    images = [image(i) for i in range(1, 25)]
    coco(tmp_path / "a", images, [box(i, i, [5, 5, 20, 20], 1 + i % 2) for i in range(1, 25)], ["Glioma", UNKNOWN])
    split(tmp_path / "a", tmp_path / "b", ratios="0.5,0.5", any_tumor=[UNKNOWN])
    counts = Counter((s.split, s.label) for s in opened(tmp_path / "b").samples)
    assert counts == {(part, label): 6 for part in ("train", "valid") for label in ("glioma", ANY_TUMOR)}


def test_check_counts_it_and_copies_of_it_do_not_disagree(tmp_path: Path) -> None:
    named(tmp_path / "a", "Glioma")
    named(tmp_path / "b", UNKNOWN)  # the same picture
    named(tmp_path / "c", "No Tumor")
    folders = [tmp_path / "a", tmp_path / "b"]
    audit = check(folders, class_map={UNKNOWN: ANY_TUMOR})
    assert audit.classes == {ANY_TUMOR: 1, "glioma": 1}
    assert len(audit.groups) == 1
    assert "copies_disagree" not in {p.code for p in audit.problems}
    healthy = check([tmp_path / "b", tmp_path / "c"], class_map={UNKNOWN: ANY_TUMOR})
    assert "copies_disagree" in {p.code for p in healthy.problems}


def test_limit_takes_it_as_a_class_of_its_own(tmp_path: Path) -> None:
    images = [image(i) for i in range(1, 13)]
    coco(tmp_path, images, [box(i, i, [5, 5, 20, 20], 1 + i % 2) for i in range(1, 13)], ["Glioma", UNKNOWN])
    found = open_dataset(DataConfig(sources=(tmp_path,), any_tumor=(UNKNOWN,), limit=4))
    assert Counter(s.label for s in found.samples) == {"glioma": 2, ANY_TUMOR: 2}


def test_targets_of_training(tmp_path: Path) -> None:
    found = opened(named(tmp_path, "Glioma", "No Tumor", UNKNOWN), names=[UNKNOWN])
    boxes = DetectionSlices(found.samples, found.tumor_classes, 64, cache="none")
    assert [boxes[i][1]["labels"].tolist() for i in range(3)] == [[0], [], [ANY_TUMOR_INDEX]]
    slices = ClassificationSlices(found.samples, found.classes, 64, cache="none", negative=found.negative)
    assert slices.labels == [0, 1, ANY_TUMOR_INDEX]
    assert balanced_weights(slices).tolist() == [1, 1], "unknown types do not count"


def test_the_healthy_half_of_a_slice_of_unknown_type_is_healthy(tmp_path: Path) -> None:
    found = opened(named(tmp_path, UNKNOWN, "No Tumor"), names=[UNKNOWN])
    # A bright disc as a head, with the tumour clearly on one side.
    y, x = np.mgrid[:48, :64]
    head = np.where((x - 32) ** 2 + (y - 24) ** 2 < 22**2, 120, 0).astype(np.uint8)
    changed = replace(found.samples[0], boxes_xyxy=np.array([[14, 20, 22, 28]], dtype=np.float32))
    from PIL import Image

    Image.fromarray(head).save(changed.path)
    config = AugmentConfig(symmetry_healthy=1, flip=0, affine=0, intensity=0, noise=0, blur=0, bias_field=0, ghosting=0)
    augment = classification_augment(config, seed=0)
    samples = (changed, found.samples[1])
    slices = ClassificationSlices(samples, found.classes, 64, augment, cache="none", negative="no_tumor")
    assert slices.labels[0] == ANY_TUMOR_INDEX
    assert slices[0][1]["label"] == found.classes.index("no_tumor")


def test_training_needs_a_known_type(tmp_path: Path) -> None:
    from detectclf.config import ClassifierRecipe
    from detectclf.pipelines.train import train_classifier

    named(tmp_path / "a", UNKNOWN)
    data = DataConfig(sources=(tmp_path / "a",), any_tumor=(UNKNOWN,), valid_split="train")
    with pytest.raises(DataError, match="every tumour is of unknown type; add a source of known types"):
        train_classifier(ClassifierRecipe(data=data), tmp_path / "run", quiet=True)
