"""The report of one evaluation: its record, and what the page and ``compare`` need beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.leakage import Provenance
from detectclf.evaluation.mistakes import Mistake
from detectclf.evaluation.record import ReportRecord
from detectclf.evaluation.weighted import Floats
from detectclf.prediction import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """One evaluation.

    Attributes:
        content: what report.json holds.
        predictions: as given.
        aligned: the evaluated slices with their predictions.
        provenance: source group of each slice of the data set, and whether it is a copy of a training slice.
        curves: name -> (x, y) for the plots.
        mistakes: the worst ones, the most costly first.
        mistake_count: how many mistakes there are in all.
        pixels: digest of the pixels of each slice of the data set, by which other evaluations find it again; ``None``
            where it could not be read.
    """

    content: ReportRecord
    predictions: tuple[Prediction, ...]
    aligned: Aligned
    provenance: Provenance
    curves: Mapping[str, tuple[Floats, Floats]]
    mistakes: tuple[Mistake, ...]
    mistake_count: int
    pixels: tuple[str | None, ...] = ()

    @property
    def record(self) -> dict[str, Any]:
        """The JSON object of report.json."""
        return self.content.to_record()

    @property
    def models(self) -> list[str]:
        """Names of the models that made the predictions."""
        return sorted({p.model for p in self.predictions if p.model})

    def to_json(self) -> str:
        """report.json: valid JSON (no NaN), keys in the order of docs/interface.md."""
        return json.dumps(self.record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
