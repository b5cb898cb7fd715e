"""Groups, schedule and moving average are what their docstrings say."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from detectclf.config import TrainingConfig
from detectclf.training.optimization import build_optimizer, lr_factor, moving_average, set_lr


class TwoParts(nn.Module):
    """A backbone with a norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, 3)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The convolution and the norm."""
        return list(self.backbone.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """The linear layer."""
        return list(self.head.parameters())


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_groups_have_their_rates_and_no_decay_on_norms_and_biases(name: str) -> None:
    model = TwoParts()
    optimizer = build_optimizer(model, TrainingConfig(optimizer=name, lr=0.1, backbone_lr=0.01, weight_decay=0.5))
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert rate.keys() == {id(p) for p in model.parameters()}
    assert all(rate[id(p)] == 0.01 for p in model.backbone.parameters())
    assert all(rate[id(p)] == 0.1 for p in model.head.parameters())
    for parameter in model.parameters():
        assert decay[id(parameter)] == (0.5 if parameter.ndim > 1 else 0.0)
    set_lr(optimizer, 0.5)
    assert {g["lr"] for g in optimizer.param_groups} == {0.05, 0.005}


def test_schedule_warms_up_then_falls_to_nothing() -> None:
    config = TrainingConfig(epochs=10, warmup_epochs=2)
    values = [lr_factor(e / 10, config) for e in range(100)]
    assert values[0] == 0.01, "the first step moves something"
    assert values[10] == pytest.approx(0.5) and values[20] == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(values[20:]))
    assert values[60] == pytest.approx(0.5) and lr_factor(10, config) == pytest.approx(0.0)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_schedule_ends_at_the_share_that_is_set(share: float) -> None:
    config = TrainingConfig(epochs=10, warmup_epochs=2, final_lr=share)
    assert lr_factor(2, config) == pytest.approx(1.0)
    assert lr_factor(6, config) == pytest.approx((1 + share) / 2)
    assert lr_factor(10, config) == pytest.approx(share)


@pytest.mark.parametrize(
    ("epochs", "warmup"),
    [(1, 0.5), (1, 5.0), (3, 0.0)],  # as by default, warm-up longer than the training, none at all
)
def test_schedule_stays_within_bounds(epochs: int, warmup: float) -> None:
    config = TrainingConfig(epochs=epochs, warmup_epochs=warmup)
    values = [lr_factor(e / 20, config) for e in range(20 * epochs)]
    assert all(0 < v <= 1 for v in values) and max(values) > 0.95


def test_average_is_warmed_up_and_takes_buffers_along() -> None:
    model = nn.BatchNorm1d(1)
    average = moving_average(model, decay=0.5)
    expected = None
    for n, value in enumerate([1.0, 2.0, 4.0, 8.0]):
        for tensor in (model.weight, model.running_mean):
            tensor.data.fill_(value)
        model.num_batches_tracked.fill_(n + 1)
        average.update_parameters(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)
        assert average.module.running_mean.item() == pytest.approx(expected)
        assert average.module.num_batches_tracked.item() == n + 1
    assert not any(p.requires_grad for p in average.parameters())


def test_no_decay_means_no_average() -> None:
    model = nn.Linear(2, 2)
    average = moving_average(model, decay=0.0)
    for _ in range(3):
        model.weight.data.normal_()
        average.update_parameters(model)
    assert torch.equal(average.module.weight, model.weight)
