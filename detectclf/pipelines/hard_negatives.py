"""Hard negatives: proposals of a detector beside the tumours, which a refiner learns to reject."""

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
    """Makes sure that a run is of a detector.

    Raises:
        ModelError: it is not.
    """
    from detectclf.models.stage_files import META_FILE, read_meta

    kind = read_meta(run / META_FILE).kind
    if kind != "detector":
        raise ModelError(f"is a {kind}, not a detector", file=run, remedy="give the run of a detector")


def hard_negatives(
    run: Path, samples: Sequence[Sample], classes: Sequence[str], data: DataConfig, device: str
) -> list[FloatArray]:
    """For each slice with known boxes, the proposals of a detector that overlap no tumour.

    These are the detector's best proposals at any score. On slices that it was trained on, their scores are low, but
    they are still the regions that look most like a tumour.

    Args:
        run: a run of a detector.
        samples: slices; those whose boxes are not known are left out.
        classes: the tumour classes.
        data: settings for caching and loading.
        device: where the detector runs.

    Returns:
        ``(M, 4)`` float32 ``xyxy`` boxes in pixels of the original slice, for each slice with known boxes.

    Raises:
        ModelError: not a run of a detector, or a detector of other classes.
        DataError: a slice cannot be read.
        DeviceError: the device is not available.
    """
    import torch

    from detectclf.datasets.crops import background_boxes
    from detectclf.datasets.loading import DetectionSlices, make_loader
    from detectclf.inference.refine import likely_proposals
    from detectclf.models.device import resolve_device
    from detectclf.models.stage_files import load_stage
    from detectclf.training.tasks import DetectionTask

    stage = load_stage(run, "detector")
    if not set(classes) <= set(stage.classes):
        raise ModelError(
            f"detects {', '.join(stage.classes)}; the data have {', '.join(classes)}",
            file=run,
            remedy="give a detector of the same data",
        )
    where = resolve_device(device)
    detector = stage.network.to(where).to(memory_format=torch.channels_last)
    slices = DetectionSlices(samples, stage.classes, stage.preprocessing.size, cache=data.cache)
    task = DetectionTask(detector, slices, slices, stage.meta.negative)
    negatives: list[FloatArray] = []
    with torch.inference_mode():
        for batch in make_loader(slices, batch_size=BATCH, seed=None, workers=data.workers):
            found = task.outputs(detector, {**batch, "images": batch["images"].to(where)})
            for index, (boxes, names, scores) in found.items():
                outputs = StageOutputs(np.zeros(0, np.float32), boxes, tuple(names), scores)
                likely = boxes[likely_proposals(outputs, classes)]
                negatives.append(background_boxes(likely, slices.samples[index].boxes_xyxy))
    return negatives
