"""All settings of each command, as its recipe gives them."""

from __future__ import annotations

from detectclf.config.augment import AugmentConfig
from detectclf.config.base import Settings
from detectclf.config.bundles import BundleConfig, EvaluateConfig, PredictConfig
from detectclf.config.data import DataConfig
from detectclf.config.models import ClassifierConfig, DetectorConfig
from detectclf.config.training import TrainingConfig


class DetectorRecipe(Settings):
    """All settings of ``train-detector``."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: DetectorConfig = DetectorConfig()
    training: TrainingConfig = TrainingConfig()


class ShowRecipe(Settings):
    """All settings of ``data show --augmented``."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()


class ClassifierRecipe(Settings):
    """All settings of ``train-classifier``."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ClassifierConfig = ClassifierConfig()
    training: TrainingConfig = TrainingConfig(batch_size=32, lr=8e-4, backbone_lr=4e-4, ema_decay=0.98)


class BundleRecipe(Settings):
    """All settings of ``bundle``."""

    data: DataConfig = DataConfig()
    bundle: BundleConfig = BundleConfig()
    predict: PredictConfig = PredictConfig()
    evaluate: EvaluateConfig = EvaluateConfig(bootstrap=500)


class EvaluateRecipe(Settings):
    """All settings of ``evaluate``."""

    data: DataConfig = DataConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    predict: PredictConfig = PredictConfig()


class ExportRecipe(Settings):
    """All settings of ``export``; the data is for int8."""

    data: DataConfig = DataConfig()


__all__ = ["BundleRecipe", "ClassifierRecipe", "DetectorRecipe", "EvaluateRecipe", "ExportRecipe", "ShowRecipe"]
