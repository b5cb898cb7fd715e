"""Suspect labels: slices whose published class or box a model contradicts, the most suspect first.

Ranked as in confident learning (Northcutt, Jiang & Chuang, JAIR 2021) by how little probability the model gives to the
published class. A prediction for a training slice is weak evidence, because the model may have memorised its label, so
out-of-fold predictions are used where there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from detectclf.boxes import pairwise_iou
from detectclf.types import FloatArray, Sample

SURE_BOX = 0.5
"""Boxes of a lower score contradict no label."""
ELSEWHERE_IOU = 0.1
"""A box whose IoU with every published box is lower than this contradicts them."""
SUSPICION = 0.5
"""Slices of lower suspicion are not listed."""


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What a model predicts for one slice.

    Attributes:
        probabilities: class -> probability.
        box_xyxy: ``(4,)`` float32 pixels, the best tumour box; ``None`` where there is none.
        score: of that box.
        unseen: whether the slice was left out of training, as far as is recorded.
    """

    probabilities: dict[str, float]
    box_xyxy: FloatArray | None
    score: float
    unseen: bool


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """A slice whose label is contradicted.

    Attributes:
        index: of the slice in the list given.
        kind: which label is contradicted.
        suspicion: from 0 to 1.
        detail: the contradiction in one line.
    """

    index: int
    kind: Literal["class", "box"]
    suspicion: float
    detail: str

    def to_record(self, sample: Sample, opinion: Opinion) -> dict[str, Any]:
        """A JSON object; ``unseen`` is true where the slice was left out of training."""
        return {
            "file": f"{sample.split}/{sample.name}" if sample.split else sample.name,
            "kind": self.kind,
            "suspicion": round(self.suspicion, 4),
            "label": sample.label,
            "said": max(opinion.probabilities, key=lambda c: opinion.probabilities[c]),
            "detail": self.detail,
            "unseen": opinion.unseen,
        }


def find_suspects(samples: Sequence[Sample], opinions: Sequence[Opinion], negative: str | None) -> list[Suspect]:
    """Slices whose label is contradicted, the most suspect first; each once.

    Args:
        samples: with canonical class names.
        opinions: the prediction for each of them.
        negative: the class that means "no tumour".
    """
    found = [
        s
        for i, (sample, opinion) in enumerate(zip(samples, opinions, strict=True))
        if (s := _judge(i, sample, opinion, negative))
    ]
    return sorted(found, key=lambda s: (-s.suspicion, samples[s.index].name))


def _judge(index: int, sample: Sample, opinion: Opinion, negative: str | None) -> Suspect | None:
    if sample.label is None or sample.label not in opinion.probabilities:
        return None
    suspicion = 1.0 - opinion.probabilities[sample.label]
    likeliest = max(opinion.probabilities, key=lambda c: opinion.probabilities[c])
    if suspicion >= SUSPICION and likeliest != sample.label:
        p = opinion.probabilities[likeliest]
        return Suspect(index, "class", suspicion, f"labelled {sample.label}, looks like {likeliest} ({p:.3f})")
    boxes = sample.boxes_xyxy[[name != negative for name in sample.box_labels]]
    if opinion.box_xyxy is None or opinion.score < SURE_BOX or not sample.boxed or not len(boxes):
        return None
    overlap = float(pairwise_iou(opinion.box_xyxy[None], boxes).max())
    if overlap >= ELSEWHERE_IOU:
        return None
    corners = ", ".join(f"{v:.0f}" for v in opinion.box_xyxy)
    # A box elsewhere is weaker evidence than another class: there may be two tumours.
    suspicion = SUSPICION + 0.5 * (opinion.score - SURE_BOX)
    return Suspect(
        index, "box", suspicion, f"the tumour seems to be at ({corners}), IoU {overlap:.2f} with the label's"
    )
