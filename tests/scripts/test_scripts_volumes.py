"""The bench on volumes asks for the right slices, and has their tumours where the pictures show them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from detectclf.imaging.images import read_image

nibabel = pytest.importorskip("nibabel")

SHAPE, SPACING = (40, 50, 36), (2.0, 2.0, 5.0)  # to the right, to the front, to the head; millimetres
TUMOR = (slice(5, 12), slice(30, 42), slice(28, 31))


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "bench_volumes.py"
    spec = importlib.util.spec_from_file_location("bench_volumes", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # named tuples look their module up
    spec.loader.exec_module(module)
    return module


def saved(levels: np.ndarray, codes: str, path: Path) -> Path:
    image = nibabel.Nifti1Image(levels, np.diag((*SPACING, 1.0)))
    to = nibabel.orientations.axcodes2ornt(tuple(codes))
    turn = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt(tuple("RAS")), to)
    image.as_reoriented(turn).to_filename(path)
    return path


def head() -> np.ndarray:
    """A cylinder from the bottom up to the slice before last, in air."""
    right, front, _ = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    levels = (((right - 20) / 18) ** 2 + ((front - 25) / 23) ** 2 < 1) * np.ones(SHAPE)
    levels[..., -2:] = 0
    return (levels * 100).astype(np.int16)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR"])
def test_kinds_and_box_whatever_the_orientation(bench: ModuleType, codes: str, tmp_path: Path) -> None:
    outlined = np.zeros(SHAPE, dtype=np.uint8)
    outlined[TUMOR] = 1
    volume = saved(head(), codes, tmp_path / "a.nii.gz")
    mask = saved(outlined * 255, codes, tmp_path / "a-label.nii.gz")
    asked = {each.frame: each for each in bench.slices(bench.oriented(volume), bench.oriented(mask), 5.0)}
    # Crown at 33, brain down to 120 mm below it: 9. Tumour at 28 to 30; 27 and 31 are nearer to it than 10 mm.
    assert {frame: each.kind for frame, each in asked.items()} == {
        **dict.fromkeys(range(9), "face, neck"),
        **dict.fromkeys([*range(9, 27), 32, 33], "away"),
        **dict.fromkeys(range(28, 31), "tumor"),
    }
    shown = read_image(mask, frame=29, axis="axial")
    rows, columns = np.nonzero(shown)
    assert asked[29].box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_without_a_mask_slices_are_healthy_and_as_far_apart_as_asked(bench: ModuleType, tmp_path: Path) -> None:
    volume = bench.oriented(saved(head(), "RAS", tmp_path / "a.nii"))
    assert [(each.frame, each.kind, each.box) for each in bench.slices(volume, None, 40.0)] == [
        (0, "face, neck", None),
        (8, "face, neck", None),
        (16, "healthy", None),
        (24, "healthy", None),
        (32, "healthy", None),
    ]


def test_a_mask_of_another_grid_is_refused(bench: ModuleType, tmp_path: Path) -> None:
    volume = bench.oriented(saved(head(), "RAS", tmp_path / "a.nii"))
    other = bench.oriented(saved(head()[:-1], "RAS", tmp_path / "a-label.nii"))
    with pytest.raises(SystemExit, match="another grid"):
        list(bench.slices(volume, other, 5.0))
