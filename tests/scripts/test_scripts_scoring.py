"""The figure of choice: hand-made slices and what a model says about them; predictions are kept and found again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from development_figures import (
    BR35H,
    CHOICE,
    FLAIR,
    SLICES,
    T1C,
    figures_of,
    score,
    table,
)
from development_predictions import CLASSIFIER, COMBINED, DETECTOR, Model, View, detector_view, predictions, predictor
from score_development import valid_slices

from detectclf.config import PredictConfig
from detectclf.inference.loading import default_bundle
from detectclf.models.bundle import load_bundle
from detectclf.models.stage_files import save_stage
from detectclf.sample_data.export import write_sample_data
from detectclf.types import ANY_TUMOR, Sample, empty_boxes

BOX = (10.0, 10.0, 30.0, 30.0)
OFF = (60.0, 60.0, 90.0, 90.0)
HALF = (10.0, 10.0, 30.0, 22.0)  # IoU 0.6 with BOX
CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")


def slice_of(label: str, *boxes: tuple[float, ...]) -> Sample:
    rows = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(Path("a.png"), "a.png", "valid", label, rows, (label,) * len(rows), True, 100, 100)


def said(
    label: str,
    *boxes: tuple[tuple[float, ...], str, float],
    sure: float = 0.7,
    flags: tuple[str, ...] = (),
) -> View:
    rest = (1 - sure) / 3
    return View(
        label,
        {name: sure if name == label else rest for name in CLASSES},
        np.array([box for box, _, _ in boxes], dtype=np.float32).reshape(-1, 4),
        tuple(name for _, name, _ in boxes),
        np.array([score for _, _, score in boxes], dtype=np.float32),
        flags,
    )


def values(samples: list[Sample], views: list[View]) -> dict[str, tuple[float | None, int]]:
    found = figures_of(samples, views)
    return {name: (None if f.value is None else round(f.value, 6), f.n) for name, f in found.items()}


def test_figures_of_slices_with_known_types() -> None:
    samples = [
        slice_of("glioma", BOX),
        slice_of("glioma", BOX, OFF),
        slice_of("pituitary", BOX),
        slice_of("no_tumor"),
        slice_of("no_tumor"),
    ]
    views = [
        said("glioma", (BOX, "glioma", 0.9)),
        said("meningioma", (HALF, "meningioma", 0.4), flags=("low_confidence",)),  # boxed all the same, one missed
        said("no_tumor", (BOX, "pituitary", 0.2), sure=0.95),  # a box of too low a score
        said("no_tumor"),
        said("glioma", (OFF, "glioma", 0.6), flags=("class_box_conflict",)),
    ]
    found = values(samples, views)
    assert found["accuracy"] == (round(1 / 3, 6), 3)
    assert found["accuracy with healthy"] == (0.4, 5)
    assert found["accuracy glioma"] == (0.5, 2)
    assert found["accuracy meningioma"] == (None, 0)
    assert found["called"] == (round(2 / 3, 6), 3)
    assert found["specificity"] == (0.5, 2)
    assert found["boxed"] == (round(2 / 3, 6), 3)
    assert found["missed"] == (0.5, 4)
    assert found["missed at any score"] == (0.25, 4)
    assert found["sure no tumour"] == (round(1 / 3, 6), 3)
    assert found["mistakes flagged"] == (round(1 / 3, 6), 3)
    assert found["mistakes with any flag"] == (round(2 / 3, 6), 3)
    # One of three gliomas is found, at precision 1: 34 of the 101 points of recall. The pituitary tumour is found too.
    assert found["AP50 glioma"][0] == pytest.approx(34 / 101, abs=1e-6)
    assert found["AP50 pituitary"] == (1.0, 1)
    assert found["AP50"][0] == pytest.approx((34 / 101 + 1) / 2, abs=1e-6)
    # Three of 0.7 right in one bin of five slices: two right, two wrong; 0.95 wrong in another.
    assert found["ece"][0] == pytest.approx((abs(2 - 4 * 0.7) + 0.95) / 5, abs=1e-6)


def test_of_unknown_types_only_tumour_or_not_counts() -> None:
    samples = [slice_of(ANY_TUMOR, BOX), slice_of(ANY_TUMOR, BOX), slice_of("no_tumor")]
    views = [said("pituitary", (BOX, "pituitary", 0.9), sure=0.4), said("no_tumor"), said("no_tumor")]
    found = values(samples, views)
    assert not {"accuracy", "mAP", "AP50"} & set(found)
    assert found["called"] == (0.5, 2) and found["boxed"] == (0.5, 2) and found["specificity"] == (1.0, 1)
    # Called a tumour with 1 - 0.2 and right; called none with 0.7, once right.
    assert found["ece"][0] == pytest.approx((0.2 + abs(1 - 1.4)) / 3, abs=1e-6)
    assert found["mistakes flagged"] == (0.0, 1)


def test_a_box_round_a_healthy_head_boxes_no_tumour() -> None:
    found = values([slice_of(ANY_TUMOR, BOX)], [said("glioma", (BOX, "no_tumor", 0.9))])
    assert found["boxed"] == (0.0, 1) and found["missed at any score"] == (1.0, 1)


def test_the_figure_of_choice_is_the_mean_of_its_parts() -> None:
    typed = [slice_of("glioma", BOX), slice_of("no_tumor")]
    unknown = [slice_of(ANY_TUMOR, BOX), slice_of("no_tumor")]
    right = [said("glioma", (BOX, "glioma", 0.9)), said("no_tumor")]
    blind = [said("no_tumor"), said("no_tumor")]
    sets = {SLICES: (typed, right), BR35H: (unknown[:1], right[:1]), FLAIR: (unknown, right), T1C: (unknown, blind)}
    scored = score(sets)
    assert (scored.parts, scored.choice) == (11, pytest.approx(9 / 11))  # boxed and called on T1C are 0
    alone = score(sets, boxes=False)
    assert (alone.parts, alone.choice) == (7, pytest.approx(6 / 7))
    assert "mAP glioma" not in alone.sets[SLICES] and "missed at any score" not in alone.sets[FLAIR]
    assert "mistakes flagged" in alone.sets[FLAIR]
    assert "mistakes flagged" not in score(sets, flags=False).sets[FLAIR]
    few = score({SLICES: (typed, right)})
    assert (few.parts, few.choice) == (3, pytest.approx(1.0))
    text = table(scored, "model")
    assert text.startswith("model: figure of choice 0.818 (mean of 11 of 11 parts)")
    assert all(f"{name} {figure}" in text for name, figure in CHOICE)


def test_a_detector_alone_shares_its_best_score() -> None:
    boxes = np.array([BOX, HALF, OFF], dtype=np.float32)
    scores = np.array([0.8, 0.4, 0.9], dtype=np.float32)
    view = detector_view(boxes, ["glioma", "pituitary", "no_tumor"], scores, "no_tumor")
    assert view.label == "glioma"
    assert view.probabilities == pytest.approx({"glioma": 0.8 * 2 / 3, "pituitary": 0.8 / 3, "no_tumor": 0.2})
    assert detector_view(boxes[:1], ["glioma"], np.array([0.4], np.float32), "no_tumor").label == "no_tumor"
    nothing = detector_view(empty_boxes(), [], np.zeros(0, np.float32), "no_tumor")
    assert (nothing.label, nothing.probabilities) == ("no_tumor", {"no_tumor": 1.0})


def test_views_are_the_same_after_json() -> None:
    view = said("glioma", (BOX, "glioma", 0.9), (OFF, "pituitary", 0.25), flags=("low_confidence",))
    again = View.of_record(json.loads(json.dumps(view.to_record())))
    assert again.to_record() == view.to_record()
    assert again.boxes_xyxy.dtype == again.scores.dtype == np.float32
    empty = View.of_record(said("no_tumor").to_record())
    assert empty.boxes_xyxy.shape == (0, 4)


def test_one_stage_is_judged_alone() -> None:
    run = Path("run")
    assert Model(classifier=run).alone == CLASSIFIER
    assert Model(detector=run).alone == DETECTOR
    for whole in (Model(), Model(bundle=run), Model(detector=run, classifier=run)):
        assert whole.alone is None


def test_predictions_are_kept_until_something_changes(tmp_path: Path) -> None:
    write_sample_data(tmp_path / "sample", 12, 0)
    dev = tmp_path / "dev"
    shutil.copytree(tmp_path / "sample", dev / SLICES)
    sets = {SLICES: valid_slices(dev / SLICES)[:2], FLAIR: valid_slices(dev / "lgg" / "flair")}
    assert len(sets[SLICES]) == 2 and not sets[FLAIR]

    def judged() -> list[dict[str, object]]:
        # One by one: the last digits depend on what else is in a batch.
        found, milliseconds = predictions(dev, sets, Model(), config=PredictConfig(device="cpu", batch_size=1))
        assert milliseconds > 0 and found[FLAIR] == []
        assert all(set(views) == {COMBINED, CLASSIFIER, DETECTOR} for views in found[SLICES])
        return [{name: view.to_record() for name, view in views.items()} for views in found[SLICES]]

    first = judged()
    (kept,) = (dev / "predictions").iterdir()
    before = kept.stat().st_mtime_ns
    assert judged() == first and kept.stat().st_mtime_ns == before
    kept.write_text(kept.read_text()[:-100])  # as if interrupted while the second slice was written
    assert judged() == first
    annotations = dev / SLICES / "valid" / "_annotations.coco.json"
    annotations.write_text(annotations.read_text() + "\n")
    judged()
    assert len(list((dev / "predictions").iterdir())) == 2


@pytest.mark.parametrize("kind", [CLASSIFIER, DETECTOR])
def test_a_stage_alone_says_what_it_says_beside_the_other(tmp_path: Path, kind: str) -> None:
    stages = load_bundle(default_bundle()).stages
    runs = {name: tmp_path / name for name in (CLASSIFIER, DETECTOR)}
    for name, run in runs.items():
        save_stage(run, stages[name])
    write_sample_data(tmp_path / "sample", 24, 0)
    samples = valid_slices(tmp_path / "sample")[:3]
    config = PredictConfig(device="cpu", batch_size=2)
    together = list(predictor(Model(**runs), config)(samples))
    alone = list(predictor(Model(**{kind: runs[kind]}), config)(samples))
    for both, one in zip(together, alone, strict=True):
        assert set(one) == {kind}
        assert one[kind].probabilities == pytest.approx(both[kind].probabilities, abs=1e-4)
        assert one[kind].label == both[kind].label
        many = [i for i, score in enumerate(both[kind].scores) if score > 0.1]
        np.testing.assert_allclose(one[kind].boxes_xyxy[many], both[kind].boxes_xyxy[many], atol=0.1)
