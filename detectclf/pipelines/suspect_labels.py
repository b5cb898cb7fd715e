"""``data check --model``: what a model makes of the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.datasets.class_names import in_known_words
from detectclf.errors import DataError
from detectclf.evaluation.suspects import Opinion, Suspect, find_suspects
from detectclf.files import atomic_write
from detectclf.prediction import Prediction
from detectclf.types import Sample

if TYPE_CHECKING:
    from detectclf.drawing.sheets import Tile
    from detectclf.inference.predictor import Predictor

SHEET_SUSPECTS = 30
"""Most suspects drawn on a sheet."""
SHOWN_SUSPECTS = 15
"""Suspects listed on a terminal."""


@dataclass(frozen=True, slots=True, eq=False)
class Diagnosis:
    """Suspect labels of some slices.

    Attributes:
        samples: the slices looked at, with canonical class names.
        opinions: on each of them.
        suspects: the most suspect first.
        model: what judged.
        left_out: class that the model does not know -> slices of it, which were not judged.
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
        """The suspects for a person."""
        seen = sum(not opinion.unseen for opinion in self.opinions)
        lines = [f"{len(self.suspects)} suspect labels of {len(self.samples)} slices, by {self.model}"]
        if seen:
            lines[0] += f" ({seen} slices may have been trained on: their labels may be known by heart)"
        if self.left_out:
            names = ", ".join(f"{name} ({count})" for name, count in sorted(self.left_out.items()))
            lines.append(f"not judged, classes that the model does not know: {names}")
        shown = self.to_records()[:SHOWN_SUSPECTS]
        lines += [f"suspect {r['suspicion']:.3f}: {r['file']}: {r['detail']}" for r in shown]
        if len(self.suspects) > SHOWN_SUSPECTS:
            lines.append(f"... and {len(self.suspects) - SHOWN_SUSPECTS} more; list all with --json")
        return "\n".join(lines)


def diagnose(slices: Sequence[Sample], predictor: Predictor) -> Diagnosis:
    """Asks a model about every readable labelled slice.

    Raises:
        DataError: no slice has a class that the model knows.
    """
    known = [in_known_words(s) for s in slices]
    samples = tuple(s for s in known if s.label in predictor.names.classes)
    left_out = Counter(s.label for s in known if s.label is not None and s.label not in predictor.names.classes)
    if not samples:
        raise DataError(
            "no slice has a class that the model knows",
            remedy=f"give a model of these classes; this one knows {', '.join(predictor.names.classes)}",
        )
    opinions = _opinions(predictor, samples)
    readable = [i for i, opinion in enumerate(opinions) if opinion is not None]
    kept = tuple(samples[i] for i in readable)
    said = [opinion for opinion in opinions if opinion is not None]
    return Diagnosis(kept, said, find_suspects(kept, said, predictor.names.negative), predictor.name, dict(left_out))


def write_suspect_sheet(diagnosis: Diagnosis, file: Path) -> None:
    """Draws the most suspect slices with the labels' boxes, the contradiction under each."""
    import io

    from detectclf.drawing.sheets import contact_sheet, tile_of
    from detectclf.imaging.images import read_image

    tiles: list[Tile] = []
    for suspect in diagnosis.suspects[:SHEET_SUSPECTS]:
        sample = diagnosis.samples[suspect.index]
        root = Path(sample.source) if sample.source else None
        pixels = read_image(sample.path, span=sample.span, root=root)
        chances = diagnosis.opinions[suspect.index].probabilities
        likeliest = max(chances, key=lambda name: chances[name])
        # Short, or it would be cut where it matters; the whole of it is in the list.
        word = f"{likeliest} {chances[likeliest]:.2f}" if suspect.kind == "class" else "box elsewhere"
        tiles.append(tile_of(sample, pixels, f"{len(tiles) + 1}. {sample.label}? {word}"))
    classes = tuple(diagnosis.opinions[0].probabilities) if diagnosis.opinions else ()
    count = f"{len(diagnosis.suspects)} suspect labels, by {diagnosis.model}"
    title = f"{count}; boxes are the labels'. Research use, not for diagnosis"
    buffer = io.BytesIO()
    contact_sheet(tiles, classes, columns=5, tile_size=300, title=title).save(buffer, format="PNG")
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, buffer.getvalue())


def _opinions(predictor: Predictor, samples: Sequence[Sample]) -> list[Opinion | None]:
    """What the model says of each; out-of-fold words of the bundle where it was trained on the slice."""
    remembered = predictor.bundle.out_of_fold
    unseen_words = {}
    digests: list[bytes] = [b""] * len(samples)
    if remembered is not None:
        from detectclf.duplicates.fingerprints import fingerprint_samples

        unseen_words = {row.tobytes(): i for i, row in enumerate(remembered.digests)}
        digests = fingerprint_samples(samples).digests
    asked = [i for i, digest in enumerate(digests) if digest not in unseen_words]
    opinions: list[Opinion | None] = [None] * len(samples)
    for i, prediction in zip(asked, predictor.predict_many([samples[i] for i in asked]), strict=True):
        opinions[i] = _of_prediction(prediction, predictor.names.negative)
    for i, digest in enumerate(digests):
        if remembered is not None and digest in unseen_words:
            row = unseen_words[digest]
            chances = dict(zip(predictor.names.classes, map(float, remembered.probabilities[row]), strict=True))
            box = remembered.boxes[row]
            opinions[i] = Opinion(chances, box[:4] if box[4] > 0 else None, float(box[4]), unseen=True)
    return opinions


def _of_prediction(prediction: Prediction, negative: str | None) -> Opinion | None:
    """An opinion that may be memory: a copy of a training slice, re-encoded or mirrored, is not known to be one."""
    if prediction.error is not None:
        return None
    tumors = np.flatnonzero([name != negative for name in prediction.box_labels])
    best = int(tumors[0]) if len(tumors) else None  # best score first
    box = None if best is None else prediction.boxes_xyxy[best]
    score = 0.0 if best is None else float(prediction.scores[best])
    return Opinion(prediction.probabilities, box, score, unseen=False)


__all__ = ["Diagnosis", "diagnose", "write_suspect_sheet"]
