"""Figures of a report, drawn by matplotlib from plain numbers.

Text and axes have a placeholder colour, which :func:`as_svg` replaces by the text colour of the page, so that a figure
is legible on light and on dark pages.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.drawing.palette import color_of

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

INK = "#123456"  # stands for the text colour of the page
MUTED = "#8a8f98"
ACCENT = "#2f7fd6"
_SIZE = (4.8, 3.7)


def as_svg(figure: Any) -> str:
    """The figure as one ``<svg>`` element without background, to be embedded in a page."""
    import matplotlib as mpl

    target = io.StringIO()
    # Text stays text, which is small and can be selected; ids are the same each time.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "detectclf"}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def as_png(figure: Any, *, dpi: int = 140) -> bytes:
    """The figure as a PNG on white."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return target.getvalue()


def new_axes(xlabel: str, ylabel: str, *, size: tuple[float, float] = _SIZE) -> tuple[Any, Any]:
    """A figure of ``size``, inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    style(axes, xlabel, ylabel)
    return figure, axes


def style(axes: Any, xlabel: str, ylabel: str) -> None:
    """Labels ``axes`` and gives them the look of a page's figures."""
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.tick_params(colors=INK)
    axes.grid(visible=True, color=MUTED, alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)


def add_legend(axes: Any, loc: str) -> None:
    """A legend, where there is anything to name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=INK, fontsize=8.5, loc=loc)


def plain_text(text: str) -> str:
    """``text`` with its dollar signs escaped, since matplotlib renders text between them as a formula."""
    return text.replace("$", r"\$")


def _rgb(name: str, classes: Sequence[str]) -> tuple[float, ...]:
    return tuple(value / 255 for value in color_of(name, classes))


def pr_figure(curves: Mapping[str, Curve], classes: Sequence[str], captions: Mapping[str, str]) -> Any:
    """Precision over recall, one line per class.

    Args:
        curves: class -> (recall, precision).
        classes: all classes, which decide the colours.
        captions: class -> text after its name in the legend, such as its AP.
    """
    figure, axes = new_axes("Recall", "Precision")
    for name, (recall, precision) in curves.items():
        if len(recall):
            start = np.concatenate([[0.0], recall]), np.concatenate([[precision[0]], precision])
            axes.plot(
                *start, color=_rgb(name, classes), linewidth=1.8, label=plain_text(f"{name} {captions.get(name, '')}")
            )
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    add_legend(axes, "lower left")
    return figure


def roc_figure(curves: Mapping[str, Curve], classes: Sequence[str], captions: Mapping[str, str]) -> Any:
    """True- over false-positive rate, one line per class against all others; arguments as in :func:`pr_figure`."""
    figure, axes = new_axes("False-positive rate (1 - specificity)", "True-positive rate (sensitivity)")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    for name, (x, y) in curves.items():
        axes.plot(x, y, color=_rgb(name, classes), linewidth=1.8, label=plain_text(f"{name} {captions.get(name, '')}"))
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.02))
    add_legend(axes, "lower right")
    return figure


def froc_figure(curves: Mapping[str, Curve], rates: Sequence[float]) -> Any:
    """Sensitivity over false positives per slice, on a log axis with ticks at ``rates``."""
    figure, axes = new_axes("False positives per slice", "Sensitivity")
    low = min(rates) / 4
    for (name, (wrong, found)), style in zip(curves.items(), ("-", "--", ":"), strict=False):
        x = np.concatenate([np.maximum(wrong, low), [max(rates) * 1.4]])
        y = np.concatenate([found, found[-1:]])
        axes.plot(x, y, drawstyle="steps-post", color=ACCENT, linestyle=style, linewidth=1.8, label=plain_text(name))
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(rates), [f"{rate:g}" for rate in rates])
    axes.set(xlim=(low, max(rates) * 1.4), ylim=(0, 1.02))
    add_legend(axes, "lower right")
    return figure


def reliability_figure(stages: Mapping[str, Sequence[Mapping[str, float]]]) -> Any:
    """Accuracy over confidence in bins; the area of a marker grows with the number of slices in its bin.

    Args:
        stages: caption -> bins with ``confidence``, ``accuracy`` and ``count``.
    """
    figure, axes = new_axes("Probability given to the most probable class", "Share that is right")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    for (name, bins), color in zip(stages.items(), (ACCENT, "#d9822b"), strict=False):
        total = max(sum(b["count"] for b in bins), 1)
        x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        axes.plot(x, y, color=color, linewidth=1.2, alpha=0.8)
        axes.scatter(
            x, y, s=[18 + 260 * b["count"] / total for b in bins], color=color, alpha=0.75, label=plain_text(name)
        )
    axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.05))
    add_legend(axes, "upper left")
    return figure


def risk_coverage_figure(coverage: Sequence[float], risk: Sequence[float], chosen: float) -> Any:
    """Error rate of the slices that are not referred over their share, with the chosen risk."""
    figure, axes = new_axes("Share of slices not referred (coverage)", "Error rate among them (risk)")
    if coverage:
        axes.plot(coverage, risk, color=ACCENT, linewidth=1.8, drawstyle="steps-post")
    axes.axhline(chosen, color=MUTED, linewidth=1, linestyle=":", label=f"chosen risk {chosen:.0%}")
    axes.set(xlim=(0, 1.01), ylim=(0, max([*risk, chosen, 0.01]) * 1.15))
    add_legend(axes, "upper left")
    return figure


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Any:
    """Counts of slices: a row per true class, a column per predicted class; shaded by the share of the row."""
    counts = np.asarray(matrix, dtype=np.float64).reshape(len(classes), len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = new_axes("Prediction", "Truth")
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        # Cells have their own background, so their text keeps its colour on every page.
        ink = "white" if shares[row, column] > 0.55 else "#1b1f24"
        axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(classes)), [plain_text(c) for c in classes], rotation=25, ha="right")
    axes.set_yticks(range(len(classes)), [plain_text(c) for c in classes])
    return figure


@dataclass(frozen=True, slots=True)
class LeaderPoint:
    """One run on the leader board's figure; ``cost`` is slices per second, or megabytes."""

    name: str
    cost: float
    accuracy: float | None
    mean_ap: float | None


def leader_figure(points: Sequence[LeaderPoint], cost_label: str) -> Any:
    """Accuracy and mAP of several runs over their cost."""
    figure, axes = new_axes(cost_label, "Figure", size=(5.6, 3.9))
    for marker, color, caption in (("o", ACCENT, "accuracy"), ("s", "#d9822b", "mAP@[.50:.95]")):
        rows = [(p, p.accuracy if caption == "accuracy" else p.mean_ap) for p in points]
        known = [(p, value) for p, value in rows if value is not None]
        if known:
            x, y = [p.cost for p, _ in known], [value for _, value in known]
            axes.scatter(x, y, marker=marker, color=color, label=caption, s=42)
        for point, value in known:
            axes.annotate(
                plain_text(point.name),
                (point.cost, value),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=7.5,
                color=INK,
            )
    axes.set_ylim(0, 1.06)
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    add_legend(axes, "lower right")
    return figure
