"""``evaluate``: mAP and accuracy from the same predictions."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.config import EvaluateRecipe
from detectclf.errors import ConfigError
from detectclf.files import free_folder
from detectclf.pipelines.opening import check_classes, predictor_of, with_known_patients
from detectclf.pipelines.results_folder import check_no_results
from detectclf.prediction import Prediction
from detectclf.progress import Progress, working
from detectclf.types import Dataset

if TYPE_CHECKING:
    from detectclf.datasets.index import IndexedSlices, SliceIndex
    from detectclf.evaluation.explanation import MapFit
    from detectclf.evaluation.mistakes import Mistake
    from detectclf.evaluation.report_types import Report
    from detectclf.inference.predictor import Predictor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What ``evaluate`` made: the report, its terminal table, and the page on disk."""

    report: Report
    table: str
    html: Path | None


def report_folder(out: Path | None) -> Path:
    """The folder for a report: ``out``, or by default ``evaluation``, with a number where that is taken.

    Raises:
        DataError: ``out`` holds the results of an earlier command.
    """
    if out is None:
        return free_folder(Path("evaluation"))
    check_no_results(out)
    return out


def evaluate(
    recipe: EvaluateRecipe,
    split: str = "test",
    *,
    model: Path | None = None,
    detector: Path | None = None,
    classifier: Path | None = None,
    out: Path | None = None,
    explain: bool = False,
    made: str | None = None,
    command: str | None = None,
) -> Evaluated:
    """Predicts every slice of ``split`` once and measures mAP and accuracy from these predictions.

    Args:
        recipe: data, bootstrap and device settings.
        split: its name.
        model: a bundle; without it and without runs, the packaged one.
        detector, classifier: two runs instead of a bundle.
        out: folder for report.json, report.html, predictions.jsonl and figures; nothing is written without.
        explain: also measure how much of each class-activation map lies in the true boxes; the gallery shows the maps.
        made: what a ``predict`` of the same model wrote, a folder or URI, instead of predicting; figures of the stages
            alone are missing then.
        command: the command line, for the report.

    Raises:
        DataError: the data cannot be read, have a class that the model does not know, or ``out`` cannot be written.
        ConfigError: both a bundle and runs are named, or only one run.
        ModelError: the bundle or a run is missing or damaged; or ``explain``, and the classifier has no convolutions.
        DeviceError: the device is not available.
    """
    from detectclf.datasets.dataset import open_dataset, require_split
    from detectclf.datasets.index import SliceIndex
    from detectclf.datasets.useless import never_trained
    from detectclf.evaluation.record import Speed
    from detectclf.evaluation.report import build_report, write_report
    from detectclf.evaluation.tables import report_table
    from detectclf.pipelines.metadata import model_metadata, training_metadata, training_of
    from detectclf.pipelines.provenance import model_provenance, training_patient_record, training_patients

    index = SliceIndex()
    with working("opening the data"):
        whole = open_dataset(recipe.data, index)
    dataset = require_split(whole, split)
    with working("loading the model"):
        predictor = predictor_of(model, {"detector": detector, "classifier": classifier}, recipe.predict)
    check_classes(dataset, predictor)
    runs = [run for run in (detector, classifier) if run is not None]
    began = time.perf_counter()
    if made is None:
        predictions, map_fits = _predicted(predictor, dataset, explain, index)
    else:
        predictions, map_fits = _read(made, predictor, model, runs, explain), None
    seconds = time.perf_counter() - began
    with working("comparing with the training slices and measuring"):
        dataset = with_known_patients(dataset, whole, index)
        known = training_patient_record(model, runs)
        metadata = model_metadata(predictor)
        notes: list[str] = []
        for line in never_trained(dataset.samples, metadata.get("training") or training_metadata(runs)):
            log.warning(line)
            notes.append(line)
        report = build_report(
            predictions,
            dataset,
            config=recipe.evaluate,
            train_fingerprints=model_provenance(model, runs),
            train_patients=training_patients(model, runs),
            training=training_of(model, runs),
            other_key=known is not None and known.has_other_key,
            speed=Speed(len(predictions) / seconds, str(predictor.device), explain) if made is None else None,
            map_fits=map_fits,
            metadata=metadata,
            command=command,
            exact_copies=_exact_copies(predictor, index.look_up(dataset.samples)),
            notes=notes,
            index=index,
        )
    if explain:
        report = replace(report, mistakes=_with_maps(report.mistakes, predictor))
    with working("writing the report"):
        files = write_report(report, out) if out is not None else {}
    return Evaluated(report, report_table(report), files.get("report.html"))


def _exact_copies(predictor: Predictor, indexed: IndexedSlices) -> int:
    """How many slices the bundle was trained on, found by the digests of their pixels."""
    training = predictor.bundle.out_of_fold
    if training is None:
        return 0
    known = {row.tobytes() for row in training.digests}
    return sum(digest in known for digest in indexed.fingerprints.digests)


def _read(made: str, predictor: Predictor, model: Path | None, runs: list[Path], explain: bool) -> list[Prediction]:
    from detectclf.inference.made_predictions import read_predictions
    from detectclf.pipelines.model_digest import model_digest

    if explain:
        raise ConfigError("--explain needs the slices to be predicted", remedy="leave out --predictions or --explain")
    return read_predictions(made, model_digest(model, runs), predictor.bundle.fusion.box_threshold)


def _predicted(
    predictor: Predictor, dataset: Dataset, explain: bool, index: SliceIndex
) -> tuple[list[Prediction], list[MapFit]]:
    """The prediction of each slice, and how its class-activation map fits the true boxes.

    Each map is dropped then: those of all slices would not fit into memory.
    """
    from detectclf.evaluation.explanation import map_inside_boxes

    predictions, fits = [], []
    found = predictor.predict_many(dataset.samples, explain=explain, read=index.read)
    with Progress("predicting", len(dataset.samples)) as progress:
        for sample, prediction in zip(dataset.samples, found, strict=True):
            fits.append(map_inside_boxes(prediction, sample, dataset.negative))
            predictions.append(replace(prediction, heatmap=None))
            progress.advance()
    return predictions, fits


def _with_maps(mistakes: Sequence[Mistake], predictor: Predictor) -> tuple[Mistake, ...]:
    """The few mistakes of the gallery, each with its class-activation map computed again."""
    again = predictor.predict_many([m.sample for m in mistakes], explain=True)
    return tuple(
        replace(m, prediction=replace(m.prediction, heatmap=p.heatmap, heatmap_fit=p.heatmap_fit))
        for m, p in zip(mistakes, again, strict=True)
    )
