"""The embedded sample data: a valid Roboflow export, the same bytes for the same seed, boxes tight round tumours."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.errors import DataError
from detectclf.sample_data.export import write_sample_data
from detectclf.sample_data.heads import PLANES, draw_head
from detectclf.sample_data.slices import sample_slice
from detectclf.sample_data.tissue import LEVELS, SIZE, depth_inside
from detectclf.sample_data.tumors import TUMORS, pituitary
from detectclf.types import CANONICAL_CLASSES, canonical_class

N = 36


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_data(tmp_path_factory.mktemp("sample") / "data", N, seed=3)


def documents(export: Path) -> dict[str, dict]:
    return {s: json.loads((export / s / "_annotations.coco.json").read_text()) for s in ("train", "valid", "test")}


def digest(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_every_image_is_listed_once_and_there(export: Path) -> None:
    everything = []
    for split, document in documents(export).items():
        listed = [image["file_name"] for image in document["images"]]
        assert sorted(listed) == sorted(p.name for p in (export / split).glob("*.jpg"))
        everything += listed
        for image in document["images"]:
            with Image.open(export / split / image["file_name"]) as picture:
                assert (picture.mode, picture.size) == ("L", (image["width"], image["height"]))
    assert len(everything) == len(set(everything)) == N


def test_no_slice_occurs_twice(export: Path) -> None:
    contents = [p.read_bytes() for p in export.rglob("*.jpg")]
    assert len(set(contents)) == N


def test_categories_are_those_of_a_roboflow_export(export: Path) -> None:
    for document in documents(export).values():
        names = {c["id"]: c["name"] for c in document["categories"]}
        assert names[0] == "Tumor", "Roboflow's dummy root, which no annotation uses"
        assert [canonical_class(names[i]) for i in range(1, 5)] == list(CANONICAL_CLASSES)
        assert 0 not in {a["category_id"] for a in document["annotations"]}
        assert len({a["id"] for a in document["annotations"]}) == len(document["annotations"])


def test_splits_have_their_share_of_every_class(export: Path) -> None:
    sizes = {}
    for split, document in documents(export).items():
        prefixes = Counter(image["file_name"][:5] for image in document["images"])
        assert set(prefixes) == {"Tr-gl", "Tr-me", "Tr-no", "Tr-pi"}
        assert max(prefixes.values()) - min(prefixes.values()) <= 1
        sizes[split] = len(document["images"])
    assert sizes["train"] > 0.6 * N and sizes["valid"] == sizes["test"]


def test_each_tumor_has_a_box_and_some_healthy_slices_have_none(export: Path) -> None:
    boxed_healthy, empty = 0, 0
    for document in documents(export).values():
        per_image = Counter(a["image_id"] for a in document["annotations"])
        for image in document["images"]:
            if image["file_name"].startswith("Tr-no"):
                boxed_healthy, empty = boxed_healthy + per_image[image["id"]], empty + (per_image[image["id"]] == 0)
            else:
                assert per_image[image["id"]] == 1
        for annotation in document["annotations"]:
            x, y, w, h = annotation["bbox"]
            assert x >= 0 and y >= 0 and x + w <= SIZE and y + h <= SIZE and min(w, h) >= 8
            assert annotation["area"] == w * h
    assert boxed_healthy >= 1 and empty >= 1


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, again, other = (write_sample_data(tmp_path / str(i), 12, seed) for i, seed in enumerate((5, 5, 6)))
    assert digest(one) == digest(again)
    assert digest(one) != digest(other)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("kind", CANONICAL_CLASSES)
def test_slices_of_every_kind_and_plane(kind: str, plane: str) -> None:
    for seed in range(3):
        drawn = sample_slice(seed, kind, plane)
        assert drawn.pixels.shape == (SIZE, SIZE) and drawn.pixels.dtype == np.uint8
        assert (drawn.tumor_xyxy is None) == (kind == "no_tumor")
        assert np.median(drawn.pixels[:20, :20]) < 20, "air round the head"
        if drawn.tumor_xyxy is not None:
            head, box = drawn.head_xyxy, drawn.tumor_xyxy
            assert np.all(box[:2] >= head[:2]) and np.all(box[2:] <= head[2:]), "tumours are inside the head"


@pytest.mark.parametrize("kind", sorted(TUMORS))
@pytest.mark.parametrize("plane", PLANES)
def test_the_box_is_the_extent_of_what_the_tumor_changed(kind: str, plane: str) -> None:
    # an undisturbed head, drawn twice from one seed; the visible lesion is what differs by more than oedema does
    table = PLANES[plane][-1]  # the level with the sella
    before, head = (draw_head(table, np.random.default_rng(1)) for _ in range(2))
    lesion = TUMORS[kind](head, np.random.default_rng(2))
    changed = head.levels != before.levels
    assert changed[lesion].mean() > 0.98
    assert lesion.sum() > 100
    rim = lesion & (depth_inside(lesion) <= 2)  # the middle of a glioma may be dead and dark
    assert np.median(head.levels[rim]) > np.median(before.levels[before.brain]) + 0.1, "tumours take up contrast"


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])  # one level each, so that all kinds have the same head
@pytest.mark.parametrize("kind", sorted(TUMORS))
def test_the_box_in_the_picture_is_tight(kind: str, plane: str) -> None:
    # the same seed without a tumour is the same head, posture and noise: what got much brighter is the tumour
    # (in more than 3 pixels of a row or column: a dural tail is thinner)
    for seed in range(4):
        healthy, drawn = sample_slice(seed, "no_tumor", plane), sample_slice(seed, kind, plane)
        brighter = drawn.pixels.astype(int) - healthy.pixels > 25
        rows, columns = np.flatnonzero(brighter.sum(1) > 3), np.flatnonzero(brighter.sum(0) > 3)
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert drawn.tumor_xyxy is not None
        np.testing.assert_allclose(seen, drawn.tumor_xyxy, atol=4)


def test_tumors_grow_where_they_belong() -> None:
    for seed in range(6):
        head = draw_head(PLANES["coronal"][0], np.random.default_rng(seed))
        assert head.sella is not None
        inside = TUMORS["glioma"](head, np.random.default_rng(seed))
        assert (inside & head.brain).sum() == inside.sum(), "gliomas grow in the brain"
        rim = TUMORS["meningioma"](head, np.random.default_rng(seed))
        grown = np.zeros_like(head.brain)
        grown[1:-1, 1:-1] = head.brain[:-2, 1:-1] & head.brain[2:, 1:-1] & head.brain[1:-1, :-2] & head.brain[1:-1, 2:]
        assert (rim & ~grown).any(), "meningiomas touch the surface"
        small = pituitary(head, np.random.default_rng(seed))
        x, y = head.sella
        assert small[int(y) - 2, int(x)], "pituitary tumours fill the sella"


def test_a_pituitary_tumor_needs_a_slice_with_the_sella() -> None:
    high = draw_head(PLANES["axial"][0], np.random.default_rng(0))
    with pytest.raises(ValueError, match="sella"):
        pituitary(high, np.random.default_rng(0))


def test_healthy_and_tumor_slices_come_from_one_scanner() -> None:
    # a model must not be able to tell them apart by brightness: means over many slices agree within a few levels
    def brightness(kind: str) -> float:
        return float(np.mean([np.mean(sample_slice(s, kind, "coronal").pixels) for s in range(12)]))

    assert abs(brightness("no_tumor") - brightness("meningioma")) < 6


@pytest.mark.parametrize(
    ("n", "prepare", "reason"),
    [
        (11, lambda out: None, "cannot fill"),
        (12, lambda out: out.write_text("x"), "not an empty folder"),
        (12, lambda out: (out.mkdir(), (out / "mine.txt").write_text("x")), "not an empty folder"),
    ],
    ids=["too few slices", "out is a file", "out has something in it"],
)
def test_refusals(tmp_path: Path, n: int, prepare, reason: str) -> None:
    out = tmp_path / "out"
    prepare(out)
    with pytest.raises(DataError, match=reason):
        write_sample_data(out, n)


@pytest.mark.parametrize(
    ("plane", "number"), [(plane, i) for plane, tables in PLANES.items() for i in range(len(tables))]
)
def test_every_level_shows_a_whole_head(plane: str, number: int) -> None:
    for seed in range(3):
        head = draw_head(PLANES[plane][number], np.random.default_rng(seed))
        assert head.brain.sum() > 0.15 * head.head.sum() and (head.brain & ~head.head).sum() == 0
        assert np.median(head.levels[head.brain]) > LEVELS["grey"] - 0.05, "mostly grey and white matter"
        assert np.all(head.levels[~head.head] <= LEVELS["air"]), "nothing is drawn outside the skin"
        assert (head.sella is not None) == (plane != "axial" or number == 2)


def test_both_hemispheres_are_alike() -> None:
    for plane, number in (("axial", 0), ("axial", 1), ("axial", 2), ("coronal", 0)):
        brain = draw_head(PLANES[plane][number], np.random.default_rng(0)).brain
        assert (brain & brain[:, ::-1]).sum() > 0.9 * brain.sum()
