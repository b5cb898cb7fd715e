"""The class stage: a table of architectures, and :class:`Classifier`, which makes one model of any of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectclf.config import ClassifierConfig
from detectclf.errors import ModelError
from detectclf.models.small_networks import Cnn, Mlp
from detectclf.models.transfer import TransferModel
from detectclf.models.weights import WeightsReport, load_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

AUXILIARY_WEIGHT = 0.4
"""Weight of Inception's auxiliary loss (Szegedy et al. 2016 train with an auxiliary head; 0.4 as torchvision does)."""


@dataclass(frozen=True, slots=True)
class ClassifierRow:
    """One architecture.

    Attributes:
        build: makes the network with random weights.
        last: dotted name of the last linear layer, which our own head replaces; ``None`` where ``build`` leaves
            it away already.
        input_size: side of the square input that the weights were trained at, pixels.
        min_size: smallest side that the network can take, pixels.
        weights: what ``--weights default`` is, as :func:`~detectclf.models.weights.load_weights` wants it.
        dropout: dotted name of the dropout before the last layer, where the network has one.
        gradcam: dotted name of the layer whose output ``(B, C, h, w)`` a class-activation map is made of.
        mean, std: of the pixels that the weights were trained on; one number per channel of the network.
        auxiliary: dotted name of the last layer of an auxiliary classifier.
    """

    build: Callable[[], nn.Module]
    last: str | None
    input_size: int = 224
    min_size: int = 32
    weights: str | None = None
    dropout: str | None = None
    gradcam: str | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    auxiliary: str | None = None


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import get_model

        network: nn.Module = get_model(name, weights=None)
        return network

    return build


def _inception() -> nn.Module:
    from torchvision.models import inception_v3

    # torchvision's own switch `transform_input` undoes ImageNet's mean and std; the row's 0.5 do without both.
    network: nn.Module = inception_v3(weights=None, init_weights=True, transform_input=False, aux_logits=True)
    return network


CLASSIFIERS: dict[str, ClassifierRow] = {
    "mlp": ClassifierRow(lambda: Mlp(1), "last", input_size=64, dropout="drop2", mean=(0.5,), std=(0.5,)),
    "cnn": ClassifierRow(
        lambda: Cnn(1), "last", input_size=128, dropout="drop", gradcam="block5", mean=(0.5,), std=(0.5,)
    ),
    "alexnet": ClassifierRow(
        _torchvision("alexnet"),
        "classifier.6",
        min_size=63,
        weights="alexnet",
        dropout="classifier.3",
        gradcam="features.10",
    ),
    "vgg16": ClassifierRow(
        _torchvision("vgg16"), "classifier.6", weights="vgg16", dropout="classifier.5", gradcam="features.28"
    ),
    "mobilenet_v2": ClassifierRow(
        _torchvision("mobilenet_v2"),
        "classifier.1",
        weights="mobilenet_v2",
        dropout="classifier.0",
        gradcam="features.18",
    ),
    "mobilenet_v3_large": ClassifierRow(
        _torchvision("mobilenet_v3_large"),
        "classifier.3",
        weights="mobilenet_v3_large",
        dropout="classifier.2",
        gradcam="features.16",
    ),
    "resnet18": ClassifierRow(_torchvision("resnet18"), "fc", weights="resnet18", gradcam="layer4"),
    "resnet50": ClassifierRow(_torchvision("resnet50"), "fc", weights="resnet50", gradcam="layer4"),
    "inception_v3": ClassifierRow(
        _inception,
        "fc",
        input_size=299,
        min_size=75,
        weights="inception_v3",
        dropout="dropout",
        gradcam="Mixed_7c",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        auxiliary="AuxLogits.fc",
    ),
    "efficientnet_v2_s": ClassifierRow(
        _torchvision("efficientnet_v2_s"),
        "classifier.1",
        input_size=384,
        weights="efficientnet_v2_s",
        dropout="classifier.0",
        gradcam="features.7",
    ),
    "convnext_tiny": ClassifierRow(
        _torchvision("convnext_tiny"), "classifier.2", weights="convnext_tiny", gradcam="features"
    ),
    # `permute` turns Swin's channels-last maps into (B, C, h, w).
    "swin_t": ClassifierRow(_torchvision("swin_t"), "head", weights="swin_t", gradcam="permute"),
}
"""Every architecture that has a fixed name; ``timm:NAME`` stands for any of timm's."""


