"""Optimiser, learning-rate schedule and moving average of weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel

from detectclf.config import TrainingConfig
from detectclf.models.transfer import TransferModel


def parameter_groups(model: TransferModel, config: TrainingConfig) -> list[dict[str, Any]]:
    """Four groups: backbone and head, each with and without weight decay; empty ones left out.

    Norms and biases (one-dimensional tensors) are not decayed (He et al., "Bag of tricks for image classification",
    2019, section 3.1). The schedule scales ``peak_lr``.
    """
    groups = []
    for parameters, lr in (
        (model.backbone_parameters(), config.backbone_lr),
        (model.head_parameters(), config.lr),
    ):
        listed = list(parameters)
        for decay, wanted in ((config.weight_decay, True), (0.0, False)):
            chosen = [p for p in listed if (p.ndim > 1) is wanted]
            if chosen:
                groups.append({"params": chosen, "lr": lr, "peak_lr": lr, "weight_decay": decay})
    return groups


def build_optimizer(model: TransferModel, config: TrainingConfig) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or SGD with momentum, over :func:`parameter_groups`."""
    groups = parameter_groups(model, config)
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return AdamW(groups, lr=config.lr)


def lr_factor(epochs_done: float, config: TrainingConfig) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine to ``final_lr`` (Loshchilov & Hutter 2017).

    It depends only on the position in the training, so there is no scheduler state to save.

    Args:
        epochs_done: finished epochs, with fraction; in ``[0, config.epochs)``.
        config: ``epochs``, ``warmup_epochs`` and ``final_lr``.
    """
    warmup = min(config.warmup_epochs, config.epochs / 2)
    if epochs_done < warmup:
        # Not from zero: the first step should have an effect.
        return max(0.01, epochs_done / warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (epochs_done - warmup) / (config.epochs - warmup))))
    return config.final_lr + (1 - config.final_lr) * cosine


def set_lr(optimizer: Optimizer, factor: float) -> None:
    """Sets every group to ``factor`` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak_lr"]


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and float buffers, with a warm-up.

    The decay starts at 1/10 and rises as ``(1 + n) / (10 + n)`` up to ``decay``, as in TensorFlow's
    ExponentialMovingAverage; with a constant decay, untrained weights would dominate the average in the first epochs.
    BatchNorm statistics are averaged too, so that they match the averaged weights. Counters are copied.

    Args:
        model: it is copied; update the average with ``average.update_parameters(model)`` after each step.
        decay: largest decay, in ``[0, 1)``; 0 makes the average equal to the model.
    """

    def update(averaged: Any, current: Any, count: Any) -> None:
        n = float(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        if averaged[0].is_floating_point() and averaged[0].device.type == "xla":
            # By a number it would be another program from where the weight falls below a half; and where a number, also
            # one of no dimension, has the value of a constant, the two become one input of another program.
            share = torch.tensor([weight], device=averaged[0].device)
            torch._foreach_lerp_(averaged, current, [share.reshape((1,) * each.ndim) for each in averaged])
        elif averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    average.requires_grad_(False)
    return average
