"""Our own two small classifiers. Both take grey slices in one channel and are trained from scratch."""

from __future__ import annotations

from torch import nn


class Mlp(nn.Sequential):
    """Multi-layer perceptron on a 64 px slice: a baseline that does not use the neighbourhood of pixels.

    ============  ==========================  =================
    layer         what it does                output
    ============  ==========================  =================
    ``pixels``    average pool to 64 x 64     ``(B, 1, 64, 64)``
    ``flat``      flatten                     ``(B, 4096)``
    ``hidden1``   linear, BatchNorm, ReLU     ``(B, 512)``
    ``drop1``     dropout 0.3                 ``(B, 512)``
    ``hidden2``   linear, BatchNorm, ReLU     ``(B, 256)``
    ``drop2``     dropout 0.3                 ``(B, 256)``
    ``last``      linear                      ``(B, classes)``
    ============  ==========================  =================
    """

    def __init__(self, num_classes: int, channels: int = 1) -> None:
        super().__init__()
        self.add_module("pixels", nn.AdaptiveAvgPool2d(64))
        self.add_module("flat", nn.Flatten())
        self.add_module("hidden1", _dense(channels * 64 * 64, 512))
        self.add_module("drop1", nn.Dropout(0.3))
        self.add_module("hidden2", _dense(512, 256))
        self.add_module("drop2", nn.Dropout(0.3))
        self.add_module("last", nn.Linear(256, num_classes))


class Cnn(nn.Sequential):
    """Plain convolutional network in the style of VGG (Simonyan and Zisserman 2015), with BatchNorm.

    Each block is two 3 x 3 convolutions, each followed by BatchNorm and ReLU, then a 2 x 2 max pool. ``S`` is the
    side of the input, at least 32.

    ============  =======================================  ========================
    layer         what it does                             output
    ============  =======================================  ========================
    ``block1``    2 x (conv, BatchNorm, ReLU), max pool    ``(B, 24, S/2, S/2)``
    ``block2``    the same                                 ``(B, 48, S/4, S/4)``
    ``block3``    the same                                 ``(B, 96, S/8, S/8)``
    ``block4``    the same                                 ``(B, 192, S/16, S/16)``
    ``block5``    2 x (conv, BatchNorm, ReLU)              ``(B, 256, S/16, S/16)``
    ``pool``      average over the picture                 ``(B, 256, 1, 1)``
    ``flat``      flatten                                  ``(B, 256)``
    ``drop``      dropout 0.2                              ``(B, 256)``
    ``last``      linear                                   ``(B, classes)``
    ============  =======================================  ========================
    """

    def __init__(self, num_classes: int, channels: int = 1) -> None:
        super().__init__()
        widths = (channels, 24, 48, 96, 192)
        for number in range(1, 5):
            self.add_module(f"block{number}", _block(widths[number - 1], widths[number], pool=True))
        self.add_module("block5", _block(192, 256, pool=False))
        self.add_module("pool", nn.AdaptiveAvgPool2d(1))
        self.add_module("flat", nn.Flatten())
        self.add_module("drop", nn.Dropout(0.2))
        self.add_module("last", nn.Linear(256, num_classes))


def _dense(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))


def _block(inputs: int, outputs: int, *, pool: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        # No bias: BatchNorm would subtract it again.
        layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


__all__ = ["Cnn", "Mlp"]
