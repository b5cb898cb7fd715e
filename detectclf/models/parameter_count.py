"""The number of a network's parameters, from the header of its weights: neither torch nor the weights are read."""

from __future__ import annotations

import math
from pathlib import Path

_STATISTICS = ("running_mean", "running_var")


def count_parameters(weights: Path) -> int:
    """The number of parameters in a safetensors file that detectclf wrote, trained or not.

    What a network saves beside its parameters is not counted: whole numbers, running statistics, and all of a batch
    norm that was frozen for good (torchvision's ``FrozenBatchNorm2d``), which unlike others does not count its batches.

    Args:
        weights: the file, whose digest was checked.
    """
    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        sizes = {name: math.prod(part.get_shape()) for name, part in parts.items() if "F" in part.get_dtype()}
    norms = {name.rpartition(".")[0] for name in sizes if name.endswith(".running_mean")}
    frozen = {norm for norm in norms if f"{norm}.num_batches_tracked" not in parts}
    return sum(
        size
        for owner, last, size in ((*name.rpartition(".")[::2], size) for name, size in sizes.items())
        if last not in _STATISTICS and owner not in frozen
    )


__all__ = ["count_parameters"]
