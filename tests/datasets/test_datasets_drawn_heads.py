"""Slices drawn from label maps: anatomy, tumours where they occur, boxes, skull stripping, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectclf.datasets.drawn_heads import drawing
from detectclf.datasets.drawn_heads.contrast import (
    LEAST_DIFFERENCE,
    TumorLevels,
    draw_tumor_levels,
    oedema_looks_like_tumor,
)
from detectclf.datasets.drawn_heads.drawing import draw_slice
from detectclf.datasets.drawn_heads.label_maps import LabelMap, LabelMaps, make_label_map, read_label_map
from detectclf.datasets.drawn_heads.planes import VIEWS, View, choose_plane, cut, tell_apart
from detectclf.datasets.drawn_heads.shapes import FRAME_MM, MaskShapes, TumorShape
from detectclf.datasets.drawn_heads.stripping import brain_only
from detectclf.datasets.drawn_heads.tissues import BRAIN, INSIDE_SKULL, Tissue, where
from detectclf.datasets.drawn_heads.tumors import oedema_weight, place_tumor, push_aside, tumor_site
from detectclf.errors import DataError
from detectclf.types import Pixels

SIZE = 160
VOXEL_MM = np.full(3, 2.0, dtype=np.float32)
CLASSES = ("glioma", "meningioma", "pituitary")


def _labels() -> np.ndarray:
    """A simple head of 2 mm voxels, axes to the right, front and head, in SynthSeg's labels."""
    x, y, z = (2.0 * (np.arange(n) - n / 2 + 0.5) for n in (90, 110, 120))
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    far = np.sqrt((x / 62) ** 2 + (y / 80) ** 2 + ((z - 30) / 58) ** 2)
    labels = np.zeros(far.shape, dtype=np.int16)
    neck = np.hypot(x, y + 10) + 0 * z
    labels[(neck < 55) & (z < 0)] = 511
    labels[(neck < 50) & (z < 0)] = 507
    for edge, label in ((1.34, 511), (1.28, 507), (1.15, 515), (1.05, 24), (1.0, 42), (0.9, 41)):
        labels[far < edge] = label
    labels[(np.abs(x) < 2) & (far < 1.05) & (z > 30)] = 24  # between the halves of the brain
    labels[np.sqrt(((np.abs(x) - 14) / 8) ** 2 + (y / 30) ** 2 + ((z - 35) / 10) ** 2) < 1] = 43
    labels[(np.hypot(x, y + 12) < 12) & (z < 10)] = 16
    labels[(np.hypot(np.abs(x) - 30, y - 88) < 12) & (np.abs(z) < 12)] = 506  # eyes
    labels[(np.abs(x) < 8) & (np.abs(y - 14) < 3) & (np.abs(z + 19) < 3)] = 85  # optic chiasm
    return labels


@pytest.fixture(scope="module")
def head() -> LabelMap:
    return make_label_map(_labels(), VOXEL_MM)


@pytest.fixture(scope="module")
def maps(head: LabelMap) -> LabelMaps:
    return LabelMaps((head,))


def _disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(np.hypot(rows, columns) <= radius)


@pytest.fixture(scope="module")
def shapes() -> MaskShapes:
    """Discs and a bar on frames of 512 px; one is a few pixels only."""
    bar = np.ones((30, 60), dtype=bool)
    pixel = FRAME_MM / 512
    kinds = {"glioma": (_disc(40), bar), "meningioma": (_disc(35), _disc(2)), "pituitary": (_disc(20),)}
    return MaskShapes({name: tuple(TumorShape(mask, pixel) for mask in masks) for name, masks in kinds.items()})


def _cut(head: LabelMap, site: np.ndarray, view: View, seed: int, stripped: bool = False) -> tuple:
    rng = np.random.default_rng(seed)
    plane = choose_plane(head, site, view, stripped=stripped, size=SIZE, rng=rng)
    return cut(head, plane, SIZE, rng), plane, rng


@pytest.mark.parametrize("tumor_class", [None, *CLASSES])
def test_same_seed_same_slice(maps: LabelMaps, shapes: MaskShapes, tumor_class: str | None) -> None:
    first, second, other = (
        draw_slice(maps, shapes, tumor_class, np.random.default_rng(seed), SIZE) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("size", [96, SIZE])
@pytest.mark.parametrize("tumor_class", [None, *CLASSES])
def test_boxes_are_inside_and_not_empty(
    maps: LabelMaps, shapes: MaskShapes, tumor_class: str | None, size: int
) -> None:
    for seed in range(30):
        pixels, boxes = draw_slice(maps, shapes, tumor_class, np.random.default_rng(seed), size)
        assert pixels.shape == (size, size) and pixels.dtype == np.uint8 and np.ptp(pixels) > 40
        assert boxes.dtype == np.float32 and boxes.shape == (0 if tumor_class is None else 1, 4)
        assert (boxes >= 0).all() and (boxes <= size).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 3).all()


