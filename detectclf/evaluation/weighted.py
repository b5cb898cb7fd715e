"""Figures as functions of slice weights, so that a published figure and its resamples come from the same code.

A weighted figure maps ``(B, I)`` weights, how often each of ``I`` slices counts in each of ``B`` resamples, to ``(B,)``
values. One row of ones gives the published value, rows of counts give the bootstrap's. Figures that share their
intermediate results, such as mAP and the AP of each class, are computed by one function and returned by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

WeightedFigures = Callable[[Floats], dict[str, Floats]]
"""``(B, I)`` weights -> dotted key in report.json -> ``(B,)`` values, NaN where a figure is undefined."""

Values = Mapping[str, float | None]
"""Dotted key in report.json -> published value, ``None`` where it is undefined."""

Intervals = Mapping[str, list[float] | None]
"""Dotted key of a figure -> its 95 % interval, ``None`` where it has none."""


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator``, NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(denominator > 0, numerator / denominator, np.nan))


def mean_of_known(values: Floats, axis: int) -> Floats:
    """Mean along ``axis`` over the values that are not NaN; NaN where there are none."""
    return divide(np.nansum(values, axis=axis), np.isfinite(values).sum(axis=axis).astype(np.float64))


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike, name: str) -> WeightedFigures:
    """One figure that divides a sum over slices by another, such as an accuracy; both arguments ``(I,)``."""
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return lambda weights: {name: divide(weights @ above, weights @ below)}


def on_slices(figures: WeightedFigures, slices: Indices) -> WeightedFigures:
    """Turns ``figures`` of the slices at positions ``slices`` into figures of all slices."""
    return lambda weights: figures(weights[:, slices])


def joined(functions: Sequence[WeightedFigures]) -> WeightedFigures:
    """One function that returns the figures of all ``functions``."""
    return lambda weights: {name: values for figures in functions for name, values in figures(weights).items()}


def published(figures: WeightedFigures, slices: int) -> dict[str, float | None]:
    """The value of every figure when each of ``slices`` slices counts once."""
    return {name: known(values[0]) for name, values in figures(np.ones((1, slices))).items()}


def known(value: float) -> float | None:
    """``value`` as a plain float, ``None`` for NaN."""
    return None if np.isnan(value) else float(value)


def run_starts(ordered: Floats) -> Indices:
    """Where each run of equal values of ``ordered`` starts."""
    return np.flatnonzero(np.concatenate([[True], np.diff(ordered) != 0]))
