"""Report figures: they show what they are given, follow the page's ink, and stand degenerate input."""

from __future__ import annotations

import io
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from detectclf.drawing import plots

CLASSES = ("glioma", "no_tumor")
LINE = (np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.9, 0.4]))
BINS = [{"confidence": 0.9, "accuracy": 0.8, "count": 10}]

FIGURES = [
    ("a precision-recall curve", lambda: plots.pr_figure({"glioma": LINE}, CLASSES, {"glioma": "AP50 0.9"})),
    ("no detection at all", lambda: plots.pr_figure({"glioma": (np.zeros(0), np.zeros(0))}, CLASSES, {})),
    ("a ROC curve", lambda: plots.roc_figure({"glioma": LINE}, CLASSES, {})),
    ("FROC with two IoUs", lambda: plots.froc_figure({"IoU 0.1": LINE, "IoU 0.5": LINE}, (0.125, 1.0, 8.0))),
    ("FROC of nothing found", lambda: plots.froc_figure({"IoU 0.5": (np.zeros(1), np.zeros(1))}, (0.125, 8.0))),
    ("reliability", lambda: plots.reliability_figure({"together": BINS, "classifier": []})),
    ("risk and coverage", lambda: plots.risk_coverage_figure([0.5, 1.0], [0.0, 0.1], 0.02)),
    ("no slice", lambda: plots.risk_coverage_figure([], [], 0.02)),
    ("a confusion matrix with an empty row", lambda: plots.confusion_figure([[3, 1], [0, 0]], CLASSES)),
    ("one run", lambda: plots.leader_figure([plots.LeaderPoint("a", 3.0, 0.9, None)], "Slices per second")),
    ("no figure known", lambda: plots.leader_figure([plots.LeaderPoint("a", 3.0, None, None)], "Slices per second")),
]


@pytest.mark.parametrize(("why", "make"), FIGURES, ids=[f[0] for f in FIGURES])
def test_svg_is_whole_and_takes_the_ink_of_the_page(why: str, make: Any) -> None:
    text = plots.as_svg(make())
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg"), why
    assert "currentColor" in text
    assert "#123456" not in text
    assert "<?xml" not in text


def test_svg_is_the_same_every_time_and_keeps_text() -> None:
    first, second = (plots.as_svg(plots.pr_figure({"glioma": LINE}, CLASSES, {"glioma": "AP50 0.9"})) for _ in range(2))
    assert first == second
    assert "glioma AP50 0.9" in first, "text is text, to be found and read aloud"


def test_png_is_a_picture_on_white() -> None:
    picture = Image.open(io.BytesIO(plots.as_png(plots.confusion_figure([[3, 1], [0, 4]], CLASSES), dpi=60)))
    assert picture.format == "PNG"
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_names_cannot_break_the_svg() -> None:
    text = plots.as_svg(
        plots.leader_figure([plots.LeaderPoint(r"<b>&$\nonsense$", 3.0, 0.9, 0.1)], "Slices per second")
    )
    assert ElementTree.fromstring(text) is not None
    assert "<b>" not in text
