"""``evaluate``, ``predict``, ``compare``: what is done with trained models."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.config import EvaluateRecipe, PredictConfig
from detectclf.data.safety import atomic_write
from detectclf.errors import ConfigError, DetectclfError, one_line
from detectclf.pipelines.opening import check_classes, predictor_of, split_of
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
    """What ``predict`` made: the file of records and the exit code (4 where some inputs or pictures failed)."""

    file: Path
    done: int
    failed: int
    exit_code: int


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
    from detectclf.pipelines.facts import model_facts
    from detectclf.pipelines.seen import training_fingerprints

    dataset = split_of(recipe.data, split)
    predictor = predictor_of(model, detector, classifier, recipe.predict)
    check_classes(dataset, predictor)
    began = time.perf_counter()
    predictions, map_shares = _predicted(predictor, dataset, explain)
    seconds = time.perf_counter() - began
    report = build_report(
        predictions,
        dataset,
        config=recipe.evaluate,
        train_fingerprints=training_fingerprints(model, [run for run in (detector, classifier) if run is not None]),
        speed={"images_per_second": len(predictions) / seconds, "device": str(predictor.device), "explained": explain},
        map_shares=map_shares,
        facts=model_facts(predictor),
        command=command,
    )
    report.record["notes"] = _exact_copies(predictor, dataset) + report.record["notes"]
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
    from detectclf.inference.records import FORMATS, make_folder, picture_names, write_predictions
    from detectclf.inference.sources import slice_of

    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", remedy=f"use one of {', '.join(FORMATS)}")
    if explain and not visualize:
        log.warning("--explain adds maps to the pictures of --visualize, without which there are none")
    files = collect_inputs(inputs, sys.stdin.buffer)
    predictor = predictor_of(model, detector, classifier, config)
    make_folder(out)  # before the work, not after it
    predictions, undrawn = [], 0
    made = predictor.predict_many((slice_of(file, frame, axis) for file in files), explain=explain and visualize)
    part = ".".join(str(which) for which in (axis, frame) if which is not None)
    try:
        for prediction, picture in zip(made, picture_names(files, part), strict=True):
            if prediction.error is not None:
                log.error("%s", prediction.error)
            elif visualize and not _picture_saved(prediction, out / picture):
                undrawn += 1
            # The pixels of the map are not needed any more; thousands of them would fill the memory.
            predictions.append(replace(prediction, heatmap=None, stages=None))
            each(prediction)
    except (KeyboardInterrupt, DetectclfError):
        if predictions:
            log.warning("%s: %d of %d", write_predictions(predictions, out, format), len(predictions), len(files))
        raise
    failures = [p.error_exit for p in predictions if p.error is not None]
    done = len(predictions) - len(failures)
    exit_code = 0 if not failures and not undrawn else 4 if done else max(failures)
    return Predicted(write_predictions(predictions, out, format), done, len(failures), exit_code)


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
    said = f"{prediction.label} {prediction.confidence:.3f}; {'; '.join(boxes) or 'no box'}"
    if not prediction.judged:
        said = "not judged"  # class and boxes of something else say nothing
    part = f" ({prediction.part})" if prediction.part else ""
    return one_line(f"{prediction.image}{part}: {said}{flags}")


def _exact_copies(predictor: Predictor, dataset: Dataset) -> list[str]:
    """A note on slices that the bundle knows it was trained on, pixel for pixel."""
    remembered = predictor.bundle.remembered
    if remembered is None:
        return []
    from detectclf.data.fingerprints import fingerprint_samples

    known = {row.tobytes() for row in remembered.digests}
    seen = sum(digest in known for digest in fingerprint_samples(dataset.samples).digests)
    if not seen:
        return []
    known_by_heart = (
        f"{seen} of {len(dataset.samples)} slices are, pixel for pixel, slices that this model was trained on"
    )
    return [f"{known_by_heart}: what it says of them shows its memory"]


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


def _picture_saved(prediction: Prediction, file: Path) -> bool:
    """Draws a prediction; one that cannot be drawn or written is logged, and costs no other its record."""
    buffer = io.BytesIO()
    try:
        prediction.draw().save(buffer, format="PNG")
        atomic_write(file, buffer.getvalue())
    except DetectclfError as error:
        log.error("%s", error)
        return False
    return True
