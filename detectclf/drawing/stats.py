"""A figure of a data set: slices per class and split, sizes of boxes, positions of boxes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from detectclf.drawing.palette import color_of
from detectclf.types import Dataset, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELLS = 48  # per side of a heatmap
_LINES = (":", "--", "-.", (0, (5, 5)))  # line style of each split's median
_UNLABELLED = "(no label)"


def stats_figure(dataset: Dataset) -> Figure:
    """Slices per class and split, sizes of boxes and positions of boxes per class, with the median of each split.

    The size of a box is the square root of the share of the picture that it covers, which does not depend on the
    resolution. The heatmap of a class gives, for each position, the share of its boxes that cover it.

    Returns:
        A matplotlib figure with its own canvas, independent of pyplot; ``figure.savefig(path)`` writes it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    boxes = _relative_boxes(dataset)
    by_split = {split: _relative_boxes(dataset.split(split)) for split in dataset.splits}
    columns = max(len(boxes), 2)
    figure = Figure(figsize=(max(9.0, 2.9 * columns), 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_headline(dataset), fontsize=12)
    rows = figure.add_gridspec(2, 1, height_ratios=(1.0, 0.95))
    above, below = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    counts, sizes = above.subplots(1, 2)
    _draw_counts(counts, dataset)
    _draw_sizes(sizes, boxes, by_split, dataset.classes)
    maps = np.atleast_1d(below.subplots(1, columns))
    for axes in maps[len(boxes) :]:
        axes.set_axis_off()
    for axes, (name, relative) in zip(maps, boxes.items(), strict=False):
        _draw_heatmap(axes, name, relative, dataset.classes)
        _draw_median_boxes(axes, name, by_split)
    return figure


def _headline(dataset: Dataset) -> str:
    samples = dataset.samples
    boxes = sum(len(s.box_labels) for s in samples)
    unknown = sum(not s.boxed for s in samples)
    parts = [f"{len(samples):,} slices", f"{len(dataset.splits)} splits", f"{boxes:,} boxes"]
    return " · ".join(parts + ([f"{unknown:,} slices whose boxes are not known"] if unknown else []))


def _relative_boxes(dataset: Dataset) -> dict[str, FloatArray]:
    """Class -> ``(N, 4)`` boxes as shares of width and height; classes without boxes are left out."""
    found: dict[str, list[FloatArray]] = {}
    for sample in dataset.samples:
        if sample.width < 1 or sample.height < 1:
            continue
        side = np.array([sample.width, sample.height] * 2, dtype=np.float32)
        for box, name in zip(sample.boxes_xyxy, sample.box_labels, strict=True):
            found.setdefault(name, []).append(np.clip(box / side, 0, 1))
    return {name: np.stack(found[name]) for name in dataset.classes if name in found}


def _draw_counts(axes: Axes, dataset: Dataset) -> None:
    """Bars of slices per class, one group per split; each bar has its count and its share of the split."""
    splits, names = dataset.splits, list(dataset.classes)
    tally = Counter((s.split, s.label if s.label is not None else _UNLABELLED) for s in dataset.samples)
    if any(name == _UNLABELLED for _, name in tally):
        names.append(_UNLABELLED)
    thick = 0.8 / max(len(names), 1)
    for row, name in enumerate(names):
        y = np.arange(len(splits)) + (row - (len(names) - 1) / 2) * thick
        values = [tally[split, name] for split in splits]
        bars = axes.barh(y, values, thick * 0.92, color=_color(name, dataset.classes), label=name)
        totals = [max(1, sum(tally[split, other] for other in names)) for split in splits]
        labels = [f" {value:,} ({value / total:.0%})" for value, total in zip(values, totals, strict=True)]
        axes.bar_label(bars, labels=labels, fontsize=8)
    axes.set_yticks(range(len(splits)), splits)
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.set_xlabel("slices")
    axes.set_title("Classes per split", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    if names:
        axes.legend(
            fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=min(len(names), 4)
        )


def _draw_sizes(
    axes: Axes, boxes: dict[str, FloatArray], by_split: dict[str, dict[str, FloatArray]], classes: tuple[str, ...]
) -> None:
    """Outlined histograms of box sizes per class, with the median of each split marked."""
    axes.set_title("Size of boxes, and medians per split", fontsize=11)
    axes.set_xlabel("square root of the box's share of the picture, %")
    axes.set_ylabel("boxes")
    axes.spines[["top", "right"]].set_visible(False)
    if not boxes:
        axes.text(0.5, 0.5, "no boxes", ha="center", va="center", transform=axes.transAxes)
        return
    sizes = {name: _sizes(relative) for name, relative in boxes.items()}
    edges = np.linspace(0, max(float(v.max()) for v in sizes.values()) * 1.02 + 0.1, 33).tolist()
    for name, values in sizes.items():
        color, medians = _color(name, classes), []
        for number, (split, found) in enumerate(by_split.items()):
            if name in found:
                median = float(np.median(_sizes(found[name])))
                medians.append(f"{split} {median:.0f} %")
                axes.axvline(median, color=color, linewidth=1, linestyle=_LINES[number % len(_LINES)])
        axes.hist(values, edges, histtype="stepfilled", color=color, alpha=0.25)
        axes.hist(values, edges, histtype="step", color=color, linewidth=1.6, label=f"{name}: {', '.join(medians)}")
    axes.legend(fontsize=8, frameon=False)


def _sizes(relative: FloatArray) -> FloatArray:
    """Square root of the share of the picture that each box covers, %."""
    areas = (relative[:, 2] - relative[:, 0]) * (relative[:, 3] - relative[:, 1])
    return np.asarray(100 * np.sqrt(areas), np.float32)


def _draw_heatmap(axes: Axes, name: str, relative: FloatArray, classes: tuple[str, ...]) -> None:
    """The heatmap of the positions of one class's boxes."""
    centres = (np.arange(CELLS) + 0.5) / CELLS
    across = (relative[:, :1] <= centres) & (centres < relative[:, 2:3])
    down = (relative[:, 1:2] <= centres) & (centres < relative[:, 3:4])
    covered = np.einsum("ny,nx->yx", down.astype(np.float32), across.astype(np.float32)) / len(relative)
    image = axes.imshow(100 * covered, cmap="magma", vmin=0, extent=(0, 1, 1, 0), interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{name} ({len(relative):,} boxes)", fontsize=10)
    for spine in axes.spines.values():
        spine.set(edgecolor=_color(name, classes), linewidth=3)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.75)
    bar.set_label("% of boxes here", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _draw_median_boxes(axes: Axes, name: str, by_split: dict[str, dict[str, FloatArray]]) -> None:
    """Outlines the median box of one class in each split, so that splits that differ can be seen."""
    from matplotlib.patches import Rectangle

    for number, (split, found) in enumerate(by_split.items()):
        if name in found:
            x1, y1, x2, y2 = (float(v) for v in np.median(found[name], axis=0))
            style = _LINES[number % len(_LINES)]
            outline = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linestyle=style)
            outline.set_label(f"median box, {split}")
            axes.add_patch(outline)
    axes.legend(fontsize=6, loc="lower left", facecolor="black", edgecolor="none", labelcolor="white")


def _color(name: str, classes: tuple[str, ...]) -> tuple[float, float, float]:
    red, green, blue = color_of(name, classes)
    return red / 255, green / 255, blue / 255
