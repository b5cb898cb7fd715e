"""The networks of all stages in transfer learning: a pretrained backbone and a new head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detectclf.config import ModelConfig
from detectclf.errors import ModelError
from detectclf.models.weights import WeightsReport, load_weights

Model = TypeVar("Model", bound="TransferModel")


class TransferModel(nn.Module, ABC):
    """Base of every stage's network: tells backbone from head, and does not train the backbone while it is frozen.

    Attributes:
        stage_kind: kind of stage, a key of :data:`~detectclf.models.stage.STAGES`.
        arch: architecture, a row of the kind's table.
        config: the settings that the network was built with.
        num_classes: number of classes.
        input_size: longer side of the network's input, pixels.
        weights_report: which pretrained weights were loaded.
    """

    stage_kind: ClassVar[str]

    def __init__(self, config: ModelConfig, num_classes: int, input_size: int) -> None:
        super().__init__()
        self.arch, self.num_classes, self.input_size = config.arch, num_classes, input_size
        self.config = config
        self.weights_report = WeightsReport("none")
        self.backbone_frozen = False
        self._frozen_parts: tuple[str, ...] = ()

    @abstractmethod
    def backbone(self) -> nn.Module:
        """The pretrained part."""

    @abstractmethod
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of grey levels 0 to 1, one number per channel of the network."""

    @abstractmethod
    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets :meth:`normalisation`."""

    def load_pretrained(self, network: nn.Module, default: str | None, *, core: str = "") -> None:
        """Loads the weights that ``config.weights`` names into ``network``, a part of this model.

        Args:
            network: the part.
            default: what ``default`` stands for, see :func:`~detectclf.models.weights.load_weights`.
            core: prefix of the backbone's tensors in ``network``.

        Raises:
            ModelError: the weights cannot be downloaded or read, or belong to another architecture.
            UnsafeError: a pickle that holds code.
        """
        self.weights_report = load_weights(network, self.config.weights, arch=self.arch, default=default, core=core)
        if not self.weights_report.matched:
            self.freeze_parts(())  # random weights must be trained

    def heads_inside_backbone(self) -> Sequence[nn.Module]:
        """New layers inside :meth:`backbone`, such as the one of Inception's auxiliary classifier."""
        return ()

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters of the pretrained part. Every parameter is either here or in :meth:`head_parameters`."""
        inside = {id(p) for module in self.heads_inside_backbone() for p in module.parameters()}
        return [p for p in self.backbone().parameters() if id(p) not in inside]

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the new part."""
        old = {id(p) for p in self.backbone_parameters()}
        return [p for p in self.parameters() if id(p) not in old]

    def freeze_parts(self, names: Sequence[str]) -> None:
        """Freezes parts of the backbone for good, their BatchNorm statistics included.

        A backbone's first stages detect edges and blobs, which photographs have too, and cost most of the time because
        they run at the highest resolution. torchvision's ``trainable_backbone_layers`` freezes them for both reasons.

        Args:
            names: dotted names of modules inside :meth:`backbone`.

        Raises:
            ModelError: the backbone has no such part.
        """
        for name in names:
            try:
                self.backbone().get_submodule(name)
            except AttributeError as error:
                parts = ", ".join(n for n, _ in self.backbone().named_children())
                raise ModelError(
                    f"model.frozen: the backbone has no part {name!r}", remedy=f"it has {parts}"
                ) from error
        self._frozen_parts = tuple(names)
        self.freeze_backbone(self.backbone_frozen)

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Freezes or unfreezes the pretrained part, its BatchNorm statistics included."""
        self.backbone_frozen = frozen
        for parameter in self.backbone_parameters():
            parameter.requires_grad_(not frozen)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self._hold_statistics(self.training)

    def train(self: Model, mode: bool = True) -> Model:
        """As in ``nn.Module``, but BatchNorm of a frozen backbone stays in evaluation mode."""
        super().train(mode)
        self._hold_statistics(mode)
        return self

    def _hold_statistics(self, mode: bool) -> None:
        for norm in self._backbone_norms():
            norm.train(mode and not self.backbone_frozen)
        for module in self._frozen_modules():
            module.eval()

    def _frozen_modules(self) -> list[nn.Module]:
        return [self.backbone().get_submodule(name) for name in self._frozen_parts]

    def _backbone_norms(self) -> Iterator[nn.Module]:
        return (module for module in self.backbone().modules() if isinstance(module, _BatchNorm))


class SquareInputModel(TransferModel):
    """A network that takes grey squares ``(B, 1, S, S)`` of its input size and normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, num_classes: int, input_size: int) -> None:
        super().__init__(config, num_classes, input_size)
        # Not in the weights file: the preprocessing is written beside it in plain numbers.
        self.register_buffer("mean", torch.empty(0), persistent=False)
        self.register_buffer("std", torch.empty(0), persistent=False)

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of grey levels 0 to 1, one number per channel of the network."""
        return _plain(self.mean), _plain(self.std)

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets :meth:`normalisation`."""
        device = self.mean.device
        self.mean = torch.tensor(tuple(mean), device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(tuple(std), device=device).view(1, -1, 1, 1)

    def normalise(self, images: Tensor) -> Tensor:
        """``(B, 1, S, S)`` grey levels 0 to 1 -> ``(B, C, S, S)``; raises ModelError for another size."""
        if images.shape[1:] != (1, self.input_size, self.input_size):
            raise ModelError(
                f"{self.arch} takes a batch of grey squares of {self.input_size} px, got {tuple(images.shape)}"
            )
        # A mean of three channels repeats the grey one: (B, 1, S, S) - (1, 3, 1, 1).
        return (images - self.mean) / self.std


def _plain(numbers: Tensor) -> tuple[float, ...]:
    # Six digits give 0.485 and not the 0.48500001 of float32.
    return tuple(round(float(number), 6) for number in numbers.flatten())


__all__ = ["SquareInputModel", "TransferModel"]
