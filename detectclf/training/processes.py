"""Processes, device and precision of a training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, is_torch_xla_available

from detectclf.config import TrainingConfig
from detectclf.errors import ConfigError, TrainingError
from detectclf.models.device import resolve_device, resolve_precision


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """An Accelerator for this process; under ``torchrun`` it joins the other processes.

    Raises:
        DeviceError: the device is not available, or does not support the precision.
    """
    device = resolve_device(config.device)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device.index)
    xla = config.device == "auto" and is_torch_xla_available()
    precision = resolve_precision(config.precision, device)
    # Accelerate keeps one state per Python process, with one precision; the demo trains two models in a process.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=device.type == "cpu" and not xla,
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_steps=config.accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True, even_batches=True),
    )


def global_batch(wanted: int, slices: int, processes: int) -> int:
    """Slices per step over all processes: ``wanted``, or about all slices if there are fewer.

    Raises:
        ConfigError: ``wanted`` is not a multiple of the number of processes.
    """
    if wanted % processes:
        reason = f"training.batch_size {wanted} cannot be split over {processes} processes"
        raise ConfigError(reason, remedy=f"use a multiple of {processes}")
    enough = max(slices, 2)  # BatchNorm needs two
    return min(wanted, -(-enough // processes) * processes)


def on_main(accelerator: Accelerator, write: Callable[[], None]) -> None:
    """Lets the main process write, while the others wait; if it cannot, they all stop.

    Raises:
        TrainingError: the main process could not write.
    """
    failed: list[TrainingError | None] = [None]
    if accelerator.is_main_process:
        try:
            write()
        except TrainingError as error:
            failed[0] = error
    if accelerator.num_processes > 1:
        texts = [failed[0] and str(failed[0])]
        broadcast_object_list(texts)
        if texts[0] and not accelerator.is_main_process:
            failed[0] = TrainingError(texts[0])
    if failed[0] is not None:
        raise failed[0]
