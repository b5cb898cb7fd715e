"""Opens the data and the model that a command names, and checks that their classes agree."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from detectclf.errors import ConfigError, DataError
from detectclf.types import ANY_TUMOR, Dataset

if TYPE_CHECKING:
    from detectclf.config import DataConfig, PredictConfig
    from detectclf.datasets.index import SliceIndex
    from detectclf.inference.predictor import Predictor


def data_settings(patients: Path | None, pattern: str | None, any_tumor: Sequence[str] = ()) -> DataConfig:
    """The settings that the flags of the commands under ``data`` give.

    Args:
        patients, pattern: as ``data.patients`` and ``data.patient_pattern``.
        any_tumor: as ``data.any_tumor``.

    Raises:
        ConfigError: the pattern is no regular expression with one group.
    """
    from detectclf.config import DataConfig
    from detectclf.recipes import load_recipe

    flags = {"patients": patients, "patient_pattern": pattern, "any_tumor": tuple(any_tumor)}
    return load_recipe(DataConfig, flags=flags)


def open_folder(
    folder: Path,
    *,
    negative_boxes: Literal["drop", "keep"],
    any_tumor: Sequence[str] = (),
    patients: Path | None = None,
    pattern: str | None = None,
) -> Dataset:
    """The data set in one folder; raises DataError where there is none.

    Args:
        folder: the export.
        negative_boxes, any_tumor: as in :class:`~detectclf.config.DataConfig`.
        patients, pattern: as ``data.patients`` and ``data.patient_pattern``.
    """
    from detectclf.datasets.dataset import open_dataset

    changes = {"sources": (str(folder),), "negative_boxes": negative_boxes}
    return open_dataset(data_settings(patients, pattern, any_tumor).model_copy(update=changes))


def with_known_patients(part: Dataset, whole: Dataset, index: SliceIndex) -> Dataset:
    """``part`` with the patients that the atlas knows beside those that are stated.

    Slices that the index does not know are read, so call it after a prediction, which leaves them in the index.

    Args:
        part: some of the slices of ``whole``.
        whole: where it states patients, all of it is looked at, so that a patient has one name in all of it.
        index: the slice index of the command.
    """
    from detectclf.datasets.patients import identify

    rest = whole.samples if any(s.patient is not None for s in whole.samples) else ()
    found = identify(index.look_up([*part.samples, *rest]).fingerprints, index)
    return replace(part, samples=found.name(part.samples))


def predictor_of(model: Path | None, runs: Mapping[str, Path | None], config: PredictConfig) -> Predictor:
    """A predictor of a bundle, of runs or, where nothing is named, of the packaged bundle.

    Args:
        model: a bundle.
        runs: kind of stage -> its run, where one is named.
        config: batch size and device.

    Raises:
        ConfigError: both a bundle and runs are named, or the run of a stage is missing.
        ModelError, DeviceError: as :func:`detectclf.inference.loading.load`.
    """
    from detectclf.inference.loading import default_bundle, load_runs
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle import load_bundle
    from detectclf.models.stage import STAGES

    named = {kind: run for kind, run in runs.items() if run is not None}
    if not named:
        return Predictor(load_bundle(default_bundle() if model is None else model), config)
    if model is not None or len(named) < len(STAGES):
        raise ConfigError(
            f"a model is one bundle, or {' and '.join(f'a {kind} run' for kind in STAGES)}",
            remedy=f"give --model, or both {' and '.join(f'--{kind}' for kind in STAGES)}",
        )
    return load_runs(named, config)


def check_classes(dataset: Dataset, predictor: Predictor) -> None:
    """Checks that the model knows every class of the data; raises DataError where it does not."""
    from detectclf.datasets.class_names import means_any_tumor

    labels = {s.label for s in dataset.samples if s.label is not None}
    foreign = sorted(labels - {*predictor.names.classes, ANY_TUMOR})
    if foreign:
        # No example from a name that may mean healthy slices.
        example = next((f" (such as --any-tumor {shlex.quote(name)})" for name in foreign if means_any_tumor(name)), "")
        raise DataError(
            f"the data has classes that the model does not know: {', '.join(foreign)}",
            file=", ".join(dataset.sources),
            remedy=f"the model knows {', '.join(predictor.names.classes)}; say which name is a tumour of unknown type "
            f"with --any-tumor{example}, or map names in data.class_map",
        )
