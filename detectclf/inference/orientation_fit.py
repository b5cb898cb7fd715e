"""Trains the network that tells turned heads, on upright slices and the same slices turned.

It has one hidden layer. A linear discriminant, as in bundles of version 3.2, tells far fewer of the slices that are
upside down (docs/log.md). Heads that are drawn from label maps show what data sets of tumours lack: levels of the skull
base and the crown, and other contrasts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detectclf.imaging.upright import TURNS
from detectclf.inference.orientation import turn_margin
from detectclf.models.bundle_arrays import Orientation
from detectclf.types import Doubles, FloatArray

UPRIGHT_SHARE = 0.98
"""Share of upright slices without a flag."""
TURNED_THEMSELVES = 5.0
"""From this margin on, by networks that have not seen it, a slice is left out of the fit: data sets have such."""
FOLDS = 5
FEWEST_SLICES = 40
_HIDDEN, _DROPOUT, _NOISE = 96, 0.5, 0.2  # noise: standard deviation, of features with unit variance
_BATCH, _EPOCHS, _FEWEST_STEPS, _RATE, _DECAY, _SMOOTHING = 256, 16, 100, 1e-3, 1e-2, 0.02


def fit_orientation(features: FloatArray, groups: Sequence[int], drawn: FloatArray | None = None) -> Orientation | None:
    """Trains the network and chooses its threshold on slices that it has not seen.

    Args:
        features: ``(N, TURNS, D)`` of upright slices and their turned copies.
        groups: independent group of each, such as its patient.
        drawn: ``(M, TURNS, D)`` of drawn heads to train on as well; the threshold is that of the slices.

    Returns:
        ``None`` where there are fewer slices than ``FEWEST_SLICES``.
    """
    if len(features) < FEWEST_SLICES:
        return None
    extra = features[:0] if drawn is None else drawn
    fold = np.asarray(groups) % FOLDS
    unseen = np.zeros(len(features))
    for k in range(FOLDS):
        layers = _trained(np.concatenate([features[fold != k], extra]))
        unseen[fold == k] = turn_margin(layers, features[fold == k, 0])
    upright = unseen < TURNED_THEMSELVES
    if upright.sum() < FEWEST_SLICES:
        return None
    # Where all are clearly upright, a turn must still be likelier than none.
    threshold = max(0.0, float(np.quantile(unseen[upright], UPRIGHT_SHARE)))
    return Orientation(_trained(np.concatenate([features[upright], extra])), threshold)


def _trained(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The layers of a network for ``features`` ``(N, TURNS, D)``; the same for the same features."""
    import torch
    from torch import nn

    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-3
    turns = torch.arange(TURNS).repeat(len(features))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs = torch.from_numpy(((rows - mean) / spread).astype(np.float32))
        first, last = nn.Linear(inputs.shape[1], _HIDDEN), nn.Linear(_HIDDEN, TURNS)
        network = nn.Sequential(first, nn.ReLU(), nn.Dropout(_DROPOUT), last)
        optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
        batches = math.ceil(len(inputs) / _BATCH)
        epochs = max(_EPOCHS, math.ceil(_FEWEST_STEPS / batches))
        falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / epochs, total_iters=epochs)
        loss = nn.CrossEntropyLoss(label_smoothing=_SMOOTHING)
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(inputs)), _BATCH):
                seen = inputs[batch] + _NOISE * torch.randn(len(batch), inputs.shape[1])
                optimizer.zero_grad()
                loss(network(seen), turns[batch]).backward()
                optimizer.step()
            falling.step()
    slopes, constants = _doubles(first.weight) / spread, _doubles(first.bias)
    return _layer(slopes, constants - slopes @ mean), _layer(_doubles(last.weight), _doubles(last.bias))


def _doubles(parameter: object) -> Doubles:
    import torch

    assert isinstance(parameter, torch.Tensor)
    return np.asarray(parameter.detach().double().numpy())


def _layer(slopes: Doubles, constants: Doubles) -> FloatArray:
    return np.concatenate([slopes, constants[:, None]], axis=1).astype(np.float32)


__all__ = ["FEWEST_SLICES", "fit_orientation"]