def test_a_mirrored_slice_has_its_box_mirrored(
    maps: LabelMaps, shapes: MaskShapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MIRRORED_SHARE", 0.0)
    plain = draw_slice(maps, shapes, "glioma", np.random.default_rng(3), SIZE)
    monkeypatch.setattr(drawing, "MIRRORED_SHARE", 1.0)
    mirrored = draw_slice(maps, shapes, "glioma", np.random.default_rng(3), SIZE)
    np.testing.assert_array_equal(plain[0][:, ::-1], mirrored[0])
    np.testing.assert_array_equal(SIZE - plain[1][:, [2, 0]], mirrored[1][:, [0, 2]])
    np.testing.assert_array_equal(plain[1][:, [1, 3]], mirrored[1][:, [1, 3]])


def _middle(tissues: Pixels, *of: Tissue) -> np.ndarray:
    return np.argwhere(where(tissues, *of)).mean(axis=0)


# view, what is nearer to the first edge than the brain, and along which axis (0: upper edge, 1: left edge)
@pytest.mark.parametrize(("view", "axis"), [("axial", 0), ("sagittal", 1)])
def test_the_face_is_up_or_on_the_left(head: LabelMap, view: View, axis: int) -> None:
    eyes = np.argwhere(head.tissues == Tissue.EYE)
    eye = eyes[eyes[:, 0] < head.sella[0]].mean(axis=0).astype(np.float32)
    for seed in range(5):
        tissues, _, _ = _cut(head, eye, view, seed)
        assert _middle(tissues, Tissue.EYE)[axis] < _middle(tissues, *BRAIN)[axis]


def test_the_neck_is_below_on_coronal_slices(head: LabelMap) -> None:
    for seed in range(5):
        tissues, _, _ = _cut(head, (head.brain_low + head.brain_high) / 2, "coronal", seed)
        assert _middle(tissues, Tissue.BRAIN_STEM)[0] > _middle(tissues, Tissue.WHITE)[0]


def test_any_orientation_of_the_file_gives_the_same_head(head: LabelMap, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    # SynthSeg's own maps are stored towards left, feet, front
    stored = np.ascontiguousarray(_labels()[::-1, :, ::-1].transpose(0, 2, 1))
    affine = np.array([[-2, 0, 0, 0], [0, 0, 2, 0], [0, -2, 0, 0], [0, 0, 0, 1]], dtype=float)
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "head.nii.gz")
    (read,) = LabelMaps.load(tmp_path)
    np.testing.assert_array_equal(read.tissues, head.tissues)
    np.testing.assert_array_equal(read.voxel_mm, VOXEL_MM)
    np.testing.assert_allclose(read.sella, head.sella)


def test_the_sella_is_on_the_bone_under_the_chiasm(head: LabelMap) -> None:
    at = np.rint(head.sella).astype(int)
    chiasm = np.argwhere(head.tissues == Tissue.NERVE).mean(axis=0)
    assert np.abs((head.sella - chiasm) * VOXEL_MM)[:2].max() < 5
    assert 3 < (chiasm - head.sella)[2] * VOXEL_MM[2] < 16
    assert head.tissues[tuple(at)] == Tissue.GLAND
    assert (head.tissues[at[0], at[1], : at[2]] == Tissue.BONE).any()


def test_a_map_without_chiasm_has_its_sella_in_the_same_region(head: LabelMap) -> None:
    labels = _labels()
    labels[labels == 85] = 24
    bare = make_label_map(labels, VOXEL_MM)
    # a made head is not average: within 4 cm
    assert np.linalg.norm((bare.sella - head.sella) * VOXEL_MM) < 40


def test_tumors_start_where_their_class_grows(head: LabelMap) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        glioma, meningioma, pituitary = (tumor_site(head, name, "sagittal", rng) for name in CLASSES)
        assert where(head.tissues, *BRAIN)[tuple(glioma.astype(int))]
        x, y, z = meningioma.astype(int)
        around = head.tissues[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2]
        assert where(around, Tissue.BONE, Tissue.FALX).any()
        assert np.abs((pituitary - head.sella) * VOXEL_MM).max() < 12


@pytest.mark.parametrize("view", VIEWS)
def test_placed_tumors(head: LabelMap, view: View) -> None:
    """Each in one piece; a glioma on brain, a meningioma against skull or falx, an adenoma about the sella."""
    placed = dict.fromkeys(CLASSES, 0)
    for seed in range(25):
        for name in CLASSES:
            site = tumor_site(head, name, view, np.random.default_rng(seed))
            tissues, plane, rng = _cut(head, site, view, seed)
            shape = np.asarray(_disc(8), dtype=np.uint8)
            mask = place_tumor(tissues, plane, name, shape, rng)
            if mask is None:
                continue
            placed[name] += 1
            rows, columns = np.nonzero(mask)
            middle = np.array([columns.mean(), rows.mean()])
            if name == "glioma":
                assert where(tissues, *BRAIN)[mask].mean() > 0.5
                assert np.abs(middle - plane.site).max() < 4
            elif name == "meningioma":
                assert where(tissues, *INSIDE_SKULL)[mask].all()
                assert np.hypot(columns + 0.5 - plane.site[0], rows + 0.5 - plane.site[1]).min() < 5
            else:
                sella = (np.abs(middle - plane.site) * plane.step_mm).max()
                assert sella < 20
    assert min(placed.values()) >= 15


def test_a_site_near_the_border_of_the_head_is_in_the_frame(head: LabelMap) -> None:
    for seed in range(40):
        site = head.border[seed * 37 % len(head.border)].astype(np.float32)
        _, plane, _ = _cut(head, site, VIEWS[seed % 3], seed, stripped=seed % 2 == 0)
        assert min(plane.site) > 0.1 * SIZE and max(plane.site) < 0.9 * SIZE


def test_soft_tissue_is_told_apart_and_the_brain_left_alone(head: LabelMap) -> None:
    tissues, plane, rng = _cut(head, head.sella, "coronal", 1)
    brain = where(tissues, *BRAIN)
    before = tissues.copy()
    tell_apart(tissues, plane.step_mm, rng)
    np.testing.assert_array_equal(tissues[brain], before[brain])
    assert all((tissues == t).any() for t in (Tissue.FAT, Tissue.MUSCLE, Tissue.DURA))


def test_pushing_aside_leaves_the_skull(head: LabelMap) -> None:
    middle = (head.brain_low + head.brain_high) / 2
    tissues, plane, rng = _cut(head, middle, "axial", 2)
    mask = np.zeros(tissues.shape, dtype=bool)
    column, row = (round(v) for v in plane.site)
    mask[row - 12 : row + 12, column + 5 : column + 25] = True
    moved = push_aside(tissues, mask, rng)
    outside = ~where(tissues, *INSIDE_SKULL)
    np.testing.assert_array_equal(moved[outside], tissues[outside])
    assert (moved != tissues).any()


def test_oedema_is_in_white_matter_beside_the_tumor(head: LabelMap) -> None:
    site = head.brain[head.tissues[tuple(head.brain.T)] == Tissue.WHITE][5].astype(np.float32)
    tissues, plane, rng = _cut(head, site, "axial", 4)
    mask = np.zeros(tissues.shape, dtype=bool)
    column, row = (round(v) for v in plane.site)
    mask[row - 9 : row + 9, column - 9 : column + 9] = True
    weight = oedema_weight(tissues, mask, rng)
    assert weight.max() > 0.5 and weight.min() >= 0 and weight.max() <= 1.001
    assert (weight[mask] == 0).all()
    assert weight[tissues == Tissue.BONE].max() < 0.2


# Level around is 0.4 and the oedema's weight 1. (levels, expected): reason
@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (TumorLevels(0.9, None, None, 0.8), True),  # T2: both bright
        (TumorLevels(0.9, None, None, 0.5), False),  # bright tumour in faint oedema
        (TumorLevels(0.9, None, None, 0.1), False),  # contrast T1: bright tumour, dark oedema
        (TumorLevels(0.1, None, None, 0.15), True),  # T1: both dark
        (TumorLevels(0.45, 1.0, None, 0.5), False),  # a bright rim tells the tumour from oedema as bright as its inside
        (TumorLevels(0.9, None, None, None), False),  # no oedema
    ],
)
def test_when_the_box_goes_round_the_oedema(levels: TumorLevels, expected: bool) -> None:
    assert oedema_looks_like_tumor(levels, 0.4, 1.0) is expected


