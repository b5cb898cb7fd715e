"""What is trained: the two tasks that ``fit`` knows nothing of but their losses, outputs and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

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
from detectclf.models.refiner import Reading, Refiner, paired_iou
from detectclf.models.saved import classifier_meta, detector_meta, refiner_meta, save_model
from detectclf.training.optimization import TwoPartModel

Figures = dict[str, float | None]


class Task(TwoPartModel, Protocol):
    """One thing to train.

    Attributes:
        model: what is saved and averaged.
        losses: module around ``model`` whose ``forward(images, targets)`` gives a dict of losses; a module, so that
            gradients of several processes meet in its call.
        metric: name of the figure, larger is better, that chooses the best epoch.
        train, valid: slices.
    """

    model: nn.Module
    losses: nn.Module
    metric: str
    train: Slices
    valid: Slices

    def freeze_backbone(self, frozen: bool) -> None:
        """Stops or starts the training of the pretrained part."""

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """What ``model`` (in eval mode) says: index of the slice -> plain arrays that travel between processes."""

    def figures(self, outputs: Mapping[int, Any]) -> Figures:
        """Figures over the outputs of all validation slices."""

    def save(self, folder: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
        """Writes ``model`` with what is needed to use it."""


class _Stage:
    """What both tasks share: slices, the parts of the model, and how it is saved."""

    def __init__(
        self, model: Detector | Classifier | Refiner, train: Slices, valid: Slices, negative: str | None
    ) -> None:
        self._parts, self._negative = model, negative
        self.model: nn.Module = model
        self.train, self.valid = train, valid

    def save(self, folder: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
        """Writes ``model.safetensors`` and ``model.json``."""
        parts, classes = self._parts, self.train.classes
        if isinstance(parts, Detector):
            meta = detector_meta(parts, parts.config, classes, negative=self._negative, facts=facts)
        elif isinstance(parts, Refiner):
            meta = refiner_meta(parts, parts.config, classes, negative=self._negative, facts=facts)
        else:
            meta = classifier_meta(parts, parts.config, classes, negative=self._negative, facts=facts)
        save_model(folder, model, meta)

    @property
    def pretrained(self) -> bool:
        """Whether any weights were loaded into the model."""
        return bool(self._parts.weights_report.matched)

    def freeze_backbone(self, frozen: bool) -> None:
        """Stops or starts the training of the pretrained part."""
        self._parts.freeze_backbone(frozen)

    def backbone_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the pretrained part."""
        return self._parts.backbone_parameters()

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the new part."""
        return self._parts.head_parameters()


class _DetectorLosses(nn.Module):
    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        wanted = [{"boxes": t["boxes"], "labels": t["labels"]} for t in targets]
        losses: dict[str, Tensor] = self.model(list(images), wanted)
        return losses


class DetectionTask(_Stage):
    """Boxes of tumours; figures are COCO mAP over the classes other than the negative one, in original pixels.

    Args:
        model: the detector; its labels are positions in ``train.classes``.
        train, valid: slices with known boxes, with the same classes.
        negative: the class that means "no tumour", left out of the figures where its boxes are kept.
    """

    metric = "mAP"

    def __init__(
        self,
        model: Detector,
        train: DetectionSlices,
        valid: DetectionSlices,
        negative: str | None = None,
    ) -> None:
        super().__init__(model, train, valid, negative)
        self.losses: nn.Module = _DetectorLosses(model)

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Index -> ``(boxes (N, 4) in original pixels, class names, scores (N,))``."""
        results = {}
        for found, target in zip(model(list(batch["images"])), batch["targets"], strict=True):
            boxes, labels, scores = in_original_pixels(found, target["scale"], *target["size"])
            results[target["image_id"]] = (boxes, [self.valid.classes[i] for i in labels], scores)
        return results

    def figures(self, outputs: Mapping[int, Any]) -> Figures:
        """``mAP``, ``mAP50``, ``mAP75``; ``None`` where the split has no box."""
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


class ClassificationTask(_Stage):
    """The class of a slice; figures are accuracy and macro-F1.

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
        super().__init__(model, train, valid, negative)
        weights = balanced_weights(train) if config.class_weights == "balanced" else None
        self.losses: nn.Module = _ClassifierLosses(model, config.label_smoothing, weights)
        self._truth = valid.labels

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Index -> position of the likeliest class."""
        best = model(batch["images"]).argmax(dim=1).tolist()
        return {target["image_id"]: k for target, k in zip(batch["targets"], best, strict=True)}

    def figures(self, outputs: Mapping[int, Any]) -> Figures:
        """``accuracy`` and ``macro_f1``."""
        said = [outputs[i] for i in range(len(self._truth))]
        accuracy, macro_f1 = accuracy_and_macro_f1(self._truth, said, len(self.valid.classes))
        return {"accuracy": accuracy, "macro_f1": macro_f1}


class _RefinerLosses(nn.Module):
    def __init__(self, model: Refiner) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        boxes = torch.stack([t["box"] for t in targets]).to(images.device)
        labels = torch.tensor([t["label"] for t in targets], device=images.device)
        return self.model.losses(images, boxes, labels)


class RefinementTask(_Stage):
    """The box, class and quality of a crop; figures are the mean IoU of the boxes, and the accuracy of the classes.

    Args:
        model: the refiner; its classes are those of ``train``.
        train, valid: crops of slices with known boxes, with the same classes.
        negative: the class that means "no tumour"; saved with the model.
    """

    metric = "mean_iou"

    def __init__(self, model: Refiner, train: CropSlices, valid: CropSlices, negative: str | None = None) -> None:
        super().__init__(model, train, valid, negative)
        self.losses: nn.Module = _RefinerLosses(model)

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Index -> ``(IoU with the true box, None on a healthy place; whether the class is right)``."""
        said: Reading = model(batch["images"])
        wanted = torch.stack([t["box"] for t in batch["targets"]]).to(said.boxes.device)
        overlaps, best = paired_iou(said.boxes, wanted).tolist(), said.logits.argmax(dim=1).tolist()
        healthy = len(self.valid.classes)
        return {
            t["image_id"]: (None if t["label"] == healthy else iou, t["label"] == k)
            for t, iou, k in zip(batch["targets"], overlaps, best, strict=True)
        }

    def figures(self, outputs: Mapping[int, Any]) -> Figures:
        """``mean_iou`` (``None`` where the split has no box) and ``accuracy``."""
        overlaps = [iou for iou, _ in outputs.values() if iou is not None]
        right = [hit for _, hit in outputs.values()]
        return {"mean_iou": float(np.mean(overlaps)) if overlaps else None, "accuracy": float(np.mean(right))}


def balanced_weights(slices: ClassificationSlices) -> Tensor:
    """``(K,)`` float32 weights ``N / (K n_k)``, as scikit-learn's "balanced"; 0 for a class without slices."""
    counts = np.bincount(slices.labels, minlength=len(slices.classes))
    present = counts > 0
    weights = np.where(present, len(slices) / (present.sum() * np.maximum(counts, 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32)
