"""Predictions and true slices side by side: one row per slice that has both, and a note on what is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from detectclf.errors import one_line
from detectclf.evaluation.classification import Classified
from detectclf.evaluation.matching import Boxes
from detectclf.evaluation.weighted import Indices
from detectclf.formats.assemble import negative_of
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR, Dataset, FloatArray, Sample, empty_boxes, order_classes

Section = Literal["combined", "classifier"]


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """Slices with their prediction, in the order of the data set.

    Attributes:
        samples, predictions: of the same length ``I``.
        rows: ``(I,)`` position of each slice among the samples of the data set.
        classes: those of the data set and of the model, in canonical order.
        negative: the class of the data set, or else of the model, that means "no tumour", if any.
    """

    samples: tuple[Sample, ...]
    predictions: tuple[Prediction, ...]
    rows: Indices
    classes: tuple[str, ...]
    negative: str | None

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, keep: Iterable[int]) -> Aligned:
        """Only the slices at positions ``keep``."""
        at = list(keep)
        return Aligned(
            tuple(self.samples[i] for i in at),
            tuple(self.predictions[i] for i in at),
            self.rows[at] if at else self.rows[:0],
            self.classes,
            self.negative,
        )

    @property
    def tumor_classes(self) -> tuple[str, ...]:
        """The classes without the negative one."""
        return tuple(c for c in self.classes if c != self.negative)

    @property
    def labelled(self) -> Indices:
        """Positions of the slices whose class is known; a tumour of unknown type is not one."""
        return np.array([i for i, s in enumerate(self.samples) if s.label not in (None, ANY_TUMOR)], dtype=np.intp)

    @property
    def boxed(self) -> Indices:
        """Positions of the slices whose boxes are known (perhaps none there)."""
        return np.array([i for i, s in enumerate(self.samples) if s.boxed], dtype=np.intp)


def align(predictions: Sequence[Prediction], dataset: Dataset) -> tuple[Aligned, list[str]]:
    """Matches predictions to slices by file, then by name; their order does not matter.

    Returns:
        The matched slices, and a note on each kind of omission: slices without prediction, predictions of other images,
        second predictions of one image, unreadable inputs, refused ones, values that are not finite.
    """
    table = _Table(dataset.samples)
    found: dict[int, Prediction] = {}
    foreign: list[str] = []
    repeated: list[str] = []
    for prediction in predictions:
        row = table.find(prediction, found)
        if row is None:
            foreign.append(prediction.image)
        elif row in found:
            repeated.append(prediction.image)
        else:
            found[row] = prediction
    unreadable = [p.image for p in found.values() if p.error is not None]
    broken = [p.image for p in found.values() if p.error is None and not _is_finite(p)]
    missing = [s.name for i, s in enumerate(dataset.samples) if i not in found]
    refused = [p.image for p in found.values() if p.error is None and not p.judged]
    rows = sorted(i for i, p in found.items() if p.error is None and _is_finite(p) and p.judged)
    names = [c for i in rows for c in (*found[i].probabilities, *found[i].classifier_probabilities)]
    classes = order_classes([*dataset.classes, *names])
    aligned = Aligned(
        tuple(dataset.samples[i] for i in rows),
        tuple(found[i] for i in rows),
        np.array(rows, dtype=np.intp),
        classes,
        # Data of tumours only, perhaps all of unknown type, do not name it.
        dataset.negative or negative_of(set(classes) - set(dataset.classes)),
    )
    return aligned, [
        *_note(missing, "slices have no prediction and are left out"),
        *_note(foreign, "predictions are of images that are not in this split and are left out"),
        *_note(repeated, "predictions repeat an image; only the first of each counts"),
        *_note(unreadable, "images could not be read and are left out"),
        *_note(refused, "slices were refused as no brain MRI: they are counted as refused, not in the figures"),
        *_note(broken, "predictions hold a value that is not finite and are left out"),
    ]


def _is_finite(prediction: Prediction) -> bool:
    values = [*prediction.probabilities.values(), *prediction.classifier_probabilities.values()]
    arrays = [np.array(values, dtype=np.float32), prediction.boxes_xyxy, prediction.scores]
    if prediction.stages is not None:
        arrays += [prediction.stages.boxes_xyxy, prediction.stages.scores]
    return all(bool(np.isfinite(array).all()) for array in arrays)


class _Table:
    """Looks slices up by path, name, and last part of the name."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._rows: dict[str, list[int]] = defaultdict(list)
        for i, sample in enumerate(samples):
            keys = [sample.name, last_part(sample.name)] + ([str(sample.path)] if sample.span is None else [])
            for key in dict.fromkeys(keys):
                self._rows[key].append(i)

    def find(self, prediction: Prediction, taken: dict[int, Prediction]) -> int | None:
        """The slice of ``prediction``, if possible one that no other prediction has taken."""
        path = [] if prediction.path is None else [str(prediction.path)]
        for key in (*path, prediction.image, last_part(prediction.image)):
            fits = self._rows.get(key, [])
            # Where all are taken, the prediction repeats one of them.
            if fits:
                return next((i for i in fits if i not in taken), fits[0])
        return None


def last_part(name: str) -> str:
    """The file name of an image, without folders, whichever way they are separated."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _note(names: Sequence[str], what: str) -> list[str]:
    if not names:
        return []
    return [one_line(f"{len(names)} {what} (the first: {names[0]})")]


def classified(data: Aligned, section: Section) -> Classified:
    """Truth and prediction of the slices whose class is known.

    Args:
        data: the slices.
        section: ``combined`` (the fused prediction) or ``classifier`` (that stage alone, calibrated).
    """
    position = {name: k for k, name in enumerate(data.classes)}
    true, predicted = [], []
    table = np.zeros((len(data.labelled), len(data.classes)))
    for row, i in enumerate(data.labelled):
        prediction, label = data.predictions[i], data.samples[i].label
        probabilities = prediction.probabilities if section == "combined" else prediction.classifier_probabilities
        for name, value in probabilities.items():
            table[row, position[name]] = value
        best = prediction.label if section == "combined" else data.classes[int(table[row].argmax())]
        true.append(position[str(label)])
        predicted.append(position[str(best)])
    return Classified(
        np.array(true, dtype=np.int64), np.array(predicted, dtype=np.int64), table, data.classes, data.negative
    )


def boxes_of(data: Aligned, *, fused: bool) -> Boxes:
    """True and predicted boxes of all slices of ``data``; the detector's own, or (``fused``) the final ones."""
    found = [_found(p, fused=fused) for p in data.predictions]
    return Boxes(
        [s.boxes_xyxy for s in data.samples],
        [s.box_labels for s in data.samples],
        [f[0] for f in found],
        [f[1] for f in found],
        [f[2] for f in found],
    )


def _found(prediction: Prediction, *, fused: bool) -> tuple[FloatArray, tuple[str, ...], FloatArray]:
    if fused:
        return prediction.boxes_xyxy, prediction.box_labels, prediction.scores
    if prediction.stages is None:
        return empty_boxes(), (), np.zeros(0, dtype=np.float32)
    return prediction.stages.boxes_xyxy, prediction.stages.box_labels, prediction.stages.scores
