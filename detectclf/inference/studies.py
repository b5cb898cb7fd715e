"""The study record: what the slices of a volume say together.

**Why not the maximum.** A model that is wrong about one healthy slice in fifty is wrong about some slice of nearly
every healthy volume of 150. A tumour, however, is seen on several slices in a row, and chance seldom is. So a volume is
called a tumour where ``agree`` neighbouring slices *all* are, and its tumour probability is the highest that ``agree``
neighbouring slices all reach:

    P(tumour) = max over windows of min over the slices of a window of P(tumour on the slice)

``agree`` is the number of slices in :data:`SPAN_MM` millimetres, from :data:`FEWEST` to :data:`MOST` of them, and
:data:`FEWEST` plus one where the distance of the slices is not known: slices 1 mm apart show nearly the same picture,
so that two of them are no more evidence than one. One slice between them may be left out that could not be read or
shows no brain; such slices have no say anywhere else either.

P(tumour) is shared out among the tumour classes as the window does on average. That is a rule and no fit: there are no
volumes of known diagnosis here to calibrate it on, so it orders volumes, and 0.9 does not promise nine right of ten.

**Findings** are boxes joined across slices (:mod:`detectclf.inference.findings`) on at least ``agree`` slices; shorter
ones are flickers, which are counted apart and do not make a tumour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.errors import DataError
from detectclf.inference.findings import BRIDGED, Finding, counted_boxes, joined
from detectclf.inference.volumes import Volume
from detectclf.prediction import Prediction
from detectclf.types import (
    CLASS_BOX_CONFLICT,
    LOW_CONFIDENCE,
    NOT_A_BRAIN_MRI,
    TUMOR_WITHOUT_BOX,
    UNUSUAL_INPUT,
)

if TYPE_CHECKING:
    from PIL.Image import Image

SPAN_MM = 6.0
"""Millimetres that neighbouring slices which agree cover."""
FEWEST, MOST = 2, 6
"""Least and greatest number of slices that have to agree."""
UNREADABLE_SLICES = "unreadable_slices"
"""Flag of a study: some of its slices could not be read; the others were."""
FEW_SLICES = "few_slices"
"""Flag of a study: it has fewer slices than have to agree, so that all of them have to."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Study:
    """What is predicted of a volume.

    Attributes:
        name: of the study; says nothing of a patient.
        predictions: one of each slice, in order, without what makes them large (Grad-CAM, outputs of the stages).
        label: its class; ``None`` where nothing could be read.
        probabilities: class -> probability, summing to 1.
        findings: on ``agree`` slices or more, best first.
        flickers: on fewer slices.
        agree: number of neighbouring slices that have to agree.
        step: millimetres from slice to slice; ``None`` where they are not known.
        spacing: millimetres per pixel across and down; ``None`` where they are not known.
        positions: of each slice, millimetres; ``None`` where they are not known.
        flags: reasons for a human look.
        negative: the class that means "no tumour", or ``None``.
        model: name and version of the bundle.
        error: why nothing was predicted, one line.
        error_exit: exit code of that error; 0 without one.
    """

    name: str
    predictions: tuple[Prediction, ...] = ()
    label: str | None = None
    probabilities: dict[str, float]
    findings: tuple[Finding, ...] = ()
    flickers: tuple[Finding, ...] = ()
    agree: int = FEWEST
    step: float | None = None
    spacing: tuple[float, float] | None = None
    positions: tuple[float, ...] | None = None
    flags: tuple[str, ...] = ()
    negative: str | None = None
    model: str | None = None
    error: str | None = None
    error_exit: int = 0

    @property
    def confidence(self) -> float | None:
        """Probability of :attr:`label`."""
        return None if self.label is None else self.probabilities[self.label]

    @property
    def judged(self) -> bool:
        """Whether class and findings mean anything: ``False`` for a volume that shows no brain."""
        return NOT_A_BRAIN_MRI not in self.flags

    @property
    def curve(self) -> tuple[float | None, ...]:
        """Tumour probability of each slice; ``None`` for slices that were not read or show no brain.

        Without a negative class, the probability of the slice's class.
        """
        return tuple(tumor_probability(each, self.negative) for each in self.predictions)

    @property
    def no_brain(self) -> tuple[int, ...]:
        """Numbers of the slices that are not of a brain MRI."""
        return tuple(number for number, each in enumerate(self.predictions) if each.error is None and not each.judged)

    @property
    def unreadable(self) -> tuple[int, ...]:
        """Numbers of the slices that could not be read."""
        return tuple(number for number, each in enumerate(self.predictions) if each.error is not None)

    def extent_mm(self, finding: Finding) -> tuple[float, float, float] | None:
        """Width, height and depth of a finding in millimetres, of all its boxes; ``None`` where spacing is unknown."""
        if self.spacing is None or self.positions is None or self.step is None:
            return None
        left, top, right, bottom = (float(v) for v in finding.union())
        first, last = finding.slices
        depth = self.positions[last] - self.positions[first] + self.step
        return (right - left) * self.spacing[0], (bottom - top) * self.spacing[1], depth

    def to_record(self, records: str = "predictions.jsonl") -> dict[str, Any]:
        """The JSON object of the public contract, a line of ``studies.jsonl``.

        Args:
            records: name of the file with the records of the slices.
        """
        if self.error is not None:
            keys = ("class", "confidence", "probabilities", "findings", "flags", "records")
            return {"study": self.name, "slices": len(self.predictions), **dict.fromkeys(keys), "error": self.error}
        return {
            "study": self.name,
            "slices": len(self.predictions),
            "class": self.label,
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            "findings": [self._finding_record(each) for each in self.findings],
            "flags": list(self.flags),
            "records": records,
            "error": None,
            "curve": [None if value is None else round(value, 4) for value in self.curve],
            "no_brain": list(self.no_brain),
            "unreadable": list(self.unreadable),
            "flickers": [self._finding_record(each) for each in self.flickers],
            "agree": self.agree,
            "spacing_mm": None if self.spacing is None else [round(v, 4) for v in self.spacing],
            "step_mm": None if self.step is None else round(self.step, 4),
            "model": self.model,
        }

    def _finding_record(self, finding: Finding) -> dict[str, Any]:
        extent, best = self.extent_mm(finding), finding.best
        return {
            "class": finding.label,
            "score": finding.score(self.agree),
            "slices": list(finding.slices),
            "best_slice": best.number,
            "xyxy": [round(float(v), 2) for v in best.xyxy],
            "position_mm": None if self.positions is None else round(self.positions[best.number], 2),
            "extent_mm": None if extent is None else [round(v, 1) for v in extent],
        }

    def draw(self) -> Image:
        """The best slices with their boxes, and below them the probability curve, as an RGB image.

        Raises:
            DataError: nothing was predicted, or a file is gone.
        """
        from detectclf.inference.study_picture import draw_study

        if self.error is not None:
            raise DataError(self.error, remedy="only readable volumes are drawn")
        label = (self.label or "?").replace("_", " ")
        title = f"{self.name}: {label} {self.confidence or 0:.2f}; {len(self.predictions)} slices"
        return draw_study(
            self.predictions,
            self.findings,
            self.flickers,
            self.curve,
            title=title,
            flags=self.flags,
            model=self.model or "",
        )


