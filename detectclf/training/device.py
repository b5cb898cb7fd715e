"""The device of a training. Imported before Accelerate, which takes an XLA device wherever it finds torch_xla."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

from detectclf.models.device import resolve_device
from detectclf.models.xla import has_tpu, xla_device


def training_device(name: str) -> torch.device:
    """The device that ``name`` refers to.

    Args:
        name: as for :func:`~detectclf.models.device.resolve_device`, or ``xla``; ``auto`` takes a TPU where there is
            one.

    Raises:
        DeviceError: an unknown device, or one that is not available.
    """
    if name == "xla" or (name == "auto" and has_tpu()):
        return xla_device()
    if find_spec("torch_xla") is not None:
        os.environ["USE_TORCH_XLA"] = "false"
    return resolve_device(name)


__all__ = ["training_device"]
