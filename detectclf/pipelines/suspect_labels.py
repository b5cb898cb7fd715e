"""``data check --model``: labels that a model's predictions contradict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.audit.suspects import Opinion, Suspect, find_suspects
from detectclf.datasets.class_names import with_canonical_names
from detectclf.datasets.index import SliceIndex
from detectclf.errors import DataError
from detectclf.pipelines.pictures import write_picture
from detectclf.prediction import Prediction
from detectclf.progress import Progress
from detectclf.types import Sample

if TYPE_CHECKING:
    from detectclf.drawing.sheets import Tile
    from detectclf.inference.predictor import Predictor

SHEET_SUSPECTS = 30
"""Most suspects drawn on a sheet."""
_NAME_LENGTH = 20
"""Characters of a file's name in a caption."""
SHOWN_SUSPECTS = 15
"""Suspects listed on a terminal."""


@dataclass(frozen=True, slots=True, eq=False)
class SuspectLabels:
    """Suspect labels of some slices.

    Attributes:
        samples: the slices that were checked, with canonical class names.
        opinions: what the model predicts for each of them.
        suspects: the most suspect first.
        model: name and version of the model.
        left_out: class that the model does not know -> number of slices with it, which were not checked.
    """

    samples: tuple[Sample, ...]
    opinions: list[Opinion]
    suspects: list[Suspect]
    model: str
    left_out: dict[str, int] = field(default_factory=dict)

    def to_records(self) -> list[dict[str, Any]]:
        """One JSON object per suspect."""
        return [s.to_record(self.samples[s.index], self.opinions[s.index]) for s in self.suspects]

    def text(self) -> str:
        """The suspects as lines of text."""
        lines = [f"{len(self.suspects)} suspect labels of {len(self.samples)} slices, by {self.model}"]
        maybe_trained_on = sum(not opinion.unseen for opinion in self.opinions)
        if maybe_trained_on:
            lines[0] += (
                f" ({maybe_trained_on} slices may be training slices, whose label errors the model may have learnt)"
            )
        if self.left_out:
            names = ", ".join(f"{name} ({count})" for name, count in sorted(self.left_out.items()))
            lines.append(f"not checked, since the model does not know their class: {names}")
        shown = self.to_records()[:SHOWN_SUSPECTS]
        lines += [f"suspect {r['suspicion']:.3f}: {r['file']}: {r['detail']}" for r in shown]
        if len(self.suspects) > SHOWN_SUSPECTS:
            lines.append(f"... and {len(self.suspects) - SHOWN_SUSPECTS} more; list all with --json")
        return "\n".join(lines)


def find_suspect_labels(slices: Sequence[Sample], predictor: Predictor) -> SuspectLabels:
    """Compares the label of every labelled slice that can be read with a model's prediction.

    Raises:
        DataError: no slice has a class that the model knows.
    """
    labelled = [s for s in map(with_canonical_names, slices) if s.label is not None]
    samples = tuple(s for s in labelled if s.label in predictor.names.classes)
    left_out = Counter(str(s.label) for s in labelled if s.label not in predictor.names.classes)
    if not samples:
        raise DataError(
            "no slice has a class that the model knows",
            remedy=f"give a model of these classes; this one knows {', '.join(predictor.names.classes)}",
        )
    checked = [
        (sample, opinion)
        for sample, opinion in zip(samples, _opinions(predictor, samples, SliceIndex()), strict=True)
        if opinion is not None
    ]
    kept, opinions = tuple(sample for sample, _ in checked), [opinion for _, opinion in checked]
    suspects = find_suspects(kept, opinions, predictor.names.negative)
    return SuspectLabels(kept, opinions, suspects, predictor.name, dict(left_out))


def write_suspect_sheet(found: SuspectLabels, sheet: Path) -> None:
    """Draws the most suspect slices with the boxes of their labels; a caption says what the model predicts instead."""
    from detectclf.drawing.sheets import contact_sheet, tile_of
    from detectclf.imaging.images import read_pixels

    tiles: list[Tile] = []
    for suspect in found.suspects[:SHEET_SUSPECTS]:
        sample = found.samples[suspect.index]
        pixels = read_pixels(sample)
        probabilities = found.opinions[suspect.index].probabilities
        best = max(probabilities, key=lambda name: probabilities[name])
        # Short, since a long caption would be cut; the list has the details.
        predicted = f"{best} {probabilities[best]:.2f}" if suspect.kind == "class" else "box elsewhere"
        file = sample.name.replace("\\", "/").rpartition("/")[2].partition(".rf.")[0][:_NAME_LENGTH]
        tiles.append(tile_of(sample, pixels, f"{file}: {sample.label}? {predicted}"))
    classes = tuple(found.opinions[0].probabilities) if found.opinions else ()
    count = f"{len(found.suspects)} suspect labels, by {found.model}"
    title = f"{count}; boxes are the labels'. Research use, not for diagnosis"
    write_picture(contact_sheet(tiles, classes, columns=5, tile_size=300, title=title), sheet)


def _opinions(predictor: Predictor, samples: Sequence[Sample], index: SliceIndex) -> list[Opinion | None]:
    """The predictions for ``samples``, out of fold for the bundle's training slices; ``None`` for an unreadable one."""
    out_of_fold = predictor.bundle.out_of_fold
    rows: dict[bytes, int] = {}
    digests: list[bytes] = [b""] * len(samples)
    if out_of_fold is not None:
        rows = {row.tobytes(): i for i, row in enumerate(out_of_fold.digests)}
        digests = index.look_up(samples).fingerprints.digests
    opinions: list[Opinion | None] = [None] * len(samples)
    others = [i for i, digest in enumerate(digests) if digest not in rows]
    with Progress("checking labels", len(others)) as progress:
        for i, prediction in zip(others, predictor.predict_many([samples[i] for i in others]), strict=True):
            opinions[i] = _of_prediction(prediction, predictor.names.negative)
            progress.advance()
    for i, digest in enumerate(digests):
        if out_of_fold is not None and digest in rows:
            values, box = out_of_fold.probabilities[rows[digest]], out_of_fold.boxes[rows[digest]]
            probabilities = dict(zip(predictor.names.classes, map(float, values), strict=True))
            opinions[i] = Opinion(probabilities, box[:4] if box[4] > 0 else None, float(box[4]), unseen=True)
    return opinions


def _of_prediction(prediction: Prediction, negative: str | None) -> Opinion | None:
    """The opinion of a prediction; not ``unseen``, since the slice may be a re-encoded or mirrored training slice."""
    if prediction.error is not None or not prediction.judged:
        return None
    tumors = np.flatnonzero([name != negative for name in prediction.box_labels])
    if not len(tumors):
        return Opinion(prediction.probabilities, None, 0.0, unseen=False)
    best = int(tumors[0])  # boxes are in order of their scores
    return Opinion(prediction.probabilities, prediction.boxes_xyxy[best], float(prediction.scores[best]), unseen=False)


__all__ = ["SuspectLabels", "find_suspect_labels", "write_suspect_sheet"]
