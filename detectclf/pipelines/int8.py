"""A bundle in int8: its ranges are found on one half of some slices, what it loses is measured on the other half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.config import ExportRecipe, PredictConfig
from detectclf.errors import DataError
from detectclf.files import atomic_write
from detectclf.pipelines.opening import check_classes, with_known_patients
from detectclf.progress import Progress
from detectclf.types import ANY_TUMOR, Dataset, FloatArray, Pixels, Sample

if TYPE_CHECKING:
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle import Bundle
    from detectclf.models.bundle_arrays import OODStatistics

MOST_SLICES = 100
"""Slices, at most, from which the ranges of the activations are found: 60 and 200 lost the same (docs/log.md)."""


def quantised_bundle(bundle: Bundle, recipe: ExportRecipe, split: str, folder: Path) -> tuple[Bundle, dict[str, Any]]:
    """The bundle with graphs in int8, which are written into ``folder``, and what that loses.

    Args:
        bundle: with graphs in float32.
        recipe: the data.
        split: of the data.
        folder: for the graphs.

    Raises:
        ModelError: what quantises is not installed, or a graph is damaged.
        DataError: the data cannot be read, have other classes, or are of fewer than two patients.
    """
    from detectclf.datasets.dataset import open_dataset, require_split
    from detectclf.datasets.index import SliceIndex
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle import graph_file
    from detectclf.models.graphs.int8 import check_installed, quantised

    index = SliceIndex()
    dataset = require_split(open_dataset(recipe.data, index), split)
    check_installed()
    exact = Predictor(bundle, _settings())
    check_classes(dataset, exact)
    first, second = _halves(dataset, index)
    chosen = [
        first.samples[i] for i in np.unique(np.linspace(0, len(first.samples) - 1, MOST_SLICES).round().astype(int))
    ]
    graphs, stages = {}, {}
    for kind, stage in bundle.stages.items():
        stages[kind] = replace(stage, meta=stage.meta.model_copy(update={"parameters": stage.parameters}))
        slices = _resized(chosen, stage.preprocessing.size)
        graphs[kind] = folder / graph_file(kind)
        with Progress(f"quantising the {kind}", 1) as progress:
            atomic_write(graphs[kind], quantised(bundle.graphs[kind], slices))
            progress.advance()
    made = replace(bundle, graphs=graphs, stages=stages)
    if bundle.ood is not None:
        before, after = exact.statistics_many(chosen), Predictor(made, _settings()).statistics_many(chosen)
        made = replace(made, ood=_moved(bundle.ood, before, after))
    whole, small = (_figures(predictor, second) for predictor in (exact, Predictor(made, _settings())))
    loss = {name: round(whole[name] - small[name], 4) for name in whole if name in small}
    return made, {
        "split": split,
        "calibration_slices": len(chosen),
        "measured_slices": len(second.samples),
        "float32": whole,
        "int8": small,
        "loss": loss,
    }


def _settings() -> PredictConfig:
    return PredictConfig(runtime="openvino", device="cpu")


def _halves(dataset: Dataset, index: Any) -> tuple[Dataset, Dataset]:
    """Two halves of the slices of known class, alike in classes, patients and copies of a slice on one side each."""
    from detectclf.datasets.patients import independent_groups

    known = replace(dataset, samples=tuple(s for s in dataset.samples if s.label not in (None, ANY_TUMOR)))
    known = with_known_patients(known, known, index)
    samples = known.samples
    groups = independent_groups(samples, index.find_copies(index.look_up(samples).fingerprints))
    if len(groups) < 2:
        raise DataError(
            "fewer than two patients or different slices of known class in this split",
            file=", ".join(dataset.sources),
            remedy="--int8 finds its ranges on some and measures on others: choose another --split or add --data",
        )
    halves: tuple[list[int], list[int]] = ([], [])
    for number, members in enumerate(sorted(groups, key=lambda m: (str(samples[m[0]].label), -len(m)))):
        halves[number % 2].extend(members)
    first, second = (replace(known, samples=tuple(samples[i] for i in sorted(half))) for half in halves)
    return first, second


def _resized(samples: Sequence[Sample], size: int) -> list[Pixels]:
    """Each slice as the network sees it."""
    from detectclf.imaging.framing import framed
    from detectclf.imaging.images import read_pixels, resize_pad

    slices = []
    for sample in samples:
        pixels = read_pixels(sample)
        slices.append(resize_pad(framed(pixels).pixels, size)[0])
    return slices


def _moved(ood: OODStatistics, before: FloatArray, after: FloatArray) -> OODStatistics:
    """The statistics for the features of the int8 detector, which lie elsewhere and scatter more.

    The mean moves by the mean difference, and the thresholds grow as the median distance does: otherwise a third of
    the slices would count as unlike the training slices (docs/log.md).

    Args:
        ood: of the float32 detector.
        before, after: ``(N, D)`` features of the same slices by both.
    """
    from detectclf.inference.ood import distances

    moved = replace(ood, mean=ood.mean + (after - before).mean(axis=0).astype(np.float32))
    growth = float(np.median(distances(moved, after)) / max(np.median(distances(ood, before)), 1e-12))
    return replace(moved, threshold=ood.threshold * growth, unusual=ood.unusual * growth)


def _figures(predictor: Predictor, dataset: Dataset) -> dict[str, float]:
    """``accuracy`` of the slices, and ``mAP`` and ``mAP50`` of those with known boxes, if any has one."""
    from detectclf.evaluation.detection import mean_average_precision_of

    predictions = []
    with Progress("measuring", len(dataset.samples)) as progress:
        for prediction in predictor.predict_many(dataset.samples):
            if prediction.error is not None:
                raise DataError(prediction.error, remedy="repair or remove it")
            predictions.append(prediction)
            progress.advance()
    right = [p.label == s.label for p, s in zip(predictions, dataset.samples, strict=True)]
    figures = mean_average_precision_of(dataset.samples, predictions, dataset.tumor_classes)
    values = {"accuracy": float(np.mean(right)), "mAP": figures.mAP, "mAP50": figures.mAP50}
    return {name: round(value, 4) for name, value in values.items() if value is not None}


__all__ = ["quantised_bundle"]
