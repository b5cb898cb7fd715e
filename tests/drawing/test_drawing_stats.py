"""The figure of a data set shows each split: its classes, its median sizes, its median boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detectclf.drawing.stats import stats_figure
from detectclf.types import Dataset, Sample


def _sample(number: int, split: str, side: float) -> Sample:
    box = np.array([[10, 10, 10 + side, 10 + side]], np.float32)
    name = f"{number}.png"
    return Sample(Path(name), name, split, "glioma", box, ("glioma",), True, 100, 100)


def test_sizes_and_positions_are_told_per_split() -> None:
    samples = [_sample(i, "train", 20) for i in range(4)] + [_sample(9, "valid", 60)]
    figure = stats_figure(Dataset(tuple(samples), ("glioma",)))
    counts, sizes, places = (axes for axes in figure.axes if axes.get_legend() is not None)
    assert [text.get_text() for text in counts.get_yticklabels()] == ["train", "valid"]
    assert [text.get_text() for text in sizes.get_legend().get_texts()] == ["glioma: train 20 %, valid 60 %"]
    assert [box.get_label() for box in places.patches] == ["median box, train", "median box, valid"]
    assert np.allclose([box.get_width() for box in places.patches], [0.2, 0.6])


def test_no_boxes_and_no_slices() -> None:
    bare = Sample(Path("a.png"), "a.png", "train", "glioma", boxed=False, width=10, height=10)
    for samples in ((), (bare,)):
        stats_figure(Dataset(samples, ("glioma",))).canvas.draw()
