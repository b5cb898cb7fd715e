"""The bake-off: classifiers trained alike, from scratch and by transfer learning, judged by patient. Resumable.

    python scripts/bench_classifiers.py OUT --data EXPORT [--weights ARCH=FILE]... [--jobs N]

EXPORT has the splits train, valid and test, as `detectclf data split` makes them by patient. Each architecture is
trained by `detectclf train-classifier` at each learning rate; the valid split chooses the rate, and the test split
judges. What is finished in OUT is not done again. Writes OUT/bakeoff.json; `scripts/update_readme.py` makes the leader
board of the README from a copy of it in docs/results/.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import typer

from detectclf.config import ClassifierConfig, DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients import group_numbers, independent_groups, with_patients
from detectclf.evaluation.bootstrap import resamples
from detectclf.evaluation.classification import accuracy_and_macro_f1
from detectclf.imaging.images import read_pixels, resize_pad
from detectclf.models.classifiers import build_classifier
from detectclf.models.stage_files import META_FILE, load_stage, read_meta
from detectclf.models.transfer import TransferModel
from detectclf.types import Dataset, Sample

# The largest first, so that none of them is what everything waits for in the end.
ARCHS = (
    "vgg16", "swin_t", "convnext_tiny", "resnet50", "inception_v3", "alexnet", "timm:tf_efficientnet_lite0",
    "mobilenet_v2", "cnn", "mlp",
)  # fmt: skip
RESAMPLES = 2000
TIMED_SLICES = 20

TEST = "test.json"
"""In the folder of a run: the class that it gives to each slice of the test split."""

Truth: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One training: ``start`` is scratch or transfer, ``weights`` what it starts from."""

    arch: str
    start: str
    weights: str
    rate: float
    epochs: int
    folder: Path


def main(
    out: Path,
    data: Annotated[Path, typer.Option(help="Export with the splits train, valid and test.")],
    weights: Annotated[list[str] | None, typer.Option(help="ARCH=FILE: also by transfer learning from FILE.")] = None,
    arch: Annotated[list[str] | None, typer.Option(help="Only these architectures.")] = None,
    rates: Annotated[list[float] | None, typer.Option("--rate", help="Learning rates to choose from.")] = None,
    size: Annotated[int, typer.Option(help="Side of the input of every architecture, pixels.")] = 224,
    epochs: Annotated[int, typer.Option(help="Passes over the training slices from scratch.")] = 25,
    transfer_epochs: Annotated[int, typer.Option(help="Passes by transfer learning.")] = 10,
    jobs: Annotated[int, typer.Option(help="Trainings at a time.")] = 1,
) -> None:
    """Trains what is not trained yet, judges all, writes the board."""
    starts = dict(pair.split("=", 1) for pair in weights or [])
    entries = [(a, "scratch", "none") for a in arch or ARCHS]
    entries += [(a, "transfer", starts[a]) for a in arch or ARCHS if a in starts]
    passes = {"scratch": epochs, "transfer": transfer_epochs}
    runs = [
        Run(name, start, file, rate, passes[start], out / f"{name.replace(':', '-')}-{start}-{rate:g}")
        for name, start, file in entries
        for rate in rates or (1e-3, 1e-4)
    ]
    workers = max(1, (os.cpu_count() or 1) // jobs)
    dataset = open_dataset(DataConfig(sources=(str(data),)))
    slices = [s for s in dataset.split("test").samples if s.label is not None]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda run: train_and_predict(run, data, size, workers, slices), runs))
    chosen = [max((run for run in runs if (run.arch, run.start) == entry[:2]), key=valid_accuracy) for entry in entries]
    board = {
        **judge(chosen, dataset, slices),
        "budget": {"size": size, "training_slices": len(dataset.split("train").samples)},
        "command": "python scripts/bench_classifiers.py OUT --data EXPORT --weights ARCH=FILE..."
        + "".join(f" --rate {rate:g}" for rate in rates or ()),
        "timed_on": machine(),
    }
    (out / "bakeoff.json").write_text(json.dumps(board, indent=1) + "\n", encoding="utf-8")
    for row in board["rows"]:
        print(f"{row['arch']:28} {row['start']:8} {row['accuracy']:.3f} {row['interval']} {row['ms_per_slice']:.1f} ms")


