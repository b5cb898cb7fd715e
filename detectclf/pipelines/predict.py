"""``predict``: records and pictures for files, folders and globs, and for the volumes among them."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import PredictConfig, ShardConfig
from detectclf.drawing.panel import CROP_ADVICE
from detectclf.errors import ConfigError, DetectclfError, one_line
from detectclf.pipelines.opening import predictor_of
from detectclf.pipelines.predict_types import Predicted
from detectclf.prediction import Prediction
from detectclf.progress import Progress
from detectclf.signals import ended_like_interrupted
from detectclf.storage import is_uri

if TYPE_CHECKING:
    from detectclf.inference.containers import Container
    from detectclf.inference.items import Item
    from detectclf.inference.predictor import Predictor
    from detectclf.inference.sources import ImageSource
    from detectclf.inference.studies import Study
    from detectclf.pipelines.predict_files import Drawing, Results

log = logging.getLogger(__name__)


def predict(
    inputs: Sequence[str],
    config: PredictConfig,
    *,
    model: Path | None = None,
    detector: Path | None = None,
    classifier: Path | None = None,
    out: str | Path,
    format: str = "jsonl",
    visualize: bool = False,
    explain: bool = False,
    frame: int | None = None,
    axis: str | None = None,
    resume: bool = False,
    shards: ShardConfig | None = None,
    each: Callable[[Prediction | Study], None] = lambda result: None,
) -> Predicted:
    """Predicts files, folders and globs; writes ``predictions.*`` and, with ``visualize``, pictures into ``out``.

    All slices of a volume are predicted, and ``studies.jsonl`` says what they amount to.

    Args:
        frame: the picture of files that hold several, and the slice of volumes, which have no study then.
        axis: along which NIfTI volumes are sliced.
        shards: writes shards, in which nothing is drawn and ``each`` is not called
            (:mod:`detectclf.pipelines.predict_shards`).
        resume: go on with the records that a stopped run of the same model, settings and inputs left in ``out``.
        each: called with every prediction as it is made, and with every study after its slices.

    Raises:
        DataError: there is nothing to predict, or ``out`` cannot be written.
        ConfigError: unknown format, or both a bundle and runs are named; or the records in ``out`` are of another run.
        ModelError: the bundle or a run is missing or damaged; or ``explain``, and the classifier has no convolutions.
        DeviceError: the device is not available.
        KeyboardInterrupt: from the user, or by SIGTERM or SIGHUP; the records made so far are written first.
    """
    from detectclf.imaging.images import is_nifti
    from detectclf.inference.items import item_names, items_of
    from detectclf.inference.records import FORMATS, STUDIES_FILE, make_folder
    from detectclf.pipelines.predict_files import Drawing, Results

    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", remedy=f"use one of {', '.join(FORMATS)}")
    if explain and not visualize:
        log.warning("--explain has no effect without --visualize: it adds maps to the pictures")
    if shards is not None:
        from detectclf.pipelines.predict_shards import predict_shards

        if visualize or format != "jsonl" or detector or classifier:
            raise ConfigError(
                "shards hold the records of a bundle as JSONL and Parquet, and no pictures",
                remedy="leave out --visualize, --format, --detector and --classifier, or predict without shards",
            )
        return predict_shards(inputs, config, shards, model=model, out=str(out), frame=frame, axis=axis, resume=resume)
    out = Path(out)
    names = list(item_names(inputs, sys.stdin.buffer))
    if axis is not None and not any(is_uri(name) or is_nifti(name) for name in names):
        log.warning("--axis has no effect: it says how NIfTI files are sliced, and there is none among the inputs")
    predictor = predictor_of(model, {"detector": detector, "classifier": classifier}, config)
    make_folder(out)  # first: a folder that cannot be written must not cost the predictions
    sources = items_of(names, frame, axis)
    settings = {"frame": frame, "axis": axis, "format": format, "visualize": visualize, "explain": explain}
    description = _description(predictor, model, (detector, classifier), settings, sources)
    results = Results(out, format, description, resume=resume)
    if results.finished:
        return _finished(results)
    drawing = Drawing(out, visualize, explain, ".".join(str(which) for which in (axis, frame) if which is not None))
    try:
        with ended_like_interrupted():
            _predict_all(predictor, sources, results, drawing, each)
            results.finish()
    except (KeyboardInterrupt, DetectclfError):
        file = results.save()
        if file is not None:
            log.warning("%s: %d of %d; --resume goes on", file, results.records.count, _slices_in(sources))
        raise
    exit_code = 0 if not results.failed and not drawing.failed else 4 if results.done else results.worst
    studies = out / STUDIES_FILE if results.studies.count else None
    return Predicted(out / FORMATS[format][0], studies, results.done, results.failed, exit_code)


def shard_settings(
    out: str, engine: str | None, shard_size: int | None, ray_address: str | None, ray_cpus: float | None
) -> ShardConfig | None:
    """The settings that flags give; ``None`` where one file of records is written, as without any of them.

    Raises:
        ConfigError: a flag has no meaning without another.
    """
    from detectclf.recipes import load_recipe

    if engine != "ray" and (ray_address or ray_cpus):
        raise ConfigError("--ray-address and --ray-cpus are for Ray", remedy="add --engine ray")
    if engine != "ray" and shard_size is None and not is_uri(out):
        return None
    flags = {"engine": engine, "shard_size": shard_size, "ray_address": ray_address, "ray_cpus": ray_cpus}
    return load_recipe(ShardConfig, flags=flags)


def _description(
    predictor: Predictor,
    model: Path | None,
    runs: tuple[Path | None, Path | None],
    settings: dict[str, Any],
    sources: Sequence[Item],
) -> dict[str, Any]:
    from detectclf.inference.containers import Container
    from detectclf.inference.run_description import describe_run, inputs_digest
    from detectclf.inference.sources import name_of
    from detectclf.inference.volumes import Volume
    from detectclf.pipelines.model_digest import model_description

    names: list[str] = []
    for source in sources:
        if isinstance(source, Volume):
            names += [source.name, *(str(file.path) for file in source.files)]
        else:
            names.append(source.name if isinstance(source, Container) else name_of(source))
    inputs = {"count": _slices_in(sources), "sha256": inputs_digest(names)}
    return describe_run(model_description(predictor, model, runs), settings, inputs)


def _finished(results: Results) -> Predicted:
    from detectclf.inference.records import FORMATS, STUDIES_FILE

    log.info("%s: the run had come to its end", results.out)
    counts = results.description["result"]
    code = 0 if not counts["failed"] else 4 if counts["done"] else 2
    studies = results.out / STUDIES_FILE if counts["studies"] else None
    return Predicted(results.out / FORMATS[results.format][0], studies, counts["done"], counts["failed"], code)


def _predict_all(
    predictor: Predictor,
    sources: Sequence[Item],
    results: Results,
    drawing: Drawing,
    each: Callable[[Prediction | Study], None],
) -> None:
    """Predicts pictures in batches and volumes one by one, in their order; what an earlier run did is left out."""
    from detectclf.inference.volumes import Volume

    named = list(zip(sources, drawing.names(sources), strict=True))
    first = next((i for i, source in enumerate(sources) if not results.has(source)), len(sources))
    # Where results go to the terminal they are progress enough, and a bar would get in their way.
    show = False if sys.stdout.isatty() else None
    with Progress("predicting", _slices_in(sources), done=_slices_in(sources[:first]), show=show) as progress:

        def made(prediction: Prediction, steps: int = 1) -> None:
            results.add(prediction)
            each(prediction)
            progress.advance(steps)

        def predict_pictures() -> None:
            read: deque[tuple[Path, bool]] = deque()  # a batch or two ahead of the predictions

            def sources_ahead() -> Iterator[ImageSource]:
                for waiting, at in pictures:
                    for picture, file, first in drawing.pictures(waiting, at):
                        read.append((file, first))
                        yield picture

            explain = drawing.explain and drawing.visualize
            for prediction in predictor.predict_many(sources_ahead(), explain=explain):
                file, first = read.popleft()
                drawing.save(prediction, file)
                made(prediction, int(first))
            pictures.clear()

        pictures: list[tuple[ImageSource | Container, Path]] = []
        for source, file in named[first:]:
            if not isinstance(source, Volume):
                pictures.append((source, file))
                continue
            predict_pictures()  # those before it
            study = predictor.study_of(source, each=made)
            drawing.save(study, file)
            results.add_study(study)
            each(study)
        predict_pictures()


def _slices_in(sources: Sequence[Item]) -> int:
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
