"""Tables for the terminal, as plain text."""

from __future__ import annotations

import io
from collections.abc import Sequence

from detectclf.evaluation.headlines import COMBINED, HEADLINES, figure_at, operating_point_text, show, show_interval
from detectclf.evaluation.report_types import Report

_EXPLAINED = "explanation.mass_inside_box"
_ALONE = ("classification.accuracy", "stages.detector_alone.accuracy", "detection.mAP", "detection.mAP50")


def report_table(report: Report) -> str:
    """mAP and accuracy with their intervals, and again without the copies of training slices where there are any."""
    record = report.record
    count, clean = record["data"]["evaluated"], record["clean"]["samples"]
    doubled = clean is not None and clean < count
    rows = []
    explained = figure_at(record, _EXPLAINED) is not None
    for headline in (*COMBINED, *(h for h in HEADLINES if h.key in _ALONE or (explained and h.key == _EXPLAINED))):
        row = [
            headline.name,
            show(figure_at(record, headline.key), percent=headline.percent),
            show_interval(record["intervals"].get(headline.key), percent=headline.percent),
        ]
        if doubled:
            row.append(show(figure_at(record["clean"], headline.key), percent=headline.percent))
        rows.append(row)
    title = f"{record['data']['split'] or 'no split'}: {count} slices of {record['data']['source_groups']} sources"
    columns = ["figure", "value", "95 % interval", *([f"{clean} clean slices"] if doubled else [])]
    notes = "".join(f"note: {note}\n" for note in record["notes"])
    point = operating_point_text(record)
    return (
        text_table(title, columns, rows) + (f"operating point: {point}\n" if point else "") + notes + str(record["use"])
    )


def text_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table by rich, without colours; first column to the left, the others to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a file name is not markup
    target = io.StringIO()
    Console(file=target, width=200, color_system=None, force_jupyter=False).print(table)
    return "".join(line.rstrip() + "\n" for line in target.getvalue().splitlines())
