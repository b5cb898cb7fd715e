"""The table of classifier architectures: for each, what a ``Classifier`` needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from detectclf.models.names import check_arch
from detectclf.models.small_networks import Cnn, Mlp

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class ClassifierRow:
    """One architecture.

    Attributes:
        build: makes the network with random weights.
        last: dotted name of the last linear layer, which our own head replaces; ``None`` if the network has none.
        input_size: side of the square input in the training of the weights, pixels.
        min_size: smallest side that the network accepts, pixels.
        weights: what ``--weights default`` loads, as in :func:`~detectclf.models.weights.load_weights`.
        dropout: dotted name of the dropout before the last layer, if the network has one.
        last_map: dotted name of the layer whose output ``(B, C, h, w)`` gives the class-activation map.
        mean, std: mean and standard deviation of the pixels that the weights were trained on, one number per channel.
        auxiliary: dotted name of the last layer of Inception's auxiliary classifier, which is removed if the input is
            smaller than ``input_size``.
    """

    build: Callable[[], nn.Module]
    last: str | None
    input_size: int = 224
    min_size: int = 32
    weights: str | None = None
    dropout: str | None = None
    last_map: str | None = None
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

    # torchvision's `transform_input` converts from ImageNet's mean and std to 0.5, which the row sets directly.
    network: nn.Module = inception_v3(weights=None, init_weights=True, transform_input=False, aux_logits=True)
    return network


CLASSIFIERS: dict[str, ClassifierRow] = {
    "mlp": ClassifierRow(lambda: Mlp(1), "last", input_size=64, dropout="drop2", mean=(0.5,), std=(0.5,)),
    "cnn": ClassifierRow(
        lambda: Cnn(1), "last", input_size=128, dropout="drop", last_map="block5", mean=(0.5,), std=(0.5,)
    ),
    "alexnet": ClassifierRow(
        _torchvision("alexnet"),
        "classifier.6",
        min_size=63,
        weights="alexnet",
        dropout="classifier.3",
        last_map="features.11",
    ),
    "vgg16": ClassifierRow(
        _torchvision("vgg16"), "classifier.6", weights="vgg16", dropout="classifier.5", last_map="features.29"
    ),
    "mobilenet_v2": ClassifierRow(
        _torchvision("mobilenet_v2"),
        "classifier.1",
        weights="mobilenet_v2",
        dropout="classifier.0",
        last_map="features.18",
    ),
    "mobilenet_v3_large": ClassifierRow(
        _torchvision("mobilenet_v3_large"),
        "classifier.3",
        weights="mobilenet_v3_large",
        dropout="classifier.2",
        last_map="features.16",
    ),
    "resnet18": ClassifierRow(_torchvision("resnet18"), "fc", weights="resnet18", last_map="layer4"),
    "resnet50": ClassifierRow(_torchvision("resnet50"), "fc", weights="resnet50", last_map="layer4"),
    "inception_v3": ClassifierRow(
        _inception,
        "fc",
        input_size=299,
        min_size=75,
        weights="inception_v3",
        dropout="dropout",
        last_map="Mixed_7c",
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
        last_map="features.7",
    ),
    "convnext_tiny": ClassifierRow(
        _torchvision("convnext_tiny"), "classifier.2", weights="convnext_tiny", last_map="features"
    ),
    # `permute` turns Swin's channels-last maps into (B, C, h, w).
    "swin_t": ClassifierRow(_torchvision("swin_t"), "head", weights="swin_t", last_map="permute"),
}
"""Every architecture of a fixed name, as ``names.py`` lists them; ``timm:NAME`` is any network of timm."""


def classifier_row(arch: str) -> ClassifierRow:
    """The row of an architecture, ``timm:NAME`` included.

    Raises:
        ModelError: unknown architecture, or timm is not installed.
    """
    if arch.startswith("timm:"):
        from detectclf.models.timm_networks import timm_classifier

        network = timm_classifier(arch.removeprefix("timm:"))
        return ClassifierRow(
            network.build,
            None,
            input_size=network.input_size,
            weights=arch,
            last_map=network.last_map,
            mean=network.mean,
            std=network.std,
        )
    check_arch("classifier", arch)
    return CLASSIFIERS[arch]


__all__ = ["CLASSIFIERS", "IMAGENET_MEAN", "IMAGENET_STD", "ClassifierRow", "classifier_row"]
