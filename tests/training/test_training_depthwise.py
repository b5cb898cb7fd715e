"""Depthwise convolutions in float32 under bfloat16 autocast: the same figures, the same names, also in a copy."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from detectclf.training.depthwise import depthwise_in_float32


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.Conv2d(8, 2, 1))


def test_only_depthwise_layers_compute_in_float32() -> None:
    model = network()
    names = set(model.state_dict())
    depthwise_in_float32(model)
    images = torch.rand(2, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        middle = model[1](model[0](images))
        out = model[2](middle)
    assert middle.dtype == torch.bfloat16, "the next layer sees the type that autocast chose"
    out.float().sum().backward()
    assert set(model.state_dict()) == names and all(layer.weight.grad is not None for layer in model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = model[0](images)
    exact = nn.functional.conv2d(before.float(), model[1].weight, model[1].bias, padding=1, groups=8)
    assert torch.equal(middle, exact.to(torch.bfloat16))


def test_without_autocast_nothing_changes_and_a_copy_stands_alone() -> None:
    plain, changed = network(), network()
    depthwise_in_float32(changed)
    images = torch.rand(2, 4, 8, 8)
    assert torch.equal(plain(images), changed(images))
    copy = deepcopy(changed)
    with torch.no_grad():
        changed[1].weight.zero_()
    assert torch.equal(copy(images), plain(images)), "the copy must not use the weights of the original"
