"""The tasks: for each kind of stage its losses, and how its outputs become validation metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from detectclf.config import ClassifierConfig
from detectclf.datasets.crops import CropSlices
from detectclf.datasets.loading import Batch, ClassificationSlices, DetectionSlices, Slices, Target
from detectclf.evaluation.classification import accuracy_and_macro_f1
from detectclf.evaluation.detection import mean_average_precision
from detectclf.models.classifiers import Classifier
from detectclf.models.detectors import Detector, in_original_pixels
from detectclf.models.refiner import Refiner, RefinerOutputs, paired_iou
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import save_stage
from detectclf.models.transfer import TransferModel

Metrics = dict[str, float | None]


class Task(ABC):
    """What ``fit`` trains: the network and its losses, the slices and the metrics.

    Args:
        model: the network that is trained, averaged and saved.
        losses: module around ``model`` whose ``forward(images, targets)`` gives a dict of losses; a module, because
            DistributedDataParallel synchronises gradients in a module's call.
        train, valid: slices, with the same classes.
        negative: the class that means "no tumour"; saved with the model.
    """

    metric: ClassVar[str]
    """Name of the metric, larger is better, that chooses the best epoch."""

    def __init__(
        self, model: TransferModel, losses: nn.Module, train: Slices, valid: Slices, negative: str | None
    ) -> None:
        self.model, self.losses = model, losses
        self.train, self.valid = train, valid
        self._negative = negative

    @abstractmethod
    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Outputs of ``model``, in eval mode: index of the slice -> plain arrays, which processes exchange."""

    @abstractmethod
    def metrics(self, outputs: Mapping[int, Any]) -> Metrics:
        """Metrics over the outputs of all validation slices."""

    def save(self, folder: Path, model: TransferModel, metadata: Mapping[str, Any]) -> None:
        """Writes ``model.safetensors`` and ``model.json``."""
        save_stage(folder, new_stage(model, self.train.classes, negative=self._negative, metadata=metadata))

    @property
    def pretrained(self) -> bool:
        """Whether any pretrained weights were loaded into the model."""
        return bool(self.model.weights_report.matched)


class _DetectorLosses(nn.Module):
    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        wanted = [{"boxes": t["boxes"], "labels": t["labels"]} for t in targets]
        losses: dict[str, Tensor] = self.model(list(images), wanted)
        return losses