def test_a_tumor_is_never_as_grey_as_what_is_around_it() -> None:
    rng = np.random.default_rng(0)
    for sequence in ("t1", "t1_contrast", "t2", "flair", "any"):
        for around in (0.0, 0.03, 0.3, 0.5, 0.97, 1.0):
            for name in (*CLASSES, "metastasis"):
                for _ in range(20):
                    levels = draw_tumor_levels(sequence, name, 0.4, around, may_be_faint=True, rng=rng)
                    assert abs(levels.inside - around) >= LEAST_DIFFERENCE - 1e-6
                    assert 0 <= levels.inside <= 1.0


def test_stripping_leaves_brain_and_tumor_only(head: LabelMap) -> None:
    for seed in range(20):  # perfect and imperfect ones
        tissues, _, rng = _cut(head, (head.brain_low + head.brain_high) / 2, "axial", seed, stripped=True)
        tumor = np.zeros(tissues.shape, dtype=bool)
        tumor[70:80, 70:80] = True
        kept = brain_only(tissues, tumor, rng)
        assert kept[where(tissues, Tissue.SKIN, Tissue.FAT, Tissue.AIR) & ~tumor].mean() < 0.02
        assert kept[where(tissues, *BRAIN)].mean() > 0.85
        assert kept[72:78, 72:78].min() > 0.99


