"""Kills and stops small trainings at random moments: each must go on as if nothing had happened.

python scripts/kill_test.py [--kills 200] [--stops 20] [--only STAGE-WORKERS] [--seed 0] [--out DIR]

Both stages, without and with two loader processes. SIGKILL comes at any moment from the start of the process on, and
a quarter of them while a file is being written (known by the unfinished file that it leaves); SIGTERM and SIGINT go to
the whole process group. After each, the newest checkpoint has to be whole and no older than before, and the folder no
larger than a finished run with one file more. A training that reaches its end must have the same weights and losses, to
the bit, as one that was left alone. Exit code 1 where something of this does not hold.

The trainings are forks of this process, which has imported everything already: a life takes about a second of one core.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file

from detectclf.cli import main as detectclf_main
from detectclf.sample_data.export import write_sample_data
from detectclf.training.checkpoints import load_checkpoint

INTERRUPTED = 130
ROUNDS = 5
SETTINGS = {
    "classifier": ["--arch", "cnn", "--epochs", "6", "--set", "model.image_size=32"],
    "detector": ["--config", "demo-detector", "--epochs", "3", "--set", "model.image_size=64"],
}


@dataclass
class Training:
    """A small training, and the folders of its runs.

    Attributes:
        stage, workers: what is trained, with how many loader processes.
        folder: holds ``data``, ``whole`` (the run that is left alone) and ``run``.
        seconds: a whole training takes, without imports, about.
        place: finished epochs and steps when ``run`` was last looked at.
    """

    stage: str
    workers: int
    folder: Path
    seconds: float = 0.0
    place: tuple[int, int] = (0, 0)

    @property
    def run(self) -> Path:
        """The run that is killed or stopped."""
        return self.folder / "run"

    def start(self, out: Path, save_every: int) -> int:
        """A process that trains, in a process group of its own."""
        child = os.fork()
        if child == 0:
            _train(self, out, save_every)
        with suppress(PermissionError, ProcessLookupError):  # it has done so itself, or has ended
            os.setpgid(child, child)
        return child

    def left_alone(self) -> None:
        """Trains ``whole``."""
        began = time.monotonic()
        status = os.waitpid(self.start(self.folder / "whole", 0), 0)[1]
        assert os.waitstatus_to_exitcode(status) == 0, (self.folder / "log").read_text()
        self.seconds = 0.4 * (time.monotonic() - began)
        # The rest was imports. They are done once for all further lives, which then begin to train at once.
        for name in (self.folder / "modules").read_text().split():
            with suppress(ImportError):
                importlib.import_module(name)

    def check_run(self) -> None:
        """What has to hold whenever a training has ended, in whatever manner."""
        log = (self.folder / "log").read_text()
        assert "damaged" not in log and "internal error" not in log and "Traceback" not in log, log
        found = load_checkpoint(self.run / "last")
        place = (0, 0) if found is None else (found.state["place"]["epoch"], found.state["place"]["step"])
        assert found is None or not found.damaged, f"{found.damaged} cannot be read"
        assert place >= self.place, f"back from {self.place} to {place}"
        self.place = place
        most = size(self.folder / "whole") + max(p.stat().st_size for p in (self.folder / "whole" / "last").iterdir())
        assert size(self.run) <= 1.05 * most, f"{size(self.run)} bytes, {most} are enough"

    def check_end(self) -> None:
        """What has to hold when a training has reached its end; makes room for the next."""
        for name in ("model.safetensors", max((self.folder / "whole" / "last").iterdir()).name):
            whole = load_file(self.folder / "whole" / ("last" if name[0] == "0" else "") / name)
            mine = load_file(max((self.run / "last").glob("0*")) if name[0] == "0" else self.run / name)
            assert whole.keys() == mine.keys()
            assert [k for k in whole if not torch.equal(whole[k], mine[k])] == [], f"other weights in {name}"
        whole, mine = (losses(self.folder / name / "metrics.jsonl") for name in ("whole", "run"))
        assert whole == mine, "other losses or figures"
        whole_names, names = ({p.name for p in (self.folder / name).iterdir()} for name in ("whole", "run"))
        assert whole_names == names, f"only in one of both: {whole_names ^ names}"
        assert len(list((self.run / "last").iterdir())) == 2, "not two checkpoints"
        shutil.rmtree(self.run)
        self.place = (0, 0)


@dataclass
class Tally:
    """What was done, and to how many trainings."""

    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))


def kill(training: Training, rng: random.Random, tally: Tally, *, while_saving: bool) -> None:
    """One life that ends by SIGKILL, or at its natural end."""
    child = training.start(training.run, save_every=1)
    if while_saving:
        signalled = _wait_for_a_save(training.run, child, rng)
    else:
        signalled = not _ends_within(child, rng.uniform(0, training.seconds))
    if not signalled:
        tally.counts["trainings to the end, all to the bit"] += 1
        training.check_run()
        training.check_end()
        return
    to_all = rng.random() < 0.5  # else loader processes have to find out for themselves
    (os.killpg if to_all else os.kill)(child, signal.SIGKILL)
    os.waitpid(child, 0)
    tally.counts["kills"] += 1
    tally.counts["kills inside a save"] += any(training.run.rglob("*.partial"))
    training.check_run()


def stop(training: Training, rng: random.Random, tally: Tally) -> None:
    """One life that ends by SIGTERM or SIGINT to the process group, or at its natural end."""
    started = training.run / "env.json"
    before = started.stat().st_mtime_ns if started.exists() else 0
    child = training.start(training.run, save_every=0)
    while not started.exists() or started.stat().st_mtime_ns == before:
        if _ends_within(child, 0.001):
            raise AssertionError((training.folder / "log").read_text())
    ended = _ends_within(child, rng.uniform(0.02, 0.3 * training.seconds))
    if not ended:
        os.killpg(child, rng.choice([signal.SIGTERM, signal.SIGINT]))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == INTERRUPTED, f"exit code {code}: " + (training.folder / "log").read_text()
        tally.counts[f"stops of a {training.stage} with {training.workers} workers"] += 1
    training.check_run()
    if ended:
        tally.counts["trainings to the end, all to the bit"] += 1
        training.check_end()


def finish(training: Training, tally: Tally) -> None:
    """Lets a training that was begun reach its end."""
    if training.run.exists():
        code = os.waitstatus_to_exitcode(os.waitpid(training.start(training.run, 0), 0)[1])
        assert code == 0, (training.folder / "log").read_text()
        tally.counts["trainings to the end, all to the bit"] += 1
        training.check_run()
        training.check_end()


def size(folder: Path) -> int:
    """Bytes in all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def losses(file: Path) -> list[dict[str, object]]:
    """What does not depend on the time of day, of each epoch."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{key: record[key] for key in ("epoch", "losses", "lr", "metrics")} for record in records]


def _train(training: Training, out: Path, save_every: int) -> None:
    os.setpgid(0, 0)
    log = os.open(training.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = ["--data", str(training.folder.parent / "data"), "--out", str(out), "--resume", "--weights", "none"]
    settings = {
        "training.save_every_steps": save_every,
        "data.workers": training.workers,
        "training.batch_size": 4,
        "training.device": "cpu",
        "training.precision": "fp32",
    }
    assigned = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    sys.argv = ["detectclf", f"train-{training.stage}", *options, *SETTINGS[training.stage], *assigned]
    code = 1
    try:
        detectclf_main()
    except SystemExit as done:
        code = int(done.code or 0)
        (training.folder / "modules").write_text("\n".join(sys.modules))
    finally:
        # Loader processes must not outlive a training that has ended by itself: that would be a fault.
        os._exit(code)


def _ends_within(child: int, seconds: float) -> bool:
    """Whether the training reaches its end in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0, f"exit code {os.waitstatus_to_exitcode(status)}"
            return True
        time.sleep(0.0005)
    return False


