"""Predictions on the development set, one pass over its slices, kept as JSON lines beside it.

A file of predictions is found by the weights and settings of the model, the annotations of the set and the code that
predicts; when any of these is another, the slices are predicted anew.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import detectclf
from detectclf.config import PredictConfig
from detectclf.files import atomic_write
from detectclf.imaging.artefacts import cleaned
from detectclf.imaging.framing import framed
from detectclf.imaging.images import read_pixels, resize_pad
from detectclf.inference.loading import default_bundle
from detectclf.models.stage_files import load_stage
from detectclf.pipelines.opening import predictor_of
from detectclf.prediction import Prediction
from detectclf.progress import Progress
from detectclf.types import FloatArray, Sample, empty_boxes

REFUSED = "refused"
"""Label of a slice that the model refuses to answer."""
COMBINED, CLASSIFIER, DETECTOR = "combined", "classifier", "detector"
TUMOR_SCORE = 0.5
"""Score of the best box from which a detector alone calls a slice a tumour."""

_CODE = ("inference", "models", "imaging", "config", "types.py")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a model, or one of its stages, says about one slice.

    Attributes:
        label: class of the slice, or :data:`REFUSED`.
        probabilities: class -> probability, summing to 1; empty where it is refused.
        boxes_xyxy: ``(N, 4)`` float32 pixels, best score first.
        box_labels: class of each box.
        scores: ``(N,)`` float32.
        flags: reasons for a human look.
    """

    label: str
    probabilities: Mapping[str, float]
    boxes_xyxy: FloatArray
    box_labels: tuple[str, ...]
    scores: FloatArray
    flags: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        boxes = zip(self.boxes_xyxy.tolist(), self.box_labels, self.scores.tolist(), strict=True)
        return {
            "label": self.label,
            "probabilities": dict(self.probabilities),
            "boxes": [[*box, label, score] for box, label, score in boxes],
            "flags": list(self.flags),
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> View:
        """The inverse of :meth:`to_record`."""
        boxes = np.array([row[:4] for row in record["boxes"]], dtype=np.float32).reshape(-1, 4)
        scores = np.array([row[5] for row in record["boxes"]], dtype=np.float32)
        labels = tuple(row[4] for row in record["boxes"])
        return cls(record["label"], record["probabilities"], boxes, labels, scores, tuple(record["flags"]))


Views = dict[str, View]
"""``combined``, ``classifier`` or ``detector`` -> what it says about one slice."""


class Model(NamedTuple):
    """What is judged: a bundle, or runs of stages; with nothing named, the packaged bundle."""

    bundle: Path | None = None
    detector: Path | None = None
    classifier: Path | None = None

    @property
    def alone(self) -> str | None:
        """The stage, where one is judged alone."""
        if self.bundle is not None or (self.detector is None) == (self.classifier is None):
            return None
        return DETECTOR if self.classifier is None else CLASSIFIER

    @property
    def title(self) -> str:
        """What it is called in tables."""
        return "+".join(folder.name for folder in self if folder is not None) or "packaged model"

    def files(self) -> list[Path]:
        """The files whose content decides what is predicted."""
        folders = [folder for folder in self if folder is not None] or [default_bundle()]
        names = ("*.safetensors", "model.json", "bundle.json")
        found = [file for folder in folders for name in names for file in sorted(folder.glob(name))]
        return [file for file in found if file.name != "fingerprints.safetensors"]


def predictions(
    dev: Path, sets: Mapping[str, Sequence[Sample]], model: Model, *, config: PredictConfig
) -> tuple[dict[str, list[Views]], float]:
    """Set -> the views of each of its slices, and milliseconds of processor time per slice, from file to prediction.

    Args:
        dev: the folder of the development data; predictions are kept in its folder ``predictions``.
        sets: name -> slices.
        model: what is judged.
        config: batch size and device.
    """
    kept = dev / "predictions" / f"{_digest(dev, model)}.jsonl"
    samples = [sample for slices in sets.values() for sample in slices]
    lines = _complete_lines(kept)
    if len(lines) < len(samples):
        kept.parent.mkdir(exist_ok=True)
        atomic_write(kept, "".join(f"{line}\n" for line in lines).encode())
        with kept.open("a", buffering=1) as stream:
            for line in _predicted(samples[len(lines) :], predictor(model, config)):
                stream.write(line + "\n")
                lines.append(line)
    rows = [json.loads(line) for line in lines]
    milliseconds = float(np.mean([row.pop("ms") for row in rows]))
    views = iter([{name: View.of_record(each) for name, each in row.items()} for row in rows])
    return {name: list(islice(views, len(slices))) for name, slices in sets.items()}, milliseconds


def _complete_lines(file: Path) -> list[str]:
    """The lines that were written whole: an interrupted pass goes on after the last of them."""
    return file.read_text().split("\n")[:-1] if file.is_file() else []


def _predicted(samples: Sequence[Sample], predict: Callable[[Sequence[Sample]], Iterator[Views]]) -> Iterator[str]:
    """A line of JSON for each slice, with the milliseconds of processor time that it took."""
    began = time.process_time()  # the clock would count what else the machine does
    with Progress("predicting", len(samples), show=True) as progress:
        for views in predict(samples):
            now = time.process_time()
            record = {name: view.to_record() for name, view in views.items()}
            yield json.dumps({"ms": 1000 * (now - began), **record})
            began = now
            progress.advance()


def _digest(dev: Path, model: Model) -> str:
    package = Path(detectclf.__file__).parent
    code = [file for name in _CODE for file in sorted([package / name, *(package / name).rglob("*.py")])]
    annotations = sorted(dev.glob("**/valid/_annotations.coco.json"))
    digest = hashlib.blake2b(repr(model.alone).encode(), digest_size=12)
    for file in [*model.files(), *annotations, *code, Path(__file__)]:
        if file.is_file():
            digest.update(hashlib.blake2b(file.read_bytes()).digest())
    return digest.hexdigest()


def predictor(model: Model, config: PredictConfig) -> Callable[[Sequence[Sample]], Iterator[Views]]:
    """A function that gives the views of each slice, in order."""
    if model.alone == CLASSIFIER:
        return _classifier_alone(Path(str(model.classifier)), config)
    if model.alone == DETECTOR:
        return _detector_alone(Path(str(model.detector)), config)
    runs = {"detector": model.detector, "classifier": model.classifier}
    whole = predictor_of(model.bundle, runs, config)
    negative = str(whole.names.negative)
    return lambda samples: (_views(p, negative) for p in whole.predict_many(samples, batch_size=config.batch_size))


def _views(prediction: Prediction, negative: str) -> Views:
    stages = prediction.stages
    if prediction.error is not None or stages is None:
        raise SystemExit(prediction.error or f"{prediction.image}: nothing was predicted")
    boxes = (prediction.boxes_xyxy, prediction.box_labels, prediction.scores)
    views = {COMBINED: View(prediction.label or REFUSED, prediction.probabilities, *boxes, prediction.flags)}
    views[CLASSIFIER] = classifier_view(prediction.classifier_probabilities)
    views[DETECTOR] = detector_view(stages.boxes_xyxy, stages.box_labels, stages.scores, negative)
    return views


def classifier_view(probabilities: Mapping[str, float]) -> View:
    """A classifier alone: the most probable class, no boxes."""
    label = max(probabilities, key=lambda name: probabilities[name])
    return View(label, probabilities, empty_boxes(), (), np.zeros(0, dtype=np.float32))


def detector_view(boxes: FloatArray, labels: Sequence[str], scores: FloatArray, negative: str) -> View:
    """A detector alone: the score of the best box is the probability of a tumour, shared by the best of each class."""
    best: dict[str, float] = {}
    for name, score in zip(labels, scores.tolist(), strict=True):
        if name != negative:
            best[name] = max(best.get(name, 0.0), score)
    top = max(best.values(), default=0.0)
    probabilities = {name: top * score / sum(best.values()) for name, score in best.items()}
    label = max(best, key=lambda name: best[name]) if top >= TUMOR_SCORE else negative
    return View(label, {**probabilities, negative: 1 - top}, boxes, tuple(labels), scores)


def _classifier_alone(run: Path, config: PredictConfig) -> Callable[[Sequence[Sample]], Iterator[Views]]:
    import torch

    from detectclf.models.device import resolve_device

    stage, device = load_stage(run, "classifier"), resolve_device(config.device)
    network = stage.network.to(device)

    def predict(samples: Sequence[Sample]) -> Iterator[Views]:
        for batch in _batches(samples, config.batch_size):
            parts = [cleaned(framed(pixels).pixels).pixels for pixels in map(read_pixels, batch)]
            squares = np.stack([resize_pad(part, network.input_size)[0] for part in parts])
            images = torch.from_numpy(squares).to(device).unsqueeze(1).float().div(255)
            with torch.inference_mode():
                logits = network(images)
            for row in torch.softmax(logits, dim=1).cpu().tolist():
                yield {CLASSIFIER: classifier_view(dict(zip(stage.classes, row, strict=True)))}

    return predict


def _detector_alone(run: Path, config: PredictConfig) -> Callable[[Sequence[Sample]], Iterator[Views]]:
    import torch

    from detectclf.boxes import in_original_pixels
    from detectclf.models.device import resolve_device
    from detectclf.models.roi_features import RoIFeatures, as_arrays
    from detectclf.models.second_look import second_look

    stage, device = load_stage(run, "detector"), resolve_device(config.device)
    network = stage.network.to(device)

    def predict(samples: Sequence[Sample]) -> Iterator[Views]:
        for batch in _batches(samples, config.batch_size):
            shown = [framed(read_pixels(sample)) for sample in batch]
            parts, resized = (
                [each.part for each in shown],
                [resize_pad(cleaned(each.pixels).pixels, network.input_size) for each in shown],
            )
            images = torch.from_numpy(np.stack([each[0] for each in resized])).to(device).unsqueeze(1).float().div(255)
            with torch.inference_mode():
                found = second_look(RoIFeatures(network, images))
            for part, (_, scale, _), each in zip(parts, resized, found, strict=True):
                boxes, labels, scores = in_original_pixels(*as_arrays(each), scale, part.width, part.height)
                moved = boxes + np.array([part.left, part.top] * 2, dtype=np.float32)
                names = [stage.classes[i] for i in labels]
                yield {DETECTOR: detector_view(moved, names, scores, str(stage.meta.negative or "no_tumor"))}

    return predict


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]
