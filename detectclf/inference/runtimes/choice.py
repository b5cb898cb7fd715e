"""Chooses the runtime of a bundle."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from detectclf.config import PredictConfig
from detectclf.errors import ModelError
from detectclf.inference.runtimes.base import Runtime
from detectclf.inference.runtimes.engines import MODULES, EngineName
from detectclf.inference.runtimes.processor import cpu_lacks
from detectclf.models.bundle import Bundle
from detectclf.models.names import check_device

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
                remedy="bundle its runs (detectclf bundle, without --no-export), or use --runtime torch",
            )
        if not _installed(engine):
            raise ModelError(
                f"the runtime {engine!r} is not installed", remedy=f"install {EXTRAS[engine]}, or use --runtime torch"
            )
        return _graph(bundle, engine, "cpu" if device == "auto" else device)
    if device not in ("auto", "cpu"):
        return _torch(bundle, device)
    if not bundle.graphs:
        log.warning("%s has no graphs: predicting with torch, which is slower; bundle its runs again", bundle.name)
        return _torch(bundle, device)
    lacking = cpu_lacks()
    if _installed("openvino") and not lacking:
        return _graph(bundle, "openvino", "cpu")
    instead = "onnx" if _installed("onnx") and not lacking else "torch"
    why = f"this CPU lacks {lacking}, which OpenVINO needs" if lacking else "OpenVINO is not installed"
    log.warning("%s: predicting with %s, which is slower", why, "ONNX Runtime" if instead == "onnx" else "torch")
    return _graph(bundle, "onnx", "cpu") if instead == "onnx" else _torch(bundle, device)


def _installed(engine: EngineName) -> bool:
    # A package that is there and cannot be imported is an error, which says why.
    return find_spec(MODULES[engine]) is not None


def _graph(bundle: Bundle, engine: EngineName, device: str) -> Runtime:
    from detectclf.inference.runtimes.graph_runtime import GraphRuntime

    return GraphRuntime(bundle, engine, device)


def _torch(bundle: Bundle, device: str) -> Runtime:
    check_device(device)  # torch takes seconds to load
    from detectclf.inference.runtimes.torch_runtime import TorchRuntime

    return TorchRuntime(bundle, device)


__all__ = ["open_runtime"]
