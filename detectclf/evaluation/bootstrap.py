"""95 % intervals by bootstrap over source groups, and paired tests.

Slices of one source (copies, mirrored copies) are not independent, so whole groups are drawn with replacement
(cluster bootstrap, Davison and Hinkley 1997, chapter 3.8; percentile intervals, Efron and Tibshirani 1993, corrected
for bias where the figure is an average precision; a share that is 0 or 1 throughout gets the exact interval of Clopper
and Pearson 1934 over its sources instead). A resample is a row of multiplicities, one per slice; every figure is
written as a function of those rows, so that thousands of resamples are a few array operations and nothing is matched
twice. With all multiplicities 1 the figures are exactly the published ones (tested against pycocotools and
scikit-learn).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from detectclf.evaluation.classification import SMALLEST_PROBABILITY, Classified, brier_terms, top_class
from detectclf.evaluation.froc import froc_points
from detectclf.evaluation.matching import RECALL_POINTS, ClassMatches, Floats

Family = Callable[[Floats], dict[str, Floats]]
"""``(B, I)`` multiplicities -> figure name -> ``(B,)`` values, NaN where a resample gives a figure no meaning."""

_CELLS = 4_000_000  # cells of one array (resamples x detections, some 20 per slice): bounds memory on large splits


def resamples(groups: npt.NDArray[np.int64], count: int, seed: int, *, chunk: int) -> Iterator[Floats]:
    """Rows of multiplicities, in chunks of at most ``chunk`` resamples; the rows do not depend on the chunk.

    Args:
        groups: ``(I,)`` source group of each slice, any integers.
        count: resamples in all.
        seed: seed of the drawing.
        chunk: rows per chunk.
    """
    _, member = np.unique(groups, return_inverse=True)
    sources = int(member.max()) + 1 if len(member) else 0
    if not sources:
        return
    random = np.random.default_rng(seed)
    for start in range(0, count, chunk):
        drawn = random.multinomial(sources, np.full(sources, 1 / sources), size=min(chunk, count - start))
        yield drawn[:, member].astype(np.float64)


def bootstrap(families: Sequence[Family], groups: npt.NDArray[np.int64], *, count: int, seed: int) -> dict[str, Floats]:
    """Every figure of ``families`` in each of ``count`` resamples: name -> ``(count,)`` values."""
    parts: dict[str, list[Floats]] = {}
    chunk = max(1, min(200, _CELLS // (20 * max(len(groups), 1))))
    for weights in resamples(groups, count, seed, chunk=chunk):
        for family in families:
            for name, values in family(weights).items():
                parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def interval(values: Floats, level: float = 0.95) -> list[float] | None:
    """Percentile interval ``[low, high]``; ``None`` where a tenth or more of the resamples has no such figure."""
    known = values[np.isfinite(values)]
    if known.size <= 0.9 * values.size:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def bias_corrected_interval(values: Floats, figure: float, level: float = 0.95) -> list[float] | None:
    """Bias-corrected percentile interval (Efron 1987, without acceleration) round the ``figure`` itself.

    For average precision: its envelope is a maximum, so the noise of resampling lifts it once more, and plain
    percentiles lie too high (drawn samples of 250 slices: they held the true mAP in 153 of 200, these in 179).
    """
    from scipy.special import ndtr, ndtri

    known = values[np.isfinite(values)]
    if known.size <= 0.9 * values.size:
        return None
    # Half of the equal ones; COCO's precision is short of the plain one by rounding steps.
    below = ((known < figure - 1e-9).mean() + (known <= figure + 1e-9).mean()) / 2
    bias = ndtri(np.clip(below, 0.5 / known.size, 1 - 0.5 / known.size))
    tails = ndtr(2 * bias + ndtri([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(known, tails)
    return [min(float(low), figure), max(float(high), figure)]


def exact_interval(all_right: bool, sources: int, level: float = 0.95) -> list[float] | None:
    """Clopper-Pearson interval of a share that is 1 (or 0) in all of ``sources`` independent cases.

    There the bootstrap has nothing to vary and would claim certainty.
    """
    if sources < 1:
        return None
    reach = float(((1 - level) / 2) ** (1 / sources))
    return [reach, 1.0] if all_right else [0.0, 1.0 - reach]


def paired_p(differences: Floats) -> float | None:
    """Two-sided bootstrap p of "no difference" from paired differences, counted so that it is never 0."""
    known = differences[np.isfinite(differences)]
    if not known.size:
        return None
    tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (known.size + 1))


def least_p(sources: int) -> float:
    """The smallest two-sided p that an exact paired test (a sign test) can give of ``sources`` that differ.

    With few of them every resample points the same way, and the bootstrap alone would be sure of anything.
    """
    return min(1.0, 2.0 * 0.5**sources)


def mcnemar_exact(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided McNemar p that two classifiers are right equally often on the same slices (1 if they agree)."""
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike, name: str) -> Family:
    """The family of one figure that is a sum over slices by another, such as an accuracy; both ``(I,)``."""
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return lambda weights: {name: _divide(weights @ above, weights @ below)}


def _divide(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below > 0, above / below, np.nan))


