"""What every runtime does: the outputs of detector and classifier for a batch of slices."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from detectclf.types import FloatArray, Pixels


class Raw(NamedTuple):
    """The outputs of the networks for one slice.

    Attributes:
        boxes: ``(N, 4)`` xyxy in pixels of the detector's input.
        labels: ``(N,)`` int64, classes of the detector from 0.
        scores: ``(N,)``.
        features: ``(D,)`` statistics of the detector's feature maps, see :mod:`detectclf.inference.ood`.
        logits: ``(K,)`` of the classifier.
    """

    boxes: FloatArray
    labels: npt.NDArray[np.int64]
    scores: FloatArray
    features: FloatArray
    logits: FloatArray


class Runtime(Protocol):
    """Computes the networks of a bundle; may be called from several threads at once."""

    @property
    def name(self) -> str:
        """``openvino``, ``onnx`` or ``torch``."""

    @property
    def device(self) -> str:
        """Where it computes, such as ``cpu`` or ``cuda:0``."""

    def run(self, for_detector: Pixels, for_classifier: Pixels) -> list[Raw]:
        """The outputs for a batch.

        Args:
            for_detector: ``(B, S, S)`` uint8, slices at the detector's input size, the padding below and on the right.
            for_classifier: ``(B, S, S)`` uint8, the same slices at the classifier's.
        """

    def features(self, for_detector: Pixels) -> FloatArray:
        """``(B, D)``: :attr:`Raw.features` of a batch, as of :meth:`run`; only the detector runs."""


__all__ = ["Raw", "Runtime"]
