"""Out-of-distribution (OOD) detection: is this picture a brain MRI at all, and one like those of the training?

A picture is out of distribution where its features are far from those of the training slices by Mahalanobis distance
(Lee et al., "A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018). Features are mean
and standard deviation of each channel of the detector's stride-16 maps over the picture. Softmax scores do not do: they
are high on photographs too. Nor do the classifier's last features, which keep only what separates the classes: with
them, 62 % of the pictures were detected that these features detect (docs/log.md).

Noise moves the features far, and so does what is lost with it where it is removed. A slice with noise of a scanner is
known by statistics of its own, one Gaussian for each kind of noise, and one for noise that was removed: a single one
for all slices would be so wide that it takes other pictures too (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from detectclf.models.bundle_arrays import OODStatistics
from detectclf.types import Doubles, FloatArray, Novelty

Indices = npt.NDArray[np.intp]

SHRINKAGE = 0.2
"""Weight of the diagonal in the covariance: an estimate for hundreds of channels from about 1000 slices is noisy."""
INLIER_SHARE = 0.995
"""Share of the training slices that lie within the threshold before the margin."""
USUAL_SHARE = 0.88
"""Share of slices like the training slices that do not count as unusual: most mistakes on slices of other scanners lie
beyond (docs/log.md)."""
MARGIN = 1.2
"""Factor on the threshold: slices of other scanners lie further out than those of the fit (docs/log.md)."""
NOISY_MARGIN = 0.85
"""The same for slices with noise: it is drawn at its strongest in the fit, and other pictures are nearer to them. Where
noise was removed the threshold stays as it is."""
FOLDS = 5
"""Cross-validation folds for the threshold."""
FEWEST_SLICES, FEWEST_NOISY = 40, 200
"""Slices that a fit needs, and slices that a fit of noisy slices and turned heads needs: there are as many features."""


def distances(ood: OODStatistics, features: FloatArray) -> Doubles:
    """Mahalanobis distance ``(B,)`` of each row of ``features`` ``(B, D)`` to the training slices."""
    centred = features.astype(np.float64) - ood.mean
    return np.asarray(np.linalg.norm(centred @ ood.whitening.astype(np.float64), axis=1))


def novelty(ood: OODStatistics | None, features: FloatArray | None, *, cropped: bool = False) -> Novelty:
    """How a picture with ``features`` ``(D,)`` compares with the training slices; ``usual`` where it is not known.

    Args:
        ood: the statistics.
        features: of the picture, or of the part of it that was taken for a slice.
        cropped: whether it is such a part. Then no margin is given: a part that looks like a head, such as that of a
            portrait, is nearer to a slice than other pictures are.
    """
    if ood is None or features is None:
        return "usual"
    margin = MARGIN if cropped else 1.0
    distance = float(distances(ood, features[None])[0])
    if distance * margin > ood.threshold:
        known = any(float(distances(kind, features[None])[0]) * margin <= kind.threshold for kind in ood.noisy)
        return "unusual" if known else "outside"
    return "unusual" if distance > ood.unusual else "usual"


def fit_ood(
    features: FloatArray,
    groups: Sequence[int],
    noisy: Sequence[FloatArray] = (),
    denoised: Sequence[FloatArray] = (),
) -> OODStatistics | None:
    """Fits the statistics of brain-MRI slices and the thresholds.

    Args:
        features: ``(N, D)`` of slices of all kinds that the model was trained on.
        groups: independent group of each, such as its patient. A slice's distance is measured by those of other groups.
        noisy: ``(N, D)`` of the same slices with noise, for each kind of it.
        denoised: ``(N, D)`` of the same slices, for each kind of strong noise that was removed from them.

    Returns:
        ``None`` where there are fewer slices than ``FEWEST_SLICES``, or fewer groups than ``FOLDS``.
    """
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    if len(features) < FEWEST_SLICES or number.max() + 1 < FOLDS:
        return None
    whole, held_out = _fitted(features, number)
    edge, unusual = (float(np.quantile(held_out, share)) for share in (INLIER_SHARE, USUAL_SHARE))
    kinds = []
    for rows, margin in [*((rows, NOISY_MARGIN) for rows in noisy), *((rows, 1.0) for rows in denoised)]:
        kind, far = _fitted(rows, number)
        kinds.append(replace(kind, threshold=float(np.quantile(far, INLIER_SHARE)) * margin))
    return replace(whole, threshold=edge * MARGIN, unusual=unusual, noisy=tuple(kinds))


def _fitted(features: FloatArray, number: Indices) -> tuple[OODStatistics, Doubles]:
    """The statistics of ``(N, D)`` rows, and ``(N,)`` the distance of each row to those of other groups."""
    values = features.astype(np.float64)
    # Cross-validated: a slice is closer to a covariance that its patient is part of than any new slice is.
    fold = number % FOLDS
    held_out = np.zeros(len(values))
    for k in range(FOLDS):
        held_out[fold == k] = distances(_gaussian(values[fold != k]), values[fold == k].astype(np.float32))
    return _gaussian(values), held_out


def _gaussian(values: Doubles) -> OODStatistics:
    """Mean and whitening of ``(N, D)`` rows, with a threshold of 0."""
    mean, covariance = values.mean(axis=0), np.cov(values.T)
    spread = np.diag(covariance)
    # A channel that is constant over the slices would put every other picture infinitely far away.
    floor = 1e-3 * spread.mean() + 1e-12
    shrunk = (1 - SHRINKAGE) * covariance + np.diag(SHRINKAGE * spread + floor)
    whitening = np.triu(np.linalg.inv(np.linalg.cholesky(shrunk)).T)  # without what rounding leaves below
    return OODStatistics(mean.astype(np.float32), whitening.astype(np.float32), 0.0)


__all__ = ["distances", "fit_ood", "novelty"]