class Classifier(TransferModel):
    """A network of the table with a new last layer.

    Attributes:
        arch: name of the row.
        config: the settings that it was built with.
        num_classes: ``K``.
        input_size: side of the square input, pixels.
        feature_size: length ``D`` of the pooled features before the last layer.
        weights_report: what became of the pretrained weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, row: ClassifierRow, config: ClassifierConfig, num_classes: int) -> None:
        super().__init__()
        self.arch, self.config, self.num_classes = config.arch, config, num_classes
        self.input_size = config.image_size or row.input_size
        self.weights_report = WeightsReport("none")
        self.network = row.build()
        self.feature_size = _cut_last(self.network, row.last)
        self.dropout = nn.Dropout(_set_dropout(self.network, row.dropout, config.dropout))
        self.head = nn.Linear(self.feature_size, num_classes)
        self._gradcam, self._auxiliary = row.gradcam, row.auxiliary
        if row.auxiliary:
            inner = self.network.get_submodule(row.auxiliary)
            assert isinstance(inner, nn.Linear)
            self.network.set_submodule(row.auxiliary, nn.Linear(inner.in_features, num_classes))
        # Not in the weights file: preprocessing is written beside it in plain words.
        self.register_buffer("mean", torch.empty(0), persistent=False)
        self.register_buffer("std", torch.empty(0), persistent=False)
        self.set_normalisation(row.mean, row.std)

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets the mean and standard deviation (of grey levels 0 to 1) per channel of the network."""
        device = self.mean.device
        self.mean = torch.tensor(tuple(mean), device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(tuple(std), device=device).view(1, -1, 1, 1)

    def backbone(self) -> nn.Module:
        """All but the last layer."""
        return self.network

    def heads_inside_backbone(self) -> Sequence[nn.Module]:
        """The last layer of Inception's auxiliary classifier."""
        return (self.network.get_submodule(self._auxiliary),) if self._auxiliary else ()

    @property
    def gradcam_layer(self) -> nn.Module | None:
        """The layer whose output ``(B, C, h, w)`` a class-activation map is made of; ``None`` where there is none."""
        return self.network.get_submodule(self._gradcam) if self._gradcam else None

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Logits, or with ``labels`` the losses.

        Both ways lead through here because wrappers for several processes hook ``forward`` alone.

        Args:
            images: ``(B, 1, S, S)`` float, grey levels 0 to 1, ``S`` = ``input_size``.
            labels: ``(B,)`` int64 class indices.
            label_smoothing: share of each label spread over the classes.
            class_weights: ``(K,)`` weights of the classes in the loss.

        Returns:
            Logits ``(B, K)``, or ``{"loss_class": ..., "loss_auxiliary": ...}`` (the latter for Inception).

        Raises:
            ModelError: images of another size.
        """
        if labels is None:
            return self.forward_features_and_logits(images)[0]
        if self.training and len(images) == 1:
            # BatchNorm over a single value has no variance; two copies of a slice have the same mean loss as one.
            images, labels = images.repeat(2, 1, 1, 1), labels.repeat(2)
        features, auxiliary = self._run(images)
        logits = {"loss_class": self.head(self.dropout(features))}
        if auxiliary is not None:
            logits["loss_auxiliary"] = auxiliary
        weight = class_weights.to(features.device, torch.float32) if class_weights is not None else None
        losses = {
            name: functional.cross_entropy(value.float(), labels, weight=weight, label_smoothing=label_smoothing)
            for name, value in logits.items()
        }
        if auxiliary is not None:
            losses["loss_auxiliary"] = AUXILIARY_WEIGHT * losses["loss_auxiliary"]
        return losses

    def losses(
        self, images: Tensor, labels: Tensor, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The losses to be summed; see :meth:`forward`."""
        losses = self(images, labels, label_smoothing, class_weights)
        assert isinstance(losses, dict)
        return losses

    def features(self, images: Tensor) -> Tensor:
        """Pooled features ``(B, D)`` before the last layer."""
        return self._run(images)[0]

    def forward_features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, K)`` and pooled features ``(B, D)`` of one pass."""
        features, _ = self._run(images)
        logits: Tensor = self.head(self.dropout(features))
        return logits, features

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features, and in training the logits of an auxiliary classifier where there is one."""
        if images.shape[1:] != (1, self.input_size, self.input_size):
            raise ModelError(
                f"{self.arch} takes grey slices of {self.input_size} px squared, got a batch of {tuple(images.shape)}"
            )
        # A mean of three channels repeats the grey one: (B, 1, S, S) - (1, 3, 1, 1).
        output = self.network((images - self.mean) / self.std)
        if isinstance(output, tuple):
            return output[0], output[1]
        return output, None


