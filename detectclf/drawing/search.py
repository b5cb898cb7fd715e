"""Figures of a search of settings, drawn by matplotlib from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectclf.drawing.plots import ACCENT, INK, MUTED, add_legend, new_axes, plain_text, style

_BEST = "#d9822b"
_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class SearchPoint:
    """One trial.

    Attributes:
        number: of the trial.
        figure: its figure; ``None`` where it was pruned or failed.
        curve: epoch -> figure.
        values: dotted setting -> value.
    """

    number: int
    figure: float | None
    curve: Mapping[int, float] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def history_figure(points: Sequence[SearchPoint], metric: str) -> Any:
    """Figures of the trials in their order, with the best so far; pruned ones at their highest before they ended."""
    figure, axes = new_axes("Trial", metric)
    whole = [p for p in points if p.figure is not None]
    cut = [p for p in points if p.figure is None and p.curve]
    axes.scatter([p.number for p in whole], [p.figure for p in whole], color=ACCENT, s=26, label="trained to the end")
    if cut:
        heights = [max(p.curve.values()) for p in cut]
        axes.scatter([p.number for p in cut], heights, color=MUTED, marker="x", s=24, label="pruned")
    best: list[float] = []
    for point in whole:
        best.append(max([*best[-1:], point.figure or 0.0]))
    axes.plot([p.number for p in whole], best, color=_BEST, drawstyle="steps-post", linewidth=1.6, label="best so far")
    axes.xaxis.get_major_locator().set_params(integer=True)
    add_legend(axes, "lower right")
    return figure


def curves_of_trials(points: Sequence[SearchPoint], metric: str, best: int) -> Any:
    """The figure of every trial by epoch; trial ``best`` stands out."""
    figure, axes = new_axes("Epoch", metric)
    for point in sorted(points, key=lambda p: p.number == best):
        look = {"color": _BEST, "linewidth": 2.2} if point.number == best else {"color": ACCENT, "alpha": 0.4}
        look |= {} if point.figure is not None else {"color": MUTED}
        axes.plot(list(point.curve), list(point.curve.values()), marker=".", **look)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def settings_figure(points: Sequence[SearchPoint], logarithmic: Mapping[str, bool], metric: str, best: int) -> Any:
    """The figure over each setting, in a panel of its own; only trials that were trained to the end.

    Args:
        points: the trials.
        logarithmic: dotted setting -> whether its axis is.
        metric: name of the figure.
        best: number of the best trial.
    """
    from matplotlib.figure import Figure

    whole = [p for p in points if p.figure is not None]
    rows = -(-len(logarithmic) // _COLUMNS)
    figure = Figure(figsize=(2.9 * min(_COLUMNS, len(logarithmic)), 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, min(_COLUMNS, len(logarithmic)), squeeze=False).ravel()
    for axes, (name, log) in zip(panels, logarithmic.items(), strict=False):
        style(axes, plain_text(name), metric)
        axes.tick_params(labelsize=7.5)
        values = [p.values[name] for p in whole]
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            values = [plain_text(str(v)) for v in values]
        colors = [_BEST if p.number == best else ACCENT for p in whole]
        axes.scatter(values, [p.figure for p in whole], c=colors, s=18)
        if log and values:
            axes.set_xscale("log")
            # Labels of matplotlib's own ticks lie over each other where the values span less than a decade.
            ends = sorted({min(values), max(values)})
            axes.set_xticks(ends, labels=[f"{end:.3g}" for end in ends])
            axes.minorticks_off()
    for axes in panels[len(logarithmic) :]:
        axes.set_visible(False)
    return figure


def importance_figure(importance: Mapping[str, float]) -> Any:
    """How much of the differences between trials each setting explains."""
    figure, axes = new_axes("Share", "")
    names = [plain_text(name) for name in importance][::-1]
    axes.barh(names, list(importance.values())[::-1], color=ACCENT)
    axes.tick_params(axis="y", colors=INK, labelsize=8)
    axes.set_xlim(left=0)
    return figure
