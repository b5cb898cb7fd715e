"""Whether memory stays flat over many slices: the pictures of a folder are predicted again and again.

python scripts/bench_memory.py DIR [--slices 20000] [--model BUNDLE] [--runtime openvino|onnx|torch]
"""

from __future__ import annotations

import time
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer

from detectclf.inference.loading import load


def main(
    folder: Annotated[Path, typer.Argument(help="Pictures of slices.", exists=True, file_okay=False)],
    slices: Annotated[int, typer.Option(min=1, help="Predictions to make.")] = 20_000,
    every: Annotated[int, typer.Option(min=1, help="Slices from one line to the next.")] = 2_000,
    model: Annotated[Path | None, typer.Option(help="Bundle [default: the packaged one].")] = None,
    runtime: Annotated[str, typer.Option(help="auto, openvino, onnx or torch.")] = "auto",
) -> None:
    """Prints the resident memory as slices go by."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise SystemExit(f"{folder}: holds no picture (.jpg, .png)")
    predictor = load(model, runtime=runtime)
    began = time.perf_counter()
    print(f"{'slices':>8} {'MiB':>6} {'slices/s':>9}", flush=True)
    for number, _ in enumerate(predictor.predict_many(islice(cycle(files), slices)), start=1):
        if number % every == 0 or number in (100, slices):
            rate = number / (time.perf_counter() - began)
            print(f"{number:8d} {resident_mib():6.0f} {rate:9.1f}", flush=True)


def resident_mib() -> float:
    """Resident memory of this process, MiB (Linux)."""
    rows = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(row.split()[1]) / 1024 for row in rows if row.startswith("VmRSS:"))


if __name__ == "__main__":
    typer.run(main)
