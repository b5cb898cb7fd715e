"""Trains both stages on an XLA device and on the CPU: losses agree to 1e-3, and no step compiles after the warm-up.

The device is what PJRT_DEVICE names, by default the CPU; on a TPU, TPU. Each case is a
process of its own:

- classifier, detector: the losses of the first epochs on XLA are those of the CPU, by the same torch. Compiled programs
  are counted after every step, and their number stands still from the first step of the second epoch on.
- resume: `detectclf train-classifier --device xla`, stopped by SIGTERM and resumed, ends with the weights of a run that
  was left alone, to the bit, and the checkpoint loads without torch_xla.
- refused: no device, two devices and fp16 are one line each.

Usage: scripts/test_xla [CASE...]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
AGREE, AGREE_EPOCHS = 1e-3, 2
"""Part of the loss, and in how many epochs of three steps: a difference of rounding grows from step to step, on any
device."""

WARM_UP_STEPS = 4
"""Three of the first epoch, whose states are new one after the other, and one more after the first evaluation."""


def main() -> int:
    """Runs the cases; exit code 1 where one fails."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or CASES:
            began = time.monotonic()
            try:
                wrong, said = CASES[name](Path(folder) / name)
            except subprocess.CalledProcessError as error:  # its own lines stand above
                wrong, said = f"{error.cmd[1:4]} failed", ""
            failed += bool(wrong)
            print(f"{name}: {wrong or 'right'}; {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


def agrees(stage: str, folder: Path) -> tuple[str, str]:
    """What is wrong, and the figures."""
    xla, cpu = (worker(stage, device, folder / device) for device in ("xla", "cpu"))
    apart = [
        max(abs(ours["losses"][name] - value) for name, value in theirs["losses"].items()) / theirs["loss"]
        for ours, theirs in zip(xla["records"], cpu["records"], strict=True)
    ]
    programs = xla["programs"]
    said = (
        f"losses of each epoch {', '.join(f'{each:.0e}' for each in apart)} apart; programs after each step {programs}"
    )
    if max(apart[:AGREE_EPOCHS]) > AGREE:
        return "the losses differ", said
    if programs[WARM_UP_STEPS - 1] != programs[-1]:
        return "a step after the warm-up compiles", said
    return "", said


def worker(stage: str, device: str, folder: Path) -> dict[str, Any]:
    """Trains in a process of its own, because Accelerate keeps one device per process."""
    command = [sys.executable, __file__, "--worker", stage, device, str(folder)]
    given = environment(USE_TORCH_XLA=str(int(device == "xla")))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=given)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def environment(**changes: str) -> dict[str, str]:
    """Compiles quickly rather than well, which is most of the time here."""
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "training")))
    return {"XLA_FLAGS": quick} | os.environ | {"PYTHONPATH": path} | changes


def train_here(stage: str, device: str, folder: Path) -> None:
    """The worker: a run directory and ``result.json`` in ``folder``."""
    from training_helpers import Watch, classification_task, detection_task, train, training, write_samples

    folder.mkdir(parents=True)
    samples = write_samples(folder / "slices", 11)
    if stage == "classifier":
        task: Any = classification_task(samples, dropout=0.0)
    else:
        task = detection_task(samples, arch="fasterrcnn_small_fpn")
    programs: list[int] = []
    # An average that passes a half, and a cosine to 0: what could make other programs.
    settings = training(device=device, epochs=5, ema_decay=0.9)
    history = train(task, settings, folder / "run", progress=Watch(lambda _: programs.append(compiled(device))))
    result = {"records": history.records, "programs": programs}
    (folder / "result.json").write_text(json.dumps(result))


def compiled(device: str) -> int:
    """How many programs were compiled so far."""
    if device != "xla":
        return 0
    from torch_xla.debug import metrics

    return int(metrics.counter_value("UncachedCompile") or 0)


def resumes(folder: Path) -> tuple[str, str]:
    """Stops a training in its second epoch, and goes on."""
    detectclf("data", "sample", "--out", str(folder / "data"), "--n", "24")
    settings = ["--arch", "cnn", "--weights", "none", "--epochs", "3", "--set", "model.image_size=32"]
    command = ["train-classifier", "--data", str(folder / "data"), *settings, "--device", "xla", "--out"]
    detectclf(*command, str(folder / "whole"))
    stopped = subprocess.Popen(arguments(*command, str(folder / "run")), env=environment())
    while not (folder / "run" / "metrics.jsonl").exists() and stopped.poll() is None:
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    code = stopped.wait()
    detectclf(*command, str(folder / "run"), "--resume")
    check = "import sys, torch; from pathlib import Path; from safetensors.torch import load_file as load\n"
    check += "a, b = (load(Path(sys.argv[1]) / n / 'model.safetensors') for n in ('whole', 'run'))\n"
    check += "last = load(sorted((Path(sys.argv[1]) / 'run/last').glob('0*.safetensors'))[-1])\n"
    check += "assert not any(t.device.type != 'cpu' for t in last.values())\n"
    check += "sys.exit(any(not torch.equal(a[k], b[k]) for k in a))"
    same = subprocess.run([sys.executable, "-c", check, str(folder)], env=environment(USE_TORCH_XLA="0"))
    wrong = "" if code == 130 and same.returncode == 0 else f"exit code {code} when stopped, weights differ: {same}"
    return wrong, "stopped in the second epoch and resumed"


REFUSALS = {
    "no PJRT_DEVICE and no TPU": ({"PJRT_DEVICE": ""}, [], "there is no TPU"),
    "no TPU": ({"PJRT_DEVICE": "TPU"}, [], "libtpu"),
    "two devices": ({"PJRT_DEVICE": "CPU", "CPU_NUM_DEVICES": "2"}, [], "one device, and there are 2"),
    "fp16": ({"PJRT_DEVICE": "CPU"}, ["--set", "training.precision=fp16"], "fp16"),
}


def refuses(folder: Path) -> tuple[str, str]:
    """Each is one line on stderr and exit code 2."""
    detectclf("data", "sample", "--out", str(folder / "data"), "--n", "24")
    wrong = []
    for name, (changes, flags, text) in REFUSALS.items():
        settings = ["--arch", "cnn", "--weights", "none", "--device", "xla", *flags, "--out", str(folder / name)]
        command = arguments("train-classifier", "--data", str(folder / "data"), "--quiet", *settings)
        given = {key: value for key, value in environment(**changes).items() if value}
        done = subprocess.run(command, env=given, capture_output=True, text=True)
        lines = done.stderr.strip().splitlines()
        if done.returncode != 2 or not lines or text not in lines[-1] or "Traceback" in done.stderr:
            wrong.append(f"{name}: exit code {done.returncode}, {lines[-1:]}")
    return "; ".join(wrong), f"{len(REFUSALS)} refusals"


def arguments(*command: str) -> list[str]:
    """Of the command line."""
    return [sys.executable, "-m", "detectclf", *command]


def detectclf(*command: str) -> None:
    """Runs a command, which has to succeed."""
    subprocess.run(arguments(*command), check=True, stdout=subprocess.DEVNULL, env=environment())


CASES: dict[str, Callable[[Path], tuple[str, str]]] = {
    "classifier": lambda folder: agrees("classifier", folder),
    "detector": lambda folder: agrees("detector", folder),
    "resume": resumes,
    "refused": refuses,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        train_here(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        sys.exit(main())
