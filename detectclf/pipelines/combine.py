"""``bundle``, ``evaluate``, ``predict``, ``compare``: what is done with trained models."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import BundleRecipe, DataConfig, EvaluateRecipe, PredictConfig
from detectclf.data.safety import atomic_folder, atomic_write
from detectclf.errors import ConfigError, DataError, one_line
from detectclf.types import Dataset, Prediction

if TYPE_CHECKING:
    from detectclf.evaluation.compare import Board
    from detectclf.evaluation.mistakes import Mistake
    from detectclf.evaluation.report import Report
    from detectclf.inference.predictor import Predictor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What ``evaluate`` made: the report, its terminal table, and the page on disk."""

    report: Report
    table: str
    html: Path | None


@dataclass(frozen=True, slots=True)
class Predicted:
    """What ``predict`` made: the file of records and the exit code (4 where a part of the inputs failed)."""

    file: Path
    done: int
    failed: int
    exit_code: int


def bundle(detector: Path, classifier: Path, recipe: BundleRecipe, split: str, out: Path) -> dict[str, Any]:
    """Fits calibration, fusion and thresholds on ``split`` and writes a bundle with its model card.

    Raises:
        DataError, ModelError, ConfigError: see each room.
    """
    from detectclf.evaluation.model_card import write_model_card
    from detectclf.evaluation.report import build_report
    from detectclf.inference.fusion import fuse
    from detectclf.inference.fusion_fit import fit_fusion
    from detectclf.models.bundle import save_bundle
    from detectclf.pipelines.facts import bundle_facts, card_facts, copy_fingerprints, training_fingerprints

    dataset = _labelled(_split(recipe.data, split))
    predictor = _predictor(None, detector, classifier, recipe.predict)
    _check_classes(dataset, predictor)
    outputs = list(predictor.raw_many(dataset.samples))
    fusion = fit_fusion(
        outputs,
        [str(s.label) for s in dataset.samples],
        predictor.names,
        recipe.bundle,
        sizes=[(s.width, s.height) for s in dataset.samples],
        box_scorer=_map_scorer(dataset),
    )
    facts = bundle_facts(detector, classifier, dataset, split, recipe.bundle)
    joined = replace(predictor.bundle, name=recipe.bundle.name, version="1", fusion=fusion, facts=facts)
    fused = [
        replace(fuse(each, fusion, predictor.names, width=s.width, height=s.height), image=s.name, path=s.path)
        for each, s in zip(outputs, dataset.samples, strict=True)
    ]
    # What it reaches on the very split that the fusion was fitted on: for the card, which says so.
    fingerprints = training_fingerprints(None, detector, classifier)
    report = build_report(fused, dataset, config=recipe.evaluate, train_fingerprints=fingerprints, facts=facts)
    with atomic_folder(out) as folder:
        save_bundle(folder, joined)
        copy_fingerprints((detector, classifier), folder)
        write_model_card(folder, card_facts(joined, report.record))
    return {"bundle": str(out), "samples": len(dataset.samples), "split": split, "fusion": asdict(fusion)}


