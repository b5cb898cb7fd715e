"""The data of a training, opened and looked at before anything is trained."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from detectclf.errors import DataError
from detectclf.types import ANY_TUMOR, Dataset

if TYPE_CHECKING:
    from detectclf.datasets.index import SliceIndex
    from detectclf.duplicates.fingerprints import Fingerprints
    from detectclf.training.runs import Recipe

log = logging.getLogger(__name__)


class OpenedData(NamedTuple):
    """The data of a training.

    Attributes:
        dataset: all slices.
        train, valid: the two splits of it.
        inherited: fingerprints of the slices that the model it starts from was trained on, if any; ``None`` if that
            model keeps no record, so that this one cannot keep a complete record either.
        slice_index: of the command.
        said: lines that were logged, and that each further training on these data would repeat.
    """

    dataset: Dataset
    train: Dataset
    valid: Dataset
    inherited: tuple[Fingerprints, ...] | None
    slice_index: SliceIndex
    said: set[str]


def open_data(kind: str, recipe: Recipe, index: SliceIndex) -> OpenedData:
    """Opens the data of a training and says what is odd about them.

    Raises as :func:`detectclf.pipelines.train.train`.
    """
    from detectclf.datasets.dataset import open_dataset, require_split
    from detectclf.datasets.useless import before_training
    from detectclf.pipelines.provenance import inherited_provenance

    # Names first, which need neither torch nor data; then data on this machine's disk, which need no torch.
    _check_names(kind, recipe)
    if recipe.training.device not in ("auto", "cpu"):
        _check_device(recipe)  # a missing GPU should be reported before the data are read
    dataset = open_dataset(recipe.data, index)
    train, valid = (require_split(dataset, name) for name in (recipe.data.train_split, recipe.data.valid_split))
    if not dataset.tumor_classes and any(ANY_TUMOR in (s.label, *s.box_labels) for s in dataset.samples):
        reason, remedy = "every tumour is of unknown type", "add a source of known types with --data"
        raise DataError(reason, file=", ".join(dataset.sources), remedy=remedy)
    for line in before_training(dataset, recipe.data.train_split, recipe.data.valid_split, boxes=kind == "detector"):
        log.warning(line)
    _check_device(recipe)
    inherited = inherited_provenance(recipe.model.weights, valid.samples, recipe.data, index)
    return OpenedData(dataset, train, valid, inherited, index, set())


def _check_names(kind: str, recipe: Recipe) -> None:
    from detectclf.models.names import check_arch, check_device, check_weights
    from detectclf.training.trackers import check_trackers

    check_arch(kind, recipe.model.arch)
    check_weights(recipe.model.weights)
    check_device(recipe.training.device, training=True)
    check_trackers(recipe.training.trackers)


def _check_device(recipe: Recipe) -> None:
    from detectclf.training.device import training_device  # loads torch

    training_device(recipe.training.device)


__all__ = ["OpenedData", "open_data"]
