"""Is a slice of a tumour's sequence still called a tumour when it shows none?

    python scripts/bench_healthy_half.py --detector RUN --classifier RUN --refiner RUN --data DIR [--data DIR]...

In the main data set hardly any healthy slice was taken with the sequences of the tumours. A slice whose tumour is on
one side can be shown made of its healthy half, twice (`detectclf/data/halves.py`): what is left is sequence, scanner
and head. The runs must have been trained with the same folds held out; their held-out slices are asked for, whole, as
the healthy half twice, and as the half with the tumour twice, which must stay a tumour. The fusion is a bundle's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from detectclf.config import DataConfig, PredictConfig
from detectclf.data.dataset import open_dataset
from detectclf.data.halves import half_twice
from detectclf.data.images import read_image
from detectclf.inference.fusion import fuse
from detectclf.inference.loading import load, load_runs
from detectclf.training.runs import Run
from detectclf.types import Pixels


def main(
    detector: Annotated[Path, typer.Option(help="Run of the box stage.")],
    classifier: Annotated[Path, typer.Option(help="Run of the class stage.")],
    refiner: Annotated[Path, typer.Option(help="Run of the refining stage.")],
    data: Annotated[list[Path], typer.Option(help="Folders with exports, as of the runs.")],
    model: Annotated[Path | None, typer.Option(help="Bundle whose fusion is used [default: the packaged one].")] = None,
) -> None:
    """Prints how many of the held-out slices are called a tumour."""
    settings = [Run.open(run).settings()["data"] for run in (detector, classifier, refiner)]
    held = tuple(settings[0]["held_out"])
    if any(tuple(each["held_out"]) != held for each in settings):
        raise SystemExit("the runs hold out different folds")
    folds, seed = settings[0]["folds"], settings[0]["fold_seed"]
    dataset = open_dataset(DataConfig(sources=tuple(data), folds=folds, held_out=held, fold_seed=seed))
    views: dict[str, list[Pixels]] = {"healthy slices": [], "tumour slices": [], "healthy half": [], "tumour half": []}
    for sample in dataset.split("valid").samples:
        pixels = read_image(sample.path, span=sample.span)
        if sample.label == dataset.negative:
            views["healthy slices"].append(pixels)
        elif sample.boxed:
            for name, healthy in (("healthy half", True), ("tumour half", False)):
                if (halved := half_twice(pixels, sample.boxes_xyxy, healthy=healthy)) is not None:
                    views[name].append(halved.pixels)
                    if healthy:
                        views["tumour slices"].append(pixels)
    fusion = load(model).bundle.fusion
    predictor = load_runs(detector, classifier, PredictConfig(), refiner=refiner, mirror=fusion.mirror)
    for name, slices in views.items():
        called, boxed = [], []
        for pixels, said in zip(slices, predictor.raw_many(slices), strict=True):
            height, width = pixels.shape
            fused = fuse(said, fusion, predictor.names, width=width, height=height)
            called.append(fused.label != dataset.negative)
            boxed.append(any(fused.scores >= fused.box_threshold))
        share = [100 * float(np.mean(each)) if each else float("nan") for each in (called, boxed)]
        print(f"{name:15} {len(slices):4} slices: called a tumour {share[0]:5.1f} %, with a box {share[1]:5.1f} %")


if __name__ == "__main__":
    typer.run(main)
