"""How far the runtimes without torch are from torch, on the slices of a folder: boxes, scores, probabilities, classes.

python scripts/compare_runtimes.py DIR [--model BUNDLE] [--slices 200]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from detectclf.boxes import pairwise_iou
from detectclf.inference.loading import load
from detectclf.inference.runtimes.engines import ENGINES
from detectclf.prediction import Prediction

LEAST_SCORE = 0.05
"""Boxes with lower scores are not compared."""


class Difference(NamedTuple):
    """The largest differences between two sets of predictions.

    Attributes:
        classes: slices with another class or other flags.
        probability: of a class.
        score: of a box and its counterpart.
        overlap: 1 minus the IoU of a box and its counterpart; 1 where a box has none.
    """

    classes: int
    probability: float
    score: float
    overlap: float


def difference(found: Sequence[Prediction], wanted: Sequence[Prediction]) -> Difference:
    """Compares predictions for the same slices, by slice, in both directions."""
    classes, probability, score, overlap = 0, 0.0, 0.0, 0.0
    for one, other in zip(found, wanted, strict=True):
        classes += one.label != other.label or one.flags != other.flags
        probability = max(probability, *(abs(one.probabilities[k] - p) for k, p in other.probabilities.items()))
        for here, there in ((one, other), (other, one)):
            for number in (i for i, value in enumerate(here.scores) if value >= LEAST_SCORE):
                apart = _counterpart(here, number, there)
                score, overlap = max(score, apart[0]), max(overlap, apart[1])
    return Difference(classes, probability, score, overlap)


def _counterpart(here: Prediction, number: int, there: Prediction) -> tuple[float, float]:
    """Distance in score and overlap of one box to the box of the same class there that fits it best."""
    same = [i for i, name in enumerate(there.box_labels) if name == here.box_labels[number]]
    if not same:
        return float(here.scores[number]), 1.0
    overlaps = pairwise_iou(here.boxes_xyxy[[number]], there.boxes_xyxy[same])[0]
    # Two boxes may lie in one place; the score tells which is which.
    options = [
        (abs(float(there.scores[i] - here.scores[number])), 1 - float(v)) for i, v in zip(same, overlaps, strict=True)
    ]
    return min(options, key=lambda option: option[0] + option[1])


def main(
    folder: Path,
    model: Annotated[Path | None, typer.Option(help="Bundle [default: the packaged one].")] = None,
    slices: Annotated[int, typer.Option(help="Slices to compare, spread over the folder.")] = 200,
) -> None:
    """Prints the largest differences."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    chosen = files[:: max(1, len(files) // slices)][:slices]
    wanted = list(load(model, runtime="torch", device="cpu").predict_many(chosen))
    for engine in ENGINES:
        apart = difference(list(load(model, runtime=engine).predict_many(chosen)), wanted)
        print(
            f"{engine}: {len(chosen)} slices, {apart.classes} with another class or flags, probabilities within "
            f"{apart.probability:.1e}, scores within {apart.score:.1e}, boxes within {apart.overlap:.1e} of IoU 1"
        )


if __name__ == "__main__":
    typer.run(main)
