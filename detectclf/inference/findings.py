"""Boxes on neighbouring slices are joined into findings.

From the first slice to the last, each box that counts is joined to the finding whose latest box lies on the slice
before, or on the one before that, and overlaps it most, by an IoU of at least :data:`LEAST_OVERLAP`; the best boxes
choose first, and a finding takes one box of a slice. A box that finds none begins a finding. Classes do not matter for
joining: one tumour is often of two classes on its slices, and the finding has the class of the greater sum of scores.

A finding that covers fewer slices than must agree is a flicker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from detectclf.boxes import iou
from detectclf.prediction import Prediction
from detectclf.types import FloatArray

LEAST_OVERLAP = 0.2
"""IoU of boxes on neighbouring slices. The end of a tumour is much smaller than the slice before it where slices are
5 mm apart; two tumours beside each other do not overlap at all."""
BRIDGED = 1
"""Slices without the box that a finding may have between two slices with it."""


class SliceBox(NamedTuple):
    """A box that counts: number of its slice, ``(4,)`` xyxy in pixels, class and score."""

    number: int
    xyxy: FloatArray
    label: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One tumour, or what is taken for one, in a volume.

    Attributes:
        boxes: one on each of its slices, in order.
    """

    boxes: list[SliceBox] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The class with the greatest sum of scores."""
        sums: dict[str, float] = defaultdict(float)
        for box in self.boxes:
            sums[box.label] += box.score
        return max(sums, key=lambda name: sums[name])

    @property
    def best(self) -> SliceBox:
        """The box with the highest score."""
        return max(self.boxes, key=lambda box: box.score)

    @property
    def slices(self) -> tuple[int, int]:
        """Numbers of its first and last slice."""
        return self.boxes[0].number, self.boxes[-1].number

    def score(self, slices: int) -> float:
        """The mean of the ``slices`` best scores, so that one sure slice among unsure ones does not make it sure."""
        return float(np.mean(sorted((box.score for box in self.boxes), reverse=True)[:slices]))

    def union(self) -> FloatArray:
        """``(4,)`` xyxy round all its boxes."""
        corners = np.stack([box.xyxy for box in self.boxes])
        return np.concatenate([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])


def counted_boxes(prediction: Prediction, number: int, negative: str | None) -> list[SliceBox]:
    """The boxes of a slice that are drawn and count, best first."""
    found = zip(prediction.boxes_xyxy, prediction.box_labels, prediction.scores, strict=True)
    return [
        SliceBox(number, box, label, float(score))
        for box, label, score in found
        if score >= prediction.box_threshold and label != negative
    ]


def joined(slices: Sequence[Sequence[SliceBox]]) -> list[Finding]:
    """The findings of a volume, in the order of their first slices.

    Args:
        slices: the boxes of each slice, best first.
    """
    findings: list[Finding] = []
    for number, boxes in enumerate(slices):
        reachable = [each for each in findings if number - each.boxes[-1].number <= BRIDGED + 1]
        for box in boxes:
            # A finding that has taken a box of this slice is out of reach for the others.
            open_ones = [each for each in reachable if each.boxes[-1].number < number]
            latest = np.array([each.boxes[-1].xyxy for each in open_ones], dtype=np.float32).reshape(-1, 4)
            overlaps = iou(box.xyxy, latest)
            if open_ones and overlaps.max() >= LEAST_OVERLAP:
                open_ones[int(overlaps.argmax())].boxes.append(box)
            else:
                findings.append(Finding([box]))
    return findings


__all__ = ["BRIDGED", "LEAST_OVERLAP", "Finding", "SliceBox", "counted_boxes", "joined"]
