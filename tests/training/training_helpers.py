"""Small real slices, models and tasks for the tests of training, also run under torchrun (see two_processes.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from detectclf.config import (
    AugmentConfig,
    ClassifierConfig,
    ClassifierRecipe,
    DetectorConfig,
    DetectorRecipe,
    TrainingConfig,
)
from detectclf.datasets.augment import classification_augment, detection_augment
from detectclf.datasets.loading import ClassificationSlices, DetectionSlices
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import build_detector
from detectclf.progress import Progress
from detectclf.training.environment import seed_everything
from detectclf.training.loop import History, fit
from detectclf.training.runs import Run
from detectclf.training.tasks import ClassificationTask, DetectionTask, Task
from detectclf.types import Sample

CLASSES = ("glioma", "pituitary")


class Watch(Progress):
    """Calls ``act(number of the step)`` after each step."""

    def __init__(self, act: Callable[[int], None]) -> None:
        super().__init__("training", show=False)
        self._act, self.steps = act, 0
        self.notes: list[str] = []

    def advance(self, steps: int = 1, detail: str = "") -> None:
        """Counts."""
        self.steps += 1
        self._act(self.steps)

    def note(self, text: str) -> None:
        """Keeps the line."""
        self.notes.append(text)


def write_samples(folder: Path, count: int) -> list[Sample]:
    """``count`` noisy 64 px slices, each with one square: bright is a glioma, grey a pituitary tumour."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        bright = number % 2 == 0
        x, y = (int(v) for v in rng.integers(4, 36, 2))
        pixels = rng.integers(0, 50, (64, 64)).astype(np.uint8)
        pixels[y : y + 24, x : x + 24] = 235 if bright else 120
        path = folder / f"slice{number:02d}.png"
        Image.fromarray(pixels).save(path)
        name = CLASSES[0] if bright else CLASSES[1]
        box = np.array([[x, y, x + 24, y + 24]], dtype=np.float32)
        samples.append(Sample(path, path.name, "train", name, box, (name,), True, 64, 64, str(folder)))
    return samples


def training(**changes: object) -> TrainingConfig:
    """Settings that learn something within seconds."""
    settings = {"epochs": 3, "batch_size": 4, "device": "cpu", "precision": "fp32", "ema_decay": 0.5, "seed": 3}
    return TrainingConfig.model_validate(settings | changes)


def classification_task(samples: list[Sample], *, norm: str = "batch", dropout: float = 0.2) -> ClassificationTask:
    """The smallest classifier of the table; ``norm="group"`` has statistics that do not depend on the batch."""
    seed_everything(5)
    config = ClassifierConfig(arch="cnn", weights="none", image_size=32, dropout=dropout)
    model = build_classifier(config, len(CLASSES))
    if norm == "group":
        _use_group_norm(model)
    train = ClassificationSlices(samples, CLASSES, 32, classification_augment(AugmentConfig(), seed=3), seed=3)
    return ClassificationTask(model, train, ClassificationSlices(samples, CLASSES, 32), config)


def detection_task(samples: list[Sample], **changes: object) -> DetectionTask:
    """The lean detector on 64 px."""
    seed_everything(5)
    settings = {"weights": "none", "image_size": 64, "proposals_train": 40, "proposals_test": 20}
    model = build_detector(DetectorConfig.model_validate(settings | changes), len(CLASSES))
    train = DetectionSlices(samples, CLASSES, 64, detection_augment(AugmentConfig(), seed=3), seed=3)
    return DetectionTask(model, train, DetectionSlices(samples, CLASSES, 64))


def train(
    task: Task,
    config: TrainingConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    workers: int = 0,
) -> History:
    """``fit`` in a run directory."""
    recipe = DetectorRecipe(training=config) if task.metric == "mAP" else ClassifierRecipe(training=config)
    with Run.create(out, recipe, resume=resume) as run:
        return fit(task, config, run, resume=resume, progress=progress, workers=workers)


def read_history(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _use_group_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(4, child.num_features))
        else:
            _use_group_norm(child)
