"""Chooses the runtime of a bundle."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from detectclf.config import PredictConfig
from detectclf.errors import ModelError
from detectclf.inference.runtimes.base import Runtime
from detectclf.inference.runtimes.engines import MODULES, EngineName
from detectclf.models.bundle import Bundle

log = logging.getLogger(__name__)

EXTRAS: dict[EngineName, str] = {"openvino": "openvino", "onnx": "onnxruntime (pip install 'detectclf[onnx]')"}
"""Engine -> what to install for it."""


def open_runtime(bundle: Bundle, config: PredictConfig) -> Runtime:
    """The runtime that ``config.runtime`` and ``config.device`` name.

    ``auto`` is OpenVINO on the CPU for a bundle with graphs, and else torch, which is also what runs on other devices.

    Raises:
        ModelError: the bundle has no graphs, or they are damaged, or the runtime is not installed.
        DeviceError: the device is not available.
    """
    device = config.device
    if config.runtime == "torch":
        return _torch(bundle, device)
    if config.runtime != "auto":
        engine: EngineName = config.runtime
        if not bundle.graphs:
            raise ModelError(
                "has no graphs, which the runtimes without torch need",
                file=bundle.name,
                remedy="bundle its runs again without --no-export, or use --runtime torch",
            )
        if not _installed(engine):
            raise ModelError(
                f"the runtime {engine!r} is not installed", remedy=f"install {EXTRAS[engine]}, or use --runtime torch"
            )
        return _graph(bundle, engine, "cpu" if device == "auto" else device)
    if device not in ("auto", "cpu"):
        return _torch(bundle, device)
    if not bundle.graphs:
        log.info("%s has no graphs: predicting with torch, which starts more slowly", bundle.name)
        return _torch(bundle, device)
    if _installed("openvino"):
        return _graph(bundle, "openvino", "cpu")
    instead = "onnx" if _installed("onnx") else "torch"
    log.warning("OpenVINO is not installed: predicting with %s, which is slower", instead)
    return _graph(bundle, "onnx", "cpu") if instead == "onnx" else _torch(bundle, device)


def _installed(engine: EngineName) -> bool:
    return find_spec(MODULES[engine]) is not None


def _graph(bundle: Bundle, engine: EngineName, device: str) -> Runtime:
    from detectclf.inference.runtimes.graph_runtime import GraphRuntime

    return GraphRuntime(bundle.graphs, engine, device)


def _torch(bundle: Bundle, device: str) -> Runtime:
    from detectclf.inference.runtimes.torch_runtime import TorchRuntime

    return TorchRuntime(bundle, device)


__all__ = ["open_runtime"]
