"""Processes, device and precision of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader

from detectclf.config import TrainingConfig
from detectclf.errors import ConfigError, DeviceError, TrainingError
from detectclf.models.device import resolve_precision
from detectclf.training.device import training_device


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """An Accelerator for this process; under ``torchrun`` it joins the other processes.

    Raises:
        DeviceError: the device is not available, or does not support the precision or several processes.
    """
    device = training_device(config.device)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device.index)
    precision = resolve_precision(config.precision, device)
    # Accelerate keeps one state per Python process, with one precision; the demo trains two models in a process.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_steps=config.accumulate,
        dataloader_config=DataLoaderConfiguration(split_batches=True, even_batches=True),
    )
    if accelerator.device.type != device.type:
        reason = f"this process uses {accelerator.device.type} already and cannot change to {device.type}"
        raise DeviceError(reason, remedy="train in a process of its own, on other devices with USE_TORCH_XLA=0")
    if device.type == "xla" and accelerator.num_processes > 1:
        reason = f"device 'xla': a training uses one device, and there are {accelerator.num_processes}"
        raise DeviceError(reason, remedy="show it one, such as by TPU_VISIBLE_CHIPS=0")
    return accelerator


def prepare_loader(accelerator: Accelerator, loader: DataLoader[Any]) -> Any:
    """The loader of this process's share. With XLA its batches stay on the CPU, where boxes are matched."""
    prepared = accelerator.prepare_data_loader(loader)
    # Around it Accelerate puts threads that load ahead, and that signals and the end of an epoch do not reach.
    return prepared.dataloader if accelerator.device.type == "xla" else prepared


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
