"""The worst mistakes, sorted by what they would cost.

Cost: a missed tumour 5, a false alarm 4, a box drawn on a healthy slice that was called healthy 3, the wrong tumour 2,
the right class without a box on the tumour 1; plus the probability of the predicted class, so that of two mistakes of
one kind the more confident comes first. The order is that of screening, where a missed tumour is worst; the numbers
serve only to sort.
"""

from __future__ import annotations

from dataclasses import dataclass

from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.outcomes import drawn_boxes, slice_outcomes
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR, Sample

KINDS: dict[str, float] = {
    "missed tumour": 5.0,
    "false alarm": 4.0,
    "box on a healthy slice": 3.0,
    "wrong tumour class": 2.0,
    "tumour not boxed": 1.0,
}


@dataclass(frozen=True, slots=True, eq=False)
class Mistake:
    """One wrong slice; ``kind`` is a key of :data:`KINDS`."""

    sample: Sample
    prediction: Prediction
    kind: str
    cost: float


def worst_mistakes(data: Aligned) -> list[Mistake]:
    """All mistakes, the most costly first, then by name."""
    outcomes = slice_outcomes(data)
    mistakes = []
    for i, (sample, prediction) in enumerate(zip(data.samples, data.predictions, strict=True)):
        kind = _kind(sample, prediction, data.negative, bool(outcomes.located[i]))
        if kind is not None:
            mistakes.append(Mistake(sample, prediction, kind, KINDS[kind] + (prediction.confidence or 0.0)))
    return sorted(mistakes, key=lambda m: (-m.cost, m.sample.name))


def _kind(sample: Sample, prediction: Prediction, negative: str | None, located: bool) -> str | None:
    if sample.label is None:
        return None
    called_tumor = prediction.label not in (None, negative)
    if prediction.label != sample.label and not (sample.label == ANY_TUMOR and called_tumor):
        if negative is not None and prediction.label == negative:
            return "missed tumour"
        return "false alarm" if negative is not None and sample.label == negative else "wrong tumour class"
    if sample.label == negative:
        return "box on a healthy slice" if len(drawn_boxes(prediction, negative)) else None
    has_box = sample.boxed and any(name != negative for name in sample.box_labels)
    return "tumour not boxed" if has_box and not located else None