class DetectionTask(Task):
    """Boxes of tumours. The metrics are COCO mAP over all classes but the negative one, in original pixels.

    Args:
        model: the detector; its labels are positions in ``train.classes``.
        train, valid: slices with known boxes, with the same classes.
        negative: the class that means "no tumour"; its boxes do not count in the metrics.
    """

    metric = "mAP"

    def __init__(
        self,
        model: Detector,
        train: DetectionSlices,
        valid: DetectionSlices,
        negative: str | None = None,
    ) -> None:
        super().__init__(model, _DetectorLosses(model), train, valid, negative)

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Index -> ``(boxes (N, 4) in original pixels, class names, scores (N,))``."""
        results = {}
        for found, target in zip(model(list(batch["images"])), batch["targets"], strict=True):
            boxes, labels, scores = in_original_pixels(found, target["scale"], *target["size"])
            results[target["image_id"]] = (boxes, [self.valid.classes[i] for i in labels], scores)
        return results

    def metrics(self, outputs: Mapping[int, Any]) -> Metrics:
        """``mAP``, ``mAP50``, ``mAP75``; ``None`` if the split has no box."""
        samples = self.valid.samples
        found = [outputs[i] for i in range(len(samples))]
        result = mean_average_precision(
            [s.boxes_xyxy for s in samples],
            [s.box_labels for s in samples],
            [boxes for boxes, _, _ in found],
            [names for _, names, _ in found],
            [scores for _, _, scores in found],
            [c for c in self.valid.classes if c != self._negative],
        )
        return {"mAP": result.mAP, "mAP50": result.mAP50, "mAP75": result.mAP75}


class _ClassifierLosses(nn.Module):
    def __init__(self, model: Classifier, smoothing: float, weights: Tensor | None) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        labels = torch.tensor([t["label"] for t in targets], device=images.device)
        return self.model.losses(images, labels, label_smoothing=self.smoothing, class_weights=self.weights)


class ClassificationTask(Task):
    """The class of a slice. The metrics are accuracy and macro-F1.

    Args:
        model: the classifier; its logits are in the order of ``train.classes``.
        train, valid: slices with a known class, with the same classes.
        config: label smoothing and class weights.
        negative: the class that means "no tumour"; saved with the model.
    """

    metric = "accuracy"

    def __init__(
        self,
        model: Classifier,
        train: ClassificationSlices,
        valid: ClassificationSlices,
        config: ClassifierConfig,
        negative: str | None = None,
    ) -> None:
        weights = balanced_weights(train) if config.class_weights == "balanced" else None
        super().__init__(model, _ClassifierLosses(model, config.label_smoothing, weights), train, valid, negative)
        self._truth = valid.labels

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Index -> index of the likeliest class."""
        best = model(batch["images"]).argmax(dim=1).tolist()
        return {target["image_id"]: k for target, k in zip(batch["targets"], best, strict=True)}

    def metrics(self, outputs: Mapping[int, Any]) -> Metrics:
        """``accuracy`` and ``macro_f1``."""
        predicted = [outputs[i] for i in range(len(self._truth))]
        accuracy, macro_f1 = accuracy_and_macro_f1(self._truth, predicted, len(self.valid.classes))
        return {"accuracy": accuracy, "macro_f1": macro_f1}


class _RefinerLosses(nn.Module):
    def __init__(self, model: Refiner) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        boxes = torch.stack([t["box"] for t in targets]).to(images.device)
        labels = torch.tensor([t["label"] for t in targets], device=images.device)
        return self.model.losses(images, boxes, labels)


class RefinementTask(Task):
    """Box, class and quality of a crop. The metrics are the mean IoU of the boxes and the accuracy of the classes.

    Args:
        model: the refiner; its classes are those of ``train``.
        train, valid: crops of slices with known boxes, with the same classes.
        negative: the class that means "no tumour"; saved with the model.
    """

    metric = "mean_iou"

    def __init__(self, model: Refiner, train: CropSlices, valid: CropSlices, negative: str | None = None) -> None:
        super().__init__(model, _RefinerLosses(model), train, valid, negative)

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Index -> ``(IoU with the true box, None for a crop without a tumour; whether the class is right)``."""
        refined: RefinerOutputs = model(batch["images"])
        wanted = torch.stack([t["box"] for t in batch["targets"]]).to(refined.boxes.device)
        overlaps, best = paired_iou(refined.boxes, wanted).tolist(), refined.logits.argmax(dim=1).tolist()
        healthy = len(self.valid.classes)
        return {
            t["image_id"]: (None if t["label"] == healthy else iou, t["label"] == k)
            for t, iou, k in zip(batch["targets"], overlaps, best, strict=True)
        }

    def metrics(self, outputs: Mapping[int, Any]) -> Metrics:
        """``mean_iou`` (``None`` if the split has no box) and ``accuracy``."""
        overlaps = [iou for iou, _ in outputs.values() if iou is not None]
        right = [hit for _, hit in outputs.values()]
        return {"mean_iou": float(np.mean(overlaps)) if overlaps else None, "accuracy": float(np.mean(right))}


def balanced_weights(slices: ClassificationSlices) -> Tensor:
    """``(K,)`` float32 weights ``N / (K n_k)``, as scikit-learn's "balanced"; 0 for a class without slices."""
    counts = np.bincount(slices.labels, minlength=len(slices.classes))
    present = counts > 0
    weights = np.where(present, len(slices) / (present.sum() * np.maximum(counts, 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32)