def test_stripped_slices_are_black_outside(
    maps: LabelMaps, shapes: MaskShapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "STRIPPED_SHARE", 1.0)
    for other in ("GHOSTED_SHARE", "OUTSIDE_SHARE", "SELLA_SHARE"):
        monkeypatch.setattr(drawing, other, 0.0)
    slices = [draw_slice(maps, shapes, None, np.random.default_rng(seed), SIZE)[0] for seed in range(30)]
    assert np.median([pixels[:4].mean() for pixels in slices]) < 25
    assert np.mean([(pixels < 40).mean() for pixels in slices]) > 0.4


def test_tumor_free_slices_through_face_and_neck(
    maps: LabelMaps, shapes: MaskShapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, share in (("OUTSIDE_SHARE", 1.0), ("SELLA_SHARE", 0.0), ("STRIPPED_SHARE", 0.0)):
        monkeypatch.setattr(drawing, name, share)
    for seed in range(10):
        pixels, boxes = draw_slice(maps, shapes, None, np.random.default_rng(seed), SIZE)
        assert len(boxes) == 0 and np.ptp(pixels) > 40


def _changed(change: dict[int, int]) -> np.ndarray:
    labels = _labels()
    for old, new in change.items():
        labels[labels == old] = new
    return labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (_changed({41: 999}), "labels outside 0 to 530"),  # another atlas
        (_changed({43: 200}), "label 200 is none of SynthSeg's"),  # a label between
        (_changed({515: 0}), "no bone"),  # a map of a brain alone
        (_changed({41: 0}), "no white"),
        (np.zeros((5, 5, 5), dtype=np.int16), "no white"),  # nothing at all
        (-_labels(), "labels outside"),
    ],
)
def test_bad_label_maps(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        make_label_map(labels, VOXEL_MM, "maps/head.nii.gz")
    assert "maps/head.nii.gz" in str(caught.value) and caught.value.remedy


def test_bad_folders(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    with pytest.raises(DataError, match="no label maps"):
        LabelMaps.load(tmp_path)
    with pytest.raises(DataError, match="no label maps"):
        LabelMaps.load(tmp_path / "missing")
    file = tmp_path / "head.nii.gz"
    file.write_bytes(b"not a volume")
    with pytest.raises(DataError, match=r"head\.nii\.gz"):
        LabelMaps.load(tmp_path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), dtype=np.int16), np.eye(4)), file)
    with pytest.raises(DataError, match="three axes"):
        LabelMaps.load(tmp_path)


def test_islands_outside_the_head_are_air(head: LabelMap) -> None:
    labels = _labels()
    labels[1:4, 1:4, 1:4] = 24
    np.testing.assert_array_equal(make_label_map(labels, VOXEL_MM).tissues, head.tissues)


def test_a_class_without_shapes(maps: LabelMaps, shapes: MaskShapes) -> None:
    for name in ("metastasis", "glioma"):
        few = replace(shapes, by_class={"pituitary": shapes.by_class["pituitary"]})
        with pytest.raises(DataError, match=f"no tumour mask of class {name}"):
            draw_slice(maps, few, name, np.random.default_rng(0), SIZE)


@pytest.mark.shared
def test_a_real_label_map(shared: Path, shapes: MaskShapes) -> None:
    pytest.importorskip("nibabel")
    file = shared / "data" / "heads" / "training_seg_02.nii.gz"
    if not file.is_file():
        pytest.skip("label maps are not here")
    head = read_label_map(file)
    assert 140 < (head.brain_high - head.brain_low)[1] < 190  # mm from the forehead to the back of the brain
    assert head.tissues[tuple(np.rint(head.sella).astype(int))] == Tissue.GLAND
    for seed in range(8):
        for name in (None, *CLASSES):
            pixels, boxes = draw_slice(LabelMaps((head,)), shapes, name, np.random.default_rng(seed), SIZE)
            assert np.ptp(pixels) > 40 and len(boxes) == (name is not None)
