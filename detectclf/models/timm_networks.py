"""Networks of timm, a library of image models, described as our tables need them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from torch import nn

from detectclf.errors import ModelError
from detectclf.models.names import no_timm

Network = TypeVar("Network", bound=nn.Module)

PYRAMID_STRIDES = [8, 16, 32]
"""Strides of the maps that a detector's pyramid is made of, input pixels."""


@dataclass(frozen=True, slots=True)
class TimmNetwork:
    """timm's description of a network.

    Attributes:
        build: makes the network with random weights: pooled features, or maps of strides 8, 16 and 32.
        input_size: side of the input in its training, pixels.
        mean, std: of the pixels in its training.
        channels: channels of the three maps; empty for a classifier.
        last_map: dotted name of the layer with the last map before pooling, if timm names it.
    """

    build: Callable[[], nn.Module]
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: tuple[int, ...] = ()
    last_map: str | None = None


def timm_classifier(name: str) -> TimmNetwork:
    """A network that ends in pooled features.

    Raises:
        ModelError: timm is not installed, or has no such network.
    """

    def build() -> nn.Module:
        return _create(name, num_classes=0)

    network, settings = on_meta(build), _settings(name)
    maps = getattr(network, "feature_info", None) or [{}]
    size = int(settings.input_size[-1])
    return TimmNetwork(build, size, settings.mean, settings.std, last_map=maps[-1].get("module"))


def timm_backbone(name: str) -> TimmNetwork:
    """A network that gives maps of strides 8, 16 and 32.

    Raises:
        ModelError: timm is not installed, has no such network, or the network has no such maps.
    """

    def build() -> nn.Module:
        return _create(name, features_only=True, out_indices=(-3, -2, -1))

    try:
        network = on_meta(build)
        info: Any = network.feature_info
        strides, channels = list(info.reduction()), tuple(info.channels())
    except (RuntimeError, AttributeError, IndexError, AssertionError) as error:
        raise ModelError(f"timm's {name} gives no feature maps", remedy="use a convolutional network") from error
    if strides != PYRAMID_STRIDES:
        raise ModelError(f"timm's {name} has maps of strides {strides}, not 8, 16, 32", remedy="use another network")
    settings = _settings(name)
    return TimmNetwork(build, int(settings.input_size[-1]), settings.mean, settings.std, channels=channels)


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ModelError("timm is not installed", remedy="install detectclf again, which brings it") from error
    module: ModuleType = timm
    return module


def _create(name: str, **arguments: Any) -> nn.Module:
    timm = _timm()
    # create_model would also accept file names and addresses on a model hub.
    if not timm.is_model(name):
        raise no_timm(name, timm.list_models())
    _settings(name)  # its weights may have no such tag
    network: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return network


def on_meta(build: Callable[[], Network]) -> Network:
    """The network without its numbers, which takes no memory, as far as it can be built so."""
    import torch

    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, NotImplementedError):
        return build()  # a few networks compute with real numbers while they are built


def _settings(name: str) -> Any:
    try:
        settings = _timm().get_pretrained_cfg(name)
    except RuntimeError as error:
        network, _, tag = name.partition(".")
        reason = f"timm has no weights {tag!r} of {network}"
        raise ModelError(reason, remedy=f"leave out .{tag}, or see timm.list_pretrained({network!r})") from error
    if settings is not None:
        return settings
    from timm.models import PretrainedCfg

    return PretrainedCfg(input_size=(3, 224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


__all__ = ["PYRAMID_STRIDES", "TimmNetwork", "on_meta", "timm_backbone", "timm_classifier"]
