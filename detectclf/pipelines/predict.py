"""``predict``: records and pictures for files, folders and globs, and for the volumes among them."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import PredictConfig
from detectclf.drawing.panel import CROP_ADVICE
from detectclf.errors import ConfigError, DetectclfError, one_line
from detectclf.files import atomic_write
from detectclf.pipelines.opening import predictor_of
from detectclf.prediction import Prediction
from detectclf.progress import Progress

if TYPE_CHECKING:
    from detectclf.inference.predictor import Predictor
    from detectclf.inference.sources import ImageSource
    from detectclf.inference.studies import Study
    from detectclf.inference.volumes import Input

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Predicted:
    """Result of ``predict``.

    Attributes:
        file: the records of pictures and slices.
        studies: those of the volumes; ``None`` where there were none.
        done, failed: numbers of pictures and slices; a volume that is refused as a whole counts as one that failed.
        exit_code: 4 where some inputs or pictures failed.
    """

    file: Path
    studies: Path | None
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
    each: Callable[[Prediction | Study], None] = lambda result: None,
) -> Predicted:
    """Predicts files, folders and globs; writes ``predictions.*`` and, with ``visualize``, pictures into ``out``.

    All slices of a volume are predicted, and ``studies.jsonl`` says what they amount to.

    Args:
        frame: the picture of files that hold several, and the slice of volumes, which have no study then.
        axis: along which NIfTI volumes are sliced.
        each: called with every prediction as it is made, and with every study after its slices.

    Raises:
        DataError: there is nothing to predict, or ``out`` cannot be written.
        ConfigError: unknown format, or both a bundle and runs are named.
        ModelError: the bundle or a run is missing or damaged; or ``explain``, and the classifier has no convolutions.
        DeviceError: the device is not available.
        KeyboardInterrupt: from the user; the records made so far are written first.
    """
    from detectclf.imaging.images import is_nifti
    from detectclf.inference.input_files import collect_inputs
    from detectclf.inference.records import FORMATS, make_folder
    from detectclf.inference.volumes import inputs_of, one_slice_of

    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", remedy=f"use one of {', '.join(FORMATS)}")
    if explain and not visualize:
        log.warning("--explain has no effect without --visualize: it adds maps to the pictures")
    files = collect_inputs(inputs, sys.stdin.buffer)
    if axis is not None and not any(is_nifti(file) for file in files):
        log.warning("--axis has no effect: it says how NIfTI files are sliced, and there is none among the inputs")
    predictor = predictor_of(model, {"detector": detector, "classifier": classifier}, config)
    make_folder(out)  # first: a folder that cannot be written must not cost the predictions
    found = inputs_of(files, axis)
    # Each once, since frames of one file that are no volume are sources of their own.
    sources: list[Input | ImageSource] = list(
        found if frame is None else dict.fromkeys(one_slice_of(source, frame) for source in found)
    )
    results = _Results(out, format)
    drawing = _Drawing(out, visualize, explain, ".".join(str(which) for which in (axis, frame) if which is not None))
    try:
        _predict_all(predictor, sources, results, drawing, each)
    except (KeyboardInterrupt, DetectclfError):
        if results.records:
            log.warning("%s: %d of %d", results.write()[0], len(results.records), _slices_in(sources))
        raise
    file, studies = results.write()
    done = sum(record["error"] is None for record in results.records)
    exit_code = 0 if not results.errors and not drawing.failed else 4 if done else max(results.errors)
    return Predicted(file, studies, done, len(results.errors), exit_code)


@dataclass(slots=True, eq=False)
class _Results:
    """What is predicted so far: records, and not predictions, whose arrays would fill the memory."""

    out: Path
    format: str
    records: list[dict[str, Any]] = field(default_factory=list)
    studies: list[dict[str, Any]] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)

    def add(self, prediction: Prediction) -> None:
        if prediction.error is not None:
            log.error("%s", prediction.error)
            self.errors.append(prediction.error_exit)
        self.records.append(prediction.to_record())

    def add_study(self, study: Study) -> None:
        from detectclf.inference.records import FORMATS

        if study.error is not None:
            log.error("%s", study.error)
            if not study.predictions:  # else each of its slices has been counted
                self.errors.append(study.error_exit)
        self.studies.append(study.to_record(FORMATS[self.format][0]))

    def write(self) -> tuple[Path, Path | None]:
        """The files of records and of studies; without any, those that an earlier run left are removed."""
        from detectclf.inference.records import STUDIES_FILE, write_records, write_studies

        file = write_records(self.records, self.out, self.format)
        if self.studies:
            return file, write_studies(self.studies, self.out)
        (self.out / STUDIES_FILE).unlink(missing_ok=True)
        return file, None


@dataclass(slots=True, eq=False)
class _Drawing:
    """Which pictures are drawn, and how many could not be; ``part`` is what ``--frame`` and ``--axis`` say."""

    out: Path
    visualize: bool
    explain: bool
    part: str
    failed: int = 0

    def names(self, sources: Sequence[Input | ImageSource]) -> list[Path]:
        """A file for the picture of each source."""
        from detectclf.inference.picture_names import picture_names
        from detectclf.inference.sources import name_of
        from detectclf.inference.volumes import Volume

        named = [source.stem if isinstance(source, Volume) else name_of(source) for source in sources]
        return [self.out / name for name in picture_names(named, self.part)]

    def save(self, result: Prediction | Study, file: Path) -> None:
        """Draws a result into ``file``; where that fails, the log says so."""
        if not self.visualize or result.error is not None:
            return
        buffer = io.BytesIO()
        try:
            result.draw().save(buffer, format="PNG")
            atomic_write(file, buffer.getvalue())
        except DetectclfError as error:
            log.error("%s", error)
            self.failed += 1


def _predict_all(
    predictor: Predictor,
    sources: Sequence[Input | ImageSource],
    results: _Results,
    drawing: _Drawing,
    each: Callable[[Prediction | Study], None],
) -> None:
    """Predicts pictures in batches and volumes one by one, in their order."""
    from detectclf.inference.volumes import Volume

    # Where results go to the terminal they are progress enough, and a bar would get in their way.
    show = False if sys.stdout.isatty() else None
    with Progress("predicting", _slices_in(sources), show=show) as progress:

        def made(prediction: Prediction) -> None:
            results.add(prediction)
            each(prediction)
            progress.advance()

        def predict_pictures() -> None:
            explain = drawing.explain and drawing.visualize
            predictions = predictor.predict_many((picture for picture, _ in pictures), explain=explain)
            for prediction, (_, file) in zip(predictions, pictures, strict=True):
                drawing.save(prediction, file)
                made(prediction)
            pictures.clear()

        pictures: list[tuple[ImageSource, Path]] = []
        for source, file in zip(sources, drawing.names(sources), strict=True):
            if not isinstance(source, Volume):
                pictures.append((source, file))
                continue
            predict_pictures()  # those before it
            study = predictor.study_of(source, each=made)
            drawing.save(study, file)
            results.add_study(study)
            each(study)
        predict_pictures()


def _slices_in(sources: Sequence[Input | ImageSource]) -> int:
    from detectclf.inference.volumes import Volume

    return sum(len(source) if isinstance(source, Volume) else 1 for source in sources)


def describe(result: Prediction | Study) -> str:
    """One prediction or study as one line of text, whatever characters the file name has."""
    from detectclf.inference.studies import Study

    if isinstance(result, Study):
        return _describe_study(result)
    return _describe_prediction(result)


def _describe_prediction(prediction: Prediction) -> str:
    if prediction.error is not None:
        return one_line(f"{prediction.image}: not read")
    boxes = [
        f"{label} {score:.2f} at ({', '.join(f'{v:.0f}' for v in box)})"
        for box, label, score in zip(prediction.boxes_xyxy, prediction.box_labels, prediction.scores, strict=True)
        if score >= prediction.box_threshold
    ]
    flags = f" [{', '.join(prediction.flags)}]" if prediction.flags else ""
    if prediction.confidence is None:
        # A slice of a volume is no screen.
        result = "refused" if prediction.origin.study else f"refused; if it is a screen or a page, {CROP_ADVICE}"
    else:
        result = f"{prediction.label} {prediction.confidence:.3f}{_why(prediction)}; {'; '.join(boxes) or 'no box'}"
    part = f" ({prediction.part})" if prediction.part else ""
    return one_line(f"{prediction.image}{part}: {result}{flags}")


def _why(prediction: Prediction) -> str:
    """Why the class is not the likeliest of all: a tumour is called by the probability of all its kinds together."""
    likeliest = max(prediction.probabilities, key=lambda name: prediction.probabilities[name])
    if likeliest == prediction.label:
        return ""
    share = prediction.probabilities[likeliest]
    return f" (called a tumour: {1 - share:.3f} for all kinds together, {likeliest} {share:.3f})"


def _describe_study(study: Study) -> str:
    if study.error is not None:
        return one_line(f"{study.name}: not read")
    findings = []
    for finding in study.findings:
        first, last = finding.slices
        extent = study.extent_mm(finding)
        size = "" if extent is None else f", {' x '.join(f'{side:.0f}' for side in extent)} mm"
        findings.append(f"{finding.label} {finding.score(study.agree):.2f} on slices {first} to {last}{size}")
    flags = f" [{', '.join(study.flags)}]" if study.flags else ""
    told = "refused"
    if study.confidence is not None:
        told = f"{study.label} {study.confidence:.3f}; {'; '.join(findings) or 'no finding'}"
    return one_line(f"{study.name}, {study.slices} slices together: {told}{flags}")
