"""The report as one page (HTML, nothing loaded from elsewhere) and as Markdown."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from detectclf.errors import DetectclfError, one_line
from detectclf.evaluation.froc import FROC_RATES
from detectclf.evaluation.headlines import HEADLINES, figure_at, operating_point_text, show, show_interval
from detectclf.evaluation.mistakes import Mistake

if TYPE_CHECKING:
    from jinja2 import Environment

    from detectclf.evaluation.report import Report

_PICTURE_WIDTH = 900
_CARDS = ("combined.accuracy", "combined.mAP", "combined.mAP50", "combined.joint_accuracy")

PLOT_TITLES: dict[str, str] = {
    "precision_recall": "Precision and recall of boxes, IoU 0.5",
    "roc": "ROC, each class against the others",
    "froc": "FROC, whatever the class",
    "reliability": "Reliability: is 90 % sure 90 % right?",
    "risk_coverage": "Risk and coverage: refer the least sure",
    "confusion_matrix": "Confusion matrix",
}


def report_plots(report: Report) -> dict[str, Any]:
    """The matplotlib figures of ``report`` that have something to show, by file stem."""
    from detectclf.drawing import plots

    record, classes = report.record, report.record["combined"]["classes"]
    areas, per_class = record["combined"]["auroc"], record["combined"]["AP_per_class"]
    precision = _curves(report, "combined.pr.")
    roc = _curves(report, "combined.roc.")
    froc = {f"IoU {name}": curve for name, curve in sorted(_curves(report, "detection.froc.").items())}
    bins = {"together": record["combined"]["reliability"], "classifier alone": record["classification"]["reliability"]}
    curve = record["combined"]["risk_coverage"]
    found: dict[str, Any] = {}
    if precision:
        captions = {name: f"AP50 {show(per_class[name]['AP50'])}" for name in precision}
        found["precision_recall"] = plots.pr_figure(precision, classes, captions)
    if roc:
        found["roc"] = plots.roc_figure(roc, classes, {name: f"AUROC {show(areas[name])}" for name in roc})
    if froc:
        found["froc"] = plots.froc_figure(froc, FROC_RATES)
    if bins["together"]:
        found["reliability"] = plots.reliability_figure(bins)
    if curve["coverage"]:
        found["risk_coverage"] = plots.risk_coverage_figure(
            curve["coverage"], curve["risk"], record["combined"]["referred_at_risk"]
        )
    if record["combined"]["accuracy"] is not None:
        found["confusion_matrix"] = plots.confusion_figure(record["combined"]["confusion_matrix"], classes)
    return found


def _curves(report: Report, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): curve for name, curve in report.curves.items() if name.startswith(prefix)}


def render_html(report: Report, plots: Mapping[str, Any]) -> str:
    """One self-contained page: no script, no font, no picture from elsewhere."""
    from detectclf.drawing.plots import as_svg
    from detectclf.evaluation.report import RESEARCH_USE

    record = report.record
    shown = {name: (PLOT_TITLES[name], as_svg(f)) for name, f in plots.items() if name != "confusion_matrix"}
    return environment().get_template("report.html.j2").render(
        record=record,
        use=RESEARCH_USE,
        models=sorted({p.model for p in report.predictions if p.model}),
        headlines=_rows(record),
        cards=[row for row in _rows(record) if row["key"] in _CARDS],
        plots=shown,
        mistakes=[(mistake, *_picture(mistake)) for mistake in report.mistakes],
        facts=list(flat(record["facts"])),
        point=operating_point_text(record),
        worst_of=_count_mistakes(report),
    )  # fmt: skip


def render_markdown(report: Report) -> str:
    """The same in short, for a pull request."""
    from detectclf.evaluation.report import RESEARCH_USE

    return environment().get_template("report.md.j2").render(
        record=report.record,
        use=RESEARCH_USE,
        models=sorted({p.model for p in report.predictions if p.model}),
        headlines=_rows(report.record),
        point=operating_point_text(report.record),
    )  # fmt: skip


def environment() -> Environment:
    """The templates with their filters; HTML is escaped, an unknown name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("detectclf.evaluation"),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters.update(
        show=show, percent=lambda value: show(value, percent=True), interval=show_interval, plain=markdown_text
    )
    return templates


def markdown_text(value: object) -> str:
    """``value`` on one line, with what Markdown or HTML would read as markup made plain."""
    text = one_line(value)
    return "".join("\\" + ch if ch in "\\`*_[]<>|#~" else ch for ch in text)


def _rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The headline figures that are known, on all slices and on clean ones."""
    clean = record["clean"]
    rows = []
    for headline in HEADLINES:
        value = figure_at(record, headline.key)
        if value is None and headline.key.startswith("explanation"):
            continue
        rows.append(
            {
                "key": headline.key,
                "name": headline.name,
                "meaning": headline.meaning,
                "percent": headline.percent,
                "value": show(value, percent=headline.percent),
                "interval": show_interval(record["intervals"].get(headline.key), percent=headline.percent),
                "clean": show(figure_at(clean, headline.key), percent=headline.percent),
                "clean_interval": show_interval(clean["intervals"].get(headline.key), percent=headline.percent),
            }
        )
    return rows


def flat(facts: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (dotted name, value) pairs; lists of plain values on one line."""
    if isinstance(facts, Mapping):
        for key, value in facts.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(facts, list) and any(isinstance(item, (Mapping, list)) for item in facts):
        for number, item in enumerate(facts, start=1):
            yield from flat(item, f"{prefix} {number}")
    elif isinstance(facts, list):
        yield prefix, ", ".join(str(item) for item in facts) or "none"
    else:
        yield prefix, "–" if facts is None else str(facts)


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


def _count_mistakes(report: Report) -> int:
    from detectclf.evaluation.mistakes import worst_mistakes

    return len(worst_mistakes(report.aligned, len(report.aligned)))