def train_and_predict(run: Run, data: Path, size: int, workers: int, slices: list[Sample]) -> None:
    """One run of `train-classifier` and its test.json; an interrupted one goes on, a finished one is left alone."""
    kept = run.folder / TEST
    if kept.is_file():
        return
    settings = [
        f"model.image_size={size}", f"training.lr={run.rate}", f"training.backbone_lr={run.rate}",
        f"training.evaluate_every={run.epochs}", f"data.workers={workers}", "augment.strength=0.35", "augment.tone=0.3",
    ]  # fmt: skip
    command = [sys.executable, "-m", "detectclf", "train-classifier", "--arch", run.arch, "--weights", run.weights]
    command += ["--data", str(data), "--epochs", str(run.epochs), "--out", str(run.folder), "--resume", "--quiet"]
    command += [word for setting in settings for word in ("--set", setting)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    stage = load_stage(run.folder, "classifier")
    network = stage.network.to("cuda" if torch.cuda.is_available() else "cpu")
    indices = np.concatenate([predict(network, slices[i : i + 16]) for i in range(0, len(slices), 16)])
    said = {
        "said": [stage.meta.classes[k] for k in indices],
        "parameters": sum(p.numel() for p in network.parameters()),
        "machine": machine(),
    }
    kept.write_text(json.dumps(said) + "\n", encoding="utf-8")


def epochs_of(run: Run) -> list[dict[str, Any]]:
    """The records of the epochs of a run."""
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def valid_accuracy(run: Run) -> float:
    """Accuracy on the valid split after the last epoch, which chooses the learning rate."""
    return float(epochs_of(run)[-1]["metrics"]["accuracy"])


def judge(chosen: list[Run], dataset: Dataset, slices: list[Sample]) -> dict[str, Any]:
    """The rows of the board, best first, by the slices whose patients are known; and how many there are of what."""
    groups, known = patients_of_slices(dataset, slices)
    truth = np.array([dataset.classes.index(str(s.label)) for s in slices])
    right: dict[tuple[str, str], Numbers] = {}
    rows = []
    for run in chosen:
        kept = json.loads((run.folder / TEST).read_text(encoding="utf-8"))
        said = np.array([dataset.classes.index(name) for name in kept.pop("said")])
        hits = (said == truth)[known].astype(float)
        right[run.arch, run.start] = hits
        low, high = np.quantile(resampled(hits, groups[known]), [0.025, 0.975])
        figures = {
            "accuracy": float(hits.mean()),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "macro_f1": accuracy_and_macro_f1(truth, said, len(dataset.classes))[1],
            "ms_per_slice": milliseconds(run, slices[:TIMED_SLICES]),
            "epochs": len(epochs_of(run)),
            "training_seconds": sum(r["seconds"] for r in epochs_of(run)),
        }
        rows.append({"arch": run.arch, "start": run.start, "rate": run.rate, **figures, **kept})
    rows.sort(key=lambda r: -r["accuracy"])
    best = right[rows[0]["arch"], rows[0]["start"]]
    for row in rows:
        # Paired: a difference may be chance where its 95 % interval holds 0.
        gap = resampled(best - right[row["arch"], row["start"]], groups[known])
        row["tie_with_best"] = bool(np.quantile(gap, 0.025) <= 0)
    return {
        "rows": rows,
        "slices": len(slices),
        "known": int(known.sum()),
        "patients": len({s.patient for s in slices if s.patient_names}),
    }


def patients_of_slices(dataset: Dataset, slices: list[Sample]) -> tuple[npt.NDArray[np.int64], Truth]:
    """The number of the patient of each slice, or of its source slice, and which patients are known."""
    index = SliceIndex()
    split = with_patients(dataset, index).split("test").samples
    named = [s for s in split if s.label is not None]
    groups = independent_groups(named, index.find_copies(index.look_up(slices).fingerprints))
    return np.array(group_numbers(groups)), np.array([bool(s.patient_names) for s in named])


def milliseconds(run: Run, slices: list[Sample]) -> float:
    """Time per slice, one by one on the CPU, decode included; speed does not depend on the weights."""
    size = read_meta(run.folder / META_FILE).preprocessing.size
    settings = ClassifierConfig(arch=run.arch, weights="none", image_size=size)
    network = build_classifier(settings, 4).eval().to(memory_format=torch.channels_last)
    predict(network, slices[:1])
    began = time.perf_counter()
    for s in slices:
        predict(network, [s])
    return 1000 * (time.perf_counter() - began) / len(slices)


def predict(model: TransferModel, slices: list[Sample]) -> npt.NDArray[np.int64]:
    resized = np.stack([resize_pad(read_pixels(s), model.input_size)[0] for s in slices])
    with torch.inference_mode():
        images = torch.from_numpy(resized).unsqueeze(1).float().div(255).to(next(model.parameters()).device)
        best: npt.NDArray[np.int64] = model(images).argmax(dim=1).cpu().numpy()
    return best


def resampled(values: Numbers, groups: npt.NDArray[np.int64]) -> Numbers:
    """Means of bootstrap resamples of whole groups: patients."""
    (weights,) = resamples(groups, RESAMPLES, 0, chunk=RESAMPLES)
    means: Numbers = weights @ values / weights.sum(axis=1)
    return means


def machine() -> str:
    """Cores and GPU, and torch."""
    gpu = f"one {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} CPU cores, {platform.machine()}, {gpu}, torch {torch.__version__.split('+')[0]}"


if __name__ == "__main__":
    typer.run(main)
