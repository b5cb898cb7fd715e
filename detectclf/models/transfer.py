"""The two parts of a model in transfer learning: the pretrained backbone and the new head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detectclf.errors import ModelError

Model = TypeVar("Model", bound="TransferModel")


class TransferModel(nn.Module, ABC):
    """Base of both stages: knows its parts, and keeps the backbone still while it is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone_frozen = False
        self._kept: tuple[str, ...] = ()

    @abstractmethod
    def backbone(self) -> nn.Module:
        """The part that pretrained weights are for."""

    def heads_inside_backbone(self) -> Sequence[nn.Module]:
        """New layers that lie inside :meth:`backbone`, such as Inception's auxiliary classifier."""
        return ()

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters of the pretrained part; with :meth:`head_parameters`, every parameter once."""
        inside = {id(p) for module in self.heads_inside_backbone() for p in module.parameters()}
        return [p for p in self.backbone().parameters() if id(p) not in inside]

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the new part."""
        old = {id(p) for p in self.backbone_parameters()}
        return [p for p in self.parameters() if id(p) not in old]

    def keep_pretrained(self, names: Sequence[str]) -> None:
        """Parts of the backbone that never learn, their BatchNorm statistics included.

        The first stages see edges and blobs, which a photograph has too, at the highest resolution, which costs most:
        torchvision's ``trainable_backbone_layers`` holds them for the same reasons.

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
        self._kept = tuple(names)
        self.freeze_backbone(self.backbone_frozen)

    def freeze_backbone(self, frozen: bool = True) -> None:
        """Stops (or resumes) learning of the pretrained part, its BatchNorm statistics included."""
        self.backbone_frozen = frozen
        for parameter in self.backbone_parameters():
            parameter.requires_grad_(not frozen)
        for module in self._kept_modules():
            module.requires_grad_(False)
        self._hold_statistics(self.training)

    def train(self: Model, mode: bool = True) -> Model:
        """As of ``nn.Module``, but BatchNorm of a frozen backbone stays in evaluation mode."""
        super().train(mode)
        self._hold_statistics(mode)
        return self

    def _hold_statistics(self, mode: bool) -> None:
        for norm in self._backbone_norms():
            norm.train(mode and not self.backbone_frozen)
        for module in self._kept_modules():
            module.eval()

    def _kept_modules(self) -> list[nn.Module]:
        return [self.backbone().get_submodule(name) for name in self._kept]

    def _backbone_norms(self) -> Iterator[nn.Module]:
        return (module for module in self.backbone().modules() if isinstance(module, _BatchNorm))


__all__ = ["TransferModel"]