def build_classifier(config: ClassifierConfig, num_classes: int) -> Classifier:
    """A classifier with its pretrained weights.

    Args:
        config: architecture, weights, input size, dropout.
        num_classes: ``K``, at least 1.

    Raises:
        ModelError: unknown architecture, input too small for it, or weights that cannot be had or do not fit.
        UnsafeError: weights in a pickle that holds code.
    """
    row = classifier_row(config.arch)
    if config.image_size is not None and config.image_size < row.min_size:
        raise ModelError(
            f"{config.arch} needs slices of at least {row.min_size} pixels, image_size is {config.image_size}",
            remedy=f"set model.image_size={row.input_size}",
        )
    if num_classes < 1:
        raise ModelError("a classifier needs at least one class", remedy="check the class names of the data")
    model = Classifier(row, config, num_classes)
    model.weights_report = load_weights(model.network, config.weights, arch=config.arch, default=row.weights)
    return model


def classifier_row(arch: str) -> ClassifierRow:
    """The row of an architecture, ``timm:NAME`` included.

    Raises:
        ModelError: unknown architecture, or timm is not installed.
    """
    if arch.startswith("timm:"):
        from detectclf.models.timm_networks import classifier_facts

        facts = classifier_facts(arch.removeprefix("timm:"))
        return ClassifierRow(
            facts.build,
            None,
            input_size=facts.input_size,
            weights=arch,
            gradcam=facts.last_map,
            mean=facts.mean,
            std=facts.std,
        )
    if arch not in CLASSIFIERS:
        raise ModelError(f"no classifier {arch!r}", remedy=f"use one of {', '.join(CLASSIFIERS)} or timm:NAME")
    return CLASSIFIERS[arch]


def _cut_last(network: nn.Module, last: str | None) -> int:
    """Takes the last layer off; the number of features that it took in."""
    if last is None:
        timm_network: Any = network
        return int(getattr(timm_network, "head_hidden_size", None) or timm_network.num_features)
    layer = network.get_submodule(last)
    assert isinstance(layer, nn.Linear)
    network.set_submodule(last, nn.Identity())
    return layer.in_features


def _set_dropout(network: nn.Module, name: str | None, wanted: float | None) -> float:
    """Sets the network's own dropout before the last layer; what is left for ours to do."""
    if wanted is None or name is None:
        return wanted or 0.0
    own = network.get_submodule(name)
    assert isinstance(own, nn.Dropout)
    own.p = wanted
    return 0.0


__all__ = ["CLASSIFIERS", "Classifier", "ClassifierRow", "build_classifier", "classifier_row"]
