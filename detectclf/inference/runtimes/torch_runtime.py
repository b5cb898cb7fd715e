"""The reference: the networks of a bundle in torch, on any of its devices."""

from __future__ import annotations

import copy
import os
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from detectclf.errors import DeviceError
from detectclf.inference.runtimes.base import Raw
from detectclf.inference.runtimes.map_statistics import MapStatistics
from detectclf.models.bundle import Bundle
from detectclf.models.classifiers import Classifier
from detectclf.models.detectors import Detector
from detectclf.models.device import one_thread_after_fork, resolve_device
from detectclf.models.fuse_conv_bn import fuse_conv_bn
from detectclf.models.memory import keep_freed_memory
from detectclf.models.roi_features import RoIFeatures, as_arrays
from detectclf.models.second_look import second_look
from detectclf.types import FloatArray, Pixels

Network = TypeVar("Network", bound=nn.Module)


class TorchRuntime:
    """Runs the networks of a bundle, which are moved to the device.

    In a process that is forked off after it was made, it computes with one thread, since those of OpenMP do not survive
    a fork and torch would wait for them for ever.

    Args:
        bundle: the networks.
        device: ``auto`` (the first available of cuda, mps, cpu), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        DeviceError: the device is not available; from its methods, also in a forked process, if it is a GPU.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, device: str) -> None:
        self._device = resolve_device(device)
        self._process = os.getpid()
        if self._device.type == "cpu":
            keep_freed_memory()
        # Copies: the networks of the bundle stay as they were saved, which activation maps need.
        self._detector = self._fast_detector(bundle.stages["detector"].network)
        classifier: Classifier = bundle.stages["classifier"].network
        self._classifier = self._fast(classifier, 1, classifier.input_size)

    @property
    def device(self) -> str:
        """Where it computes."""
        return str(self._device)

    def run(self, for_detector: Pixels, for_classifier: Pixels) -> list[Raw]:
        """The outputs for a batch, as of :class:`~detectclf.inference.runtimes.base.Runtime`."""
        self._check_process()
        with torch.inference_mode():
            with MapStatistics(self._detector.backbone()) as statistics:
                maps = RoIFeatures(self._detector, self._tensor(for_detector))
            found = second_look(maps)
            logits = self._classifier(self._tensor(for_classifier)).float().cpu().numpy()
        return [
            Raw(*as_arrays(each), features, row)
            for each, features, row in zip(found, statistics.rows(), logits, strict=True)
        ]

    def features(self, for_detector: Pixels) -> FloatArray:
        """``(B, D)`` statistics of the feature maps."""
        self._check_process()
        with torch.inference_mode(), MapStatistics(self._detector.backbone()) as statistics:
            self._detector(list(self._tensor(for_detector)))
        return statistics.rows()

    def _check_process(self) -> None:
        if self._process == os.getpid():
            return
        if self._device.type != "cpu":
            raise DeviceError(
                f"device {self.device!r} cannot be used in a forked process",
                remedy="load the model in each process, or start them by spawn",
            )
        one_thread_after_fork()
        self._process = os.getpid()

    def _fast(self, network: Network, channels: int, side: int) -> Network:
        """A faster copy of ``network``, on the device."""
        noise = torch.rand((1, channels, side, side), generator=torch.Generator().manual_seed(0))
        fast = fuse_conv_bn(network.to(self._device).eval(), noise.to(self._device))
        return fast.to(memory_format=torch.channels_last)

    def _fast_detector(self, detector: Detector) -> Detector:
        """A faster copy of ``detector``; only its backbone has enough batch norms for fusing to pay."""
        fast = copy.deepcopy(detector.to(self._device).eval())
        fast.network.backbone = self._fast(fast.network.backbone, 3, detector.input_size)
        return fast.to(memory_format=torch.channels_last)

    def _tensor(self, slices: Pixels) -> Tensor:
        """``(B, 1, S, S)`` float in [0, 1] on the device."""
        images = torch.from_numpy(np.ascontiguousarray(slices)).to(self._device).unsqueeze(1).float().div(255)
        return images.to(memory_format=torch.channels_last)


__all__ = ["TorchRuntime"]
