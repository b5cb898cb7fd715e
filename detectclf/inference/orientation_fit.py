"""Trains the network that tells turned heads, on upright slices and the same slices turned.

It has one hidden layer. A linear discriminant, as in bundles of version 3.2, tells far fewer of the slices that are
upside down (docs/log.md). Heads that are drawn from label maps show what data sets of tumours lack: levels of the skull
base and the crown, and other contrasts.

Published sets hold the same slice upright and upside down, to have more of them: half of Br35H is turned. So copies are
kept in one fold, and what networks that have not seen them call turned is left out, again and again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detectclf.imaging.upright import TURNS
from detectclf.inference.orientation import turn_margin
from detectclf.models.bundle_arrays import Orientation
from detectclf.types import Doubles, FloatArray

TURNED = 1.0
"""The margin from which on a slice is turned: by networks that have not seen it, it is then left out of the fit."""
FOLDS = 5
ROUNDS = 3
FEWEST_SLICES = 40
_ALIKE, _ROWS = 0.9, 1000  # least cosine of the features of copies; slices that are compared with all at a time
_HIDDEN, _DROPOUT, _NOISE = 96, 0.5, 0.2  # noise: standard deviation, of features with unit variance
_BATCH, _EPOCHS, _FEWEST_STEPS, _RATE, _DECAY, _SMOOTHING = 256, 16, 100, 1e-3, 1e-2, 0.02


def fit_orientation(features: FloatArray, groups: Sequence[int], drawn: FloatArray | None = None) -> Orientation | None:
    """Trains the network and chooses its threshold on slices that it has not seen.

    Args:
        features: ``(N, TURNS, D)`` of slices as they are, nearly all of them upright, and turned.
        groups: independent group of each, such as its patient.
        drawn: ``(M, TURNS, D)`` of drawn heads to train on as well.

    Returns:
        ``None`` where fewer slices than ``FEWEST_SLICES`` are left, without one of the folds: nearly all may be copies.
    """
    if len(features) < FEWEST_SLICES:
        return None
    extra = features[:0] if drawn is None else drawn
    fold = _folds(_with_copies(features, groups))
    upright = np.ones(len(features), dtype=bool)
    for _ in range(ROUNDS):
        parts = [upright & (fold != k) for k in range(FOLDS)]
        if min(part.sum() for part in parts) < FEWEST_SLICES * (FOLDS - 1) / FOLDS:
            return None
        unseen = np.zeros(len(features))
        for k, part in enumerate(parts):
            layers = _trained(np.concatenate([features[part], extra]))
            unseen[fold == k] = turn_margin(layers, features[fold == k, 0])
        upright = unseen < TURNED
    return Orientation(_trained(np.concatenate([features[upright], extra])), TURNED)


def _folds(groups: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The fold of each slice: whole groups, the largest first, each to the fold that has the fewest slices."""
    sizes = np.bincount(groups)
    fold, filled = np.zeros(len(sizes), dtype=np.int64), np.zeros(FOLDS, dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold[groups]


def _with_copies(features: FloatArray, groups: Sequence[int]) -> npt.NDArray[np.int32]:
    """``(N,)``: number of the group of each slice; groups that hold copies of one slice, turned or not, are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = features.reshape(-1, features.shape[-1])
    unit = ((features - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-3)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    count, (_, group) = len(features), np.unique(groups, return_inverse=True)
    links = [np.stack([np.arange(count), count + group])]  # each slice to its group
    for first in range(0, count, _ROWS):
        for turn in range(TURNS):
            one, other = np.nonzero(unit[first : first + _ROWS, 0] @ unit[:, turn].T > _ALIKE)
            links.append(np.stack([one + first, other]))
    pairs = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(2 * count, 2 * count))
    _, joined = connected_components(graph, directed=False)
    return np.asarray(joined[:count])


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
