"""The report as one page (HTML, nothing loaded from elsewhere) and as Markdown."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from detectclf.errors import DetectclfError, one_line
from detectclf.evaluation.caveats import about_slices
from detectclf.evaluation.froc import FROC_RATES
from detectclf.evaluation.headline_table import (
    COLUMNS,
    SOURCE_COLUMNS,
    detail_columns,
    headline_rows,
    source_cells,
)
from detectclf.evaluation.headlines import HEADLINES, figure_at, operating_point_text, show, show_interval
from detectclf.evaluation.mistakes import Mistake
from detectclf.evaluation.record import plain
from detectclf.evaluation.rendering import environment, flat
from detectclf.evaluation.report_types import Report
from detectclf.evaluation.weighted import Floats

_PICTURE_WIDTH = 900
_CARDS = ("combined.accuracy", "combined.mAP", "combined.mAP50", "combined.joint_accuracy")

PLOT_TITLES: dict[str, str] = {
    "precision_recall": "Precision and recall of boxes, IoU 0.5",
    "roc": "ROC, each class against the others",
    "froc": "FROC, class-agnostic",
    "reliability": "Reliability: is 90 % confidence right 90 % of the time?",
    "risk_coverage": "Risk and coverage: refer the least confident",
    "confusion_matrix": "Confusion matrix",
}


def report_plots(report: Report) -> dict[str, Any]:
    """The matplotlib figures of ``report`` that have something to show, by file stem."""
    from detectclf.drawing import plots

    combined = report.content.combined
    of_class, classes = combined.classification, combined.classification.classes
    precision = _curves(report, "combined.pr.")
    roc = _curves(report, "combined.roc.")
    froc = {f"IoU {name}": curve for name, curve in sorted(_curves(report, "detection.froc.").items())}
    bins = {"combined": of_class.reliability, "classifier alone": report.content.classification.figures.reliability}
    risk = combined.agreement.risk_coverage
    found: dict[str, Any] = {}
    if precision:
        captions = {name: f"AP50 {show(combined.AP_per_class[name].AP50)}" for name in precision}
        found["precision_recall"] = plots.pr_figure(precision, classes, captions)
    if roc:
        found["roc"] = plots.roc_figure(roc, classes, {name: f"AUROC {show(of_class.auroc[name])}" for name in roc})
    if froc:
        found["froc"] = plots.froc_figure(froc, FROC_RATES)
    if bins["combined"]:
        found["reliability"] = plots.reliability_figure({name: plain(rows) for name, rows in bins.items()})
    if risk.coverage:
        found["risk_coverage"] = plots.risk_coverage_figure(
            risk.coverage, risk.risk, combined.agreement.referred_at_risk
        )
    if of_class.accuracy is not None:
        found["confusion_matrix"] = plots.confusion_figure(of_class.confusion_matrix, classes)
    return found


def _curves(report: Report, prefix: str) -> dict[str, tuple[Floats, Floats]]:
    return {name.removeprefix(prefix): curve for name, curve in report.curves.items() if name.startswith(prefix)}


def render_html(report: Report, plots: Mapping[str, Any]) -> str:
    """One self-contained page: no script, no font, no picture from elsewhere."""
    from detectclf.drawing.plots import as_svg

    record = report.record
    tables = _tables(record)
    return environment().get_template("report.html.j2").render(
        record=record,
        models=report.models,
        cards=[row for row in tables["headlines"] if row["key"] in _CARDS],
        plots={name: (PLOT_TITLES[name], as_svg(f)) for name, f in plots.items() if name != "confusion_matrix"},
        mistakes=[(mistake, *_picture(mistake)) for mistake in report.mistakes],
        mistake_count=report.mistake_count,
        metadata=list(flat(record["facts"])),
        point=operating_point_text(record),
        **tables,
    )  # fmt: skip


def render_markdown(report: Report) -> str:
    """The same in short, for a pull request."""
    record = report.record
    return environment().get_template("report.md.j2").render(
        record=record, models=report.models, point=operating_point_text(record), **_tables(record)
    )  # fmt: skip


def _rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The headline figures that are known, with value and interval on all slices and on each subset."""
    parts = [record, *(part for _, part in detail_columns(record))]
    rows = []
    for headline in HEADLINES:
        value = figure_at(record, headline.key)
        if value is None and headline.key.startswith("explanation"):
            continue
        cells = [
            (
                show(figure_at(part, headline.key), percent=headline.percent),
                show_interval(part["intervals"].get(headline.key), percent=headline.percent),
            )
            for part in parts
        ]
        rows.append(
            {
                "key": headline.key,
                "name": headline.name,
                "meaning": headline.meaning,
                "value": cells[0][0],
                "interval": cells[0][1],
                "new": show(figure_at(record["new_patients"], headline.key), percent=headline.percent),
                "cells": cells,
            }
        )
    return rows


def _tables(record: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of the page and of the Markdown file."""
    return {
        "about": about_slices(record["data"]),
        "headlines": _rows(record),
        "heads": [f"all {record['data']['evaluated']}", *(head for head, _ in detail_columns(record))],
        "seen": headline_rows(record),
        "seen_columns": COLUMNS,
        "source_rows": [(row, source_cells(row)) for row in record["by_source"]],
        "source_columns": [name for name, _ in SOURCE_COLUMNS.values()],
    }


def _picture(mistake: Mistake) -> tuple[str | None, str | None]:
    """The drawn mistake as a data URI, or why there is none."""
    from PIL import Image

    try:
        picture = mistake.prediction.draw(truth=mistake.sample).convert("RGB")
    except (DetectclfError, OSError) as error:
        return None, one_line(error)
    if picture.width > _PICTURE_WIDTH:
        size = (_PICTURE_WIDTH, round(picture.height * _PICTURE_WIDTH / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    target = io.BytesIO()
    picture.save(target, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii"), None
