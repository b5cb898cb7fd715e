"""Is this a brain MRI at all? The distance of a picture's features to those of known slices.

Features are the mean and standard deviation over the picture of each channel of the detector's stride-16 maps; the
distance is Mahalanobis' to all known slices (Lee et al., "A simple unified framework for detecting out-of-distribution
samples", NeurIPS 2018). Softmax scores are sure of photographs too, and so are distances in the classifier's last
features, which keep only what tells the classes apart: they caught 62 % of the pictures that these catch (docs/log.md).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from detectclf.models.bundle_arrays import OODStatistics
from detectclf.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

Doubles = npt.NDArray[np.float64]

SHRINKAGE = 0.2
"""Weight of the diagonal in the covariance: hundreds of channels from some thousand slices are noisy."""
KNOWN_SHARE = 0.995
"""Share of known slices that lie within the threshold before the margin."""
MARGIN = 1.1
"""Factor on the threshold: new slices lie further out than those that a detector was trained on, docs/log.md."""
PARTS = 5
"""Parts of the known slices, each measured by the mean and covariance of the others."""
FEWEST = 40
"""Source slices without which nothing is said."""


class MapStatistics:
    """Keeps mean and standard deviation of a detector's middle maps while a batch passes: ``with`` around its forward.

    Args:
        backbone: the detector's, giving its maps as a list or as a dict in order.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._last: Tensor | None = None
        self._backbone, self._thread = backbone, threading.get_ident()
        self._hook: RemovableHandle | None = None

    def __enter__(self) -> MapStatistics:
        self._hook = self._backbone.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()

    def _keep(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        import torch

        if threading.get_ident() != self._thread:
            return  # another thread's batch passes through the same model
        maps = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
        middle = maps[len(maps) // 2].float()
        self._last = torch.cat([middle.mean(dim=(2, 3)), middle.std(dim=(2, 3))], dim=1)

    def rows(self) -> FloatArray:
        """``(B, D)`` float32 of the batch that passed."""
        assert self._last is not None
        return np.asarray(self._last.cpu().numpy(), dtype=np.float32)


def distances(ood: OODStatistics, features: FloatArray) -> Doubles:
    """Distance ``(B,)`` of each row of ``features`` ``(B, D)`` to the known slices, in standard deviations."""
    centred = features.astype(np.float64) - ood.mean
    return np.asarray(np.linalg.norm(centred @ ood.whitening.astype(np.float64), axis=1))


def is_out_of_distribution(ood: OODStatistics, features: FloatArray) -> bool:
    """Whether the picture of ``features`` ``(D,)`` is no brain MRI as far as is known."""
    return bool(distances(ood, features[None])[0] > ood.threshold)


def fit_ood(features: FloatArray, groups: Sequence[int]) -> OODStatistics | None:
    """Learns what known slices look like.

    Args:
        features: ``(N, D)`` of slices that are brain MRIs.
        groups: source group of each: copies of one slice count once.

    Returns:
        ``None`` where there are too few source slices to say.
    """
    _, first = np.unique(np.asarray(groups), return_index=True)
    if len(first) < FEWEST:
        return None
    values = features[np.sort(first)].astype(np.float64)
    # Each part against the others: a covariance of few slices lies closer to these than to any new one.
    part = np.arange(len(values)) % PARTS
    unseen = [distances(_gaussian(values[part != k]), values[part == k].astype(np.float32)) for k in range(PARTS)]
    edge = float(np.quantile(np.concatenate(unseen), KNOWN_SHARE))
    return replace(_gaussian(values), threshold=edge * MARGIN)


def _gaussian(values: Doubles) -> OODStatistics:
    """Mean and whitening of ``(N, D)`` rows, without a threshold."""
    mean, covariance = values.mean(axis=0), np.cov(values.T)
    spread = np.diag(covariance)
    # A channel that never changes would make every other picture infinitely far: a floor of a thousandth of the mean.
    floor = 1e-3 * spread.mean() + 1e-12
    shrunk = (1 - SHRINKAGE) * covariance + np.diag(SHRINKAGE * spread + floor)
    whitening = np.linalg.inv(np.linalg.cholesky(shrunk)).T
    return OODStatistics(mean.astype(np.float32), whitening.astype(np.float32), 0.0)


__all__ = ["MapStatistics", "distances", "fit_ood", "is_out_of_distribution"]
