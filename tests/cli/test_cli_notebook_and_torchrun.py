"""The notebook runs from bundle to conclusions, and ``torchrun -m detectclf`` trains with two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


# Jupyter's own machinery warns about its event loop and its folders; that is not ours to mend.
@pytest.mark.filterwarnings("default")
def test_notebook_runs_on_a_bundle(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    settings = {"BUNDLE": trained.bundle, "DATA": trained.data, "OUT": tmp_path / "out", "BOOTSTRAP": 20}
    for name, value in settings.items():
        monkeypatch.setenv(f"DETECTCLF_{name}", str(value))
    notebook = nbformat.read(ROOT / "notebooks" / "evaluation.ipynb", as_version=4)
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    printed = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert f"accuracy: {report['combined']['accuracy']:.3f}" in printed
    assert any("image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", []))


def test_torchrun_trains_and_tells_once(trained: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "detectclf", "train-classifier", "--data", str(trained.data), "--config", "demo-classifier"]
    command += ["--set", "model.image_size=32", "--epochs", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["epochs"] == 1
    assert len((tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 1
