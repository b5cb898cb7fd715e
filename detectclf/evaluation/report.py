"""The report of one evaluation: both stages over the same slices, with intervals, leaks and the facts behind it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.config import EvaluateConfig
from detectclf.errors import DataError
from detectclf.evaluation.aligned import Aligned, align
from detectclf.evaluation.caveats import fitted_here, fitted_note
from detectclf.evaluation.figures import Figures, compute_figures
from detectclf.evaluation.leaks import Origins, find_origins
from detectclf.evaluation.matching import Floats
from detectclf.evaluation.mistakes import Mistake, worst_mistakes
from detectclf.files import atomic_write
from detectclf.prediction import Prediction
from detectclf.types import Dataset
from detectclf.version import __version__

if TYPE_CHECKING:
    from detectclf.duplicates.fingerprints import Fingerprints

RESEARCH_USE = "Research use. Not a medical device, not for diagnosis."

LIMITS: tuple[str, ...] = (
    "Copies are looked for by source slice, not by patient: which patient a slice is of is not known.",
    "Slices, not volumes: nothing is said of what lies above or below.",
    "Labels are taken as published; box edges of a few pixels of slack bound mAP at high IoU.",
    "mAP of a few hundred slices lies a little high, since its precision envelope takes the best of the noise.",
    "Where healthy and tumour slices differ in sequence or scanner, a model can cheat by that; expect less elsewhere.",
    "Intervals show the doubt from which slices were drawn, not that from training again or from other hospitals.",
)
_ALL_SEEN = "every slice is a copy of a training slice: figures on clean slices are null"
_PACKAGES = ("torch", "torchvision", "numpy", "pycocotools", "scipy")


@dataclass(slots=True)
class Report:
    """One evaluation.

    Attributes:
        record: what report.json holds.
        predictions: as given.
        aligned: slices with predictions that the figures are over.
        origins: source group and leak of each slice of the data set.
        curves: name -> (x, y) for the plots.
        mistakes: the worst ones, the most costly first.
    """

    record: dict[str, Any]
    predictions: Sequence[Prediction]
    aligned: Aligned
    origins: Origins
    curves: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def to_json(self) -> str:
        """report.json: valid JSON (no NaN), keys in the order of INTERFACE.md."""
        return json.dumps(self.record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def build_report(
    predictions: Sequence[Prediction],
    dataset: Dataset,
    *,
    config: EvaluateConfig,
    train_fingerprints: Fingerprints | None = None,
    groups: Sequence[int] | None = None,
    held_out: bool = False,
    map_shares: Sequence[float] | None = None,
    speed: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> Report:
    """Every figure of ``predictions`` against the slices of ``dataset``, with 95 % intervals.

    Args:
        predictions: in any order; matched by file and name. Those left out are named in ``record["notes"]``.
        dataset: one split.
        config: resamples and seed of the bootstrap, pictures in the gallery.
        train_fingerprints: of the slices trained on; with them every figure is given again on slices never seen.
        groups: source group of each slice; found by content where not given.
        held_out: the slices were kept from training by source, as in cross-validation: none is a copy.
        map_shares: share of each slice's class-activation map inside its true boxes, NaN where it has none; the maps
            themselves of all slices would not fit into memory.
        speed: ``images_per_second``, ``device``.
        facts: what is known of the model: ``operating_point``, ``model``, ``training``, ``licences``, sizes.
        command: the exact command, for the report.
    """
    aligned, notes = align(predictions, dataset)
    origins = find_origins(dataset, train_fingerprints, groups)
    if held_out:
        origins = Origins(origins.groups, np.zeros(len(dataset.samples), dtype=np.bool_))
    shares = np.full(len(dataset.samples), np.nan) if map_shares is None else np.asarray(map_shares, dtype=np.float64)
    figures = compute_figures(aligned, risk=config.risk, map_shares=shares[aligned.rows])
    here = origins.groups[aligned.rows]
    intervals = figures.intervals(here, count=config.bootstrap, seed=config.seed)
    seen = None if origins.seen is None else origins.seen[aligned.rows]
    copies = None if seen is None else int(seen.sum())
    known = dict(facts or {})
    clean, clean_notes = _clean(figures, intervals, aligned, origins, config, shares)
    record: dict[str, Any] = {
        "data": {**_data_facts(dataset, aligned, here, copies), "fitted_here": fitted_here(known, dataset)},
        **{key: figures.record[key] for key in ("detection", "classification", "combined", "stages")},
        "intervals": intervals,
        "clean": clean,
        "speed": {"images_per_second": None, "device": None, "explained": False, **(speed or {})},
        "leaks": {
            "samples": copies,
            "files": None if seen is None else [aligned.samples[i].name for i in np.flatnonzero(seen)],
        },
        "explanation": figures.record["explanation"],
        "operating_point": _operating_point(known, figures, intervals),
        "bootstrap": {"resamples": config.bootstrap, "seed": config.seed, "unit": "source group", "level": 0.95},
        "facts": known,
        "command": command,
        "versions": versions(),
        "limits": list(LIMITS),
        "notes": [*notes, *fitted_note(known, dataset), *origins.notes, *figures.notes, *clean_notes],
        "use": RESEARCH_USE,
    }
    return Report(
        _finite(record),
        predictions,
        aligned,
        origins,
        figures.curves,
        worst_mistakes(aligned, config.worst),
    )


def _clean(
    figures: Figures,
    intervals: dict[str, Any],
    aligned: Aligned,
    origins: Origins,
    config: EvaluateConfig,
    map_shares: Floats,
) -> tuple[dict[str, Any], list[str]]:
    """The figures on slices that are no copies of training slices, and why some of them are missing."""
    parts = ("combined", "detection", "classification", "stages", "explanation")
    if origins.seen is None:
        return {"samples": None, **dict.fromkeys(parts), "intervals": {}}, []
    keep = np.flatnonzero(~origins.seen[aligned.rows])
    notes: list[str] = []
    if len(keep) < len(aligned):
        subset, told = aligned.take(keep.tolist()), figures.notes
        figures = compute_figures(subset, risk=config.risk, map_shares=map_shares[subset.rows])
        intervals = figures.intervals(origins.groups[subset.rows], count=config.bootstrap, seed=config.seed)
        notes = [f"clean slices: {n}" for n in figures.notes if n not in told] if len(keep) else [_ALL_SEEN]
    return {"samples": len(keep), **{part: figures.record[part] for part in parts}, "intervals": intervals}, notes


def _data_facts(dataset: Dataset, aligned: Aligned, groups: Any, seen: int | None) -> dict[str, Any]:
    labels = [s.label for s in dataset.samples]
    return {
        "split": ", ".join(dataset.splits) or None,
        "samples": len(dataset.samples),
        "boxed": sum(s.boxed for s in dataset.samples),
        "evaluated": len(aligned),
        "source_groups": len(np.unique(groups)),
        "classes": {name: labels.count(name) for name in dataset.classes},
        "boxes": sum(len(s.box_labels) for s in dataset.samples),
        "sources": list(dataset.sources),
        "sha256": _digest(dataset),
        "split_unit": split_unit(seen),
    }


def split_unit(seen: int | None) -> str:
    """What the split keeps apart, as far as it was checked; ``seen`` slices are copies of training slices."""
    if seen is None:
        return "not checked whether it is a source-level split; patients are not known"
    if seen:
        return f"no source-level split: {seen} slices are copies of training slices; patients are not known"
    return "source-level split: no copies of training slices; patients are not known"


def _digest(dataset: Dataset) -> str:
    """SHA-256 over names, classes, boxes and picture files, whatever the order of the slices and wherever they lie."""
    rows = []
    for sample in dataset.samples:
        row = hashlib.sha256(repr((sample.name, sample.label, sample.boxed, sample.box_labels)).encode())
        row.update(np.ascontiguousarray(sample.boxes_xyxy, dtype="<f4").tobytes())
        try:
            with sample.path.open("rb") as file:
                if sample.span is None:
                    row.update(hashlib.sha256(file.read()).digest())
                else:
                    file.seek(sample.span.offset)
                    row.update(file.read(sample.span.length))
        except OSError:
            row.update(b"unreadable")
        rows.append(row.digest())
    return hashlib.sha256(b"".join(sorted(rows))).hexdigest()


def _operating_point(facts: Mapping[str, Any], figures: Figures, intervals: Mapping[str, Any]) -> dict[str, Any]:
    """What was set when the bundle was made, and what it turned out to be here."""
    asked = facts.get("operating_point")
    combined = figures.record["combined"]
    return {
        "set": asked,
        "sensitivity": combined["sensitivity"],
        "sensitivity_interval": intervals.get("combined.sensitivity"),
        "specificity": combined["specificity"],
        "specificity_interval": intervals.get("combined.specificity"),
    }


def versions() -> dict[str, str]:
    """Versions of detectclf, Python and the libraries that figures depend on."""
    return {
        "detectclf": __version__,
        "python": python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def _finite(value: Any) -> Any:
    """``value`` with NaN and infinities as ``None``, and numpy scalars and paths as plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def write_report(report: Report, out: str | Path) -> dict[str, Path]:
    """Writes report.json, report.html, report.md, predictions.jsonl, slices.jsonl and ``figures/`` into ``out``.

    slices.jsonl holds truth and prediction of every slice, so that ``compare`` can pair runs without the data.

    Returns:
        Name -> file written.

    Raises:
        DataError: ``out`` cannot be written to.
    """
    from detectclf.drawing.plots import as_png
    from detectclf.evaluation.report_html import render_html, render_markdown, report_plots
    from detectclf.evaluation.slices import slice_lines

    folder = Path(out)
    plots = report_plots(report)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "not writable"
        raise DataError(f"cannot write the report ({reason})", file=folder, remedy="choose another --out") from error
    records = "".join(
        json.dumps(_finite(p.to_record()), allow_nan=False, ensure_ascii=False) + "\n" for p in report.predictions
    )
    files: dict[str, str | bytes] = {
        "report.json": report.to_json(),
        "report.html": render_html(report, plots),
        "report.md": render_markdown(report),
        "predictions.jsonl": records,
        "slices.jsonl": slice_lines(report),
        **{f"figures/{name}.png": as_png(figure) for name, figure in plots.items()},
    }
    for name, content in files.items():
        atomic_write(folder / name, content)
    return {name: folder / name for name in files}
