"""Loss and validation metrics of a training, by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves_figure(history: Sequence[Mapping[str, Any]], best_epoch: int | None = None) -> Figure:
    """Training losses on the left, validation metrics on the right.

    Args:
        history: lines of ``metrics.jsonl``: ``epoch``, ``loss``, ``losses`` and ``metrics``.
        best_epoch: marked by a line, where given.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    # Fixed margins, since matplotlib's layout engine takes longer than the drawing.
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.13, top=0.92, wspace=0.12)
    losses = {"sum": [r["loss"] for r in history]} if history else {}
    parts = list(history[0]["losses"]) if history else []
    if len(parts) > 1:
        losses |= {name: [r["losses"].get(name) for r in history] for name in parts}
    epochs = [r["epoch"] for r in history]
    _lines(left, epochs, losses, "training loss")
    # Not every epoch is evaluated (`training.evaluate_every`).
    names = list(dict.fromkeys(name for record in history for name in record["metrics"]))
    _lines(right, epochs, {n: [r["metrics"].get(n) for r in history] for n in names}, "validation")
    right.set_ylim(0, 1.02)
    if best_epoch is not None:
        right.axvline(best_epoch, color="0.6", linestyle="--", linewidth=1, zorder=0)
        right.annotate(
            f" best: {best_epoch}",
            (best_epoch, 0.02),
            color="0.4",
            fontsize=8,
            ha="right" if len(epochs) > 1 else "left",
        )
    return figure


def _lines(axes: Axes, epochs: Sequence[int], curves: Mapping[str, Sequence[float | None]], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for name, values in curves.items():
        known = [(e, v) for e, v in zip(epochs, values, strict=True) if v is not None]
        width = 2.4 if name in ("sum", "mAP", "accuracy") else 1.2
        # With a marker, since a line of one epoch is invisible.
        axes.plot([e for e, _ in known], [v for _, v in known], marker="o", markersize=3, label=name, linewidth=width)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if curves:
        axes.legend(fontsize=8, frameon=False)
