"""``predict``: records and pictures of files, folders and globs."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detectclf.config import PredictConfig
from detectclf.errors import ConfigError, DetectclfError, one_line
from detectclf.files import atomic_write
from detectclf.pipelines.opening import predictor_of
from detectclf.types import Prediction

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What ``predict`` made: the file of records and the exit code (4 where some inputs or pictures failed)."""

    file: Path
    done: int
    failed: int
    exit_code: int


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
