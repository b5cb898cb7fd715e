"""Runtimes that cannot be used: one line with what to do; nothing falls back to something slower without saying so."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detectclf.inference.loading import default_bundle
from detectclf.inference.runtimes.processor import cpu_lacks
from detectclf.sample_data.slices import sample_slice


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("picture") / "slice.png"
    Image.fromarray(sample_slice(1, "meningioma", "axial").pixels).save(file)
    return file


def assert_refused(said: Any, *words: str) -> None:
    lines = said.err.splitlines()
    assert said.code == 2, said.err
    assert len(lines) == 1 and lines[0].startswith("detectclf: ") and said.out == "", said.err
    assert "; " in lines[0], "no remedy"
    for word in words:
        assert word in lines[0]


def write_digests(bundle: Path) -> None:
    """Makes the bundle agree with its files, as a program would that damages them and knows the format."""
    file = bundle / "bundle.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["sha256"] = {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in record["sha256"]}
    file.write_text(json.dumps(record), encoding="utf-8")


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(bundle: Path) -> None:
        (bundle / name).write_bytes(change((bundle / name).read_bytes()))

    return spoil


def exchanged(bundle: Path) -> None:
    (bundle / "detector.onnx").write_bytes((bundle / "classifier.onnx").read_bytes())


def another_size(bundle: Path) -> None:
    """As of a detector that was trained again for other inputs, with the graph of the former one."""
    file = bundle / "bundle.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["detector"]["preprocessing"]["size"] = 96
    file.write_text(json.dumps(record), encoding="utf-8")


# What is spoiled, whether the digests are made to agree with it, and what the line says.
DAMAGE: dict[str, tuple[Callable[[Path], None], bool, str]] = {
    "another graph": (changed("detector.onnx", lambda b: b[:-1] + b"?"), False, "detector.onnx: corrupted"),
    "other weights": (changed("classifier.safetensors", lambda b: b[:-1] + b"?"), False, "safetensors: corrupted"),
    "no graph": (lambda bundle: (bundle / "classifier.onnx").unlink(), False, "missing from the bundle"),
    "cut": (changed("detector.onnx", lambda b: b[: len(b) // 2]), True, "detector.onnx: the graph cannot be opened"),
    "overwritten": (changed("classifier.onnx", lambda b: b"\xff" * len(b)), True, "classifier.onnx: the graph cannot"),
    "of another stage": (exchanged, True, "no output boxes"),
    "weights of another network": (changed("detector.safetensors", lambda b: b[:200000]), True, "cannot be opened"),
    "weights outside": (
        changed("classifier.onnx", lambda b: b.replace(b"classifier.safetensors", b"../../../../etc/passwd")),
        True,
        "cannot be opened",
    ),
    "for another size": (another_size, True, "the graph cannot be run"),
}


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_bundle_is_refused(cli: Any, picture: Path, tmp_path: Path, name: str, runtime: str) -> None:
    spoil, agree, text = DAMAGE[name]
    bundle = tmp_path / "bundle"
    shutil.copytree(default_bundle(), bundle)
    spoil(bundle)
    if agree:
        write_digests(bundle)
    said = cli("predict", picture, "--model", bundle, "--runtime", runtime, "--out", tmp_path / "out")
    assert_refused(said, text)


NOT_HERE = {
    "openvino cuda": "OpenVINO does not run on 'cuda'",
    "openvino gpu": "OpenVINO does not run on 'gpu'",
    "onnx cuda": "this ONNX Runtime has no CUDA",
    "onnx cuda:x": "does not run on 'cuda:x'",
    "onnx mps": "does not run on 'mps'",
}


@pytest.mark.parametrize("name", NOT_HERE)
def test_a_device_that_the_runtime_has_not_is_refused(cli: Any, picture: Path, tmp_path: Path, name: str) -> None:
    runtime, device = name.split()
    said = cli("predict", picture, "--runtime", runtime, "--device", device, "--out", tmp_path / "out")
    assert_refused(said, NOT_HERE[name])


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_runs_have_no_graphs(cli: Any, trained: Any, picture: Path, tmp_path: Path, runtime: str) -> None:
    runs = ("--detector", trained.detector, "--classifier", trained.classifier)
    said = cli("predict", picture, *runs, "--runtime", runtime, "--out", tmp_path / "out")
    assert_refused(said, "no graphs", "detectclf bundle", "--runtime torch")


def test_a_bundle_without_graphs_is_refused_or_says_what_it_uses(cli: Any, picture: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(default_bundle(), bundle)
    record = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    record["sha256"] = {name: sum for name, sum in record["sha256"].items() if not name.endswith(".onnx")}
    (bundle / "bundle.json").write_text(json.dumps(record), encoding="utf-8")
    arguments = ("predict", picture, "--model", bundle, "--device", "cpu", "--out", tmp_path / "out")
    assert_refused(cli(*arguments, "--runtime", "openvino"), "no graphs", "--no-export", "--runtime torch")
    said = cli(*arguments)
    assert said.code == 0 and "predicting with torch" in said.err


def predict_without(
    modules: dict[str, str], picture: Path, out: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Predicts in a process where ``modules`` cannot be imported, by being absent or by an error."""
    hidden = [name for name, error in modules.items() if not error]
    out.mkdir()
    # What a missing or a broken installation does, from the start of the interpreter on.
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in hidden)]
    (out / "sitecustomize.py").write_text("\n".join(lines), encoding="utf-8")
    for name, error in modules.items():
        if error:
            (out / f"{name}.py").write_text(f"raise ImportError({error!r})", encoding="utf-8")
    path = os.pathsep.join([str(out), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "detectclf", "predict", str(picture), "--out", str(out / "out"), *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


# Modules that cannot be imported and why (empty: not installed), arguments, exit code, what is said.
MISSING: dict[str, tuple[dict[str, str], list[str], int, str]] = {
    "asked for OpenVINO": ({"openvino": ""}, ["--runtime", "openvino"], 2, "install openvino, or use --runtime torch"),
    "asked for ONNX Runtime": ({"onnxruntime": ""}, ["--runtime", "onnx"], 2, "pip install 'detectclf[onnx]'"),
    "instead of OpenVINO": ({"openvino": ""}, [], 0, "OpenVINO is not installed: predicting with ONNX Runtime"),
    "neither": ({"openvino": "", "onnxruntime": ""}, [], 0, "OpenVINO is not installed: predicting with torch"),
    "broken": ({"openvino": "libtbb.so.12: cannot open"}, [], 2, "cannot be imported: libtbb.so.12: cannot open"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_runtime_that_is_not_installed(name: str, picture: Path, tmp_path: Path) -> None:
    modules, arguments, code, text = MISSING[name]
    done = predict_without(modules, picture, tmp_path / "process", *arguments)
    assert done.returncode == code, done.stderr
    assert text in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("flags", "lacking"),
    [("flags\t\t: fpu sse2 ssse3", "SSE4.2"), ("flags\t\t: fpu sse2 sse4_2 avx2", None), ("model name\t: none", None)],
)
def test_the_instructions_that_openvino_needs(
    flags: str, lacking: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n", encoding="utf-8")
    assert cpu_lacks(tmp_path / "cpuinfo") == lacking
    assert cpu_lacks(tmp_path / "none") is None
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert cpu_lacks(tmp_path / "cpuinfo") is None
