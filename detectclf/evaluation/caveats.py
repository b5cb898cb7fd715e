"""What a reader must know beside the figures, a line each: why one is missing, and what flatters them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.headlines import HEADLINES, figure_at
from detectclf.types import Dataset


def why_missing(data: Aligned) -> list[str]:
    """Why figures of these slices are null."""
    if not len(data):
        return ["no slice has a prediction: every figure is null"]
    labels = {s.label for s in data.samples if s.label is not None}
    boxed = [s for s in data.samples if s.boxed]
    boxless = sum(s.label not in (None, data.negative) and not s.boxed for s in data.samples)
    absent = [name for name in data.classes if name not in labels]
    tumors = any(label != data.negative for s in boxed for label in s.box_labels)
    checks = (
        (not labels, "no slice has a known class: classification figures are null"),
        (len(labels) == 1, f"only one class occurs ({', '.join(sorted(labels))}): AUROC has no meaning"),
        (
            bool(labels) and bool(absent),
            f"no slice is {' or '.join(absent)}: recall, AUROC and box AP of it have no meaning",
        ),
        (data.negative is None, "the data set has no negative class: specificity and false alarms have no meaning"),
        (
            data.negative is not None and bool(labels) and data.negative not in labels,
            "no healthy slice: specificity and false alarms per healthy slice have no meaning",
        ),
        (
            bool(labels) and labels == {data.negative},
            "no tumour slice: sensitivity has no meaning",
        ),
        (not boxed, "no slice has known boxes: detection figures are null"),
        (bool(boxed) and not tumors, "no true tumour box: mAP and FROC have no meaning"),
        (boxless > 0, f"{boxless} tumour slices without known box: not in detection and joint accuracy"),
    )
    return [text for wrong, text in checks if wrong]


def why_no_interval(
    record: Mapping[str, Any], intervals: Mapping[str, Sequence[float] | None], rare: Collection[str]
) -> list[str]:
    """Why headline figures that are known have no interval.

    Args:
        record: the figures.
        intervals: those found, ``None`` where there is none.
        rare: figures that a tenth or more of the resamples do not have.
    """
    bare = [h for h in HEADLINES if figure_at(record, h.key) is not None and intervals.get(h.key) is None]
    reasons = (
        ([h.name for h in bare if h.key in rare], "a tenth or more of the resamples have no slice that it is about"),
        ([h.name for h in bare if h.key not in rare], "the same in every resample, which says nothing of its doubt"),
    )
    return [f"no interval of {'; '.join(names)}: {why}" for names, why in reasons if names]


def fitted_here(facts: Mapping[str, Any], dataset: Dataset) -> bool | None:
    """Whether calibration, fusion and thresholds were fitted on the split that is evaluated, by the names of both.

    ``None`` where nothing is recorded of a fit, as of two runs without a bundle.
    """
    fitted = facts.get("fitted_on") or {}
    if not fitted.get("split"):
        return None
    if fitted.get("cross_fitted"):
        return False  # each slice is judged by a fit on others
    here = {Path(source).name for source in dataset.sources}
    sources = {Path(source).name for source in fitted.get("sources") or here}
    return fitted["split"] in dataset.splits and bool(here & sources)


def fitted_note(facts: Mapping[str, Any], dataset: Dataset) -> list[str]:
    """One line where the evaluated slices are those that the bundle was fitted on."""
    if not fitted_here(facts, dataset):
        return []
    split = facts["fitted_on"]["split"]
    what = "what both stages say together, calibration and the operating point look better here than on other slices"
    return [f"calibration, fusion and thresholds were fitted on this split ({split}): {what}"]
