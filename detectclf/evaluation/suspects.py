"""The label doctor: slices whose published class or box a model contradicts, most suspect first.

Ranked by how sure the contradiction is, as "confident learning" does (Northcutt, Jiang & Chuang, JAIR 2021): the
probability that is left for the published class. What a model says of slices that it was trained on is worth less, as
it may know their labels by heart; words of models that had not seen them are taken where there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from detectclf.evaluation.matching import iou_matrix
from detectclf.types import FloatArray, Sample

SURE_BOX = 0.5
"""Score from which a model's box counts as its word."""
ELSEWHERE_IOU = 0.1
"""A box that overlaps every published one less than this claims another place."""
SUSPICION = 0.5
"""Slices of less suspicion than this are not listed."""


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What a model says of one slice.

    Attributes:
        probabilities: class -> probability.
        box_xyxy: ``(4,)`` float32 pixels, its best tumour box; ``None`` where there is none.
        score: of that box.
        unseen: whether the model had not seen the slice in training, as far as is known.
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
        kind: what is contradicted.
        suspicion: 0 to 1, how sure.
        detail: in words, with the figures.
    """

    index: int
    kind: Literal["class", "box"]
    suspicion: float
    detail: str

    def to_record(self, sample: Sample, opinion: Opinion) -> dict[str, Any]:
        """A JSON object; ``unseen`` tells whether the model had seen the slice in training."""
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
        opinions: on each of them.
        negative: the class that means "no tumour".
    """
    found = [
        s
        for i, (sample, said) in enumerate(zip(samples, opinions, strict=True))
        if (s := _judge(i, sample, said, negative))
    ]
    return sorted(found, key=lambda s: (-s.suspicion, samples[s.index].name))


def _judge(index: int, sample: Sample, said: Opinion, negative: str | None) -> Suspect | None:
    if sample.label is None or sample.label not in said.probabilities:
        return None
    doubt = 1.0 - said.probabilities[sample.label]
    likeliest = max(said.probabilities, key=lambda c: said.probabilities[c])
    if doubt >= SUSPICION and likeliest != sample.label:
        p = said.probabilities[likeliest]
        return Suspect(index, "class", doubt, f"labelled {sample.label}, looks like {likeliest} ({p:.3f})")
    boxes = sample.boxes_xyxy[[name != negative for name in sample.box_labels]]
    if said.box_xyxy is None or said.score < SURE_BOX or not sample.boxed or not len(boxes):
        return None
    overlap = float(iou_matrix(said.box_xyxy[None], boxes).max())
    if overlap >= ELSEWHERE_IOU:
        return None
    place = ", ".join(f"{v:.0f}" for v in said.box_xyxy)
    # A box elsewhere says less than another class: there may be two tumours.
    suspicion = SUSPICION + 0.5 * (said.score - SURE_BOX)
    return Suspect(index, "box", suspicion, f"the tumour looks to be at ({place}), IoU {overlap:.2f} with the label's")