def _wait_for_a_save(run: Path, child: int, rng: random.Random) -> bool:
    """Waits until the training is writing a file, a few files from now; false if it has ended before."""
    unfinished = _unfinished(run)
    for _ in range(rng.randint(1, 8)):
        before = unfinished
        while not unfinished - before:
            if _ends_within(child, 0.0006):
                return False
            unfinished = _unfinished(run)
    time.sleep(rng.uniform(0, 0.002))
    return True


def _unfinished(run: Path) -> set[tuple[str, int]]:
    """Name and inode of each unfinished file."""
    found = set()
    for folder in (run, run / "last"):
        if folder.is_dir():
            found |= {(entry.name, entry.inode()) for entry in os.scandir(folder) if entry.name.endswith(".partial")}
    return found


def _trainings(out: Path, only: str | None) -> Iterator[Training]:
    for stage in SETTINGS:
        for workers in (0, 2):
            folder = out / f"{stage}-{workers}"
            if only in (None, folder.name):
                folder.mkdir(parents=True)
                yield Training(stage, workers, folder)


def main(
    kills: Annotated[int, typer.Option(min=0, help="SIGKILLs in all.")] = 200,
    stops: Annotated[int, typer.Option(min=0, help="SIGTERMs and SIGINTs of each training.")] = 20,
    only: Annotated[str | None, typer.Option(help="One training, such as classifier-2 [default: all four].")] = None,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Empty folder [default: a temporary one].")] = None,
) -> None:
    """Kills and stops small trainings at random moments, and prints what came of it."""
    torch.set_num_threads(1)  # a fork has no threads
    out = Path(tempfile.mkdtemp(prefix="kill_test-")) if out is None else out
    os.environ["DETECTCLF_CACHE"] = str(out / "cache")
    write_sample_data(out / "data", n=24, seed=0)
    rng, tally, trainings, began = random.Random(seed), Tally(), list(_trainings(out, only)), time.monotonic()
    try:
        for training in trainings:
            training.left_alone()
        for number, training in enumerate(trainings * ROUNDS, start=1):
            name, turn = f"stops of a {training.stage} with {training.workers} workers", -(-number // len(trainings))
            while tally.counts[name] < stops * turn // ROUNDS:
                stop(training, rng, tally)
            wanted = kills * number // (ROUNDS * len(trainings))
            while tally.counts["kills"] < wanted:
                kill(training, rng, tally, while_saving=4 * tally.counts["kills inside a save"] < wanted)
            finish(training, tally)
            print(f"{tally}; {time.monotonic() - began:.0f} s", flush=True)
    except AssertionError as fault:
        print(f"{training.stage}, {training.workers} workers: {fault}; everything is in {out}", file=sys.stderr)
        raise SystemExit(1) from None
    shutil.rmtree(out)


if __name__ == "__main__":
    typer.run(main)
