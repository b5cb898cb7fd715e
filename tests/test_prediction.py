"""The prediction of one picture: its record, what it says of the stages alone, and where it came from."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import detectclf
from detectclf.errors import ConfigError, DataError
from detectclf.prediction import Origin, Prediction
from detectclf.types import FusedOutputs, StageOutputs, StagePredictions

BOXES = np.array([[1, 2, 30.126, 40]], np.float32)
OUTPUTS = StageOutputs(np.zeros(2, np.float32), BOXES, ("glioma",), np.array([0.75], np.float32))
FUSED = FusedOutputs(
    label="glioma",
    probabilities={"glioma": 0.75, "no_tumor": 0.25},
    boxes_xyxy=BOXES,
    box_labels=("glioma",),
    scores=np.array([0.5], np.float32),
    box_threshold=0.4,
    flags=("low_confidence",),
    before_fusion=StagePredictions(OUTPUTS, {"glioma": 0.5, "no_tumor": 0.5}, "glioma"),
)


def predicted(origin: Origin) -> Prediction:
    return Prediction.of(FUSED, "a.nii", width=64, height=48, origin=origin, model="tiny 1")


def test_a_prediction_has_all_that_was_fused() -> None:
    prediction = predicted(Origin(Path("a.nii")))
    for name in FusedOutputs.__dataclass_fields__:
        assert getattr(prediction, name) is getattr(FUSED, name)
    assert prediction.confidence == 0.75 and prediction.judged
    assert prediction.stages is OUTPUTS and prediction.detector_label == "glioma"
    assert prediction.classifier_probabilities == {"glioma": 0.5, "no_tumor": 0.5}
    assert detectclf.Prediction is Prediction


def test_stages_that_were_not_kept_are_none() -> None:
    bare = Prediction("a.png")
    assert bare.stages is None and bare.detector_label is None and bare.classifier_probabilities == {}
    assert bare.confidence is None and bare.path is None and bare.part == ""


@pytest.mark.parametrize(
    ("origin", "part", "keys"),
    [
        (Origin(Path("a.png")), "", []),
        (Origin(Path("a.tif"), frame=0), "0", ["frame"]),
        (Origin(Path("a.nii"), frame=7, axis="coronal"), "coronal 7", ["frame", "axis"]),
    ],
)
def test_the_record_names_the_part_of_the_file(origin: Origin, part: str, keys: list[str]) -> None:
    prediction = predicted(origin)
    record = prediction.to_record()
    assert prediction.part == part and list(record)[10:] == keys
    assert record["boxes"] == [{"xyxy": [1.0, 2.0, 30.13, 40.0], "class": "glioma", "score": 0.5}]


def test_only_what_was_predicted_is_drawn() -> None:
    pixels = np.zeros((48, 64), np.uint8)
    assert predicted(Origin(pixels=pixels)).draw().mode == "RGB"
    for broken in (predicted(Origin()), Prediction("a.png"), Prediction("a.png", error="truncated")):
        with pytest.raises(DataError):
            broken.draw()


@pytest.mark.parametrize(("score", "count"), [(0.5, 1), (0.3, 0)])
def test_sure_boxes_as_detections_of_supervision(score: float, count: int) -> None:
    supervision = pytest.importorskip("supervision")
    found = replace(predicted(Origin()), scores=np.array([score], np.float32)).to_detections()
    assert isinstance(found, supervision.Detections) and len(found) == count
    assert found.class_id.tolist() == [0] * count and found["class_name"].tolist() == ["glioma"] * count
    assert found.xyxy.shape == (count, 4)


SHORT = [
    (Origin(), {}, "Prediction('a.nii': glioma 75%, 1 box, low_confidence)"),
    (Origin(frame=7, axis="axial"), {"flags": ()}, "Prediction('a.nii (axial 7)': glioma 75%, 1 box)"),
    (Origin(), {"scores": np.array([0.1], np.float32), "flags": ()}, "Prediction('a.nii': glioma 75%, no boxes)"),
    (Origin(), {"error": "truncated"}, "Prediction('a.nii': not read, truncated)"),
    (Origin(), {"label": None, "flags": ()}, "Prediction('a.nii': no class)"),
    (Origin(), {"label": None, "flags": ("not_a_brain_mri",)}, "Prediction('a.nii': refused, not_a_brain_mri)"),
]


@pytest.mark.parametrize(("origin", "changes", "text"), SHORT)
def test_a_prediction_is_shown_in_a_line(origin: Origin, changes: dict[str, Any], text: str) -> None:
    assert repr(replace(predicted(origin), **changes)) == text


def test_a_notebook_shows_the_picture_where_there_is_one() -> None:
    shown = predicted(Origin(pixels=np.zeros((48, 64), np.uint8)))._repr_png_()
    assert shown is not None and shown.startswith(b"\x89PNG")
    assert predicted(Origin())._repr_png_() is None


def test_supervision_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"extra; pip install 'detectclf\[supervision\]'"):
        predicted(Origin()).to_supervision()
