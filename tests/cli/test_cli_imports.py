"""What prediction and evaluation import, in processes of their own: neither torch nor anything else that is heavy."""

from __future__ import annotations

import json
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


REFUSED = """
import contextlib, io, json, sys
from detectclf.cli import main
forbidden, said = sys.argv[1].split(","), []
for line in json.loads(sys.argv[2]):
    sys.argv = ["detectclf", *line]
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as stop:
            assert stop.code == 2, line
    said.append([err.getvalue(), [name for name in forbidden if name in sys.modules]])
print(json.dumps(said))
"""

TRAIN_ON = ("--data", "{data}")
SLIPS = {
    "arch": (("train-classifier", *TRAIN_ON, "--arch", "mobilnet_v2"), "did you mean mobilenet_v2?"),
    "arch, other case": (("train-classifier", *TRAIN_ON, "--arch", "ResNet-50"), "did you mean resnet50?"),
    "arch of the other stage": (("train-detector", *TRAIN_ON, "--arch", "resnet50"), "which is a classifier"),
    "arch of a search": (
        ("tune", "--stage", "classifier", "--trials", "1", *TRAIN_ON, "--arch", "mobilnet_v2"),
        "did you mean mobilenet_v2?",
    ),
    "weights": (("train-classifier", *TRAIN_ON, "--weights", "gone.pt"), "gone.pt: no such weights file"),
    "word for weights": (("train-classifier", *TRAIN_ON, "--weights", "defualt"), "did you mean default?"),
    "no data": (("train-detector",), "no data given"),
    "data": (("train-detector", "--data", "gone"), "gone: no such folder"),
    "split": (("train-detector", *TRAIN_ON, "--set", "data.valid_split=vaild"), "'vaild'"),
    "device to train on": (("train-detector", *TRAIN_ON, "--device", "gpu"), "unknown device 'gpu'"),
    "device to predict on": (("predict", "{data}", "--out", "p", "--device", "gpu"), "unknown device 'gpu'"),
    "device to evaluate on": (("evaluate", *TRAIN_ON, "--device", "gpu"), "unknown device 'gpu'"),
    "setting": (("train-detector", *TRAIN_ON, "--set", "training.lrr=1"), "did you mean training.lr?"),
    "setting of others": (("train-detector", *TRAIN_ON, "--set", "learning_rate=1"), "did you mean training.lr?"),
    "run": (("bundle", *TRAIN_ON, "--detector", "gone", "--classifier", "gone", "--out", "b"), "gone: no such folder"),
    "bundle to evaluate": (("evaluate", *TRAIN_ON, "--model", "gone"), "gone: no such folder"),
    "bundle to time": (("bench", "gone"), "gone: no such folder"),
    "bundle to export": (("export", "gone", "--to", "onnx", "--out", "e"), "gone: no such folder"),
}


def test_a_slip_in_a_name_is_told_before_torch_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading it takes seconds. And no folder is left behind."""
    monkeypatch.chdir(tmp_path)
    data = write_sample_data(tmp_path / "data", n=12, seed=0)
    lines = [[word.format(data=data) for word in line] for line, _ in SLIPS.values()]
    said = json.loads(imported(REFUSED, HEAVY, json.dumps(lines)))
    for (name, (_, reason)), (line, loaded) in zip(SLIPS.items(), said, strict=True):
        assert reason in line and line.startswith("detectclf: ") and len(line.splitlines()) == 1, (name, line)
        assert loaded == [], name
    assert [each.name for each in tmp_path.iterdir()] == ["data"]
