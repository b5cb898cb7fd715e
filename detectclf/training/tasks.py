"""The tasks: for each kind of stage its losses, and how its outputs become validation metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from detectclf.boxes import in_original_pixels, pairwise_iou
from detectclf.config import ClassifierConfig
from detectclf.datasets.loading import Batch, ClassificationSlices, DetectionSlices, Slices, Target
from detectclf.evaluation.classification import accuracy_and_macro_f1
from detectclf.evaluation.detection import mean_average_precision
from detectclf.models.classifiers import Classifier
from detectclf.models.detectors import Detector
from detectclf.models.roi_features import as_arrays
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import save_stage
from detectclf.models.transfer import TransferModel
from detectclf.types import ANY_TUMOR, ANY_TUMOR_INDEX

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
    """Boxes of tumours. The metrics are COCO mAP in original pixels over all classes but the negative one, and found50.

    mAP leaves out slices with a tumour of unknown type: no class of a box on it would be right or wrong.

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
        model.set_tumors(tumor_indices(train.classes, negative))

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Index -> ``(boxes (N, 4) in original pixels, class names, scores (N,))``."""
        results = {}
        for found, target in zip(model(list(batch["images"])), batch["targets"], strict=True):
            boxes, labels, scores = in_original_pixels(*as_arrays(found), target["scale"], *target["size"])
            results[target["image_id"]] = (boxes, [self.valid.classes[i] for i in labels], scores)
        return results

    def metrics(self, outputs: Mapping[int, Any]) -> Metrics:
        """``mAP``, ``mAP50``, ``mAP75`` and ``found50``; ``None`` if the split has no box for them.

        ``found50`` is the share of slices with a tumour, of any type, whose best-scoring tumour box has an IoU of at
        least 0.5 with one, whatever its class.
        """
        samples = [s for s in self.valid.samples if ANY_TUMOR not in s.box_labels]
        found = [outputs[i] for i, s in enumerate(self.valid.samples) if ANY_TUMOR not in s.box_labels]
        result = mean_average_precision(
            [s.boxes_xyxy for s in samples],
            [s.box_labels for s in samples],
            [boxes for boxes, _, _ in found],
            [names for _, names, _ in found],
            [scores for _, _, scores in found],
            [c for c in self.valid.classes if c != self._negative],
        )
        return {"mAP": result.mAP, "mAP50": result.mAP50, "mAP75": result.mAP75, "found50": self._found50(outputs)}

    def _found50(self, outputs: Mapping[int, Any]) -> float | None:
        hits = []
        for index, sample in enumerate(self.valid.samples):
            true = sample.boxes_xyxy[[name != self._negative for name in sample.box_labels]]
            boxes, names, _ = outputs[index]
            best = boxes[[name != self._negative for name in names]][:1]
            if len(true):
                hits.append(bool(len(best)) and float(pairwise_iou(best, true).max()) >= 0.5)
        return float(np.mean(hits)) if hits else None


class _ClassifierLosses(nn.Module):
    def __init__(self, model: Classifier, smoothing: float, weights: Tensor | None, tumors: Sequence[int]) -> None:
        super().__init__()
        self.model, self.smoothing, self.tumors = model, smoothing, tumors
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        labels = torch.tensor([t["label"] for t in targets], device=images.device)
        return self.model.losses(
            images, labels, tumors=self.tumors, label_smoothing=self.smoothing, class_weights=self.weights
        )


class ClassificationTask(Task):
    """The class of a slice. The metrics are accuracy and macro-F1 over slices of known type, and called_tumor.

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
        self._truth = valid.labels
        self._tumors = tumor_indices(train.classes, negative)
        losses = _ClassifierLosses(model, config.label_smoothing, weights, self._tumors)
        super().__init__(model, losses, train, valid, negative)
        self._truth = valid.labels

    def outputs(self, model: nn.Module, batch: Batch) -> dict[int, Any]:
        """Index -> index of the likeliest class."""
        best = model(batch["images"]).argmax(dim=1).tolist()
        return {target["image_id"]: k for target, k in zip(batch["targets"], best, strict=True)}

    def metrics(self, outputs: Mapping[int, Any]) -> Metrics:
        """``accuracy`` and ``macro_f1`` (``None`` if no slice is of a known class), and ``called_tumor``.

        ``called_tumor`` is the share of slices with a tumour, of any type, that are given a class of tumours; ``None``
        if there is no such slice.
        """
        pairs = [(truth, outputs[index]) for index, truth in enumerate(self._truth)]
        known = [(truth, found) for truth, found in pairs if truth != ANY_TUMOR_INDEX]
        accuracy, macro_f1 = accuracy_and_macro_f1(
            [truth for truth, _ in known], [found for _, found in known], len(self.valid.classes)
        )
        called = [found in self._tumors for truth, found in pairs if truth in (*self._tumors, ANY_TUMOR_INDEX)]
        rate = float(np.mean(called)) if called else None
        return {"accuracy": accuracy, "macro_f1": macro_f1, "called_tumor": rate}


def tumor_indices(classes: Sequence[str], negative: str | None) -> tuple[int, ...]:
    """Indices of the classes that are tumours."""
    return tuple(k for k, name in enumerate(classes) if name != negative)


def balanced_weights(slices: ClassificationSlices) -> Tensor:
    """``(K,)`` float32 weights ``N / (K n_k)``, as scikit-learn's "balanced"; 0 for a class without slices.

    Slices with a tumour of unknown type do not count.
    """
    known = [label for label in slices.labels if label != ANY_TUMOR_INDEX]
    counts = np.bincount(np.array(known, dtype=np.int64), minlength=len(slices.classes))
    present = counts > 0
    weights = np.where(present, len(known) / (max(present.sum(), 1) * np.maximum(counts, 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32)
