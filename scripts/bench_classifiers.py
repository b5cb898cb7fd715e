"""The bake-off: classifiers on the same folds, the same budget, from scratch and by transfer learning. Resumable.

    python scripts/bench_classifiers.py OUT --data DIR [--data DIR]... [--weights ARCH=FILE]... [--budget ...]

Each architecture is trained by `detectclf train-classifier` with one fold of source slices held out, judged on it, and
timed slice by slice. What is finished in OUT is not done again. Writes OUT/bakeoff.json; `scripts/update_readme.py`
makes the leader board of the README from a copy of it in docs/results/.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.imaging.images import read_pixels, resize_pad
from detectclf.models.classifiers import Classifier
from detectclf.models.stage_files import load_stage
from detectclf.types import Sample

ARCHS = (
    "mlp", "cnn", "alexnet", "vgg16", "mobilenet_v2", "resnet50", "inception_v3", "convnext_tiny",
    "timm:tf_efficientnet_lite0",
)  # fmt: skip
RESAMPLES = 2000
TIMED_SLICES = 40


def main(
    out: Path,
    data: Annotated[list[Path], typer.Option(help="Folders with exports.")],
    weights: Annotated[list[str] | None, typer.Option(help="ARCH=FILE: also by transfer learning from FILE.")] = None,
    arch: Annotated[list[str] | None, typer.Option(help="Only these architectures.")] = None,
    size: Annotated[int, typer.Option(help="Side of the input of every architecture, pixels.")] = 96,
    epochs: Annotated[int, typer.Option(help="Passes over the training slices.")] = 6,
    folds: Annotated[int, typer.Option(help="Folds of source slices.")] = 4,
    held_out: Annotated[int, typer.Option(help="The fold that is judged.")] = 0,
) -> None:
    """Trains what is not trained yet, judges all, writes the board."""
    starts = dict(pair.split("=", 1) for pair in weights or [])
    entries = [(a, "scratch", "none") for a in arch or ARCHS]
    entries += [(a, "transfer", starts[a]) for a in arch or ARCHS if a in starts]
    config = DataConfig(sources=tuple(data), folds=folds, held_out=(held_out,))
    dataset = open_dataset(config)
    slices = [s for s in dataset.split("valid").samples if s.label is not None]
    truth = np.array([dataset.classes.index(str(s.label)) for s in slices])
    groups = source_groups(slices)
    rows, right = [], {}
    for name, start, file in entries:
        run = out / f"{name.replace(':', '-')}-{start}"
        if not (run / "curves.png").is_file():
            train(run, name, file, data, size, epochs, folds, held_out)
        said, milliseconds = judged(run, slices)
        right[f"{name} {start}"] = said == truth
        rows.append(row_of(run, name, start, said == truth, groups, milliseconds))
    rows.sort(key=lambda r: -r["accuracy"])
    ties(rows, right, groups)
    board = {
        "rows": rows,
        "slices": len(slices),
        "sources": len(np.unique(groups)),
        "budget": {"epochs": epochs, "size": size, "training_slices": len(dataset.split("train").samples)},
        "folds": folds,
        "held_out": held_out,
        "command": "python scripts/bench_classifiers.py OUT --data DIR... --weights ARCH=FILE... "
        f"--size {size} --epochs {epochs}",
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU, torch {torch.__version__.split('+')[0]}",
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "bakeoff.json").write_text(json.dumps(board, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['arch']:28} {row['start']:8} {row['accuracy']:.3f} {row['interval']} {row['ms_per_slice']:.1f} ms")


def train(
    run: Path, arch: str, weights: str, data: list[Path], size: int, epochs: int, folds: int, held_out: int
) -> None:
    """One run of `train-classifier`; an interrupted one goes on."""
    sources = [word for folder in data for word in ("--data", str(folder))]
    settings = [
        f"model.image_size={size}", f"data.folds={folds}", f"data.held_out=[{held_out}]",
        f"training.evaluate_every={epochs}", "augment.strength=0.35", "augment.tone=0.3",
        # Without pretrained weights every layer is new, and there is one learning rate.
        *(["training.lr=1.0e-3", "training.backbone_lr=1.0e-3"] if weights == "none" else []),
    ]  # fmt: skip
    command = [sys.executable, "-m", "detectclf", "train-classifier", "--arch", arch, "--weights", weights, *sources]
    command += ["--epochs", str(epochs), "--out", str(run), "--resume", "--quiet"]
    command += [word for setting in settings for word in ("--set", setting)]
    subprocess.run(command, check=True)


def judged(run: Path, slices: list[Sample]) -> tuple[np.ndarray[Any, Any], float]:
    """Class index of each slice, and milliseconds per slice one by one, decode included."""
    model = load_stage(run, "classifier").network
    model = model.to(memory_format=torch.channels_last)
    said = [predict(model, slices[i : i + 16]) for i in range(0, len(slices), 16)]
    predict(model, slices[:1])
    began = time.perf_counter()
    for s in slices[:TIMED_SLICES]:
        predict(model, [s])
    return np.concatenate(said), 1000 * (time.perf_counter() - began) / min(TIMED_SLICES, len(slices))


def predict(model: Classifier, slices: list[Sample]) -> np.ndarray[Any, Any]:
    resized = np.stack([resize_pad(read_pixels(s), model.input_size)[0] for s in slices])
    with torch.inference_mode():
        images = torch.from_numpy(resized).unsqueeze(1).float().div(255)
        best: np.ndarray[Any, Any] = model(images).argmax(dim=1).numpy()
    return best


def source_groups(slices: list[Sample]) -> np.ndarray[Any, Any]:
    """Number of the source slice of each."""
    groups = np.arange(len(slices))
    index = SliceIndex()
    for group in index.find_copies(index.look_up(slices).fingerprints):
        groups[list(group.members)] = group.members[0]
    return groups


def resampled(values: np.ndarray[Any, Any], groups: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Means of bootstrap resamples of whole source groups."""
    _, inverse = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(inverse, weights=values), np.bincount(inverse)
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES)
    means: np.ndarray[Any, Any] = (drawn @ sums) / (drawn @ sizes)
    return means


def row_of(
    run: Path, arch: str, start: str, right: np.ndarray[Any, Any], groups: np.ndarray[Any, Any], milliseconds: float
) -> dict[str, Any]:
    model = load_stage(run, "classifier").network
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    low, high = np.quantile(resampled(right.astype(float), groups), [0.025, 0.975])
    return {
        "arch": arch,
        "start": start,
        "accuracy": float(right.mean()),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "macro_f1": records[-1]["metrics"]["macro_f1"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "ms_per_slice": milliseconds,
        "training_seconds": sum(r["seconds"] for r in records),
    }


def ties(rows: list[dict[str, Any]], right: dict[str, np.ndarray[Any, Any]], groups: np.ndarray[Any, Any]) -> None:
    """Marks rows whose difference to the best may be chance: the paired 95 % interval holds 0."""
    best = right[f"{rows[0]['arch']} {rows[0]['start']}"].astype(float)
    for row in rows:
        gap = resampled(best - right[f"{row['arch']} {row['start']}"].astype(float), groups)
        row["tie_with_best"] = bool(np.quantile(gap, 0.025) <= 0)


if __name__ == "__main__":
    typer.run(main)
