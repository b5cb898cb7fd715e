"""The headline figures on all slices, without copies, on new patients and on unknown patients: a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectclf.evaluation.headlines import HEADLINES, Headline, figure_at, show, show_interval

_KEYS = (
    "combined.accuracy",
    "combined.sensitivity",
    "combined.specificity",
    "combined.mAP",
    "combined.mAP50",
    "combined.ece",
)
COLUMNS: tuple[Headline, ...] = tuple(h for key in _KEYS for h in HEADLINES if h.key == key)

ALL = "all"
SUBSETS: Mapping[str, str] = {
    ALL: "All slices",
    "clean": "No copies of training slices",
    "new_patients": "New patients",
    "unknown_patients": "Patient unknown, no copies",
}
"""Key in report.json -> name of the row."""
PATIENTS_FIRST = ("new_patients", "unknown_patients", ALL, "clean")


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """One row.

    Attributes:
        key: of :data:`SUBSETS`.
        name: of the row.
        slices, patients: how many slices, and known patients among them; ``None`` where not known.
        cells: value and interval of each of :data:`COLUMNS`, as text; empty where there are no figures.
        note: why there are no figures, or what they are of.
    """

    key: str
    name: str
    slices: int | None
    patients: int | None
    cells: tuple[tuple[str, str], ...]
    note: str | None


def headline_rows(record: Mapping[str, Any], order: Sequence[str] = tuple(SUBSETS)) -> list[HeadlineRow]:
    """The rows of a report's record; those that reports of earlier versions lack are left out."""
    return [_row(record, key) for key in order if key == ALL or key in record]


def _row(record: Mapping[str, Any], key: str) -> HeadlineRow:
    part: Mapping[str, Any] = record if key == ALL else record[key]
    slices = record["data"].get("evaluated", record["data"]["samples"]) if key == ALL else part["samples"]
    patients = record["data"].get("patients") if key == ALL else part.get("patients")
    cells = tuple(
        (
            show(figure_at(part, h.key), percent=h.percent),
            show_interval(part["intervals"].get(h.key), percent=h.percent),
        )
        for h in COLUMNS
    )
    return HeadlineRow(key, SUBSETS[key], slices, patients, cells if slices else (), part.get("note"))


def detail_columns(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Head and section of each subset that has figures of its own, beside the figures of all slices."""
    everything = record["data"]["evaluated"]
    columns: list[tuple[str, Mapping[str, Any]]] = []
    for key, head in (("clean", "clean"), ("new_patients", "new patients"), ("unknown_patients", "patient unknown")):
        samples = record[key]["samples"]
        if samples and samples < everything and all(samples != part["samples"] for _, part in columns):
            columns.append((f"{samples} {head}", record[key]))
    return columns


SOURCE_COLUMNS: Mapping[str, tuple[str, bool]] = {
    "accuracy": ("accuracy", True),
    "sensitivity": ("called a tumour", True),
    "specificity": ("specificity", True),
    "mAP50": ("mAP50", False),
    "AP50_any_tumor": ("AP50, any tumour", False),
    "boxed": ("boxed", True),
    "ece": ("ECE", False),
    "tumor_ece": ("ECE, tumour or not", False),
    "confident_misses": ("confident misses", True),
    "mistakes_flagged": ("mistakes flagged", True),
}
"""Figure of ``by_source`` -> head of its column, and whether it is a percentage."""


def source_cells(row: Mapping[str, Any], keys: Sequence[str] = tuple(SOURCE_COLUMNS)) -> list[tuple[str, str]]:
    """Value and interval of each of ``keys`` of :data:`SOURCE_COLUMNS`, as text."""
    shown = [(key, SOURCE_COLUMNS[key][1]) for key in keys]
    return [
        (show(row[key], percent=percent), show_interval(row["intervals"].get(key), percent=percent))
        for key, percent in shown
    ]


__all__ = [
    "ALL",
    "COLUMNS",
    "PATIENTS_FIRST",
    "SOURCE_COLUMNS",
    "SUBSETS",
    "HeadlineRow",
    "detail_columns",
    "headline_rows",
    "source_cells",
]