def evaluate(
    recipe: EvaluateRecipe,
    split: str = "test",
    *,
    model: Path | None = None,
    detector: Path | None = None,
    classifier: Path | None = None,
    out: Path | None = None,
    explain: bool = False,
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
        command: the command line, for the report.
    """
    from detectclf.evaluation.report import build_report, write_report
    from detectclf.evaluation.tables import report_table
    from detectclf.pipelines.facts import model_facts, training_fingerprints

    dataset = _split(recipe.data, split)
    predictor = _predictor(model, detector, classifier, recipe.predict)
    _check_classes(dataset, predictor)
    began = time.perf_counter()
    predictions, map_shares = _predicted(predictor, dataset, explain)
    seconds = time.perf_counter() - began
    report = build_report(
        predictions,
        dataset,
        config=recipe.evaluate,
        train_fingerprints=training_fingerprints(model, detector, classifier),
        speed={"images_per_second": len(predictions) / seconds, "device": str(predictor.device), "explained": explain},
        map_shares=map_shares,
        facts=model_facts(predictor),
        command=command,
    )
    if explain:
        report.mistakes = _with_maps(report.mistakes, predictor)
    files = write_report(report, out) if out is not None else {}
    return Evaluated(report, report_table(report), files.get("report.html"))


def predict(
    inputs: Sequence[str],
    config: PredictConfig,
    *,
    model: Path | None = None,
    detector: Path | None = None,
    classifier: Path | None = None,
    out: Path,
    format: str = "jsonl",
    visualize: bool = False,
    explain: bool = False,
    frame: int | None = None,
    axis: str | None = None,
    each: Callable[[Prediction], None] = lambda prediction: None,
) -> Predicted:
    """Predicts files, folders and globs; writes ``predictions.*`` and, with ``visualize``, pictures into ``out``.

    Args:
        frame, axis: which picture of files that hold several, see :class:`detectclf.inference.sources.FileSlice`.
        each: called with every prediction as it is made.

    Raises:
        DataError: nothing to predict, or ``out`` cannot be written.
        ConfigError: unknown format.
        KeyboardInterrupt: the records made so far are written.
    """
    from detectclf.inference.inputs import collect_inputs
    from detectclf.inference.records import FORMATS, picture_names, write_predictions
    from detectclf.inference.sources import FileSlice

    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", remedy=f"use one of {', '.join(FORMATS)}")
    files = collect_inputs(inputs, sys.stdin.buffer)
    predictor = _predictor(model, detector, classifier, config)
    predictions = []
    made = predictor.predict_many((FileSlice(file, frame, axis) for file in files), explain=explain)
    try:
        for prediction, picture in zip(made, picture_names(files), strict=True):
            if prediction.error is not None:
                log.error("%s", prediction.error)
            elif visualize:
                _save_picture(prediction, out / picture)
            # The pixels of the map are not needed any more; thousands of them would fill the memory.
            predictions.append(replace(prediction, heatmap=None, stages=None))
            each(prediction)
    except KeyboardInterrupt:
        if predictions:
            log.warning("%s: %d of %d", write_predictions(predictions, out, format), len(predictions), len(files))
        raise
    failures = [p.error_exit for p in predictions if p.error is not None]
    return Predicted(
        write_predictions(predictions, out, format),
        done=len(predictions) - len(failures),
        failed=len(failures),
        exit_code=0 if not failures else 4 if len(failures) < len(predictions) else max(failures),
    )


def compare(runs: Sequence[Path], out: Path | None = None) -> Board:
    """Leader board of evaluated runs, with paired tests; the page is written into ``out``."""
    from detectclf.evaluation.compare import compare_runs, write_board

    board = compare_runs(runs)
    if out is not None:
        write_board(board, out)
    return board


def describe(prediction: Prediction) -> str:
    """One prediction as one line for a person, whatever the name of its file holds."""
    if prediction.error is not None:
        return one_line(f"{prediction.image}: not read")
    boxes = [
        f"{label} {score:.2f} at ({', '.join(f'{v:.0f}' for v in box)})"
        for box, label, score in zip(prediction.boxes_xyxy, prediction.box_labels, prediction.scores, strict=True)
        if score >= prediction.box_threshold  # those that are drawn
    ]
    flags = f" [{', '.join(prediction.flags)}]" if prediction.flags else ""
    said = f"{prediction.label} {prediction.confidence:.3f}; {'; '.join(boxes) or 'no box'}{flags}"
    return one_line(f"{prediction.image}: {said}")


def _split(config: DataConfig, name: str) -> Dataset:
    from detectclf.data.dataset import open_dataset, require_split

    return require_split(open_dataset(config), name)


def _labelled(dataset: Dataset) -> Dataset:
    labelled = tuple(s for s in dataset.samples if s.label is not None)
    if not labelled:
        raise DataError("no slice with a known class in this split", remedy="choose another --split or add --data")
    return replace(dataset, samples=labelled)


def _predictor(model: Path | None, detector: Path | None, classifier: Path | None, config: PredictConfig) -> Predictor:
    from detectclf.inference.predictor import Predictor, load, load_runs
    from detectclf.models.bundle import load_bundle

    if detector is None and classifier is None:
        return load(device=config.device) if model is None else Predictor(load_bundle(model), config)
    if model is not None or detector is None or classifier is None:
        raise ConfigError(
            "a model is one bundle, or a detector run and a classifier run",
            remedy="give --model, or both --detector and --classifier",
        )
    return load_runs(detector, classifier, config)


def _check_classes(dataset: Dataset, predictor: Predictor) -> None:
    foreign = sorted({s.label for s in dataset.samples if s.label is not None} - set(predictor.names.classes))
    if foreign:
        raise DataError(
            f"the data has classes that the model does not know: {', '.join(foreign)}",
            file=", ".join(dataset.sources),
            remedy=f"the model knows {', '.join(predictor.names.classes)}",
        )


def _predicted(predictor: Predictor, dataset: Dataset, explain: bool) -> tuple[list[Prediction], list[float]]:
    """What is said of each slice, and the share of its map inside the true boxes; no map outlives its slice."""
    from detectclf.evaluation.joint import map_inside_boxes

    predictions, shares = [], []
    found = predictor.predict_many(dataset.samples, explain=explain)
    for sample, prediction in zip(dataset.samples, found, strict=True):
        shares.append(map_inside_boxes(prediction, sample, dataset.negative))
        predictions.append(replace(prediction, heatmap=None))
    return predictions, shares


def _with_maps(mistakes: Sequence[Mistake], predictor: Predictor) -> list[Mistake]:
    """The few mistakes of the gallery, each with its map made again."""
    again = predictor.predict_many([m.sample for m in mistakes], explain=True)
    return [
        replace(m, prediction=replace(m.prediction, heatmap=p.heatmap)) for m, p in zip(mistakes, again, strict=True)
    ]


def _map_scorer(dataset: Dataset) -> Callable[[Sequence[Prediction]], float | None]:
    from detectclf.evaluation.detection import mean_average_precision

    boxed = [i for i, s in enumerate(dataset.samples) if s.boxed]
    truth = [dataset.samples[i] for i in boxed]

    def score(predictions: Sequence[Prediction]) -> float | None:
        said = [predictions[i] for i in boxed]
        return mean_average_precision(
            [s.boxes_xyxy for s in truth],
            [s.box_labels for s in truth],
            [p.boxes_xyxy for p in said],
            [p.box_labels for p in said],
            [p.scores for p in said],
            dataset.tumor_classes,
        ).mAP

    return score


def _save_picture(prediction: Prediction, file: Path) -> None:
    buffer = io.BytesIO()
    prediction.draw().save(buffer, format="PNG")
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, buffer.getvalue())
