"""The study record: what is predicted of a volume, and how it is summed up from its slices.

:mod:`detectclf.inference.study_rule` has the rule, :mod:`detectclf.inference.findings` says how boxes are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.errors import DataError
from detectclf.inference.findings import Finding, counted_boxes, joined
from detectclf.inference.study_rule import FEWEST, MOST, slices_that_agree, tumor_probability, verdict, windows_of
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

UNREADABLE_SLICES = "unreadable_slices"
"""Flag of a study: some of its slices could not be read; the others were."""
FEW_SLICES = "few_slices"
"""Flag of a study: it has fewer slices than have to agree, so that all of them have to."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Study:
    """What is predicted of a volume.

    Attributes:
        name: of the study; says nothing of a patient.
        slices: number of its slices.
        predictions: one of each slice, in order, without what makes them large (maps, outputs of the stages).
        label: its class; ``None`` where nothing could be read.
        probabilities: class -> probability, summing to 1.
        findings: on ``agree`` slices or more, best first.
        flickers: on fewer slices.
        agree: number of neighbouring slices that have to agree.
        step: millimetres from slice to slice; ``None`` where they are not known.
        spacing: millimetres per pixel across and down; ``None`` where they are not known.
        positions: of each slice, millimetres; ``None`` where they are not known.
        axis: along which a NIfTI volume is sliced; ``None`` for axial slices that nobody asked for, and for DICOM.
        left_out: files of slices that were not read, since another slice shows their position.
        flags: reasons for a human look.
        negative: the class that means "no tumour", or ``None``.
        model: name and version of the bundle.
        picture: name of the file that it was drawn into, where it was.
        records: name of the file with the records of the slices; ``None`` where none is written.
        error: why nothing was predicted, one line.
        error_exit: exit code of that error; 0 without one.
    """

    name: str
    slices: int
    predictions: tuple[Prediction, ...] = ()
    label: str | None = None
    probabilities: dict[str, float]
    findings: tuple[Finding, ...] = ()
    flickers: tuple[Finding, ...] = ()
    agree: int = FEWEST
    step: float | None = None
    spacing: tuple[float, float] | None = None
    positions: tuple[float, ...] | None = None
    axis: str | None = None
    left_out: tuple[Path, ...] = ()
    flags: tuple[str, ...] = ()
    negative: str | None = None
    model: str | None = None
    picture: str | None = None
    records: str | None = "predictions.jsonl"
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

    def to_record(self, records: str | None = None) -> dict[str, Any]:
        """The JSON object of the public contract, a line of ``studies.jsonl``.

        Args:
            records: in the place of :attr:`records`.
        """
        if self.error is not None:
            keys = ("class", "confidence", "probabilities", "findings", "flags", "records")
            return {"study": self.name, "slices": self.slices, **dict.fromkeys(keys), "error": self.error}
        return {
            "study": self.name,
            "slices": self.slices,
            "class": self.label,
            "confidence": self.confidence,
            "probabilities": self.probabilities or None,
            "findings": [self._finding_record(each) for each in self.findings],
            "flags": list(self.flags),
            "records": records or self.records,
            "error": None,
            "curve": [None if value is None else round(value, 4) for value in self.curve],
            "no_brain": list(self.no_brain),
            "unreadable": list(self.unreadable),
            "flickers": [self._finding_record(each) for each in self.flickers],
            "agree": self.agree,
            "spacing_mm": None if self.spacing is None else [round(v, 4) for v in self.spacing],
            "step_mm": None if self.step is None else round(self.step, 4),
            "model": self.model,
            "left_out": [str(file) for file in self.left_out],
            **({} if self.axis is None else {"axis": self.axis}),
            **({} if self.picture is None else {"picture": self.picture}),
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
        said = "refused"
        if self.label is not None:
            said = f"{self.label.replace('_', ' ')} {self.confidence or 0:.2f}"
        title = f"{self.name}: {said}; {self.slices} slices"
        return draw_study(
            self.predictions,
            self.findings,
            self.flickers,
            self.curve,
            title=title,
            flags=self.flags,
            model=self.model or "",
        )


def refused(volume: Volume, model: str) -> Study:
    """The study of a volume that is not read."""
    reason = volume.error or DataError("has no slices")
    return Study(
        name=volume.name,
        slices=len(volume),
        probabilities={},
        model=model,
        error=str(reason),
        error_exit=reason.exit_code,
    )


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
        slices=len(slices),
        predictions=slices,
        probabilities={},
        agree=agree,
        step=volume.step,
        spacing=volume.spacing,
        positions=volume.positions,
        axis=None if volume.nifti is None else volume.nifti.axis,
        left_out=volume.left_out,
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
    windows = windows_of(slices, agree)
    if windows:
        label, probabilities = verdict(windows, negative)
        study = replace(study, label=label, probabilities=probabilities, findings=findings, flickers=flickers)
    return replace(study, flags=_flags(study, volume, judged=bool(windows), low_confidence=low_confidence))


def _flags(study: Study, volume: Volume, *, judged: bool, low_confidence: float) -> tuple[str, ...]:
    """Reasons for a human look, those of the order of the slices last."""
    read = [each for each in study.predictions if each.error is None]
    unusual = sum(UNUSUAL_INPUT in each.flags for each in read)
    flags = {
        CLASS_BOX_CONFLICT: bool(study.findings) and study.label != study.findings[0].label,
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
    "UNREADABLE_SLICES",
    "Study",
    "refused",
    "summed_up",
]
