"""The development set is split by patient and by group, is read back as it was meant, and keeps ids to itself."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from development_data import (
    alike_groups,
    assign_sides,
    draw,
    group_numbers,
    read_lgg,
    with_patients,
    write_stripped,
)
from development_export import Picture, Table, write_split
from skull_strip import strip

from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.duplicates.copies import CopyGroup
from detectclf.errors import DataError
from detectclf.imaging.images import read_pixels
from detectclf.types import ANY_TUMOR, Pixels, Sample, empty_boxes

BOX = np.array([[10, 12, 30, 40]], dtype=np.float32)


def sample(path: Path | str, label: str, *, boxed: bool = True, patient: str | None = None) -> Sample:
    boxes, labels = (empty_boxes(), ()) if label == "no_tumor" or not boxed else (BOX, (label,))
    file = Path(path)
    return Sample(file, file.name, "train", label, boxes, labels, boxed, 64, 64, patient=patient)


def picture(name: str, label: str, source: str, group: int, fold: int | None = None) -> Picture:
    return Picture(sample(name, label, boxed=source != "unboxed"), source, group, fold)


def copies(*members: int) -> CopyGroup:
    return CopyGroup(members, "exact", ("exact",) * len(members))


@pytest.mark.parametrize(
    ("found", "alike", "expected"),
    [
        ([], [], [0, 1, 2, 3, 4]),  # every slice on its own
        ([copies(1, 3)], [], [0, 1, 2, 1, 4]),
        ([copies(1, 3)], [[3, 4]], [0, 1, 2, 1, 1]),  # copies of near-alike slices belong together
        ([copies(0, 4), copies(2, 3)], [[3, 4]], [0, 1, 0, 0, 0]),  # a chain
    ],
)
def test_groups_join_copies_and_near_alike_slices(
    found: list[CopyGroup], alike: list[list[int]], expected: list[int]
) -> None:
    assert group_numbers(5, found, alike) == expected


def test_draws_a_share_and_the_same_one_every_time() -> None:
    first = draw(set(range(100, 140)), 1 / 4, np.random.default_rng(0))
    assert len(first) == 10 and first < set(range(100, 140))
    assert first == draw(set(range(100, 140)), 1 / 4, np.random.default_rng(0))
    assert draw({1, 2, 3}, 1 / 4, np.random.default_rng(0)) == set()


def test_sides_go_by_patient_and_by_group() -> None:
    pictures = [
        *(picture(f"t{fold}", "glioma", "boxed", fold, fold) for fold in range(1, 6)),
        picture("more", "glioma", "figshare", 10, 5),
        *(picture(f"h{i}", "no_tumor", "boxed", 100 + i // 2) for i in range(40)),
        *(picture(f"b{i}", ANY_TUMOR, "br35h", 200 + i // 3) for i in range(36)),
        picture("copy", "meningioma", "unboxed", 205),  # of a slice of br35h
        picture("other", "pituitary", "unboxed", 300),
        picture("held", "pituitary", "unboxed", 301, 5),
    ]
    table = Table()
    placed = {p.sample.name: p for p in assign_sides(pictures, table)}
    assert [placed[f"t{fold}"].side for fold in range(1, 6)] == ["train"] * 4 + ["valid"]
    assert placed["more"].side == "valid"
    assert placed["held"].side is None  # of a held patient, and no figure counts slices without boxes
    assert placed["copy"].side == placed["other"].side == "train"
    assert all(placed[f"b{i}"].side == "train" for i in range(15, 18))  # tied to the copy
    valid = [p for p in placed.values() if p.side == "valid"]
    assert len({p.group for p in valid if p.sample.label == "no_tumor"}) == 20 // 5
    assert len({p.group for p in valid if p.source == "br35h"}) == 11 // 4
    assert not {p.group for p in valid} & {p.group for p in placed.values() if p.side == "train"}
    assert table.remarks == ["1 groups of br35h have copies in other sources and are in train"]


def test_a_group_on_both_sides_is_refused() -> None:
    pictures = [picture("a", "glioma", "boxed", 0, 5), picture("b", "glioma", "boxed", 0, 1)]
    with pytest.raises(DataError, match="1 groups of copies are in train and in valid"):
        assign_sides(pictures, Table())


def png(path: Path, pixels: Pixels | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((64, 64), 90, np.uint8) if pixels is None else pixels)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    known = replace(sample(png(tmp_path / "a.png"), "glioma"), patient="figshare-7")
    healthy, unknown = sample(png(tmp_path / "b.png"), "no_tumor"), sample(png(tmp_path / "c.png"), ANY_TUMOR)
    unboxed = sample(png(tmp_path / "d.png"), "meningioma", boxed=False)
    table, out = Table(), tmp_path / "out"
    pictures = [Picture(known, "boxed", 0, 3), Picture(healthy, "boxed", 1), Picture(unknown, "br35h", 2)]
    write_split(out, "boxed/train", pictures, table)
    write_split(out, "unboxed/train", [Picture(unboxed, "unboxed", 3)], table)
    write_split(out, "none/train", [], table)
    read = open_dataset(DataConfig(sources=(out / "boxed", out / "unboxed"))).samples
    assert [(s.name, s.label, s.boxed) for s in read] == [
        ("a.png", "glioma", True),
        ("b.png", "no_tumor", True),
        ("c.png", ANY_TUMOR, True),
        ("d.png", "meningioma", False),
    ]
    np.testing.assert_array_equal(read[0].boxes_xyxy, BOX)
    images = json.loads((out / "boxed/train/_annotations.coco.json").read_text())["images"]
    assert [{key: image.get(key) for key in ("patient", "fold", "group")} for image in images] == [
        {"patient": "figshare-7", "fold": 3, "group": None},
        {"patient": None, "fold": None, "group": 1},
        {"patient": None, "fold": None, "group": 2},
    ]
    assert table.rows == [("boxed/train", 3, 2, 2, 1, 2), ("unboxed/train", 1, 1, 0, 0, 1)]
    assert not (out / "none").exists()


def test_slices_for_choosing_hold_no_ids(tmp_path: Path) -> None:
    truth = {}
    for patient, cut, sequence, boxes in (
        ("TCGA_B", 3, "flair", [[5, 6, 20, 10]]),
        ("TCGA_B", 3, "t1c", [[5, 6, 20, 10], [40, 40, 4, 4]]),
        ("TCGA_A", 9, "flair", []),
    ):
        name = f"{patient}_{cut:02d}_{sequence}.png"
        png(tmp_path / "lgg" / "img" / name)
        truth[name] = {"sequence": sequence, "boxes": boxes, "patient": patient}
    (tmp_path / "lgg" / "truth.json").write_text(json.dumps(truth))
    slices = read_lgg(tmp_path / "lgg")
    assert [(p.sample.name, p.sample.label, p.sample.patient) for p in slices["flair"]] == [
        ("lgg-01_09_flair.png", "no_tumor", "lgg-1"),  # healthy here, with a tumour elsewhere
        ("lgg-02_03_flair.png", ANY_TUMOR, "lgg-2"),
    ]
    assert slices["t1c"][0].sample.boxes_xyxy.tolist() == [[5, 6, 25, 16], [40, 40, 44, 44]]
    assert slices["t1"] == []
    write_split(tmp_path / "out", "lgg/flair/valid", slices["flair"], Table())
    assert "TCGA" not in "".join(
        [p.name for p in (tmp_path / "out").rglob("*")] + [p.read_text() for p in (tmp_path / "out").rglob("*.json")]
    )


def test_groups_of_near_alike_slices_come_from_the_annotations(tmp_path: Path) -> None:
    images = [{"file_name": f"{i}.png", "group": i // 2} for i in range(3)]
    png(tmp_path / "train" / "0.png")
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps({"images": images}))
    samples = [sample("elsewhere/0.png", "glioma"), *(sample(tmp_path / f"train/{i}.png", ANY_TUMOR) for i in range(3))]
    assert alike_groups(tmp_path, samples) == [[1, 2], [3]]


def head(*, neck: bool = False, ring: int = 6) -> Pixels:
    """An axial head: scalp, skull, brain with a bright tumour; with ``neck``, like a coronal one."""
    drawn = np.zeros((320, 320), dtype=np.uint8)
    cv2.ellipse(drawn, (160, 160), (100, 130), 0, 0, 360, 230, -1)
    cv2.ellipse(drawn, (160, 160), (90, 118), 0, 0, 360, ring, -1)
    cv2.ellipse(drawn, (160, 160), (80, 107), 0, 0, 360, 110, -1)
    for x in (110, 210):
        cv2.circle(drawn, (x, 150), 14, 200, -1)
    if neck:
        cv2.rectangle(drawn, (110, 200), (210, 319), 110, -1)
    return drawn


TUMOR = np.array([[96, 136, 124, 164]], dtype=np.float32)


def test_strips_the_skull_and_keeps_the_brain() -> None:
    pixels = head()
    stripped = strip(pixels, TUMOR)
    assert stripped is not None
    brain = np.isin(pixels, (110, 200))
    assert (stripped[brain] == pixels[brain]).mean() > 0.97
    assert (stripped[pixels == 230] > 0).mean() < 0.01


@pytest.mark.parametrize(
    ("pixels", "boxes"),
    [
        (head(neck=True), TUMOR),  # coronal
        (head(ring=110), TUMOR),  # no dark ring to be seen
        (head(), np.array([[50, 130, 90, 170]], dtype=np.float32)),  # a tumour in the skull would be cut
        (np.zeros((64, 64), np.uint8), empty_boxes()),  # nothing
    ],
)
def test_leaves_out_slices_that_cannot_be_stripped(pixels: Pixels, boxes: np.ndarray) -> None:
    assert strip(pixels, boxes) is None


def test_stripped_slices_keep_their_labels(tmp_path: Path) -> None:
    whole = sample(png(tmp_path / "a.jpg", head()), "glioma", patient="figshare-7")
    tumor = replace(whole, boxes_xyxy=TUMOR, width=320, height=320)
    coronal = sample(png(tmp_path / "b.jpg", head(neck=True)), "no_tumor")
    write_stripped(tmp_path / "out", [Picture(tumor, "boxed", 0, 5), Picture(coronal, "boxed", 1)], Table())
    (read,) = open_dataset(DataConfig(sources=(tmp_path / "out" / "stripped",))).samples
    assert (read.name, read.label) == ("a.png", "glioma")
    pixels = read_pixels(read)
    assert pixels.shape == (read.height, read.width) and 210 < read.height < 235 and 160 < read.width < 180
    x0, y0, x1, y1 = read.boxes_xyxy[0].astype(int).tolist()
    assert (x1 - x0, y1 - y0) == (28, 28)
    assert pixels[y0 + 10 : y1 - 10, x0 + 10 : x1 - 10].min() > 240  # the tumour, stretched to white


@pytest.mark.shared
def test_patients_of_the_atlas_are_those_listed(shared: Path, tmp_path: Path) -> None:
    boxed = open_dataset(DataConfig(sources=(shared / "data" / "boxed",))).split("valid").samples[::12]
    listed = shared / "data" / "patients.csv"
    found = with_patients(boxed, SliceIndex().look_up(boxed).fingerprints, listed)
    assert [s.patient is None for s, _ in found] == [s.label == "no_tumor" for s in boxed]
    assert {fold for _, fold in found} == {None, 1, 2, 3, 4, 5}

    with listed.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    wrong = tmp_path / "patients.csv"
    with wrong.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "patient": "1000"} for row in rows)
    with pytest.raises(DataError, match="another patient than in the atlas"):
        with_patients(boxed, SliceIndex().look_up(boxed).fingerprints, wrong)
