"""Models rebuilt from their files: weights and the description beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from detectclf.config import ClassifierConfig, DetectorConfig, RefinerConfig, Settings
from detectclf.errors import ModelError
from detectclf.models.saved import META_FILE, MODEL_FILE, ModelMeta, not_a_model, read_meta

if TYPE_CHECKING:
    from torch import Tensor

    from detectclf.models.classifiers import Classifier
    from detectclf.models.detectors import Detector
    from detectclf.models.refiner import Refiner

Config = TypeVar("Config", bound=Settings)
Model = TypeVar("Model", "Detector", "Classifier", "Refiner")


def load_detector(folder: Path) -> tuple[Detector, ModelMeta]:
    """The detector of a run directory, in evaluation mode on the CPU.

    Raises:
        ModelError: not a run directory, of the other stage, corrupted, or of another architecture.
    """
    meta = read_meta(folder / META_FILE)
    return rebuild_detector(meta, folder / MODEL_FILE), meta


def load_classifier(folder: Path) -> tuple[Classifier, ModelMeta]:
    """The classifier of a run directory, in evaluation mode on the CPU.

    Raises:
        ModelError: not a run directory, of the other stage, corrupted, or of another architecture.
    """
    meta = read_meta(folder / META_FILE)
    return rebuild_classifier(meta, folder / MODEL_FILE), meta


def rebuild_detector(meta: ModelMeta, weights: Path) -> Detector:
    """The detector that ``meta`` describes with the weights of a file; raises as :func:`load_detector`."""
    from detectclf.models.detectors import build_detector

    config = _config(DetectorConfig, meta, "detector", weights)
    return _filled(build_detector(config, len(meta.classes)), weights, meta)


def rebuild_classifier(meta: ModelMeta, weights: Path) -> Classifier:
    """The classifier that ``meta`` describes with the weights of a file; raises as :func:`load_classifier`."""
    from detectclf.models.classifiers import build_classifier

    config = _config(ClassifierConfig, meta, "classifier", weights)
    return _filled(build_classifier(config, len(meta.classes)), weights, meta)


def load_refiner(folder: Path) -> tuple[Refiner, ModelMeta]:
    """The refiner of a run directory, in evaluation mode on the CPU; raises as :func:`load_detector`."""
    meta = read_meta(folder / META_FILE)
    return rebuild_refiner(meta, folder / MODEL_FILE), meta


def rebuild_refiner(meta: ModelMeta, weights: Path) -> Refiner:
    """The refiner that ``meta`` describes with the weights of a file; raises as :func:`load_detector`."""
    from detectclf.models.refiner import build_refiner

    config = _config(RefinerConfig, meta, "refiner", weights)
    return _filled(build_refiner(config, len(meta.classes)), weights, meta)


def _config(kind: type[Config], meta: ModelMeta, wanted: str, file: Path) -> Config:
    if meta.kind != wanted:
        raise ModelError(f"is a {meta.kind}, not a {wanted}", file=file.parent, remedy=f"give the run of a {wanted}")
    # The file has all weights, so nothing is downloaded; the input size is the one written, not today's default.
    settings = {**meta.config, "arch": meta.arch, "weights": "none", "image_size": meta.preprocessing.size}
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise not_a_model(file.parent / META_FILE, error) from error


def _filled(model: Model, file: Path, meta: ModelMeta) -> Model:
    """``model`` with the weights of ``file`` and the normalisation of ``meta``, in evaluation mode."""
    import torch

    from detectclf.models.weight_files import read_state

    state: dict[str, Tensor] = read_state(file)
    own = model.state_dict()
    wrong = sorted(
        n for n in own.keys() | state.keys() if n not in own or n not in state or own[n].shape != state[n].shape
    )
    if wrong:
        raise ModelError(
            f"weights of another architecture: {len(wrong)} of {len(own)} tensors do not fit {meta.arch}",
            file=file,
            remedy="keep model.safetensors and model.json of one run together",
        )
    if not all(torch.isfinite(tensor).all() for tensor in state.values() if tensor.is_floating_point()):
        raise ModelError("weights are not finite", file=file, remedy="train it again with a lower learning rate")
    model.load_state_dict(state)
    model.set_normalisation(meta.preprocessing.mean, meta.preprocessing.std)
    return model.eval()


__all__ = [
    "load_classifier",
    "load_detector",
    "load_refiner",
    "rebuild_classifier",
    "rebuild_detector",
    "rebuild_refiner",
]
