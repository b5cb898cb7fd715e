"""MODEL_CARD.md of a bundle: the sections of Mitchell et al. 2019 and the CLAIM items (Mongan et al. 2020) that apply.

Filled in from recorded metadata only; the card says "not recorded" of everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectclf.evaluation.headline_table import (
    ALL,
    COLUMNS,
    PATIENTS_FIRST,
    SOURCE_COLUMNS,
    headline_rows,
    source_cells,
)
from detectclf.evaluation.headlines import HEADLINES, Headline, figure_at, show, show_interval
from detectclf.evaluation.record import LIMITS, RESEARCH_USE
from detectclf.evaluation.rendering import environment, flat
from detectclf.files import atomic_write
from detectclf.models.anonymise import without_folders
from detectclf.models.map_fit import NOT_MEASURED, measured_fit

CARD_FILE = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class CardContent:
    """What the card is filled in from.

    Attributes:
        name, version: of the bundle.
        classes: of a slice.
        negative: the class that means "no tumour".
        stages: ``detector`` and ``classifier`` -> its ``arch``, ``input_size``, ``parameters``, ``training``, ...
        fusion: its parameters.
        metadata: of the bundle: ``training``, ``fitted_on``, ``operating_point``, ``licences``.
        evaluation: a record of report.json, or ``None`` where the bundle was not evaluated.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    negative: str | None
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fusion: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None


def render_model_card(card: CardContent) -> str:
    """The card as Markdown."""
    training = card.metadata.get("training") or {}
    return environment().get_template("model_card.md.j2").render(
        card=card,
        use=RESEARCH_USE,
        limits=LIMITS,
        stages={name: list(flat(_public(stage))) for name, stage in card.stages.items()},
        training={name: list(flat(_public(part))) for name, part in training.items() if part},
        fitted=list(flat(_public(card.metadata.get("fitted_on") or {}))),
        asked={k: v for k, v in (card.metadata.get("operating_point") or {}).items() if v is not None},
        licences=list(flat(card.metadata.get("licences") or {})),
        figures=_figures(card.evaluation),
        seen_columns=COLUMNS,
        sources=[] if card.evaluation is None else [(r, source_cells(r)) for r in card.evaluation["by_source"]],
        source_columns=[name for name, _ in SOURCE_COLUMNS.values()],
        evaluation=card.evaluation,
        claim=_claim(card),
    )  # fmt: skip


def write_model_card(folder: str | Path, card: CardContent) -> Path:
    """Writes the card into a bundle's folder.

    Raises:
        DataError: the folder cannot be written to.
    """
    path = Path(folder) / CARD_FILE
    atomic_write(path, render_model_card(card))
    return path


# Paths, host names and command lines may name people and do not help a reader.
_PRIVATE = frozenset({"command", "argv", "hostname", "user", "cwd", "path", "run"})


def _public(metadata: Any) -> Any:
    """``metadata`` without what may name people or machines; of each folder only the last part of its path."""
    if isinstance(metadata, Mapping):
        return {key: _public(_names(key, value)) for key, value in metadata.items() if key not in _PRIVATE}
    if isinstance(metadata, (list, tuple)):
        return [_public(item) for item in metadata]
    return metadata


def _names(key: str, value: Any) -> Any:
    if key == "sources" and isinstance(value, (list, tuple)):
        return without_folders([Path(str(item)) for item in value])
    return value


def _figures(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """The tables of figures, new patients first: subsets as rows, then all headline figures with subsets as columns."""
    if record is None:
        return {"seen": [], "columns": [], "rows": []}
    seen = headline_rows(record, PATIENTS_FIRST)
    parts = [(row.name, record if row.key == ALL else record[row.key]) for row in seen if row.cells]
    rows = [(h.name, [_cell(part, h) for _, part in parts]) for h in HEADLINES if figure_at(record, h.key) is not None]
    return {"seen": seen, "columns": [name for name, _ in parts], "rows": rows}


def _cell(part: Mapping[str, Any], headline: Headline) -> str:
    limits = show_interval(part["intervals"].get(headline.key), percent=headline.percent)
    return show(figure_at(part, headline.key), percent=headline.percent) + (f" ({limits})" if limits else "")


def _claim(card: CardContent) -> list[tuple[int, str, str]]:
    """CLAIM items (number, topic, what is known); items about a clinical study are left out."""
    measured = card.evaluation is not None
    trained = bool(card.metadata.get("training"))
    staged = "under Model details" if card.stages else "not recorded"
    return [
        (7, "Data sources", "under Training data and Evaluation data" if trained or measured else "not recorded"),
        (
            9,
            "Preprocessing",
            "slices are read as grey levels, resized and padded to a square; sizes under Model details",
        ),
        (12, "De-identification", "as published by the data set; not checked"),
        (14, "Reference standard", "class names and boxes as published by the data set; not checked"),
        (16, "Source of annotations", "not recorded"),
        (18, "Rater variability", "not recorded"),
        (20, "Assignment to partitions", "as the data set gives it; counts under Training data and Evaluation data"),
        (21, "Level of disjoint partitions", _partitions(card.evaluation)),
        (22, "Model", staged),
        (23, "Software", "under Evaluation data" if measured else "not recorded"),
        (24, "Initialisation", f"weights: {staged}"),
        (26, "Selection of the final model", f"the epoch kept and its figures: {staged}"),
        (27, "Ensembling", "two stages, fused; parameters under Model details" if card.fusion else "not recorded"),
        (28, "Metrics", "accuracy, COCO mAP and the others under Metrics"),
        (
            29,
            "Uncertainty",
            "95 % bootstrap intervals over patients where known, over source slices elsewhere"
            if measured
            else "not measured yet",
        ),
        (30, "Robustness", "not measured"),
        (31, "Explainability", explained(card.metadata)),
        (32, "External testing", "not recorded"),
        (34, "Demographics", "not recorded in the data sets"),
        (36, "Accuracy and precision", "under Quantitative analyses" if measured else "not measured yet"),
        (37, "Failure analysis", "not included; the report.html of `detectclf evaluate` shows the worst mistakes"),
        (38, "Limitations", "under Caveats and recommendations"),
    ]


def explained(metadata: Mapping[str, Any]) -> str:
    """What the card says of class-activation maps."""
    fit = measured_fit(metadata)
    if fit == NOT_MEASURED:
        return "not measured; `detectclf evaluate --explain` measures class-activation maps"
    return f"class-activation maps (LayerCAM). {fit}"


def _partitions(record: Mapping[str, Any] | None) -> str:
    return "not measured yet" if record is None else str(record["data"]["split_unit"])
