"""What a detector takes for tumours beside the true ones: the healthy places that a refiner should learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detectclf.config import DataConfig
from detectclf.errors import ModelError
from detectclf.types import FloatArray, Sample, StageOutputs

BATCH = 8
"""Slices per forward pass."""


def check_detector(run: Path) -> None:
    """Raises ModelError where ``run`` is not of a detector."""
    from detectclf.models.saved import META_FILE, read_meta

    kind = read_meta(run / META_FILE).kind
    if kind != "detector":
        raise ModelError(f"is a {kind}, not a detector", file=run, remedy="give the run of a detector")


def hard_negatives(
    run: Path, samples: Sequence[Sample], classes: Sequence[str], data: DataConfig, device: str
) -> list[FloatArray]:
    """For each slice with known boxes ``(M, 4)`` boxes, original pixels, that a refiner would be asked about in vain.

    These are the likeliest places of the detector of ``run``, at any score, that lie beside the tumours. On slices that
    it was trained on its scores there are low, but the places are still those that look most like a tumour.

    Args:
        run: a run of a detector.
        samples: slices; those whose boxes are not known are left out.
        classes: the tumour classes.
        data: how slices are held and loaded.
        device: where the detector runs.

    Raises:
        ModelError: no run of a detector, or its classes are others.
        DataError: a slice cannot be read.
        DeviceError: the device is not there.
    """
    import torch

    from detectclf.datasets.crops import beside_tumors
    from detectclf.datasets.loading import DetectionSlices, make_loader
    from detectclf.inference.refine import likely_proposals
    from detectclf.models.device import resolve_device
    from detectclf.models.rebuild import load_detector
    from detectclf.training.tasks import DetectionTask

    detector, meta = load_detector(run)
    if not set(classes) <= set(meta.classes):
        raise ModelError(
            f"finds {', '.join(meta.classes)}; the data have {', '.join(classes)}",
            file=run,
            remedy="give a detector of the same data",
        )
    where = resolve_device(device)
    detector = detector.to(where).to(memory_format=torch.channels_last)
    slices = DetectionSlices(samples, meta.classes, meta.preprocessing.size, cache=data.cache)
    task = DetectionTask(detector, slices, slices, meta.negative)
    places: list[FloatArray] = []
    with torch.inference_mode():
        for batch in make_loader(slices, batch_size=BATCH, seed=None, workers=data.workers):
            found = task.outputs(detector, {**batch, "images": batch["images"].to(where)})
            for index, (boxes, names, scores) in found.items():
                said = StageOutputs(np.zeros(0, np.float32), boxes, tuple(names), scores)
                places.append(beside_tumors(boxes[likely_proposals(said, classes)], slices.samples[index].boxes_xyxy))
    return places
