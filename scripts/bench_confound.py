"""Does a classifier read the tumour, or the sequence? Its accuracy on slices of which only part is left.

    python scripts/bench_confound.py RUN --data DIR [--data DIR]... --out confound.json

In the main data set healthy slices mix sequences that tumour slices never have. RUN is a classifier trained with folds
held out (`--set data.held_out=[...]`); its held-out slices are given whole, in another tone (the curves that it was
trained with), inverted, with their pixels shuffled (only the histogram is left) and without the head (only the border
is left). Beside it stands what a model could reach that cheats by design: a linear one trained on histograms alone. A
classifier that leans on the confound is good where nothing of the tumour is left; guessing is the share of the largest
class.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from detectclf.config import DataConfig
from detectclf.datasets.augment_mri import change_tone
from detectclf.datasets.dataset import open_dataset
from detectclf.imaging.images import read_pixels, resize_pad
from detectclf.models.classifiers import Classifier
from detectclf.models.stage_files import load_stage
from detectclf.training.runs import Run
from detectclf.types import Pixels, Sample

Array = np.ndarray[Any, Any]


def main(
    run: Path,
    data: Annotated[list[Path], typer.Option(help="Folders with exports, as of the run.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    every: Annotated[int, typer.Option(help="Take every n-th held-out slice.")] = 3,
) -> None:
    """Prints and writes accuracies."""
    settings = Run.open(run).settings()["data"]
    held = tuple(settings["held_out"])
    config = DataConfig(sources=tuple(data), folds=settings["folds"], held_out=held, fold_seed=settings["fold_seed"])
    dataset = open_dataset(config)
    model = load_stage(run, "classifier").network
    unseen, seen = (dataset.split(name).samples for name in ("valid", "train"))
    unseen = tuple(s for s in unseen if s.label is not None)[::every]
    truth = np.array([dataset.classes.index(str(s.label)) for s in unseen])
    healthy = dataset.classes.index(str(dataset.negative))
    # To the network's size first: averaging shuffled pixels would leave nothing of their histogram.
    pixels = [resize_pad(read_pixels(s), model.input_size)[0] for s in unseen]
    views = {"whole": whole, "other tone": other_tone, "inverted": inverted, "shuffled": shuffled, "border": border}
    rows = {}
    for name, view in views.items():
        rng = np.random.default_rng(0)
        said = predict(model, [view(p, rng) for p in pixels])
        rows[name] = figures(said, truth, healthy)
    rows["linear model of histograms"] = figures(histogram_model(seen, dataset.classes, pixels), truth, healthy)
    guess = float(np.bincount(truth).max() / len(truth))
    document = {"slices": len(truth), "largest_class": guess, "accuracy": rows}
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, row in rows.items():
        print(f"{name:28} accuracy {row['accuracy']:.3f}  healthy against tumour {row['healthy_against_tumor']:.3f}")
    print(f"largest class: {guess:.3f}")


def figures(said: Array, truth: Array, healthy: int) -> dict[str, float]:
    """Accuracy over the classes, and balanced accuracy of healthy against tumour (0.5 is guessing)."""
    right = (said == healthy) == (truth == healthy)
    well = truth == healthy
    return {
        "accuracy": float((said == truth).mean()),
        "healthy_against_tumor": float((right[well].mean() + right[~well].mean()) / 2),
    }


def whole(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return pixels


def other_tone(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return change_tone(pixels, rng)


def inverted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Bright becomes dark inside the head; air stays black."""
    return np.where(head(pixels), 255 - pixels, pixels).astype(np.uint8)


def shuffled(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return rng.permutation(pixels.ravel()).reshape(pixels.shape)


def border(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """What lies outside the head, the head's own place filled with the median of it."""
    mask = head(pixels)
    outside = pixels[~mask]
    return np.where(mask, np.uint8(np.median(outside) if outside.size else 0), pixels).astype(np.uint8)


def head(pixels: Pixels) -> Array:
    """The filled outline of the largest bright part."""
    _, bright = cv2.threshold(cv2.GaussianBlur(pixels, (9, 9), 0), 20, 255, cv2.THRESH_BINARY)
    outlines, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    mask = np.zeros(pixels.shape, dtype=np.uint8)
    if outlines:
        hull = cv2.convexHull(max(outlines, key=cv2.contourArea))
        cv2.drawContours(mask, [hull], -1, 1, thickness=-1)
    return mask.astype(bool)


def predict(model: Classifier, views: list[Pixels]) -> Array:
    said = []
    for start in range(0, len(views), 16):
        squares = np.stack(views[start : start + 16])
        with torch.inference_mode():
            said.append(model(torch.from_numpy(squares).unsqueeze(1).float().div(255)).argmax(dim=1).numpy())
    return np.concatenate(said)


def histogram_model(seen: tuple[Sample, ...], classes: tuple[str, ...], unseen: list[Pixels]) -> Array:
    """Classes of ``unseen`` by a logistic regression on 64-bin histograms of the slices ``seen`` in training."""
    labelled, side = [s for s in seen if s.label is not None], unseen[0].shape[0]
    pixels = [resize_pad(read_pixels(s), side)[0] for s in labelled]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit([histogram(p) for p in pixels], [classes.index(str(s.label)) for s in labelled])
    return np.asarray(model.predict([histogram(p) for p in unseen]))


def histogram(pixels: Pixels) -> Array:
    return np.histogram(pixels, bins=64, range=(0, 256))[0] / pixels.size


if __name__ == "__main__":
    typer.run(main)
