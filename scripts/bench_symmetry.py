"""Does a model call a slice of a tumour's sequence a tumour when it shows none?

    python scripts/bench_symmetry.py --detector RUN --classifier RUN --data DIR [--data DIR]...

In the main data set hardly any healthy slice has the sequence of the tumour slices. The healthy half of a tumour slice
and its mirror image make one (`detectclf/datasets/symmetry.py`): sequence, scanner and head stay, the tumour is gone.
Slices that none of the runs was trained on, nor on copies of them, are judged three times: whole, as the healthy half
doubled, and as the half with the tumour doubled, which must stay a tumour. The fusion is a bundle's.

A classifier that was trained with symmetry augmentation may recognise the seam; real slices of the same sequences
without a tumour, where there are any, are the better test.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from detectclf.config import DataConfig, PredictConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.symmetry import make_symmetric
from detectclf.duplicates.fingerprints import Fingerprints
from detectclf.imaging.images import read_pixels
from detectclf.inference.fusion import fuse
from detectclf.inference.loading import load, load_runs
from detectclf.pipelines.provenance import run_provenance
from detectclf.types import Pixels, Sample


def main(
    detector: Annotated[Path, typer.Option(help="Run of the box stage.")],
    classifier: Annotated[Path, typer.Option(help="Run of the class stage.")],
    data: Annotated[list[Path], typer.Option(help="Folders with exports, as of the runs.")],
    model: Annotated[Path | None, typer.Option(help="Bundle whose fusion is used [default: the packaged one].")] = None,
) -> None:
    """Prints how many of the unseen slices are called a tumour."""
    dataset = open_dataset(DataConfig(sources=tuple(data)))
    if dataset.negative is None:
        raise SystemExit("no class of the data means no tumour")
    negative = dataset.negative
    seen = Fingerprints.merged([run_provenance(run) for run in (detector, classifier)])
    index = SliceIndex()
    known = set(index.copies_between(seen, index.look_up(dataset.samples).fingerprints).tolist())
    unseen = [s for i, s in enumerate(dataset.samples) if i not in known]
    fusion = load(model).bundle.fusion
    runs = {"detector": detector, "classifier": classifier}
    predictor = load_runs(runs, PredictConfig())
    for name, slices in views(unseen, negative).items():
        called, boxed = [], []
        for outputs in predictor.raw_many(slices):
            fused = fuse(outputs, fusion, predictor.names)
            called.append(fused.label != negative)
            boxed.append(any(fused.scores >= fused.box_threshold))
        share = [100 * float(np.mean(each)) if each else float("nan") for each in (called, boxed)]
        print(f"{name:15} {len(slices):4} slices: called a tumour {share[0]:5.1f} %, with a box {share[1]:5.1f} %")


def views(samples: Sequence[Sample], negative: str) -> dict[str, list[Pixels]]:
    """Healthy slices, those with a tumour that can be symmetric, and their halves twice."""
    found: dict[str, list[Pixels]] = {"healthy slices": [], "tumour slices": [], "healthy half": [], "tumour half": []}
    for sample in samples:
        pixels = read_pixels(sample)
        if sample.label == negative:
            found["healthy slices"].append(pixels)
        elif sample.boxed and (healthy := make_symmetric(pixels, sample.boxes_xyxy, healthy=True)) is not None:
            found["tumour slices"].append(pixels)
            found["healthy half"].append(healthy.pixels)
            if (tumor := make_symmetric(pixels, sample.boxes_xyxy, healthy=False)) is not None:
                found["tumour half"].append(tumor.pixels)
    return found


if __name__ == "__main__":
    typer.run(main)