def tumor_probability(prediction: Prediction, negative: str | None) -> float | None:
    """Of a slice that was read and shows a brain; without a negative class, the probability of its class."""
    if prediction.error is not None or not prediction.judged:
        return None
    if negative is None:
        return prediction.confidence
    return 1 - prediction.probabilities[negative]


def slices_that_agree(step: float | None, slices: int) -> int:
    """How many neighbouring slices have to agree, of a volume with ``slices`` that are ``step`` millimetres apart."""
    wanted = FEWEST + 1 if step is None or step <= 0 else min(max(math.ceil(SPAN_MM / step - 0.01), FEWEST), MOST)
    return max(1, min(wanted, slices))


def refused(volume: Volume, model: str) -> Study:
    """The study of a volume that is not read."""
    reason = volume.error or DataError("has no slices")
    return Study(name=volume.name, probabilities={}, model=model, error=str(reason), error_exit=reason.exit_code)


def summed_up(
    volume: Volume, predictions: Sequence[Prediction], negative: str | None, model: str, low_confidence: float
) -> Study:
    """The study of a volume whose slices are predicted.

    Args:
        volume: where the slices lie.
        predictions: of its slices, in order.
        negative: the class that means "no tumour", or ``None``.
        model: name and version of the bundle.
        low_confidence: studies that are less sure are flagged.
    """
    slices = tuple(predictions)
    agree = slices_that_agree(volume.step, len(slices))
    study = Study(
        name=volume.name,
        predictions=slices,
        probabilities={},
        agree=agree,
        step=volume.step,
        spacing=volume.spacing,
        positions=volume.positions,
        negative=negative,
        model=model,
    )
    if all(each.error is not None for each in slices):
        reason = f"{volume.name}: none of its {len(slices)} slices could be read; {slices[0].error}"
        return replace(study, error=reason, error_exit=max(each.error_exit for each in slices))
    chains = joined([counted_boxes(each, number, negative) for number, each in enumerate(slices)])
    chains.sort(key=lambda each: -each.score(agree))
    findings = tuple(each for each in chains if len(each.boxes) >= agree)
    flickers = tuple(each for each in chains if len(each.boxes) < agree)
    windows = _windows(slices, agree)
    label, probabilities = _verdict(windows or [[each for each in slices if each.error is None]], negative)
    if not windows and negative is not None:
        label = negative  # as of each of its slices
    study = replace(study, label=label, probabilities=probabilities, findings=findings, flickers=flickers)
    return replace(study, flags=_flags(study, volume, judged=bool(windows), low_confidence=low_confidence))


