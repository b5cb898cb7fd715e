"""Every setting of detectclf: typed, documented and validated in one place.

:mod:`detectclf.recipes` reads their values. Below ``pipelines``, a function gets only its own sub-config. A class of
settings takes some milliseconds to make, so that only the modules of those that are used are imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectclf.config.augment import AugmentConfig
    from detectclf.config.base import OLD_NAMES, Settings, present_name
    from detectclf.config.bundles import BundleConfig, EvaluateConfig, PredictConfig
    from detectclf.config.commands import (
        BundleRecipe,
        ClassifierRecipe,
        DetectorRecipe,
        EvaluateRecipe,
        ExportRecipe,
        ShowRecipe,
    )
    from detectclf.config.data import DataConfig
    from detectclf.config.models import ClassifierConfig, DetectorConfig, ModelConfig
    from detectclf.config.serving import ServeConfig
    from detectclf.config.shards import ShardConfig
    from detectclf.config.training import TrainingConfig
    from detectclf.config.tuning import Dimension

_MODULES = {
    "augment": ("AugmentConfig",),
    "base": ("OLD_NAMES", "Settings", "present_name"),
    "bundles": ("BundleConfig", "EvaluateConfig", "PredictConfig"),
    "commands": ("BundleRecipe", "ClassifierRecipe", "DetectorRecipe", "EvaluateRecipe", "ExportRecipe", "ShowRecipe"),
    "data": ("DataConfig",),
    "models": ("ClassifierConfig", "DetectorConfig", "ModelConfig"),
    "serving": ("ServeConfig",),
    "shards": ("ShardConfig",),
    "training": ("TrainingConfig",),
    "tuning": ("Dimension",),
}

__all__ = [
    "OLD_NAMES",
    "AugmentConfig",
    "BundleConfig",
    "BundleRecipe",
    "ClassifierConfig",
    "ClassifierRecipe",
    "DataConfig",
    "DetectorConfig",
    "DetectorRecipe",
    "Dimension",
    "EvaluateConfig",
    "EvaluateRecipe",
    "ExportRecipe",
    "ModelConfig",
    "PredictConfig",
    "ServeConfig",
    "Settings",
    "ShardConfig",
    "ShowRecipe",
    "TrainingConfig",
    "present_name",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"detectclf.config.{module}"), name)
    raise AttributeError(f"module 'detectclf.config' has no attribute {name!r}")
