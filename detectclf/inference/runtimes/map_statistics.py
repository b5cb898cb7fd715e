"""Statistics of a detector's feature maps, which tell slices that are unlike the training slices (``ood.py``)."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from detectclf.types import FloatArray


class MapStatistics:
    """Context manager around a detector's forward pass, which keeps the statistics of its stride-16 feature maps.

    Args:
        backbone: of the detector; gives its maps as a list, or as a dict in order.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._last: Tensor | None = None
        self._backbone, self._thread = backbone, threading.get_ident()
        self._hook: RemovableHandle | None = None

    def __enter__(self) -> MapStatistics:
        self._hook = self._backbone.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()

    def _keep(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if threading.get_ident() != self._thread:
            return  # a batch of another thread, on the same network
        maps = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
        middle = maps[len(maps) // 2].float()
        self._last = torch.cat([middle.mean(dim=(2, 3)), middle.std(dim=(2, 3))], dim=1)

    def rows(self) -> FloatArray:
        """``(B, D)`` float32: for each picture of the batch the means, then the standard deviations."""
        assert self._last is not None
        return np.asarray(self._last.cpu().numpy(), dtype=np.float32)


__all__ = ["MapStatistics"]
