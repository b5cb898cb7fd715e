"""detectclf: find, box and classify brain tumours on MRI slices. Research use; not a medical device.

The public names load lazily, so that ``import detectclf`` and ``detectclf --help`` are instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from detectclf.version import __version__

if TYPE_CHECKING:
    from detectclf.errors import (
        ConfigError,
        DataError,
        DetectclfError,
        DeviceError,
        MissingPackageError,
        ModelError,
        StorageError,
        TrainingError,
        UnsafeError,
    )
    from detectclf.inference.loading import load
    from detectclf.inference.predictor import Predictor
    from detectclf.inference.sources import FileSlice
    from detectclf.inference.studies import Study
    from detectclf.pipelines.evaluate import evaluate
    from detectclf.prediction import Prediction
    from detectclf.types import Sample

_ERRORS = (
    *("ConfigError", "DataError", "DetectclfError", "DeviceError", "MissingPackageError", "ModelError"),
    *("StorageError", "TrainingError", "UnsafeError"),
)

_MODULES = {
    **dict.fromkeys(_ERRORS, "detectclf.errors"),
    "load": "detectclf.inference.loading",
    "Predictor": "detectclf.inference.predictor",
    "FileSlice": "detectclf.inference.sources",
    "Sample": "detectclf.types",
    "Study": "detectclf.inference.studies",
    "Prediction": "detectclf.prediction",
    "evaluate": "detectclf.pipelines.evaluate",
}

__all__ = [
    "ConfigError",
    "DataError",
    "DetectclfError",
    "DeviceError",
    "FileSlice",
    "MissingPackageError",
    "ModelError",
    "Prediction",
    "Predictor",
    "Sample",
    "StorageError",
    "Study",
    "TrainingError",
    "UnsafeError",
    "__version__",
    "evaluate",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'detectclf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
