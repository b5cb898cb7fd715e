"""The line that ``predict`` prints of a slice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectclf.pipelines.predict_text import describe, where
from detectclf.pipelines.predict_types import Predicted
from detectclf.prediction import Origin, Prediction


def prediction(image: str, scores: list[float], threshold: float = 0.5) -> Prediction:
    boxes = np.tile(np.array([[1, 2, 3, 4]], dtype=np.float32), (len(scores), 1))
    return Prediction(
        image,
        label="glioma",
        probabilities={"glioma": 0.75, "pituitary": 0.25},
        boxes_xyxy=boxes,
        box_labels=("glioma",) * len(scores),
        scores=np.array(scores, dtype=np.float32),
        box_threshold=threshold,
    )


def test_the_boxes_said_are_the_boxes_drawn() -> None:
    low = prediction("a.png", [0.4, 0.2], threshold=0.3)
    assert describe(low) == "a.png: glioma 0.750; glioma 0.40 at (1, 2, 3, 4)"
    assert describe(prediction("a.png", [0.4])) == "a.png: glioma 0.750; no box"


def test_a_tumour_that_is_called_while_none_is_likelier_is_explained() -> None:
    found = replace(prediction("a.png", []), probabilities={"glioma": 0.3, "no_tumor": 0.45, "pituitary": 0.25})
    why = "(called a tumour: 0.550 for all kinds together, no_tumor 0.450)"
    assert describe(found) == f"a.png: glioma 0.300 {why}; no box"


@pytest.mark.parametrize(
    ("format", "file", "said"),
    [
        ("jsonl", "predictions.jsonl", ["predictions: predictions.jsonl"]),
        ("csv", "predictions.csv", ["predictions: predictions.csv", "boxes: boxes.csv"]),
        ("yolo", "predictions.jsonl", ["predictions: predictions.jsonl", "labels: labels"]),
    ],
)
def test_every_file_that_was_asked_for_is_named(
    format: str, file: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = Predicted(Path(file), None, 2, 0, 0)
    assert where(done, visualize=False, format=format).splitlines() == said[:1], "the rest is not there"
    Path("boxes.csv").touch()
    Path("labels").mkdir()
    assert where(done, visualize=False, format=format).splitlines() == said


def test_advice_about_screens_is_for_pictures() -> None:
    refused = Prediction("a.nii", flags=("not_a_brain_mri",))
    assert describe(refused) == "a.nii: refused; if it is a screen or a page, crop to the slice [not_a_brain_mri]"
    of_volume = replace(refused, origin=Origin(study="a", number=3))
    assert describe(of_volume) == "a.nii (3): refused [not_a_brain_mri]"


def test_a_file_name_cannot_break_or_colour_the_line() -> None:
    hostile = "a\nb\x1b[31m.png"
    line = describe(prediction(hostile, []))
    assert line.isprintable() and line.startswith("a\\nb\\x1b[31m.png: ")
