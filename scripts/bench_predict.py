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
from typing import Annotated, Any

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
            name: {"kind": "detectclf", "runtime": name, "model": model and str(model.resolve())} for name in runtime
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
    package = job.get("checkout", str(HERE.parents[1]))
    return {**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": str(job["threads"])}


def show(workers: Sequence[Worker], threads: int, batch_sizes: Sequence[int], others: Sequence[str]) -> None:
    """Prints the table of one number of threads."""
    medians = {
        (w.runtime, size): statistics.median(1000 * s / n for n, s in w.seconds[size])
        for w in workers for size in batch_sizes if not w.error
    }  # fmt: skip
    print(f"\n{threads} thread{'s' * (threads > 1)}{'':15}ms/slice  fastest    CPU ms  slices/s  peak MiB" + "".join(
        f"  {'to ' + name:>14}" for name in others
    ))  # fmt: skip
    for size in batch_sizes:
        for w in workers:
            if w.error:
                print(f"{w.runtime:12} failed: {w.error}")
                continue
            each, memory = w.seconds[size], w.memory[size]
            busy = 1000 * sum(w.cpu_s[size]) / sum(n for n, _ in each)
            rate = sum(n for n, _ in each) / sum(s for _, s in each)
            ratios = [
                f"{medians[w.runtime, size] / medians[name, size]:16.2f}" if (name, size) in medians else f"{'-':>16}"
                for name in others
            ]
            print(
                f"{w.runtime:12} batch {size:<5} {medians[w.runtime, size]:9.1f} "
                f"{min(1000 * s / n for n, s in each):8.1f} {busy:9.1f} {rate:9.1f} {memory or 0:9.0f}"
                + "".join(ratios)
            )


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