def _windows(slices: Sequence[Prediction], agree: int) -> list[list[Prediction]]:
    """All ``agree`` neighbouring slices that have a say; one between them may have none."""
    judged = [number for number, each in enumerate(slices) if each.error is None and each.judged]
    starts = range(len(judged) - agree + 1)
    near = [judged[start : start + agree] for start in starts]
    return [[slices[i] for i in window] for window in near if window[-1] - window[0] < agree + BRIDGED]


def _verdict(windows: Sequence[Sequence[Prediction]], negative: str | None) -> tuple[str, dict[str, float]]:
    """Class and probabilities by the rule of this module."""
    classes = list(windows[0][0].probabilities)
    # (windows, slices of each, classes)
    values = [np.array([[each.probabilities[name] for name in classes] for each in window]) for window in windows]
    if negative is None:
        reached = np.max([each.min(axis=0) for each in values], axis=0)
        shares = reached / max(float(reached.sum()), 1e-12)
        return classes[int(shares.argmax())], dict(zip(classes, map(float, shares), strict=True))
    at = classes.index(negative)
    level = [float((1 - each[:, at]).min()) for each in values]
    called = [all(each.label != negative for each in window) for window in windows]
    best = max(range(len(windows)), key=lambda i: (called[i], level[i]))
    shares = values[best].mean(axis=0)
    shares[at] = 0
    shares *= max(level) / max(float(shares.sum()), 1e-12)
    shares[at] = 1 - float(shares.sum())
    tumors = [i for i in range(len(classes)) if i != at]
    label = classes[max(tumors, key=lambda i: shares[i])] if called[best] else negative
    return label, dict(zip(classes, map(float, shares), strict=True))


def _flags(study: Study, volume: Volume, *, judged: bool, low_confidence: float) -> tuple[str, ...]:
    """Reasons for a human look, those of the order of the slices last."""
    read = [each for each in study.predictions if each.error is None]
    unusual = sum(UNUSUAL_INPUT in each.flags for each in read)
    flags = {
        CLASS_BOX_CONFLICT: bool(study.findings) and study.label not in {each.label for each in study.findings},
        LOW_CONFIDENCE: (study.confidence or 0) < low_confidence,
        UNUSUAL_INPUT: 2 * unusual > sum(each.judged for each in read),
        TUMOR_WITHOUT_BOX: study.label != study.negative and not study.findings,
    }
    if not judged:
        flags = {NOT_A_BRAIN_MRI: True}  # alone: the others mean nothing then
    flags[UNREADABLE_SLICES] = len(read) < len(study.predictions)
    flags[FEW_SLICES] = len(study.predictions) < slices_that_agree(study.step, MOST)
    return (*(flag for flag, raised in flags.items() if raised), *volume.flags)


__all__ = [
    "FEW_SLICES",
    "SPAN_MM",
    "UNREADABLE_SLICES",
    "Study",
    "refused",
    "slices_that_agree",
    "summed_up",
    "tumor_probability",
]
