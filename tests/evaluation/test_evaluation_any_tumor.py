"""Tumours of unknown type: in figures of localisation and sensitivity, out of every figure of classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_examples import example

from detectclf.config import EvaluateConfig
from detectclf.evaluation.aligned import align
from detectclf.evaluation.figures import Figures, compute_figures
from detectclf.evaluation.mistakes import worst_mistakes
from detectclf.evaluation.report import build_report
from detectclf.types import ANY_TUMOR, Dataset, Sample

PREDICTIONS, KNOWN = example(160, 4)


def hidden(sample: Sample) -> Sample:
    """The same slice, with its tumours of unknown type."""
    return replace(sample, label=ANY_TUMOR, box_labels=(ANY_TUMOR,) * len(sample.box_labels))


MIXED = replace(
    KNOWN, samples=tuple(hidden(s) if i % 3 == 0 and s.label != "no_tumor" else s for i, s in enumerate(KNOWN.samples))
)
"""A third of the tumours is of unknown type."""


def figures_of(dataset: Dataset) -> Figures:
    return compute_figures(align(PREDICTIONS, dataset)[0], risk=0.02)


@pytest.fixture(scope="module")
def mixed() -> Figures:
    return figures_of(MIXED)


def test_class_figures_are_those_of_the_other_slices(mixed: Figures) -> None:
    typed = figures_of(replace(MIXED, samples=tuple(s for s in MIXED.samples if s.label != ANY_TUMOR)))
    keys = [
        *("combined.accuracy", "combined.balanced_accuracy", "combined.macro_f1", "combined.ece", "combined.nll"),
        *("classification.accuracy", "combined.auroc.glioma", "combined.joint_accuracy", "combined.referred"),
        *("combined.mAP", "combined.mAP50", "detection.mAP", "detection.per_class.glioma.AP"),
        *("stages.detector_alone.accuracy", "combined.specificity", "combined.false_alarms_per_healthy_slice"),
    ]
    for key in keys:
        assert mixed.values[key] == pytest.approx(typed.values[key]), key
    assert mixed.combined.classification.confusion_matrix == typed.combined.classification.confusion_matrix
    assert mixed.detection.per_class == typed.detection.per_class, "a box on an unknown type is no false positive"


def test_localisation_and_sensitivity_are_as_if_the_types_were_known(mixed: Figures) -> None:
    known = figures_of(KNOWN)
    keys = [
        *("detection.localisation.AP50", "combined.localisation.AP", "combined.froc_mean", "detection.froc_iou10_mean"),
        *("detection.recall_one_box", "combined.mean_iou_of_hits", "combined.sensitivity"),
        "classification.sensitivity",
    ]
    for key in keys:
        assert mixed.values[key] == pytest.approx(known.values[key]), key
    called = [p.label != "no_tumor" for p, s in zip(PREDICTIONS, KNOWN.samples, strict=True) if s.label != "no_tumor"]
    assert mixed.values["combined.sensitivity"] == pytest.approx(np.mean(called))
    assert mixed.detection.by_size == known.detection.by_size
    assert mixed.detection.boxes == known.detection.boxes
    assert mixed.proportions["combined.sensitivity"].tolist() == known.proportions["combined.sensitivity"].tolist()


def test_each_slice_weighs_the_same_in_resamples_as_twice_in_the_list(mixed: Figures) -> None:
    weights = np.random.default_rng(0).integers(0, 3, len(MIXED.samples))
    rows = np.repeat(np.arange(len(MIXED.samples)), weights)
    repeated = compute_figures(align(PREDICTIONS, MIXED)[0].take(rows.tolist()), risk=0.02)
    drawn = mixed.weighted(weights[None].astype(np.float64))
    for key in ("combined.mAP", "combined.accuracy", "combined.sensitivity", "combined.localisation.AP"):
        assert drawn[key][0] == pytest.approx(repeated.values[key]), key


def test_with_unknown_types_alone_there_are_no_class_figures() -> None:
    tumors = Dataset(tuple(hidden(s) for s in KNOWN.samples if s.label != "no_tumor"), (), None, KNOWN.sources)
    report = build_report(PREDICTIONS, tumors, config=EvaluateConfig(bootstrap=20))
    record = report.record
    combined = record["combined"]
    assert record["data"]["any_tumor"] == record["data"]["samples"] == len(tumors.samples)
    assert record["data"]["classes"] == {}
    for key in ("accuracy", "mAP", "joint_accuracy", "specificity"):
        assert combined[key] is None, key
    for key in ("sensitivity", "recall_one_box", "froc_mean"):
        assert combined[key] is not None, key
    assert combined["localisation"]["AP50"] is not None
    assert record["intervals"]["combined.sensitivity"] is not None
    notes = " / ".join(record["notes"])
    for text in ("of unknown type: they count in localisation", "no true tumour box of a known type", "no slice has a"):
        assert text in notes


def test_any_tumor_class_is_right_and_none_is_a_missed_tumour() -> None:
    kinds = {m.sample.name: m.kind for m in worst_mistakes(align(PREDICTIONS, MIXED)[0])}
    named = {p.image: p.label for p in PREDICTIONS}
    unknown = [s.name for s in MIXED.samples if s.label == ANY_TUMOR]
    assert {kinds.get(name) for name in unknown} <= {None, "missed tumour", "tumour not boxed"}
    for name in unknown:
        assert (kinds.get(name) == "missed tumour") == (named[name] == "no_tumor")
