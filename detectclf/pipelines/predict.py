"""``predict``: records and pictures for files, folders and globs."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectclf.config import PredictConfig
from detectclf.errors import ConfigError, DetectclfError, one_line
from detectclf.files import atomic_write
from detectclf.pipelines.opening import predictor_of
from detectclf.prediction import Prediction
from detectclf.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Predicted:
    """Result of ``predict``: file of records, numbers of inputs, exit code (4 where some inputs or pictures failed)."""

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
        DataError: there is nothing to predict, or ``out`` cannot be written.
        ConfigError: unknown format, or both a bundle and runs are named.
        ModelError: the bundle or a run is missing or damaged; or ``explain``, and the classifier has no convolutions.
        DeviceError: the device is not available.
        KeyboardInterrupt: from the user; the records made so far are written first.
    """
    from detectclf.inference.input_files import collect_inputs
    from detectclf.inference.picture_names import picture_names
    from detectclf.inference.records import FORMATS, Record, make_folder, write_records
    from detectclf.inference.sources import slice_of

    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", remedy=f"use one of {', '.join(FORMATS)}")
    if explain and not visualize:
        log.warning("--explain has no effect without --visualize: it adds maps to the pictures")
    files = collect_inputs(inputs, sys.stdin.buffer)
    predictor = predictor_of(model, {"detector": detector, "classifier": classifier}, config)
    make_folder(out)  # first: a folder that cannot be written must not cost the predictions
    # Records and not predictions, whose arrays would fill the memory over thousands of inputs.
    records: list[Record] = []
    errors, undrawn = [], 0
    made = predictor.predict_many((slice_of(file, frame, axis) for file in files), explain=explain and visualize)
    part = ".".join(str(which) for which in (axis, frame) if which is not None)
    # Where results go to the terminal they are progress enough, and a bar would get in their way.
    show = False if sys.stdout.isatty() else None
    try:
        with Progress("predicting", len(files), show=show) as progress:
            for prediction, picture in zip(made, picture_names(files, part), strict=True):
                if prediction.error is not None:
                    log.error("%s", prediction.error)
                    errors.append(prediction.error_exit)
                elif visualize and not _picture_saved(prediction, out / picture):
                    undrawn += 1
                records.append(prediction.to_record())
                each(prediction)
                progress.advance()
    except (KeyboardInterrupt, DetectclfError):
        if records:
            log.warning("%s: %d of %d", write_records(records, out, format), len(records), len(files))
        raise
    done = len(records) - len(errors)
    exit_code = 0 if not errors and not undrawn else 4 if done else max(errors)
    return Predicted(write_records(records, out, format), done, len(errors), exit_code)


def describe(prediction: Prediction) -> str:
    """One prediction as one line of text, whatever characters the file name has."""
    if prediction.error is not None:
        return one_line(f"{prediction.image}: not read")
    boxes = [
        f"{label} {score:.2f} at ({', '.join(f'{v:.0f}' for v in box)})"
        for box, label, score in zip(prediction.boxes_xyxy, prediction.box_labels, prediction.scores, strict=True)
        if score >= prediction.box_threshold
    ]
    flags = f" [{', '.join(prediction.flags)}]" if prediction.flags else ""
    result = f"{prediction.label} {prediction.confidence:.3f}; {'; '.join(boxes) or 'no box'}"
    if not prediction.judged:
        result = "not judged"
    part = f" ({prediction.part})" if prediction.part else ""
    return one_line(f"{prediction.image}{part}: {result}{flags}")


def _picture_saved(prediction: Prediction, file: Path) -> bool:
    """Draws a prediction into ``file``; ``False``, with a line in the log, where that fails."""
    buffer = io.BytesIO()
    try:
        prediction.draw().save(buffer, format="PNG")
        atomic_write(file, buffer.getvalue())
    except DetectclfError as error:
        log.error("%s", error)
        return False
    return True
