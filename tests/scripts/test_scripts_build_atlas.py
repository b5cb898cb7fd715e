"""The script that rebuilds the atlas, on made-up files of the original's form; it reads what the original has."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from detectclf.duplicates import atlas as packaged
from detectclf.duplicates.fingerprints import Fingerprints, fingerprint

h5py = pytest.importorskip("h5py")

IDS = {1: "100360", 2: "MR0012A", 3: "100360"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "build_atlas.py"
    spec = importlib.util.spec_from_file_location("build_atlas", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def picture(number: int) -> np.ndarray:
    """``(48, 48)`` int16 as on a screen: brighter to the right, and a block at a place of its own."""
    image = np.tile(np.arange(48, dtype=np.int16) * 10, (48, 1))
    image[6 * number : 6 * number + 8, 4 : 8 + 8 * number] = 900
    return image


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    (folder / "part").mkdir(parents=True)
    for number, identity in IDS.items():
        with h5py.File(folder / "part" / f"{number}.mat", "w") as file:
            group = file.create_group("cjdata")
            group["image"] = picture(number).T  # MATLAB stores columns first
            group["label"] = np.array([[float(number)]])
            group["PID"] = np.array([[ord(letter)] for letter in identity], dtype=np.uint16)
            group["tumorMask"] = np.zeros((48, 48), dtype=np.uint8)
    with h5py.File(folder / "cvind.mat", "w") as file:
        file["cvind"] = np.array([[2.0, 5.0, 2.0]])
    return folder


def run(script: ModuleType, *arguments: object) -> tuple[int, str]:
    import typer

    app = typer.Typer()
    app.command()(script.main)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output


def test_the_atlas_has_every_slice_with_patient_fold_and_label(
    script: ModuleType, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "atlas.npz"
    code, said = run(script, originals, "--out", out, "--before", tmp_path / "none.npz")
    assert code == 0 and "3 slices of 2 patients" in said
    with np.load(out) as arrays:
        assert arrays["source"].tolist() == [1, 2, 3]
        assert arrays["patient"].tolist() == [1, 2, 1], "by the rank of the id"
        assert arrays["fold"].tolist() == [2, 5, 2]
        assert arrays["label"].tolist() == ["meningioma", "glioma", "pituitary"]
        assert arrays["thumbnail"].shape == (3, 24, 24) and arrays["thumbnail"].dtype == np.uint8
    # The product reads what the script writes, upright: a slice is found by its content.
    monkeypatch.setattr(packaged, "FILE", str(out))
    atlas = packaged.load_atlas.__wrapped__()
    for number in IDS:
        grey = np.rint(picture(number) * (255 / 900)).astype(np.uint8)
        found = atlas.match(Fingerprints(fingerprint(grey), ("a",), ("train",), ("here",)))
        assert found.tolist() == [number - 1]


def test_numbers_of_patients_stay_those_of_the_atlas_before(
    script: ModuleType, originals: Path, tmp_path: Path
) -> None:
    before, out = tmp_path / "before.npz", tmp_path / "atlas.npz"
    for numbers, expected in (([7, 4, 7], 0), ([7, 7, 4], 2)):  # the second has other patients
        np.savez(before, source=np.array([1, 2, 3]), patient=np.array(numbers))
        code, said = run(script, originals, "--out", out, "--before", before)
        assert code == expected, said
    with np.load(out) as arrays:
        assert arrays["patient"].tolist() == [7, 4, 7]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "cvind.mat").unlink(), "no cvind.mat"),
        (lambda folder: (folder / "part" / "2.mat").unlink(), "1 of 3 files are missing, the first is 2.mat"),
        (lambda folder: (folder / "part" / "2.mat").write_bytes(b"text"), "2.mat: not a slice of figshare 1512427"),
    ],
)
def test_what_is_missing_is_named(
    script: ModuleType, originals: Path, tmp_path: Path, spoil: object, reason: str
) -> None:
    spoil(originals)  # type: ignore[operator]
    code, said = run(script, originals, "--out", tmp_path / "atlas.npz")
    assert code == 2 and reason in said and not (tmp_path / "atlas.npz").exists()


def test_without_h5py_the_remedy_is_named(
    script: ModuleType, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    code, said = run(script, originals, "--out", tmp_path / "atlas.npz")
    assert code == 2 and "pip install h5py" in said
