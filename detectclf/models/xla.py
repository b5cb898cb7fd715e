"""XLA devices, such as TPUs, through torch_xla, which is imported here and nowhere else. Only trainings run on them."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from detectclf.errors import DeviceError
from detectclf.models.names import XLA_REMEDY, check_device


def has_tpu() -> bool:
    """Whether torch_xla is installed and finds a TPU."""
    if find_spec("torch_xla") is None:
        return False
    try:
        return bool(_runtime().device_type() == "TPU")
    except (ImportError, OSError, RuntimeError):
        return False


def xla_device() -> torch.device:
    """The device of torch_xla: a TPU, or what ``PJRT_DEVICE`` names.

    Raises:
        DeviceError: torch_xla is not installed, or finds no device.
    """
    check_device("xla", training=True)
    chosen = os.environ.get("PJRT_DEVICE")
    try:
        kind = _runtime().device_type()
        # Without a device torch_xla would compile for the CPU, slower than torch alone.
        if chosen is None and kind == "CPU":
            raise DeviceError("device 'xla': there is no TPU", remedy="use --device auto, or set PJRT_DEVICE")
        device: torch.device = import_module("torch_xla").device()
    except (ImportError, OSError, RuntimeError) as error:
        reason = f"device 'xla': {str(error).partition(chr(10))[0] or type(error).__name__}"
        raise DeviceError(reason, remedy=XLA_REMEDY) from error
    return device


def compute_now(device: torch.device) -> None:
    """On an XLA device, compiles and computes what was asked for so far; without it, each value read does so again."""
    if device.type == "xla":
        import_module("torch_xla").sync()


def no_gradients(device: torch.device) -> AbstractContextManager[Any]:
    """Inference mode; torch_xla does not know it, and gets the nearest to it."""
    return torch.no_grad() if device.type == "xla" else torch.inference_mode()


def xla_kind(device: torch.device) -> str | None:
    """What an XLA device is, such as ``TPU`` or ``CPU``; ``None`` for other devices."""
    return str(_runtime().device_type()) if device.type == "xla" else None


def seed_xla(seed: int) -> None:
    """Seeds the random numbers of the XLA device, if one is in use."""
    if "torch_xla" in sys.modules:
        import_module("torch_xla.core.xla_model").set_rng_state(seed)


def _runtime() -> Any:
    # The average of the weights shares the memory of what has not changed yet. torch_xla would write the new value into
    # that memory and lose the weight. Without this a step needs memory for the weights twice.
    os.environ.setdefault("XLA_ENABLE_PARAM_ALIASING", "0")
    # It would put the numbers 0 and 1 into the program, as those that a schedule or a bias correction arrives at.
    os.environ.setdefault("XLA_NO_SPECIAL_SCALARS", "1")
    return import_module("torch_xla.runtime")


__all__ = ["compute_now", "has_tpu", "no_gradients", "seed_xla", "xla_device", "xla_kind"]
