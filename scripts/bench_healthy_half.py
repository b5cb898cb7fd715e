"""Is a slice of a tumour's sequence still called a tumour when it shows none?

    python scripts/bench_healthy_half.py --detector RUN --classifier RUN --refiner RUN --data DIR [--data DIR]...

In the main data set hardly any healthy slice was taken with the sequences of the tumours. A slice whose tumour is on
one side can be shown made of its healthy half, twice (`detectclf/data/halves.py`): what is left is sequence, scanner
and head. The slices that none of the runs has seen, nor copies of them, are asked for: whole, as the healthy half
twice, and as the half with the tumour twice, which must stay a tumour. The fusion is a bundle's.

A classifier that was trained with such halves may know them by their seam; slices without a tumour of the same
sequences, where there are any, are the better test.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from detectclf.config import DataConfig, PredictConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.symmetry import half_twice
from detectclf.duplicates.copies import copies_between
from detectclf.duplicates.fingerprints import Fingerprints, fingerprint_samples
from detectclf.imaging.images import read_image
from detectclf.inference.fusion import fuse
from detectclf.inference.loading import load, load_runs
from detectclf.pipelines.provenance import run_provenance
from detectclf.types import Pixels, Sample


def main(
    detector: Annotated[Path, typer.Option(help="Run of the box stage.")],
    classifier: Annotated[Path, typer.Option(help="Run of the class stage.")],
    refiner: Annotated[Path, typer.Option(help="Run of the refining stage.")],
    data: Annotated[list[Path], typer.Option(help="Folders with exports, as of the runs.")],
    model: Annotated[Path | None, typer.Option(help="Bundle whose fusion is used [default: the packaged one].")] = None,
) -> None:
    """Prints how many of the unseen slices are called a tumour."""
    dataset = open_dataset(DataConfig(sources=tuple(data)))
    if dataset.negative is None:
        raise SystemExit("no class of the data means no tumour")
    negative = dataset.negative
    seen = Fingerprints.merged([run_provenance(run) for run in (detector, classifier, refiner)])
    known = set(copies_between(seen, fingerprint_samples(dataset.samples)))
    unseen = [s for i, s in enumerate(dataset.samples) if i not in known]
    fusion = load(model).bundle.fusion
    predictor = load_runs(detector, classifier, PredictConfig(), refiner=refiner, tta=fusion.tta)
    for name, slices in views(unseen, negative).items():
        called, boxed = [], []
        for pixels, said in zip(slices, predictor.raw_many(slices), strict=True):
            height, width = pixels.shape
            fused = fuse(said, fusion, predictor.names, width=width, height=height)
            called.append(fused.label != negative)
            boxed.append(any(fused.scores >= fused.box_threshold))
        share = [100 * float(np.mean(each)) if each else float("nan") for each in (called, boxed)]
        print(f"{name:15} {len(slices):4} slices: called a tumour {share[0]:5.1f} %, with a box {share[1]:5.1f} %")


def views(samples: Sequence[Sample], negative: str) -> dict[str, list[Pixels]]:
    """Healthy slices, those with a tumour that can be halved, and their halves twice."""
    found: dict[str, list[Pixels]] = {"healthy slices": [], "tumour slices": [], "healthy half": [], "tumour half": []}
    for sample in samples:
        pixels = read_image(sample.path, span=sample.span, root=Path(sample.source))
        if sample.label == negative:
            found["healthy slices"].append(pixels)
        elif sample.boxed and (healthy := half_twice(pixels, sample.boxes_xyxy, healthy=True)) is not None:
            found["tumour slices"].append(pixels)
            found["healthy half"].append(healthy.pixels)
            if (tumor := half_twice(pixels, sample.boxes_xyxy, healthy=False)) is not None:
                found["tumour half"].append(tumor.pixels)
    return found


if __name__ == "__main__":
    typer.run(main)
