"""Milliseconds per slice from file to record, one by one and in batches, by a bundle (default: the packaged one).

python scripts/bench_predict.py DIR [--model BUNDLE] [--slices 60]
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from detectclf.inference.loading import load


def main(
    folder: Path,
    model: Annotated[Path | None, typer.Option(help="Bundle [default: the packaged one].")] = None,
    slices: Annotated[int, typer.Option(help="Slices to time.")] = 60,
) -> None:
    """Prints the times."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".png"))[:slices]
    began = time.perf_counter()
    predictor = load(model, device="cpu")
    print(f"loading: {1000 * (time.perf_counter() - began):.0f} ms; {torch.get_num_threads()} threads")
    for size in (1, 8):
        list(predictor.predict_many(files[:size], batch_size=size))  # the first pass allocates
        began = time.perf_counter()
        for prediction in predictor.predict_many(files, batch_size=size):
            prediction.to_record()
        print(f"batches of {size}: {1000 * (time.perf_counter() - began) / len(files):.1f} ms per slice")


if __name__ == "__main__":
    typer.run(main)
