"""Drawn truths and noisy predictions, as like a real split as figures need, without any model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detectclf.prediction import Origin, Prediction
from detectclf.types import CANONICAL_CLASSES, Dataset, FloatArray, Sample, StageOutputs, StagePredictions

CLASSES = CANONICAL_CLASSES
TUMORS = tuple(c for c in CLASSES if c != "no_tumor")
SIDE = 256


def example(
    count: int, seed: int = 0, *, skill: float = 2.5, sources: tuple[str, ...] = ("data",)
) -> tuple[list[Prediction], Dataset]:
    """``count`` slices and what a model of that ``skill`` (logit of the true class) might say of them."""
    random = np.random.default_rng(seed)
    samples = tuple(_sample(random, i, sources[0]) for i in range(count))
    predictions = [_prediction(random, s, skill) for s in samples]
    return predictions, Dataset(samples, CLASSES, "no_tumor", sources)


def box(random: np.random.Generator) -> FloatArray:
    """One box well inside the picture, ``(4,)``."""
    corner = random.uniform(20, SIDE - 110, 2)
    return np.concatenate([corner, corner + random.uniform(12, 90, 2)]).astype(np.float32)


def _sample(random: np.random.Generator, i: int, source: str) -> Sample:
    label = CLASSES[random.integers(len(CLASSES))]
    boxes = [] if label == "no_tumor" else [box(random) for _ in range(1 + (random.random() < 0.1))]
    return Sample(
        path=Path(f"/nowhere/{i:04d}.png"),
        name=f"{i:04d}.png",
        split="test",
        label=label,
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        box_labels=(label,) * len(boxes),
        boxed=bool(label == "no_tumor" or random.random() < 0.9),
        width=SIDE,
        height=SIDE,
        source=source,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits - logits.max())
    return values / values.sum()


def _prediction(random: np.random.Generator, sample: Sample, skill: float) -> Prediction:
    true = CLASSES.index(str(sample.label))
    logits = random.normal(size=4) + skill * (np.arange(4) == true)
    fused = _softmax(logits + 0.5 * random.normal(size=4) + 1.0 * (np.arange(4) == true))
    rows = []
    for truth, label in zip(sample.boxes_xyxy, sample.box_labels, strict=True):
        if random.random() < 0.9:
            name = label if random.random() < 0.85 else TUMORS[random.integers(3)]
            rows.append((truth + random.normal(0, 4, 4), name, random.beta(6, 2)))
    rows += [(box(random), TUMORS[random.integers(3)], random.beta(1, 6)) for _ in range(random.integers(0, 6))]
    rows.sort(key=lambda row: -row[2])
    boxes = np.clip(np.array([row[0] for row in rows], dtype=np.float32).reshape(-1, 4), 0, SIDE)
    labels, scores = tuple(row[1] for row in rows), np.array([row[2] for row in rows], dtype=np.float32)
    label = CLASSES[int(fused.argmax())]
    detector = labels[0] if len(labels) and scores[0] > 0.5 else "no_tumor"
    alone = dict(zip(CLASSES, _softmax(logits).tolist(), strict=True))
    return Prediction(
        image=sample.name,
        label=label,
        probabilities=dict(zip(CLASSES, fused.tolist(), strict=True)),
        boxes_xyxy=boxes,
        box_labels=labels,
        scores=scores,
        flags=() if label == detector else ("class_box_conflict",),
        width=SIDE,
        height=SIDE,
        model="example 1",
        before_fusion=StagePredictions(
            StageOutputs(logits.astype(np.float32), boxes, labels, scores), alone, detector_label=detector
        ),
        origin=Origin(sample.path),
    )
