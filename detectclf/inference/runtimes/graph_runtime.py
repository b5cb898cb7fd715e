"""The runtime without torch: the graphs of a bundle in OpenVINO or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from detectclf.inference.runtimes.base import Raw
from detectclf.inference.runtimes.engines import ENGINES, EngineName
from detectclf.types import FloatArray, Pixels

OUTPUTS = {"detector": ("boxes", "labels", "scores", "features"), "classifier": ("logits",)}
"""Kind of stage -> outputs of its graph."""


class GraphRuntime:
    """Runs the graphs that ``models/graphs`` makes.

    Args:
        graphs: kind of stage -> its graph.
        engine: what runs them.
        device: as of :class:`~detectclf.inference.runtimes.engines.Engine`.

    Raises:
        ModelError, DeviceError: as of :class:`~detectclf.inference.runtimes.engines.Engine`.
    """

    def __init__(self, graphs: Mapping[str, Path], engine: EngineName, device: str) -> None:
        self.name: str = engine
        self.device = device
        with ThreadPoolExecutor() as pool:  # opening a graph compiles it, on one core
            self._detector, self._classifier = pool.map(
                lambda kind: ENGINES[engine](graphs[kind], device, OUTPUTS[kind]), ("detector", "classifier")
            )

    def run(self, for_detector: Pixels, for_classifier: Pixels) -> list[Raw]:
        """The outputs for a batch, as of :class:`~detectclf.inference.runtimes.base.Runtime`."""
        found, logits = self._detector(for_detector[:, None]), self._classifier(for_classifier[:, None])["logits"]
        counts = np.count_nonzero(found["scores"] > 0, axis=1)  # the rest of a row is no box
        return [
            Raw(
                found["boxes"][i, :count],
                found["labels"][i, :count],
                found["scores"][i, :count],
                found["features"][i],
                logits[i],
            )
            for i, count in enumerate(counts)
        ]

    def features(self, for_detector: Pixels) -> FloatArray:
        """``(B, D)`` statistics of the feature maps."""
        features: FloatArray = self._detector(for_detector[:, None])["features"]
        return features


__all__ = ["GraphRuntime"]
