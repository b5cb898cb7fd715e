"""The classifier: :class:`Classifier`, the network of any row of the table of architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from detectclf.config import ClassifierConfig
from detectclf.errors import ModelError
from detectclf.models.classifier_table import CLASSIFIERS, ClassifierRow, classifier_row
from detectclf.models.marginal_loss import marginal_cross_entropy
from detectclf.models.transfer import SquareInputModel
from detectclf.types import MOST_CLASSES

AUXILIARY_WEIGHT = 0.4
"""Weight of Inception's auxiliary loss (Szegedy et al. 2016 train with an auxiliary head; 0.4 as torchvision does)."""


class Classifier(SquareInputModel):
    """A network of the table with a new last layer."""

    stage_kind = "classifier"
    config: ClassifierConfig

    def __init__(self, row: ClassifierRow, config: ClassifierConfig, num_classes: int) -> None:
        super().__init__(config, num_classes, config.image_size or row.input_size)
        self.network = row.build()
        features = _cut_last(self.network, row.last)
        self.dropout = nn.Dropout(_set_dropout(self.network, row.dropout, config.dropout))
        self.head = nn.Linear(features, num_classes)
        self._last_map = row.last_map
        self._auxiliary = self._auxiliary_head(row)
        self.set_normalisation(row.mean, row.std)
        self.freeze_parts(config.frozen)

    def _auxiliary_head(self, row: ClassifierRow) -> str | None:
        """Gives an auxiliary classifier a new last layer and returns the layer's name."""
        if row.auxiliary is None:
            return None
        if self.input_size < row.input_size:
            # Its 5 x 5 filters do not fit the maps of smaller slices.
            inception: Any = self.network
            inception.AuxLogits, inception.aux_logits = None, False
            return None
        inner = self.network.get_submodule(row.auxiliary)
        assert isinstance(inner, nn.Linear)
        self.network.set_submodule(row.auxiliary, nn.Linear(inner.in_features, self.num_classes))
        return row.auxiliary

    def backbone(self) -> nn.Module:
        """All but the last layer."""
        return self.network

    def heads_inside_backbone(self) -> Sequence[nn.Module]:
        """The last layer of Inception's auxiliary classifier."""
        return (self.network.get_submodule(self._auxiliary),) if self._auxiliary else ()

    @property
    def last_map(self) -> nn.Module | None:
        """The layer whose output ``(B, C, h, w)`` gives the class-activation map; ``None`` if there is none."""
        return self.network.get_submodule(self._last_map) if self._last_map else None

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)``.

        Args:
            images: ``(B, 1, S, S)`` float, grey levels 0 to 1, ``S`` = ``input_size``.

        Raises:
            ModelError: images of another size.
        """
        features, _ = self._run(images)
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def losses(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        tumors: Sequence[int] = (),
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Cross-entropies to be summed: ``loss_class``, and for Inception in training also ``loss_auxiliary``.

        Args:
            images: as for :meth:`forward`.
            labels: ``(B,)`` int64 class indices, or ``ANY_TUMOR_INDEX`` for a tumour of unknown type.
            tumors, label_smoothing, class_weights: as for
                :func:`~detectclf.models.marginal_loss.marginal_cross_entropy`.
        """
        if self.training and len(images) == 1:
            # BatchNorm over a single value has no variance; two copies of a slice have the same mean loss as one.
            images, labels = images.repeat(2, 1, 1, 1), labels.repeat(2)
        features, auxiliary = self._run(images)

        def loss(logits: Tensor) -> Tensor:
            return marginal_cross_entropy(
                logits.float(), labels, tumors, class_weights=class_weights, label_smoothing=label_smoothing
            )

        losses = {"loss_class": loss(self.head(self.dropout(features)))}
        if auxiliary is not None:
            losses["loss_auxiliary"] = AUXILIARY_WEIGHT * loss(auxiliary)
        return losses

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pooled features, and in training the logits of an auxiliary classifier if there is one."""
        output = self.network(self.normalise(images))
        if isinstance(output, tuple):
            return output[0], output[1]
        return output, None


def build_classifier(config: ClassifierConfig, num_classes: int) -> Classifier:
    """A classifier with its pretrained weights.

    Args:
        config: architecture, weights, input size, dropout.
        num_classes: ``K``, at least 1.

    Raises:
        ModelError: unknown architecture, input too small for it, or weights that cannot be loaded or do not fit.
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
    if num_classes > MOST_CLASSES:
        raise ModelError(
            f"a classifier has at most {MOST_CLASSES} classes, not {num_classes}",
            remedy="join classes by data.class_map",
        )
    model = Classifier(row, config, num_classes)
    model.load_pretrained(model.network, row.weights)
    return model


def _cut_last(network: nn.Module, last: str | None) -> int:
    """Removes the last layer and returns the number of its input features."""
    if last is None:
        timm_network: Any = network
        return int(getattr(timm_network, "head_hidden_size", None) or timm_network.num_features)
    layer = network.get_submodule(last)
    assert isinstance(layer, nn.Linear)
    network.set_submodule(last, nn.Identity())
    return layer.in_features


def _set_dropout(network: nn.Module, name: str | None, wanted: float | None) -> float:
    """Sets the network's own dropout before the last layer. Returns the dropout still to be added if it has none."""
    if wanted is None or name is None:
        return wanted or 0.0
    own = network.get_submodule(name)
    assert isinstance(own, nn.Dropout)
    own.p = wanted
    return 0.0


__all__ = ["AUXILIARY_WEIGHT", "CLASSIFIERS", "Classifier", "build_classifier", "classifier_row"]
