"""Choice of device and precision."""

from __future__ import annotations

import logging
from typing import Literal

import torch

from detectclf.errors import DeviceError
from detectclf.models.names import check_device, no_cuda, no_mps

Precision = Literal["fp32", "bf16", "fp16"]

log = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """The device of this machine that ``name`` refers to.

    Args:
        name: ``auto`` (the first available of cuda, mps, cpu), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        DeviceError: an unknown device, or one that is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    check_device(name)
    kind, _, number = name.partition(":")
    if kind == "cuda":
        _check_cuda(name, int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise no_mps()
    return torch.device(name)


def one_thread_after_fork() -> None:
    """Makes torch compute with one thread, for a forked process.

    The threads of OpenMP do not survive a fork, and torch would wait for them for ever.
    """
    if torch.get_num_threads() > 1:
        log.warning("torch computes with one thread here, since the model was loaded before this process was forked")
        torch.set_num_threads(1)


def resolve_precision(wanted: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> Precision:
    """The precision to compute in; ``auto`` uses half precision only if the hardware is fast in it.

    On a CPU without bf16 instructions (AMX or AVX-512 BF16) autocast is several times slower than fp32, and fp16 has
    no fast kernels at all.

    Raises:
        DeviceError: the device does not support the precision.
    """
    if wanted == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"
    if wanted == "fp16" and device.type in ("cpu", "xla"):
        raise DeviceError("fp16 training needs a GPU", remedy="use --set training.precision=auto, bf16 or fp32")
    return wanted


def _check_cuda(name: str, number: int) -> None:
    if not torch.cuda.is_available():
        raise no_cuda(name, built_without=torch.version.cuda is None and torch.version.hip is None)
    if number >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        reason = f"device {name!r} is not there: {count} GPU{'s' * (count > 1)}, counted from 0"
        raise DeviceError(reason, remedy="use --device cuda")


def _cpu_has_bf16() -> bool:
    # torch has no public functions for this; its own mkldnn tests use these private ones.
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        supported = getattr(torch.cpu, name, None)
        if supported is not None and supported():
            return True
    return False
