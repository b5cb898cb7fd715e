"""A trained model on disk: ``model.safetensors``, and beside it ``model.json`` with all that rebuilds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detectclf.config import ClassifierConfig, DetectorConfig, RefinerConfig
from detectclf.errors import DataError, ModelError
from detectclf.files import atomic_write, read_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detectclf.models.classifiers import Classifier
    from detectclf.models.detectors import Detector
    from detectclf.models.refiner import Refiner

MODEL_FILE, META_FILE = "model.safetensors", "model.json"

META_LIMIT = 16 * 2**20
"""Most bytes that a model's description may have."""


class Preprocessing(BaseModel):
    """What is done to a slice before the network; never guessed at prediction time.

    Attributes:
        size: longer side of the input after resizing, padded to a square at the bottom and right, pixels.
        mean, std: of grey levels 0 to 1, one number per channel of the network.
        colour: how the network's channels are made of the slice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=1)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    colour: Literal["grey"] = "grey"


class ModelMeta(BaseModel):
    """What ``model.json`` says.

    Attributes:
        kind: which stage it is.
        arch: row of the table.
        config: the ``DetectorConfig`` or ``ClassifierConfig`` it was built with.
        classes: names in the order of the model's outputs (of the detector: of its boxes).
        negative: the class that means "no tumour", ``None`` where there is none.
        preprocessing: what is done to a slice first.
        version: of detectclf that wrote it.
        training: free facts, such as data, seed and metrics.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["detectclf-model"] = "detectclf-model"
    format_version: Literal[1] = 1
    kind: Literal["detector", "classifier", "refiner"]
    arch: str
    config: dict[str, Any]
    classes: tuple[str, ...] = Field(min_length=1)
    negative: str | None
    preprocessing: Preprocessing
    version: str
    training: dict[str, Any] = {}


def detector_meta(
    model: Detector,
    config: DetectorConfig,
    classes: Sequence[str],
    *,
    negative: str | None,
    facts: Mapping[str, Any] | None = None,
) -> ModelMeta:
    """The description of a detector that :func:`save_model` writes beside its weights.

    Args:
        model: as :func:`~detectclf.models.detectors.build_detector` made it.
        config: that it was made with.
        classes: names of the classes of boxes, in the order of its labels.
        negative: the class that means "no tumour", if any.
        facts: free JSON facts about the training.

    Raises:
        ModelError: the number of classes is not the model's.
    """
    preprocessing = Preprocessing(size=model.image_size, mean=model.mean, std=model.std)
    return _meta("detector", model, config, classes, negative, preprocessing, facts)


def classifier_meta(
    model: Classifier,
    config: ClassifierConfig,
    classes: Sequence[str],
    *,
    negative: str | None,
    facts: Mapping[str, Any] | None = None,
) -> ModelMeta:
    """The description of a classifier; as :func:`detector_meta`, ``classes`` in the order of its logits.

    Raises:
        ModelError: the number of classes is not the model's.
    """
    preprocessing = Preprocessing(size=model.input_size, mean=_plain(model.mean), std=_plain(model.std))
    return _meta("classifier", model, config, classes, negative, preprocessing, facts)


def refiner_meta(
    model: Refiner,
    config: RefinerConfig,
    classes: Sequence[str],
    *,
    negative: str | None,
    facts: Mapping[str, Any] | None = None,
) -> ModelMeta:
    """The description of a refiner; as :func:`detector_meta`, ``classes`` those of tumours in the order of its logits.

    Raises:
        ModelError: the number of classes is not the model's.
    """
    preprocessing = Preprocessing(size=model.input_size, mean=_plain(model.mean), std=_plain(model.std))
    return _meta("refiner", model, config, classes, negative, preprocessing, facts)


def _plain(numbers: Tensor) -> tuple[float, ...]:
    # Six digits give 0.485 and not the 0.48500001 of float32.
    return tuple(round(float(number), 6) for number in numbers.flatten())


def _meta(
    kind: Literal["detector", "classifier", "refiner"],
    model: Detector | Classifier | Refiner,
    config: DetectorConfig | ClassifierConfig | RefinerConfig,
    classes: Sequence[str],
    negative: str | None,
    preprocessing: Preprocessing,
    facts: Mapping[str, Any] | None,
) -> ModelMeta:
    from detectclf.version import __version__

    if len(classes) != model.num_classes:
        raise ModelError(f"{len(classes)} class names for a model of {model.num_classes} classes")
    settings = config.model_dump(mode="json")
    if config.weights not in ("default", "none"):
        settings["weights"] = Path(config.weights).name  # folders of the author's machine are nobody's business
    return ModelMeta(
        kind=kind,
        arch=model.arch,
        config=settings,
        classes=tuple(classes),
        negative=negative,
        preprocessing=preprocessing,
        version=__version__,
        training=dict(facts or {}),
    )


def save_model(folder: Path, module: nn.Module, meta: ModelMeta, *, half: bool = False) -> None:
    """Writes ``model.safetensors`` and ``model.json`` into ``folder``, each in one step.

    Args:
        folder: made where it is not there.
        module: the model, on any device.
        meta: its description.
        half: store matrices and filters in float16, which halves the file.

    Raises:
        DataError: the files cannot be written, such as on a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / MODEL_FILE, weights_bytes(module, half=half))
    atomic_write(folder / META_FILE, meta.model_dump_json(indent=2) + "\n")


def not_a_model(file: Path, error: ValidationError) -> ModelError:
    """What is wrong with a description, as an error."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return ModelError(f"not a description of a model: {where}: {first['msg']}", file=file, remedy="train it again")


def read_meta(file: Path) -> ModelMeta:
    """The description in a ``model.json``.

    Raises:
        ModelError: not there, so the folder is no run; or not a description of a model.
    """
    content = read_json(file, missing="not a run directory: it has no model.json", remedy="give a finished run")
    try:
        return ModelMeta.model_validate(content)
    except ValidationError as error:
        raise not_a_model(file, error) from error


def read_json(file: Path, *, missing: str, remedy: str) -> Any:
    """The content of a JSON file of ours.

    Raises:
        ModelError: ``missing`` where there is no such file; not JSON.
        UnsafeError: no regular file, or much too large.
    """
    if not file.exists():
        raise ModelError(missing if file.parent.is_dir() else "no such folder", file=file.parent, remedy=remedy)
    try:
        return json.loads(read_bytes(file, limit_bytes=META_LIMIT))
    except DataError as error:
        raise ModelError(error.reason, file=file, remedy=error.remedy) from error
    except (ValueError, RecursionError) as error:
        raise ModelError("corrupted: not JSON", file=file, remedy="copy or train it again") from error


def weights_bytes(module: nn.Module, *, half: bool) -> bytes:
    """The module's state as safetensors.

    With ``half``, vectors stay in float32: they are few, and a variance of BatchNorm may be under what float16 has.
    """
    import torch
    from safetensors.torch import save

    state = {}
    for name, tensor in module.state_dict().items():
        # A clone of each: safetensors refuses tensors that share memory.
        kept = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        state[name] = kept.half() if half and kept.is_floating_point() and kept.dim() > 1 else kept
    return save(state, metadata={"format": "pt"})


__all__ = [
    "ModelMeta",
    "Preprocessing",
    "classifier_meta",
    "detector_meta",
    "refiner_meta",
    "save_model",
]
