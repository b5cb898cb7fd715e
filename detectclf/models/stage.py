"""A stage of the model: a network with the description that rebuilds it, and the table of the kinds of stage.

To add a kind of stage, write its network as a :class:`~detectclf.models.transfer.TransferModel`, then add its settings
to ``config.py``, a row to :data:`STAGES`, and a row for its training to ``pipelines/train.py``. Saving, rebuilding,
bundling and moving to a device follow from the table. ``CONTRIBUTING.md`` has the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from detectclf.config import ClassifierConfig, DetectorConfig, ModelConfig
from detectclf.errors import ModelError
from detectclf.models.anonymise import without_folders
from detectclf.types import MOST_CLASSES
from detectclf.version import __version__

if TYPE_CHECKING:
    from detectclf.models.transfer import TransferModel


@dataclass(frozen=True, slots=True)
class StageKind:
    """What is particular to one kind of stage.

    Attributes:
        settings: its settings class.
        build: makes a network with its pretrained weights from the settings and a number of classes.
    """

    settings: type[ModelConfig]
    build: Callable[[Any, int], TransferModel]


def _detector(config: DetectorConfig, num_classes: int) -> TransferModel:
    from detectclf.models.detectors import build_detector

    return build_detector(config, num_classes)


def _classifier(config: ClassifierConfig, num_classes: int) -> TransferModel:
    from detectclf.models.classifiers import build_classifier

    return build_classifier(config, num_classes)


STAGES: dict[str, StageKind] = {
    "detector": StageKind(DetectorConfig, _detector),
    "classifier": StageKind(ClassifierConfig, _classifier),
}
"""Every kind of stage, in the order in which they run; every bundle has one of each."""


class Preprocessing(BaseModel):
    """How a slice becomes the network's input. It is saved with the weights and never guessed at prediction time.

    Attributes:
        size: longer side of the input after resizing, pixels; the slice is padded to a square at the bottom and right.
        mean, std: of grey levels 0 to 1, one number per channel of the network.
        colour: how the network's channels are made from the slice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=1, le=2048)
    mean: tuple[Annotated[float, Field(ge=-10, le=10)], ...] = Field(min_length=1, max_length=3)
    std: tuple[Annotated[float, Field(gt=1e-6, le=10)], ...] = Field(min_length=1, max_length=3)
    colour: Literal["grey"] = "grey"


class ModelMeta(BaseModel):
    """The content of ``model.json``: everything but the weights.

    Attributes:
        kind: kind of stage, a key of :data:`STAGES`.
        arch: architecture, a row of the kind's table.
        config: the settings that the network was built with.
        classes: names in the order of the network's outputs.
        negative: the class that means "no tumour", ``None`` if there is none.
        preprocessing: how a slice becomes the network's input.
        version: version of detectclf that wrote the file.
        training: metadata of the training, such as epoch and metrics.
        parameters: number of the network's parameters, where they cannot be counted because there is a graph only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["detectclf-model"] = "detectclf-model"
    format_version: Literal[1] = 1
    kind: str
    arch: str
    config: dict[str, Any]
    classes: tuple[str, ...] = Field(min_length=1, max_length=MOST_CLASSES)
    negative: str | None
    preprocessing: Preprocessing
    version: str
    training: dict[str, Any] = {}
    parameters: int | None = Field(default=None, ge=0)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in STAGES:
            raise ValueError(f"should be one of {', '.join(STAGES)}")
        return kind


@dataclass(frozen=True, eq=False)
class Stage:
    """A network and its description.

    Attributes:
        meta: the description.
        open: gives the network, which is made only where it is needed: that takes torch.
        count: gives the number of its parameters, if it can without making the network.
    """

    meta: ModelMeta
    open: Callable[[], Any]
    count: Callable[[], int] | None = None

    @cached_property
    def network(self) -> Any:
        """A ``Detector`` or ``Classifier``, as :attr:`kind` says; raises what :attr:`open` raises."""
        return self.open()

    @cached_property
    def parameters(self) -> int:
        """The number of parameters of the network."""
        if self.meta.parameters is not None:
            return self.meta.parameters
        return sum(each.numel() for each in self.network.parameters()) if self.count is None else self.count()

    @property
    def kind(self) -> str:
        """Kind of stage, a key of :data:`STAGES`."""
        return self.meta.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.meta.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How a slice becomes the network's input."""
        return self.meta.preprocessing


def new_stage(
    network: TransferModel,
    classes: Sequence[str],
    *,
    negative: str | None,
    metadata: Mapping[str, Any] | None = None,
) -> Stage:
    """The stage of a network that was just built or trained.

    Args:
        network: as its kind's ``build`` function made it.
        classes: class names in the order of the network's outputs.
        negative: the class that means "no tumour", if any.
        metadata: JSON metadata of the training.

    Raises:
        ModelError: the network has another number of classes.
    """
    if len(classes) != network.num_classes:
        raise ModelError(f"{len(classes)} class names for a model of {network.num_classes} classes")
    settings = network.config.model_dump(mode="json")
    if settings["weights"] not in ("default", "none"):
        settings["weights"] = without_folders(Path(settings["weights"]))
    mean, std = network.normalisation()
    meta = ModelMeta(
        kind=network.stage_kind,
        arch=network.arch,
        config=settings,
        classes=tuple(classes),
        negative=negative,
        preprocessing=Preprocessing(size=network.input_size, mean=mean, std=std),
        version=__version__,
        training=dict(metadata or {}),
    )
    return Stage(meta, lambda: network)


__all__ = ["STAGES", "ModelMeta", "Preprocessing", "Stage", "StageKind", "new_stage"]
