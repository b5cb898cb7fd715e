"""``predict``: records and pictures for files, folders and globs, and for the volumes among them."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import PredictConfig, ShardConfig
from detectclf.errors import ConfigError, DetectclfError
from detectclf.files import free_folder, latest_folder
from detectclf.pipelines.opening import predictor_of
from detectclf.pipelines.predict_types import Predicted
from detectclf.prediction import Prediction
from detectclf.progress import Progress
from detectclf.recipes import close_to
from detectclf.signals import ended_like_interrupted
from detectclf.storage import is_uri, shown

if TYPE_CHECKING:
    from detectclf.inference.containers import Container
    from detectclf.inference.items import Item
    from detectclf.inference.predictor import Predictor
    from detectclf.inference.sources import ImageSource
    from detectclf.inference.studies import Study
    from detectclf.pipelines.predict_counts import Counts
    from detectclf.pipelines.predict_drawing import Drawing
    from detectclf.pipelines.predict_files import Results

log = logging.getLogger(__name__)


def predict(
    inputs: Sequence[str],
    config: PredictConfig,
    *,
    model: Path | None = None,
    detector: Path | None = None,
    classifier: Path | None = None,
    out: str | Path | None = None,
    format: str = "jsonl",
    min_score: float | None = None,
    visualize: bool = False,
    explain: bool = False,
    frame: int | None = None,
    axis: str | None = None,
    resume: bool = False,
    shards: ShardConfig | None = None,
    each: Callable[[Prediction | Study], None] = lambda result: None,
    earlier: Callable[[dict[str, Any]], None] | None = None,
    keep_unread: bool = True,
) -> Predicted:
    """Predicts files, folders and globs; writes ``predictions.*`` and, with ``visualize``, pictures into ``out``.

    All slices of a volume are predicted, and ``studies.jsonl`` says what they amount to.

    Args:
        out: a folder without other results; nothing is written without.
        format: a key of :data:`detectclf.inference.records.FORMATS`.
        min_score: lowest score of the boxes in pictures, tables, labels and ``each``; by default the model's own, from
            which they count. Records in JSON have every candidate.
        frame: the picture of files that hold several, and the slice of volumes, which have no study then.
        axis: along which NIfTI volumes are sliced.
        shards: writes shards, in which nothing is drawn and ``each`` is not called
            (:mod:`detectclf.pipelines.predict_shards`).
        resume: go on with the records that a stopped run of the same model, settings and inputs left in ``out``.
        each: called with every prediction as it is made, and with every study after its slices.
        earlier: with ``resume``, called with every record that is there already, before those that are made.
        keep_unread: leave records of errors also in a folder that this run made, where nothing could be read.

    Raises:
        DataError: there is nothing to predict, or ``out`` cannot be written or holds other results.
        ConfigError: unknown format, or both a bundle and runs are named; or the records in ``out`` are of another run.
        ModelError: the bundle or a run is missing or damaged; or ``explain``, and the classifier has no convolutions.
        DeviceError: the device is not available.
        KeyboardInterrupt: from the user, or by SIGTERM or SIGHUP; the records made so far are written first.
    """
    from detectclf.inference.items import item_names, items_of
    from detectclf.inference.records import FORMATS, make_folder
    from detectclf.pipelines.predict_drawing import Drawing
    from detectclf.pipelines.predict_files import Results

    if format not in FORMATS:
        raise ConfigError(
            f"unknown format {format!r}{close_to(format, FORMATS)}", remedy=f"use one of {', '.join(FORMATS)}"
        )
    if shards is not None:
        from detectclf.pipelines.predict_shards import predict_shards

        if visualize or format != "jsonl" or min_score is not None or detector or classifier or out is None:
            raise ConfigError(
                "shards hold the records of a bundle as JSONL and Parquet, with all boxes, and no pictures",
                remedy="leave out --visualize, --format, --min-score, --all-candidates, --detector and --classifier, "
                "or predict without shards",
            )
        return predict_shards(inputs, config, shards, model=model, out=str(out), frame=frame, axis=axis, resume=resume)
    names = list(item_names(inputs, sys.stdin.buffer))
    _warn(names, format, min_score, axis, visualize=visualize, explain=explain)
    predictor = predictor_of(model, {"detector": detector, "classifier": classifier}, config)
    sources, part = items_of(names, frame, axis), ".".join(str(each) for each in (axis, frame) if each is not None)
    lowest = predictor.bundle.fusion.box_threshold if min_score is None else min_score
    if out is None:
        return _written_nowhere(predictor, sources, lowest, each)
    settings: dict[str, Any] = {"frame": frame, "axis": axis, "format": format}
    settings |= {"visualize": visualize, "explain": explain}
    settings |= {} if min_score is None else {"min_score": min_score}
    description = _description(predictor, model, (detector, classifier), settings, sources)
    made = not Path(out).exists()
    folder = make_folder(out)  # first: a folder that cannot be written must not cost the predictions
    taken_over = earlier or (lambda record: None)
    results = Results(folder, format, description, min_score=lowest, resume=resume, earlier=taken_over)
    if results.finished:
        return _finished(results, earlier)
    drawing = Drawing(folder, visualize, explain, part)
    try:
        with ended_like_interrupted():
            _predict_all(predictor, sources, results, drawing, lowest, each)
            page = results.draw_page() if visualize else None
            results.finish()
    except (KeyboardInterrupt, DetectclfError):
        file = results.save()
        if file is not None:
            log.warning("%s: %d of %d; --resume goes on", file, results.records.count, _slices_in(sources))
        elif made:
            results.discard()
        raise
    finally:
        results.say_missing()
    results.say_failed()
    if made and not results.done and not keep_unread:
        results.discard()
        return Predicted(None, None, 0, results.failed, results.exit_code)
    code = results.exit_code or (4 if drawing.failed else 0)
    return Predicted(results.file, results.studies_file, results.done, results.failed, code, page)


def _written_nowhere(
    predictor: Predictor, sources: Sequence[Item], min_score: float, each: Callable[[Prediction | Study], None]
) -> Predicted:
    from detectclf.pipelines.predict_counts import Counts
    from detectclf.pipelines.predict_drawing import Drawing

    counts = Counts()
    try:
        with ended_like_interrupted():
            _predict_all(predictor, sources, counts, Drawing(Path(), False, False, ""), min_score, each)
    finally:
        counts.say_missing()
    counts.say_failed()
    return Predicted(None, None, counts.done, counts.failed, counts.exit_code)


def _warn(
    names: Sequence[str], format: str, min_score: float | None, axis: str | None, *, visualize: bool, explain: bool
) -> None:
    """Says which options have no effect."""
    from detectclf.imaging.images import is_nifti

    if explain and not visualize:
        log.warning("--explain has no effect without --visualize: it adds maps to the pictures")
    if min_score is not None and format in ("json", "jsonl") and not visualize:
        log.warning("records in JSON list every candidate box with its score, whatever --min-score says")
    if axis is not None and not any(is_uri(name) or is_nifti(name) for name in names):
        log.warning("--axis has no effect: it says how NIfTI files are sliced, and there is none among the inputs")


def predictions_folder(out: str | None, *, resume: bool) -> str:
    """The folder for predictions: ``out``, else ``predictions`` with a number where that is taken, or the last one."""
    usual = Path("predictions")
    return out or str(latest_folder(usual) if resume else free_folder(usual))


def lowest_score(min_score: float | None, all_candidates: bool) -> float | None:
    """The lowest score that ``--min-score`` and ``--all-candidates`` ask for; ``None`` for the model's own.

    Raises:
        ConfigError: both are given.
    """
    if all_candidates and min_score is not None:
        raise ConfigError("--all-candidates is --min-score 0", remedy="give one of the two")
    return 0.0 if all_candidates else min_score


def shard_settings(
    out: str | None, engine: str | None, shard_size: int | None, ray_address: str | None, ray_cpus: float | None
) -> ShardConfig | None:
    """The settings that flags give; ``None`` where one file of records is written, as without any of them.

    Raises:
        ConfigError: a flag has no meaning without another.
    """
    from detectclf.recipes import load_recipe

    if engine != "ray" and (ray_address or ray_cpus):
        raise ConfigError("--ray-address and --ray-cpus are for Ray", remedy="add --engine ray")
    if engine != "ray" and shard_size is None and not is_uri(out or ""):
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
            names.append(shown(source.name) if isinstance(source, Container) else name_of(source))
    inputs = {"count": _slices_in(sources), "sha256": inputs_digest(names)}
    return describe_run(model_description(predictor, model, runs), settings, inputs)


def _finished(results: Results, earlier: Callable[[dict[str, Any]], None] | None) -> Predicted:
    from detectclf.pipelines.predict_earlier import written_records

    log.info("%s: the run had come to its end", results.out)
    if earlier is not None:
        for record in written_records(results.out, results.format):
            earlier(record)
    counts = results.description["result"]
    results.done, results.failed = counts["done"], counts["failed"]
    results.say_failed()
    code = 0 if not counts["failed"] else 4 if counts["done"] else 2
    return Predicted(results.file, results.studies_file, counts["done"], counts["failed"], code, results.page)


def _predict_all(
    predictor: Predictor,
    sources: Sequence[Item],
    results: Counts,
    drawing: Drawing,
    min_score: float,
    each: Callable[[Prediction | Study], None],
) -> None:
    """Predicts pictures in batches and volumes one by one, in their order; what an earlier run did is left out."""
    from detectclf.inference.volumes import Volume

    named = list(zip(sources, drawing.names(sources), strict=True))
    first = next((i for i, source in enumerate(sources) if not results.has(source)), len(sources))
    # Where results go to the terminal they are progress enough, and a bar would get in their way.
    show = False if sys.stdout.isatty() else None
    with Progress("predicting", _slices_in(sources), done=_slices_in(sources[:first]), show=show) as progress:

        def made(prediction: Prediction, steps: int = 1, file: Path | None = None) -> None:
            prediction = replace(prediction, box_threshold=min_score)
            if file is not None:
                prediction = drawing.saved(prediction, file)
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
                made(prediction, int(first), file)
            pictures.clear()

        pictures: list[tuple[ImageSource | Container, Path]] = []
        for source, file in named[first:]:
            if not isinstance(source, Volume):
                pictures.append((source, file))
                continue
            predict_pictures()  # those before it
            study = replace(predictor.study_of(source, each=made), records=results.records_file)
            study = drawing.saved(study, file)
            results.add_study(study)
            each(study)
        predict_pictures()


def _slices_in(sources: Sequence[Item]) -> int:
    from detectclf.inference.volumes import Volume

    return sum(len(source) if isinstance(source, Volume) else 1 for source in sources)
