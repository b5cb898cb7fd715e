"""Every setting of detectclf: typed, documented and validated in one place.

:mod:`detectclf.recipes` reads their values. Below ``pipelines``, a function gets only its own sub-config.
"""

from __future__ import annotations

from detectclf.config.augment import AugmentConfig
from detectclf.config.base import OLD_NAMES, Settings, present_name
from detectclf.config.bundles import BundleConfig, EvaluateConfig, PredictConfig
from detectclf.config.commands import (
    BundleRecipe,
    ClassifierRecipe,
    DetectorRecipe,
    EvaluateRecipe,
    ShowRecipe,
)
from detectclf.config.data import DataConfig
from detectclf.config.models import ClassifierConfig, DetectorConfig, ModelConfig
from detectclf.config.training import TrainingConfig

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
    "EvaluateConfig",
    "EvaluateRecipe",
    "ModelConfig",
    "PredictConfig",
    "Settings",
    "ShowRecipe",
    "TrainingConfig",
    "present_name",
]
