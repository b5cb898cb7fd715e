"""Two processes on gloo train the same model as one: the batch is the global one, split over them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_helpers import read_history
from two_processes import SLICES, train_both


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(what: str, folder: Path) -> list[str]:
    """The command that runs two_processes.py in two processes."""
    script = Path(__file__).with_name("two_processes.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return [*torchrun, "--master-port", str(free_port()), str(script), what, str(folder)]


def environment() -> dict[str, str]:
    """Of the launcher."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of one process, and of two."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("torch is built without gloo")
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    train_both(one)
    shutil.copytree(one / "slices", two / "slices")
    done = subprocess.run(launch("both", two), capture_output=True, text=True, env=environment(), timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return one, two


# Where they differ, and by how much at most:
# - classifier: each loss is a mean over equal shares, so only the order of float additions differs, which AdamW's
#   division by the size of the gradient makes larger (weights 5e-5 apart when measured, losses 1e-6).
# - detector: torchvision divides a loss by the number of anchors looked at in the process's own share, which differs a
#   little between shares (losses 6e-4 apart when measured, weights 7e-4).
TOLERANCE = {"classifier": 1e-4, "detector": 5e-3}


@pytest.mark.parametrize("stage", ["classifier", "detector"])
def test_two_processes_learn_what_one_learns(folders: tuple[Path, Path], stage: str) -> None:
    one, two = (read_history(folder / stage) for folder in folders)
    assert len(one) == len(two)
    for alone, together in zip(one, two, strict=True):
        for name, value in alone["losses"].items():
            assert together["losses"][name] == pytest.approx(value, rel=TOLERANCE[stage]), name
        for name, value in alone["metrics"].items():
            assert together["metrics"][name] == pytest.approx(value, abs=TOLERANCE[stage]), name
    weights = [load_file(folder / stage / "model.safetensors") for folder in folders]
    for name, value in weights[0].items():
        if value.is_floating_point():
            assert (weights[1][name] - value).abs().max() < 5 * TOLERANCE[stage], name


def test_two_processes_saw_every_slice(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        facts = (folder / "classifier" / "model.json").read_text()
        assert f'"training_slices": {SLICES}' in facts
    assert '"processes": 2' in (folders[1] / "classifier" / "env.json").read_text()


def test_two_processes_that_were_stopped_in_the_first_epoch_go_on_exactly(folders: tuple[Path, Path]) -> None:
    whole, parts = (folders[1] / name for name in ("classifier", "parts"))
    assert [r["losses"] for r in read_history(whole)] == [r["losses"] for r in read_history(parts)]
    weights = [load_file(run / "model.safetensors") for run in (whole, parts)]
    assert [name for name, value in weights[0].items() if not torch.equal(value, weights[1][name])] == []


def wait_until(met: Callable[[], bool], seconds: float = 100.0) -> None:
    """Fails if it takes longer."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at processes as Linux shows them")
def test_no_process_trains_on_after_the_launcher_was_killed(tmp_path: Path) -> None:
    launcher = subprocess.Popen(launch("for-ever", tmp_path), env=environment(), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: any((tmp_path / "for-ever" / "last").glob("0*.safetensors")))
    finally:
        launcher.kill()
        launcher.wait()
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    wait_until(lambda: not any(map(alive, pids)), 10.0)
