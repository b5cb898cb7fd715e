"""Builds the report of one evaluation and writes it: both stages over the same slices, with intervals and leakage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.config import EvaluateConfig
from detectclf.datasets.index import IndexedSlices, SliceIndex
from detectclf.datasets.splits import kept_together
from detectclf.errors import DataError
from detectclf.evaluation.aligned import Aligned, align
from detectclf.evaluation.by_source import source_rows
from detectclf.evaluation.caveats import (
    bootstrap_unit,
    fitted_here,
    fitted_note,
    split_unit,
    training_note,
    warnings_of,
)
from detectclf.evaluation.explanation import MapFit, as_array
from detectclf.evaluation.figures import Figures, compute_figures
from detectclf.evaluation.leakage import Provenance, find_provenance
from detectclf.evaluation.mistakes import worst_mistakes
from detectclf.evaluation.record import (
    Bootstrap,
    Data,
    Leaks,
    OperatingPoint,
    ReportRecord,
    Speed,
    Training,
    plain,
)
from detectclf.evaluation.report_html import render_html, render_markdown, report_plots
from detectclf.evaluation.report_types import Report
from detectclf.evaluation.slices import slice_lines
from detectclf.evaluation.subsets import Measured, patients_of, subsets
from detectclf.evaluation.weighted import Intervals
from detectclf.files import atomic_write
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR, Dataset, Sample
from detectclf.version import __version__

if TYPE_CHECKING:
    from detectclf.duplicates.fingerprints import Fingerprints

_PACKAGES = ("torch", "torchvision", "numpy", "pycocotools", "scipy")


def build_report(
    predictions: Sequence[Prediction],
    dataset: Dataset,
    *,
    config: EvaluateConfig,
    train_fingerprints: Fingerprints | None = None,
    train_patients: Collection[str] | None = None,
    training: Training | None = None,
    groups: Sequence[int] | None = None,
    held_out: bool = False,
    other_key: bool = False,
    exact_copies: int = 0,
    map_fits: Sequence[MapFit] | None = None,
    speed: Speed | None = None,
    metadata: Mapping[str, Any] | None = None,
    command: str | None = None,
    notes: Sequence[str] = (),
    index: SliceIndex | None = None,
) -> Report:
    """Every figure of ``predictions`` against the slices of ``dataset``, with 95 % intervals.

    Args:
        predictions: in any order; matched by file and name. The notes of the report name those left out.
        dataset: one split.
        config: resamples and seed of the bootstrap, number of mistakes in the gallery.
        train_fingerprints: of the training slices; with them every figure is given again on slices that are not copies.
        train_patients: patients of the training slices, empty where the model has seen none of those evaluated; with
            them every figure is given again on slices of other patients.
        training: how many slices and patients the model was trained on.
        groups: source group of each slice; found by content where not given. Slices of one patient are joined in any
            case.
        held_out: no slice is a copy of a training slice because whole sources were held out, as in cross-validation.
        other_key: patients among ``train_patients`` were hashed under another key than those of the slices.
        exact_copies: slices known to be training slices of the model, pixel for pixel, whatever the fingerprints say.
        map_fits: how the class-activation map of each slice fits its true boxes; the maps themselves of all slices
            would not fit into memory.
        speed: how fast the predictions were made.
        metadata: of the model: ``operating_point``, ``model``, ``training``, ``licences``, sizes.
        command: the exact command line.
        notes: what else a reader must know, a line each.
        index: the slice index of the command, which has the slices that were read for their prediction.
    """
    index = index or SliceIndex()
    indexed = index.look_up(dataset.samples)
    aligned, left_out = align(predictions, dataset)
    provenance = find_provenance(
        indexed, index, train_fingerprints, train_patients, groups, held_out=held_out, other_key=other_key
    )
    here = provenance.take(aligned.rows)
    fits = as_array(map_fits, len(dataset.samples))[aligned.rows]
    figures = compute_figures(aligned, risk=config.risk, map_fits=fits)
    intervals, no_interval = figures.intervals(here.groups, count=config.bootstrap, seed=config.seed)
    known_notes = (*figures.notes, *no_interval)
    unseen, unseen_notes = subsets(Measured(aligned, here, figures, intervals, known_notes, config, fits))
    recorded = dict(metadata or {})
    refused = sum(p.error is None and not p.judged for p in predictions)
    fitted = fitted_note(recorded, dataset)
    content = ReportRecord(
        warnings=warnings_of(here, exact_copies, fitted),
        data=_data(dataset, indexed, aligned, here, recorded, refused),
        detection=figures.detection,
        classification=figures.classification,
        combined=figures.combined,
        stages=figures.stages,
        intervals=intervals,
        clean=unseen["clean"],
        new_patients=unseen["new_patients"],
        unknown_patients=unseen["unknown_patients"],
        by_source=source_rows(aligned, here, count=config.bootstrap, seed=config.seed),
        speed=speed or Speed(),
        training=training or Training(),
        leaks=_leaks(aligned, here),
        explanation=figures.explanation,
        operating_point=_operating_point(recorded, figures, intervals),
        bootstrap=_bootstrap(here, config),
        facts=recorded,
        command=command,
        versions=versions(),
        notes=(
            *(*notes, *left_out, *fitted, *provenance.notes, *training_note(training)),
            *(*known_notes, *unseen_notes),
        ),
    )
    mistakes = worst_mistakes(aligned)
    shown = tuple(mistakes[: config.worst])
    prints = indexed.fingerprints
    pixels = tuple(d.hex() if ok else None for d, ok in zip(prints.digests, prints.readable.tolist(), strict=True))
    return Report(content, tuple(predictions), aligned, provenance, figures.curves, shown, len(mistakes), pixels)


def _data(
    dataset: Dataset,
    indexed: IndexedSlices,
    aligned: Aligned,
    here: Provenance,
    metadata: Mapping[str, Any],
    refused: int,
) -> Data:
    labels = [s.label for s in dataset.samples]
    return Data(
        split=", ".join(dataset.splits) or None,
        samples=len(dataset.samples),
        boxed=sum(s.boxed for s in dataset.samples),
        evaluated=len(aligned),
        refused=refused,
        source_groups=len(np.unique(here.sources)),
        patients=patients_of(aligned),
        slices_with_patient=int(here.has_patient.sum()),
        classes={name: labels.count(name) for name in dataset.classes},
        any_tumor=labels.count(ANY_TUMOR),
        boxes=sum(len(s.box_labels) for s in dataset.samples),
        sources=tuple(str(source) for source in dataset.sources),
        sha256=_digest(indexed),
        split_unit="; ".join(filter(None, (split_unit(here), kept_together(dataset.sources)))),
        fitted_here=fitted_here(metadata, dataset),
    )


def _bootstrap(here: Provenance, config: EvaluateConfig) -> Bootstrap:
    groups, patients = len(np.unique(here.groups)), len(np.unique(here.groups[here.has_patient]))
    return Bootstrap(config.bootstrap, config.seed, bootstrap_unit(groups, patients), groups, patients)


def _leaks(aligned: Aligned, here: Provenance) -> Leaks:
    if here.is_copy is None:
        return Leaks(None, None)
    return Leaks(int(here.is_copy.sum()), tuple(aligned.samples[i].name for i in np.flatnonzero(here.is_copy)))


def _digest(indexed: IndexedSlices) -> str:
    """SHA-256 over names, classes, boxes and image files, independent of the order and the folder of the slices."""
    rows = sorted(map(_digest_of, indexed.samples, indexed.sha256))
    return hashlib.sha256(b"".join(rows)).hexdigest()


def _digest_of(sample: Sample, sha256: bytes) -> bytes:
    row = hashlib.sha256(repr((sample.name, sample.label, sample.boxed, sample.box_labels)).encode())
    row.update(np.ascontiguousarray(sample.boxes_xyxy, dtype="<f4").tobytes())
    row.update(sha256 or b"unreadable")
    return row.digest()


def _operating_point(metadata: Mapping[str, Any], figures: Figures, intervals: Intervals) -> OperatingPoint:
    """What was set when the bundle was made, and what it reaches here."""
    reached = figures.combined.classification
    return OperatingPoint(
        set=metadata.get("operating_point"),
        sensitivity=reached.sensitivity,
        sensitivity_interval=intervals.get("combined.sensitivity"),
        specificity=reached.specificity,
        specificity_interval=intervals.get("combined.specificity"),
    )


def versions() -> dict[str, str]:
    """Versions of detectclf, Python and the libraries that figures depend on."""
    return {
        "detectclf": __version__,
        "python": python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def prediction_lines(predictions: Sequence[Prediction]) -> str:
    """predictions.jsonl: the public record of each prediction, one a line."""
    records = [json.dumps(plain(p.to_record()), allow_nan=False, ensure_ascii=False) for p in predictions]
    return "".join(f"{record}\n" for record in records)


def write_report(report: Report, out: str | Path) -> dict[str, Path]:
    """Writes report.json, report.html, report.md, predictions.jsonl, slices.jsonl and ``figures/`` into ``out``.

    slices.jsonl holds truth and provenance of every evaluated slice, so that ``compare`` needs no access to the data.

    Returns:
        Name -> file written.

    Raises:
        DataError: ``out`` cannot be written to.
    """
    from detectclf.drawing.plots import as_png

    folder = Path(out)
    plots = report_plots(report)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "not writable"
        raise DataError(f"cannot write the report ({reason})", file=folder, remedy="choose another --out") from error
    files: dict[str, str | bytes] = {
        "report.json": report.to_json(),
        "report.html": render_html(report, plots),
        "report.md": render_markdown(report),
        "predictions.jsonl": prediction_lines(report.predictions),
        "slices.jsonl": slice_lines(report),
        **{f"figures/{name}.png": as_png(figure) for name, figure in plots.items()},
    }
    for name, content in files.items():
        atomic_write(folder / name, content)
    return {name: folder / name for name in files}
