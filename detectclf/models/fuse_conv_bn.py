"""Fuses batch normalisations into the convolutions before them: the same network, faster on a CPU.

In evaluation mode a batch normalisation is a scale and an offset per channel, which the weights of the preceding
convolution can absorb (Jacob et al., "Quantization and Training of Neural Networks", 2018, section 3.2).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)

TOLERANCE = 1e-3
"""Largest difference of outputs, as a share of the largest output: fusing only changes rounding."""


def fuse_conv_bn(network: Network, images: Tensor) -> Network:
    """A copy of ``network`` for prediction without the batch normalisations that follow a convolution.

    The pairs are found in a forward pass of ``images``, because the order of definition does not tell which layer
    follows which. If the outputs of the fused copy differ (some networks of timm use an output twice, or change weights
    in the forward pass), an unfused copy is returned.

    Args:
        network: in evaluation mode; not changed.
        images: ``(B, C, H, W)``, the network's input; noise, so that every channel is used.
    """
    copied = copy.deepcopy(network)
    with torch.no_grad():  # not inference mode: its tensors could not be used for training
        wanted = _tensors(network(images))
        for first, second in _pairs(copied, images):
            convolution, norm = copied.get_submodule(first), copied.get_submodule(second)
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            copied.set_submodule(first, fuse_conv_bn_eval(convolution, norm))
            copied.set_submodule(second, _rest(norm))
        found = _tensors(copied.eval()(images))
    same = all(
        float((a - b).abs().max()) <= TOLERANCE * float(a.abs().max()) for a, b in zip(wanted, found, strict=True)
    )
    return copied if same else copy.deepcopy(network)


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and the batch normalisations that take their output, each of them called once."""
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
            read.extend((conv, name) for output, conv in made if inputs and output is inputs[0])

        return look

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after(name)))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(before(name)))
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in read if calls[conv] == 1 and calls[norm] == 1]


def _rest(norm: nn.Module) -> nn.Module:
    """What is left of a fused batch normalisation: those of timm include dropout and activation."""
    parts = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    return nn.Sequential(*parts) if parts else nn.Identity()


def _tensors(output: Any) -> list[Tensor]:
    """The tensors in a network's output."""
    if isinstance(output, Tensor):
        return [output.float()]
    parts = output.values() if isinstance(output, Mapping) else output
    return [tensor for part in parts for tensor in _tensors(part)]


__all__ = ["fuse_conv_bn"]
