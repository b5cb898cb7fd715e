"""The runtime without torch: the graphs of a bundle in OpenVINO or ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import numpy as np

from detectclf.errors import ModelError
from detectclf.inference.runtimes.base import Raw
from detectclf.inference.runtimes.engines import ENGINES, Arrays, EngineName
from detectclf.models.bundle import Bundle
from detectclf.types import FloatArray, Pixels

OUTPUTS = {"detector": ("boxes", "labels", "scores", "features"), "classifier": ("logits",)}
"""Kind of stage -> outputs of its graph."""


class GraphRuntime:
    """Runs the graphs that ``models/graphs`` makes.

    Args:
        bundle: with graphs.
        engine: what runs them.
        device: as of :class:`~detectclf.inference.runtimes.engines.Engine`.

    Raises:
        ModelError, DeviceError: as of :class:`~detectclf.inference.runtimes.engines.Engine`.
    """

    def __init__(self, bundle: Bundle, engine: EngineName, device: str) -> None:
        self.name: str = engine
        self.device = device
        self._bundle = bundle
        with ThreadPoolExecutor() as pool:  # opening a graph compiles it, on one core
            self._detector, self._classifier = pool.map(
                lambda kind: ENGINES[engine](bundle.graphs[kind], device, OUTPUTS[kind]), ("detector", "classifier")
            )

    def run(self, for_detector: Pixels, for_classifier: Pixels) -> list[Raw]:
        """The outputs for a batch, as of :class:`~detectclf.inference.runtimes.base.Runtime`.

        Raises:
            ModelError: a graph cannot take the batch, or is not that of the bundle's stage.
        """
        found, logits = self._found(for_detector), self._classifier(for_classifier[:, None])["logits"]
        classes = len(self._bundle.classes)
        if logits.shape[1:] != (classes,):
            self._refuse("classifier", f"has not the {classes} classes of the bundle")
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
        """``(B, D)`` statistics of the feature maps; raises ModelError as :meth:`run`."""
        features: FloatArray = self._found(for_detector)["features"]
        return features

    def _found(self, for_detector: Pixels) -> Arrays:
        """The outputs of the detector, which must fit the bundle: nothing after it would notice that they do not."""
        found = self._detector(for_detector[:, None])
        if not all(np.isfinite(values).all() for values in found.values()):
            self._refuse("detector", "gives numbers that are not finite")
        labels, classes = found["labels"], len(self._bundle.stages["detector"].classes)
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            self._refuse("detector", f"has not the {classes} classes of the bundle")
        ood = self._bundle.ood
        if ood is not None and found["features"].shape[1:] != ood.mean.shape:
            self._refuse("detector", "does not fit the bundle's out-of-distribution statistics")
        return found

    def _refuse(self, kind: str, why: str) -> NoReturn:
        raise ModelError(
            f"the graph {why}",
            file=self._bundle.graphs[kind],
            remedy="bundle the runs again, or use --runtime torch",
        )


__all__ = ["GraphRuntime"]
