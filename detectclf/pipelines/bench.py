"""``bench``: how fast a bundle predicts on this machine, by runtime and batch size.

Each runtime has a process of its own, so that memory and loading are its own and torch is loaded for nobody else. They
take turns, so that whatever else the machine does slows all of them alike.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detectclf.cores import usable_cores
from detectclf.errors import ConfigError, ModelError
from detectclf.leftovers import scratch_folder
from detectclf.pipelines import bench_worker
from detectclf.pipelines.bench_process import Worker
from detectclf.progress import Progress
from detectclf.recipes import close_to
from detectclf.version import __version__, installed_version

RUNTIMES = ("openvino", "onnx", "torch")

PACKAGES = ("openvino", "onnxruntime", "torch", "numpy")
"""Packages whose versions matter to speed."""

BATCH_SIZES = (1, 8)
SLICES = 16
ROUNDS = 3
"""Timed passes over the slices, after one that warms up."""


HEADER = "runtime   device  threads batch  ms/slice  90th pct    CPU ms  slices/s  peak MiB loading s"


@dataclass(frozen=True, slots=True)
class Speed:
    """What a runtime needs at one batch size.

    Attributes:
        runtime: ``openvino``, ``onnx`` or ``torch``.
        device: where it computed.
        threads: that computed, where that is the CPU.
        batch_size: slices per forward pass; 1 is one slice after the other, without decoding ahead.
        ms_per_slice: median over the batches, from file to record.
        ms_per_slice_p90: 90th percentile.
        cpu_ms_per_slice: processor time over all threads; says more than the others where the machine is busy.
        slices_per_second: of all passes together.
        peak_memory_mib: resident memory, of a process that used no larger batches; ``None`` where unknown.
        loading_s: from the start of the process until it can predict, seconds.
    """

    runtime: str
    device: str
    threads: int
    batch_size: int
    ms_per_slice: float
    ms_per_slice_p90: float
    cpu_ms_per_slice: float
    slices_per_second: float
    peak_memory_mib: float | None
    loading_s: float


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The result of ``bench``.

    Attributes:
        model: name and version of the bundle.
        bundle: its folder, or that it is the packaged one.
        slices: of one pass.
        machine, versions: what it ran on.
        speeds: by runtime and batch size.
        unavailable: runtime -> why it cannot run the bundle.
    """

    model: str
    bundle: str
    slices: int
    machine: dict[str, Any]
    versions: dict[str, str | None]
    speeds: tuple[Speed, ...]
    unavailable: dict[str, str]

    def to_record(self) -> dict[str, Any]:
        """The JSON object of ``bench --json``."""
        return {
            "model": self.model,
            "slices": self.slices,
            "machine": self.machine,
            "versions": self.versions,
            "speeds": [asdict(speed) for speed in self.speeds],
            "unavailable": self.unavailable,
        }

    def table(self) -> str:
        """Plain text for a terminal."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items() if version)
        lines = [
            f"bundle {self.model} ({self.bundle}): {self.slices} drawn slices, decoding included",
            f"{self.machine['cpu']}, {self.machine['cores']} cores, {self.machine['system']}",
            versions,
            HEADER,
        ]
        for s in self.speeds:
            memory = "-" if s.peak_memory_mib is None else f"{s.peak_memory_mib:.0f}"
            lines.append(
                f"{s.runtime:9} {s.device:7} {s.threads:7} {s.batch_size:5} {s.ms_per_slice:9.1f} "
                f"{s.ms_per_slice_p90:9.1f} {s.cpu_ms_per_slice:9.1f} {s.slices_per_second:9.1f} {memory:>9} "
                f"{s.loading_s:9.2f}"
            )
        lines += [f"{name:9} not available: {reason}" for name, reason in self.unavailable.items()]
        return "\n".join(lines)


def bench(
    model: Path | None = None,
    *,
    runtimes: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    slices: int | None = None,
    device: str | None = None,
    rounds: int = ROUNDS,
) -> Benchmark:
    """Times a bundle on the drawn slices of the sample data.

    Args:
        model: the bundle; by default the packaged one.
        runtimes: by default all; those that cannot run the bundle are named in the result.
        batch_sizes: by default 1 and 8.
        slices: of one pass; by default 16, or as many as the largest batch.
        device: as in :class:`~detectclf.config.PredictConfig`.
        rounds: timed passes.

    Raises:
        ConfigError: there is no such runtime, or a batch size is larger than ``slices``.
        ModelError: no runtime can run the bundle.
    """
    chosen = list(dict.fromkeys(runtimes or RUNTIMES))
    if unknown := sorted(set(chosen) - set(RUNTIMES)):
        raise ConfigError(
            f"there is no runtime {unknown[0]!r}{close_to(unknown[0], RUNTIMES)}", remedy=f"use {', '.join(RUNTIMES)}"
        )
    sizes = sorted(set(batch_sizes or BATCH_SIZES))
    count = slices or max(SLICES, sizes[-1])
    if sizes[-1] > count:
        raise ConfigError(
            f"batches of {sizes[-1]} cannot be made of {count} slices",
            remedy=f"give --slices {sizes[-1]} or more, or a smaller --batch-size",
        )
    _check_model(model)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        job = {
            "files": _write_slices(folder, count),
            "model": None if model is None else str(model),
            "device": device or "auto",
        }
        progress = stack.enter_context(Progress("timing", len(chosen) * (1 + len(sizes) * (1 + rounds))))
        # One after the other: loading is timed.
        workers = [
            stack.enter_context(Worker(name, _command({**job, "runtime": name}), folder / f"{name}.log", progress))
            for name in chosen
        ]
        for number in range(1 + rounds):
            for size in sizes:  # the smallest first: memory only grows
                for worker in workers:
                    worker.measure(size, warm_up=number == 0)
    return _result(workers, "the packaged one" if model is None else str(model), sizes, count)


def _check_model(model: Path | None) -> None:
    """Refuses what is no bundle before slices are drawn and a process is started for each runtime."""
    from detectclf.inference.loading import default_bundle
    from detectclf.models.bundle import load_bundle

    load_bundle(default_bundle() if model is None else model)


def _result(workers: Sequence[Worker], bundle: str, sizes: Sequence[int], slices: int) -> Benchmark:
    able = [worker for worker in workers if not worker.error]
    if not able:
        raise ModelError(workers[0].error)
    return Benchmark(
        model=able[0].model,
        bundle=bundle,
        slices=slices,
        machine=machine(),
        versions={
            "detectclf": __version__,
            "python": platform.python_version(),
            **{name: installed_version(name) for name in PACKAGES},
        },
        speeds=tuple(_speed(worker, size) for worker in able for size in sizes),
        unavailable={worker.runtime: worker.error for worker in workers if worker.error},
    )


def _speed(worker: Worker, batch_size: int) -> Speed:
    passes = worker.seconds[batch_size]
    each = sorted(1000 * seconds / slices for slices, seconds in passes)
    memory = worker.memory[batch_size]
    return Speed(
        runtime=worker.runtime,
        device=worker.device,
        threads=worker.threads,
        batch_size=batch_size,
        ms_per_slice=round(statistics.median(each), 2),
        ms_per_slice_p90=round(each[min(len(each) - 1, int(0.9 * len(each)))], 2),
        cpu_ms_per_slice=round(1000 * sum(worker.cpu_s[batch_size]) / sum(n for n, _ in passes), 2),
        slices_per_second=round(sum(n for n, _ in passes) / sum(s for _, s in passes), 2),
        peak_memory_mib=None if memory is None else round(memory, 1),
        loading_s=round(worker.loading_s, 2),
    )


def _command(job: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", bench_worker.__name__, json.dumps(job)]


def _write_slices(folder: Path, count: int) -> list[str]:
    """Drawn slices as JPEG; their files."""
    from detectclf.sample_data.export import write_sample_data

    data = write_sample_data(folder / "slices", n=max(12, count))
    return [str(file) for file in sorted(data.rglob("*.jpg"))[:count]]


def machine() -> dict[str, Any]:
    """Name of the processor, cores that this process may use, and the system."""
    return {
        "cpu": _processor(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        rows = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(row.partition(":")[2].strip() for row in rows if row.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


__all__ = ["BATCH_SIZES", "ROUNDS", "RUNTIMES", "SLICES", "Benchmark", "Speed", "bench", "machine"]