def average_precisions(matches: ClassMatches, weights: Floats) -> Floats:
    """COCO average precision at each IoU threshold in each resample.

    Precision is only looked at where a hit stands: recall rises nowhere else, and precision is highest there, so the
    101-point envelope is the same and the arrays are a tenth of the size.

    Returns:
        ``(B, T)``; NaN where the resample has no true box of the class.
    """
    each = weights[:, matches.slices]
    total = np.cumsum(each, axis=1)
    truths = weights @ matches.truths
    result = np.full((len(weights), len(matches.hits)), np.nan)
    for t, hits in enumerate(matches.hits):
        where = np.flatnonzero(hits)
        found = np.cumsum(each[:, where], axis=1)
        precision = found / (total[:, where] + np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = _divide(found, np.broadcast_to(truths[:, None], found.shape))
        # Each recall point takes the precision of the first hit that reaches it: so many points fall to each hit.
        reached = np.searchsorted(RECALL_POINTS, np.nan_to_num(recall), side="right")
        points = np.diff(reached, axis=1, prepend=0)
        result[:, t] = np.where(truths > 0, (points * envelope).sum(axis=1) / len(RECALL_POINTS), np.nan)
    return result


def map_family(matches: Mapping[str, ClassMatches], prefix: str, table: str) -> Family:
    """``prefix.mAP``, ``.mAP50``, ``.mAP75`` and per class ``prefix.TABLE.NAME.AP`` and ``.AP50``.

    ``matches`` must be at the ten COCO thresholds. A class absent from a resample is left out of its mean.
    """

    def family(weights: Floats) -> dict[str, Floats]:
        tables = {name: average_precisions(m, weights) for name, m in matches.items()}
        out: dict[str, Floats] = {}
        if tables:
            stack = np.stack(list(tables.values()))  # (class, B, T)
            known = np.isfinite(stack[:, :, 0]).sum(axis=0).astype(np.float64)
            means = _divide(np.nansum(stack, axis=0), np.broadcast_to(known[:, None], stack.shape[1:]))
            out = {f"{prefix}.mAP": means.mean(axis=1), f"{prefix}.mAP50": means[:, 0], f"{prefix}.mAP75": means[:, 5]}
        for name, values in tables.items():
            out[f"{prefix}.{table}.{name}.AP"] = values.mean(axis=1)
            out[f"{prefix}.{table}.{name}.AP50"] = values[:, 0]
        return out

    return family


def localisation_family(matches: ClassMatches, name: str) -> Family:
    """``NAME.AP``, ``.AP50`` and ``.AP75`` of class-agnostic matches at the ten COCO thresholds."""

    def family(weights: Floats) -> dict[str, Floats]:
        values = average_precisions(matches, weights)
        return {f"{name}.AP": values.mean(axis=1), f"{name}.AP50": values[:, 0], f"{name}.AP75": values[:, 5]}

    return family


def froc_family(matches: ClassMatches, threshold: int, name: str) -> Family:
    """The mean FROC sensitivity."""
    return lambda weights: {name: froc_points(matches, threshold, weights).mean(axis=1)}


def classification_family(data: Classified, slices: npt.NDArray[np.intp], prefix: str) -> Family:
    """Headline classification figures under ``prefix``.

    Args:
        data: the classified slices.
        slices: ``(N,)`` position of each among all the slices that are resampled.
        prefix: ``classification`` or ``combined``.
    """
    count = len(data.classes)
    right = data.right.astype(np.float64)
    nll = -np.log(np.clip(data.probabilities[np.arange(len(right)), data.true], SMALLEST_PROBABILITY, 1.0))
    losses = np.stack([right, nll, brier_terms(data)], axis=1)
    confidence, top_right, bins = top_class(data)
    gap = np.zeros((len(right), int(bins.max()) + 1 if len(bins) else 1))
    gap[np.arange(len(right)), bins] = top_right - confidence
    cell = np.zeros((len(right), count * count))
    cell[np.arange(len(right)), data.true * count + data.predicted] = 1.0

    def family(weights: Floats) -> dict[str, Floats]:
        w = weights[:, slices]
        total = w.sum(axis=1)
        matrix = (w @ cell).reshape(-1, count, count)
        sums = w @ losses
        out = {
            "accuracy": _divide(sums[:, 0], total),
            "nll": _divide(sums[:, 1], total),
            "brier": _divide(sums[:, 2], total),
            "ece": _divide(np.abs(w @ gap).sum(axis=1), total),
            **_confusion_figures(matrix),
        }
        if data.negative is not None:
            out.update(_tumor_figures(matrix, data.classes.index(data.negative)))
        return {f"{prefix}.{name}": values for name, values in out.items()}

    return family


def _confusion_figures(matrix: Floats) -> dict[str, Floats]:
    hit = np.diagonal(matrix, axis1=1, axis2=2)
    truth, said = matrix.sum(axis=2), matrix.sum(axis=1)
    recall, f1 = _divide(hit, truth), _divide(2 * hit, truth + said)
    return {
        "balanced_accuracy": _divide(np.nansum(recall, axis=1), np.isfinite(recall).sum(axis=1).astype(np.float64)),
        "macro_f1": _divide(np.nansum(f1, axis=1), np.isfinite(f1).sum(axis=1).astype(np.float64)),
    }


def _tumor_figures(matrix: Floats, negative: int) -> dict[str, Floats]:
    healthy = matrix[:, negative].sum(axis=1)
    tumors = matrix.sum(axis=(1, 2)) - healthy
    missed = matrix[:, :, negative].sum(axis=1) - matrix[:, negative, negative]
    return {
        "sensitivity": _divide(tumors - missed, tumors),
        "specificity": _divide(matrix[:, negative, negative], healthy),
    }


def on_slices(family: Family, slices: npt.NDArray[np.intp]) -> Family:
    """``family`` of figures over the slices at positions ``slices`` only, as a family over all of them."""
    return lambda weights: family(weights[:, slices])
