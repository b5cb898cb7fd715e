"""What prediction and evaluation import, in processes of their own: neither torch nor anything else that is heavy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from detectclf.inference.loading import default_bundle
from detectclf.sample_data.export import write_sample_data
from detectclf.sample_data.slices import sample_slice

HEAVY = ("torch", "torchvision", "timm", "accelerate", "albumentations", "supervision", "pandas", "onnx")
PLOTS = (*HEAVY, "scipy", "matplotlib", "multiprocessing", "asyncio")

RUN = """
import runpy, sys
forbidden, sys.argv = sys.argv[1].split(","), ["detectclf", *sys.argv[2:]]
try:
    runpy.run_module("detectclf", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
print("imported:", *(name for name in forbidden if name in sys.modules))
"""

LOAD = """
import sys
import detectclf
prediction = detectclf.load().predict(sys.argv[2])
assert prediction.label == "meningioma"
prediction.draw()
print("imported:", *(name for name in sys.argv[1].split(",") if name in sys.modules))
"""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slice on which the packaged model boxes a tumour, so that one is drawn."""
    file = tmp_path_factory.mktemp("picture") / "slice.jpg"
    Image.fromarray(sample_slice(1, "meningioma", "axial").pixels).save(file)
    return file


def test_openvino_does_not_report(picture: Path, tmp_path: Path) -> None:
    """Its telemetry, where installed, sends data and writes into the home folder at each import."""
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('reported')", encoding="utf-8")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + LOAD
    assert imported(program, ("openvino_telemetry",), picture) == "imported:"


def imported(program: str, forbidden: tuple[str, ...], *arguments: object) -> str:
    command = [sys.executable, "-c", program, ",".join(forbidden), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("flags", [(), ("--visualize",), ("--json",), ("--runtime", "onnx")], ids=" ".join)
def test_predict_imports_nothing_heavy(picture: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    forbidden = tuple(name for name in PLOTS if "onnx" not in flags or name not in ("multiprocessing", "asyncio"))
    assert imported(RUN, forbidden, "predict", picture, "--out", tmp_path / "out", *flags) == "imported:"


def test_the_library_imports_nothing_heavy(picture: Path) -> None:
    assert imported(LOAD, PLOTS, picture) == "imported:"


def test_evaluate_imports_nothing_heavy_but_what_draws_its_figures(tmp_path: Path) -> None:
    """matplotlib draws figures, and scipy finds copies among many slices."""
    # Without the fingerprints of its training slices, to which comparing the slices takes half a minute.
    bundle = shutil.copytree(default_bundle(), tmp_path / "bundle", ignore=shutil.ignore_patterns("fingerprints*"))
    write_sample_data(tmp_path / "data", n=12, seed=0)
    arguments = ("evaluate", "--data", tmp_path / "data", "--model", bundle, "--out", tmp_path / "out")
    assert imported(RUN, HEAVY, *arguments, "--set", "evaluate.bootstrap=50") == "imported:"
    assert "data:image/jpeg" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8"), "a mistake was drawn"
