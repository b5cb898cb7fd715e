"""Opens the data and the model that a command names, and checks that their classes agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from detectclf.config import DataConfig, PredictConfig
from detectclf.errors import ConfigError, DataError
from detectclf.types import Dataset

if TYPE_CHECKING:
    from detectclf.datasets.index import SliceIndex
    from detectclf.inference.predictor import Predictor


def open_folder(folder: Path, *, negative_boxes: Literal["drop", "keep"]) -> Dataset:
    """The data set in one folder; raises DataError where there is none."""
    from detectclf.datasets.dataset import open_dataset

    return open_dataset(DataConfig(sources=(folder,), negative_boxes=negative_boxes))


def split_of(config: DataConfig, name: str, index: SliceIndex | None = None) -> Dataset:
    """Split ``name`` of the data; raises DataError where there is none."""
    from detectclf.datasets.dataset import open_dataset, require_split

    return require_split(open_dataset(config, index), name)


def predictor_of(
    model: Path | None,
    detector: Path | None,
    classifier: Path | None,
    config: PredictConfig,
    refiner: Path | None = None,
    *,
    tta: bool = False,
) -> Predictor:
    """A predictor of a bundle, of two or three runs or, where nothing is named, of the packaged bundle.

    Raises:
        ConfigError: both a bundle and runs are named, or a detector or classifier is missing.
        ModelError, DeviceError: as :func:`detectclf.inference.loading.load`.
    """
    from detectclf.inference.loading import load, load_runs
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle import load_bundle

    if detector is None and classifier is None and refiner is None:
        return load(device=config.device) if model is None else Predictor(load_bundle(model), config)
    if model is not None or detector is None or classifier is None:
        raise ConfigError(
            "a model is one bundle, or a detector run and a classifier run",
            remedy="give --model, or both --detector and --classifier",
        )
    return load_runs(detector, classifier, config, refiner=refiner, tta=tta)


def check_classes(dataset: Dataset, predictor: Predictor) -> None:
    """Checks that the model knows every class of the data; raises DataError where it does not."""
    foreign = sorted({s.label for s in dataset.samples if s.label is not None} - set(predictor.names.classes))
    if foreign:
        raise DataError(
            f"the data has classes that the model does not know: {', '.join(foreign)}",
            file=", ".join(dataset.sources),
            remedy=f"the model knows {', '.join(predictor.names.classes)}",
        )
