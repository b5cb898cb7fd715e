"""Speed of prediction by each runtime, beside another checkout and beside other models: in turns, medians and ratios.

    python scripts/bench_predict.py                                  # the packaged bundle, drawn slices of 640 px
    python scripts/bench_predict.py DIR --threads 1 --threads 2 --profile \\
        --checkout ../before --peer-detector yolo26n.onnx --peer-classifier yolo26n-cls.onnx

Each contestant has a process of its own with the same cores, and works from file to record. A batch size of 1 is one
slice after the other; larger ones are a folder, with decoding ahead. On a busy machine compare the processor's time.
Other models are exported with a batch size that may change (Ultralytics: ``format="onnx", dynamic=True``).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from detectclf.pipelines.bench_process import Worker
from detectclf.progress import Progress

HERE = Path(__file__).resolve()
SIDE = 640


def main(
    folder: Annotated[Path | None, typer.Argument(help="JPEG or PNG slices [default: drawn ones of 640 px].")] = None,
    model: Annotated[Path | None, typer.Option(help="Bundle [default: the packaged one].")] = None,
    runtime: Annotated[list[str], typer.Option(help="May be repeated.")] = ["openvino", "onnx", "torch"],  # noqa: B006
    checkout: Annotated[Path | None, typer.Option(help="Another checkout, with its packaged bundle in torch.")] = None,
    peer_detector: Annotated[Path | None, typer.Option(help="YOLO detector, .xml or .onnx.")] = None,
    peer_classifier: Annotated[Path | None, typer.Option(help="YOLO classifier, .xml or .onnx.")] = None,
    threads: Annotated[list[int], typer.Option(help="May be repeated; each is measured by itself.")] = [2],  # noqa: B006
    batch_size: Annotated[list[int], typer.Option(help="May be repeated.")] = [1, 8],  # noqa: B006
    slices: Annotated[int, typer.Option(help="Slices of one pass, a multiple of the batch sizes.")] = 24,
    rounds: Annotated[int, typer.Option(help="Timed passes.")] = 3,
    profile: Annotated[bool, typer.Option("--profile", help="Also where the time goes in ours, by step.")] = False,
) -> None:
    """Prints a table for each number of threads."""
    if any(slices % size for size in batch_size):
        raise SystemExit(f"--slices {slices} is not a multiple of every batch size")
    with tempfile.TemporaryDirectory() as temporary:
        files = drawn(Path(temporary), slices) if folder is None else found(folder, slices)
        job = {"files": [str(file) for file in files], "batch_sizes": batch_size}
        ours = {
            name: {
                "kind": "detectclf",
                "runtime": name,
                "model": model and str(model.resolve()),
                "checkout": str(HERE.parents[1]),
            }
            for name in runtime
        }
        others: dict[str, dict[str, Any]] = {}
        if checkout is not None:
            others[checkout.name] = {
                "kind": "detectclf",
                "runtime": None,
                "model": None,
                "checkout": str(checkout.resolve()),
            }
        if peer_detector is not None and peer_classifier is not None:
            others["peers"] = {"kind": "peers", "detector": str(peer_detector), "classifier": str(peer_classifier)}
        for count in threads:
            jobs = {name: {**job, **own, "threads": count} for name, own in (ours | others).items()}
            workers = measure(jobs, Path(temporary), batch_size, rounds)
            show(workers, count, batch_size, list(others))
            for name in (set(runtime) & {"openvino", "onnx"}) if profile else ():
                show_steps(name, jobs[name])


def measure(jobs: dict[str, dict[str, Any]], logs: Path, batch_sizes: Sequence[int], rounds: int) -> list[Worker]:
    """The contestants after their passes, which they make in turns."""
    with ExitStack() as stack:
        progress = stack.enter_context(Progress("timing", show=False))
        workers = [
            stack.enter_context(Worker(name, command(job), logs / f"{name}.log", progress, environment(job)))
            for name, job in jobs.items()
        ]
        for number in range(1 + rounds):
            for size in batch_sizes:
                for worker in workers:
                    worker.measure(size, warm_up=number == 0)
            if number == 0:
                print("timing", file=sys.stderr, flush=True)
        print("timed", file=sys.stderr, flush=True)
    return workers


def command(job: dict[str, Any]) -> list[str]:
    """Starts a contestant."""
    return [sys.executable, str(HERE.with_name("bench_contestants.py")), json.dumps(job)]


def environment(job: dict[str, Any]) -> dict[str, str]:
    """The environment of a contestant: its package first, and as many threads as it may use."""
    return {**os.environ, "PYTHONPATH": job.get("checkout", ""), "OMP_NUM_THREADS": str(job["threads"])}


def show(workers: Sequence[Worker], threads: int, batch_sizes: Sequence[int], others: Sequence[str]) -> None:
    """Prints the table of one number of threads; a ratio is of the medians, then of the processor's time."""
    able = [worker for worker in workers if not worker.error]
    head = f"{threads} thread{'s' * (threads > 1)}"
    print(f"\n{head:25} ms/slice  fastest    CPU ms  slices/s  peak MiB", *(f"{'to ' + name:>14}" for name in others))
    for size in batch_sizes:
        figures = {worker.runtime: figures_of(worker, size) for worker in able}
        for worker in able:
            own, memory = figures[worker.runtime], worker.memory[size]
            ratios = [
                f"{own.median / figures[name].median:7.2f} {own.busy / figures[name].busy:6.2f}"
                for name in others
                if name in figures
            ]
            print(
                f"{worker.runtime:16} batch {size:<3}{own.median:9.1f} {own.fastest:8.1f} {own.busy:9.1f} "
                f"{own.rate:9.1f} {memory or 0:9.0f}",
                *ratios,
            )
    for worker in workers:
        if worker.error:
            print(f"{worker.runtime}: failed: {worker.error}")


class Figures(NamedTuple):
    """Milliseconds of a slice: median, fastest batch, processor time over all threads; and slices per second."""

    median: float
    fastest: float
    busy: float
    rate: float


def figures_of(worker: Worker, size: int) -> Figures:
    """What the passes with one batch size amount to."""
    batches = worker.seconds[size]
    each, count = [1000 * s / n for n, s in batches], sum(n for n, _ in batches)
    busy = 1000 * sum(worker.cpu_s[size]) / count
    return Figures(statistics.median(each), min(each), busy, count / sum(s for _, s in batches))


def show_steps(runtime: str, job: dict[str, Any]) -> None:
    """Prints where the time of one slice goes."""
    done = subprocess.run(command({**job, "profile": True}), env=environment(job), stdout=subprocess.PIPE, check=True)
    steps = ", ".join(f"{name} {ms:.1f}" for name, ms in json.loads(done.stdout).items())
    print(f"{runtime}, ms of one slice, step by step: {steps}")


def drawn(folder: Path, count: int) -> list[Path]:
    """Drawn slices, enlarged to the size of a usual export, as JPEG."""
    import cv2

    from detectclf.sample_data.export import write_sample_data

    files = sorted(write_sample_data(folder / "drawn", n=max(12, count)).rglob("*.jpg"))[:count]
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(file), cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
    return files


def found(folder: Path, count: int) -> list[Path]:
    """The first slices of a folder; raises SystemExit where there are fewer."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[:count]
    if len(files) < count:
        raise SystemExit(f"{folder} has {len(files)} JPEG or PNG slices: give --slices {len(files)}")
    return files


if __name__ == "__main__":
    typer.run(main)
