"""Tables for the terminal, as plain text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from detectclf.evaluation.caveats import about_slices
from detectclf.evaluation.headline_table import (
    COLUMNS,
    SOURCE_COLUMNS,
    detail_columns,
    headline_rows,
    source_cells,
)
from detectclf.evaluation.headlines import COMBINED, HEADLINES, figure_at, operating_point_text, show, show_interval
from detectclf.evaluation.report_types import Report

_SHOWN = ("accuracy", "sensitivity", "specificity", "mAP50", "boxed", "tumor_ece", "confident_misses")
"""Figures of each source that fit on a terminal."""
_EXPLAINED = ("explanation.mass_inside_box", "explanation.peak_inside_box")
_ALONE = ("classification.accuracy", "stages.detector_alone.accuracy", "detection.mAP", "detection.mAP50")


def report_table(report: Report) -> str:
    """Headline figures on all slices and on those not seen in training, all figures with intervals, and by source."""
    record = report.record
    notes = "".join(f"note: {note}\n" for note in record["notes"])
    point = operating_point_text(record)
    asked = f"operating point: {point}\n" if point else ""
    warnings = "".join(f"{warning}\n" for warning in record["warnings"])
    return warnings + _headlines(record) + _figures(record) + _sources(record) + asked + notes + str(record["use"])


def _headlines(record: Mapping[str, Any]) -> str:
    rows, notes = [], ""
    for row in headline_rows(record):
        known = [cell for cell, _ in row.cells] or ["–"] * len(COLUMNS)
        rows.append([row.name, *("–" if n is None else str(n) for n in (row.slices, row.patients)), *known])
        notes += f"{row.name}: {row.note}\n" if row.note else ""
    data = record["data"]
    title = "\n".join(about_slices(data))
    return text_table(title, ("", "slices", "patients", *(h.name for h in COLUMNS)), rows) + notes + "\n"


def _figures(record: Mapping[str, Any]) -> str:
    columns = detail_columns(record)
    explained = figure_at(record, _EXPLAINED[0]) is not None
    shown = (*COMBINED, *(h for h in HEADLINES if h.key in _ALONE or (explained and h.key in _EXPLAINED)))
    rows = [
        [
            headline.name,
            show(figure_at(record, headline.key), percent=headline.percent),
            show_interval(record["intervals"].get(headline.key), percent=headline.percent),
            *(show(figure_at(part, headline.key), percent=headline.percent) for _, part in columns),
        ]
        for headline in shown
    ]
    count = record["data"]["evaluated"]
    title = f"{'the only slice' if count == 1 else f'all {count} slices'}; intervals by {record['bootstrap']['unit']}"
    return text_table(title, ["figure", "value", "95 % interval", *(head for head, _ in columns)], rows)


def _sources(record: Mapping[str, Any]) -> str:
    if len(record["by_source"]) < 2:
        return ""
    rows = [
        [
            row["source"],
            str(row["samples"]),
            str(row["patients"] or "–"),
            *(cell for cell, _ in source_cells(row, _SHOWN)),
        ]
        for row in record["by_source"]
    ]
    heads = ("source", "slices", "patients", *(SOURCE_COLUMNS[key][0] for key in _SHOWN))
    return text_table("by source", heads, rows)


def text_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table by rich, without colours; first column to the left, the others to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a file name is not markup
    target = io.StringIO()
    Console(file=target, width=200, color_system=None, force_jupyter=False).print(table)
    # Not rich's own title, which it breaks at the width of the table.
    return f"{title}\n" + "".join(line.rstrip() + "\n" for line in target.getvalue().splitlines())
