"""``train-detector`` and ``train-classifier``: from exports to a run directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import ClassifierRecipe, DetectorRecipe
from detectclf.errors import ConfigError
from detectclf.files import free_folder, latest_folder
from detectclf.models.stage import STAGES
from detectclf.pipelines.run_folders import usual_folder
from detectclf.pipelines.train_data import OpenedData, open_data
from detectclf.progress import Progress

if TYPE_CHECKING:
    from detectclf.training.loop import History
    from detectclf.training.runs import Recipe, Run
    from detectclf.training.tasks import ClassificationTask, DetectionTask, Task

log = logging.getLogger(__name__)


def train_detector(
    recipe: DetectorRecipe,
    out: Path | None = None,
    *,
    resume: bool = False,
    allow_changed_data: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains a detector; see :func:`train`."""
    return train("detector", recipe, out, resume=resume, allow_changed_data=allow_changed_data, quiet=quiet)


def train_classifier(
    recipe: ClassifierRecipe,
    out: Path | None = None,
    *,
    resume: bool = False,
    allow_changed_data: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains a classifier; see :func:`train`."""
    return train("classifier", recipe, out, resume=resume, allow_changed_data=allow_changed_data, quiet=quiet)


def train(
    kind: str,
    recipe: Recipe,
    out: Path | None = None,
    *,
    resume: bool = False,
    allow_changed_data: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains a stage and writes a run directory.

    Args:
        kind: kind of stage, a key of :data:`TASKS`.
        recipe: all settings.
        out: the run directory; by default ``runs/`` and the architecture, with a number where that is taken.
        resume: continue the run in ``out``.
        allow_changed_data: continue it also with other slices or labels than it was started with.
        quiet: show no progress.

    Returns:
        The run's folder, architecture, epochs, best epoch and its metrics; under torchrun, empty in all processes but
        the main one.

    Raises:
        ConfigError: settings that exclude each other, or a tracker that is not installed.
        DataError: the data cannot be read, or ``out`` holds other files.
        ModelError: weights cannot be used, or were trained on slices that this run holds out.
        UnsafeError: weights in a pickle that holds code, or a slice that is refused as unsafe.
        DeviceError: the device is not available.
        TrainingError: the loss is not finite, or the run cannot be written.
    """
    from detectclf.datasets.index import SliceIndex
    from detectclf.training.runs import Run

    check_symmetry(kind, recipe)
    usual = usual_folder(recipe.model.arch)
    folder = out or (latest_folder(usual) if resume else free_folder(usual))
    # Before weights are downloaded and data are read.
    Run.at(folder).check(recipe, resume=resume, allow_changed_data=allow_changed_data)
    opened = open_data(kind, recipe, SliceIndex())
    return train_on(opened, kind, recipe, folder, resume=resume, allow_changed_data=allow_changed_data, quiet=quiet)


def train_on(
    opened: OpenedData,
    kind: str,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    allow_changed_data: bool = False,
    quiet: bool = False,
    after_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Trains a stage on data that are open.

    Args:
        opened: what :func:`open_data` gave for this recipe, or for one that differs in other settings than those of
            data and starting weights.
        kind, recipe, resume, allow_changed_data, quiet: as for :func:`train`, which says what is raised.
        folder: the run directory.
        after_epoch: as for :func:`detectclf.training.loop.fit`.

    Returns:
        As :func:`train`.
    """
    # Not before the device is chosen by open_data, see training/device.py.
    from detectclf.training.loop import fit
    from detectclf.training.runs import Run

    index = opened.slice_index
    task = TASKS[kind](recipe, opened)
    with Run.create(folder, recipe, resume=resume, allow_changed_data=allow_changed_data) as run:
        for slices in (task.train, task.valid):
            if not index.knows(slices.samples):
                slices.pixels.fill(index.read)  # both from one decoding
        if run.writes:
            _record_data(run, task, opened, recipe, allow_changed_data)
        settings = recipe.training
        if settings.freeze_epochs and not task.pretrained:
            line = "no pretrained weights: nothing is frozen, all layers are trained from the first epoch"
            _say_once(line, opened)
            settings = settings.model_copy(update={"freeze_epochs": 0})
        progress, workers = Progress("training", show=not quiet), recipe.data.workers
        history = fit(task, settings, run, resume=resume, progress=progress, workers=workers, after_epoch=after_epoch)
    return _summary(run, recipe, history) if run.writes else {}


def _summary(run: Run, recipe: Recipe, history: History) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "arch": recipe.model.arch,
        "epochs": len(history.records),
        "best_epoch": history.best_epoch,
        "best": history.best.get("metrics", {}),
    }


def _record_data(run: Run, task: Task, opened: OpenedData, recipe: Recipe, allow_changed: bool) -> None:
    """Writes which slices the run uses, once it is certain that it may."""
    from detectclf.pipelines.provenance import fingerprints_of
    from detectclf.pipelines.shared_patients import known_patients, note_shared_patients
    from detectclf.training.data_record import data_record, describe_slices

    index = opened.slice_index
    train, valid = known_patients(task.train.samples, task.valid.samples, index)
    described = (describe_slices(part, index.look_up(part).sha256) for part in (train, valid))
    record = data_record(opened.dataset, *described)
    changed = run.check_data(record, allow_changed=allow_changed)
    # Fingerprints first: a training that is killed between the two writes them again.
    if opened.inherited is not None and (changed or run.lacks_fingerprints):
        run.write_fingerprints(fingerprints_of(task.train.samples, index, task.valid.samples), opened.inherited)
    run.write_data(record)
    note_shared_patients(train, valid, recipe.data)


def _build(kind: str, recipe: Recipe, num_classes: int, opened: OpenedData) -> Any:
    """The network to train, of the kind's type."""
    from detectclf.training.environment import seed_everything

    seed_everything(recipe.training.seed)
    network = STAGES[kind].build(recipe.model, num_classes)
    _say_once(f"{recipe.model.arch}: {network.weights_report.summary()}", opened)
    return network


def _say_once(line: str, opened: OpenedData) -> None:
    """Logs what each trial of a search would say again."""
    if line not in opened.said:
        log.info("%s", line)
    opened.said.add(line)


def _detection_task(recipe: DetectorRecipe, opened: OpenedData) -> DetectionTask:
    from detectclf.datasets.augment import detection_augment
    from detectclf.datasets.loading import DetectionSlices
    from detectclf.pipelines.synthesis import synthesis_of
    from detectclf.training.tasks import DetectionTask

    data, size, seed = recipe.data, recipe.model.image_size, recipe.training.seed
    dataset = opened.dataset
    classes = dataset.classes if data.negative_boxes == "keep" else dataset.tumor_classes
    synthesis = synthesis_of(recipe, opened.train.samples, opened.slice_index)
    augment = detection_augment(recipe.augment, seed=seed, shapes=synthesis.shapes) if recipe.augment.enabled else None
    network = _build("detector", recipe, len(classes), opened)
    train = DetectionSlices(
        opened.train.samples,
        classes,
        size,
        augment,
        seed=seed,
        cache=data.cache,
        negative=dataset.negative,
        synthesis=synthesis,
        balance=data.balance,
        shuffle_buffer=data.shuffle_buffer,
    )
    valid = DetectionSlices(opened.valid.samples, classes, size, cache=data.cache)
    return DetectionTask(network, train, valid, dataset.negative)


def _classification_task(recipe: ClassifierRecipe, opened: OpenedData) -> ClassificationTask:
    from detectclf.datasets.augment import classification_augment
    from detectclf.datasets.loading import ClassificationSlices
    from detectclf.pipelines.synthesis import synthesis_of
    from detectclf.training.tasks import ClassificationTask

    cache, seed = recipe.data.cache, recipe.training.seed
    classes, negative = opened.dataset.classes, opened.dataset.negative
    synthesis = synthesis_of(recipe, opened.train.samples, opened.slice_index)
    augment = (
        classification_augment(recipe.augment, seed=seed, shapes=synthesis.shapes) if recipe.augment.enabled else None
    )
    network = _build("classifier", recipe, len(classes), opened)
    size = network.input_size
    train = ClassificationSlices(
        opened.train.samples,
        classes,
        size,
        augment,
        seed=seed,
        cache=cache,
        negative=negative,
        synthesis=synthesis,
        balance=recipe.data.balance,
        shuffle_buffer=recipe.data.shuffle_buffer,
    )
    if recipe.augment.symmetry and train.healthy is None:
        log.warning(
            "augment.symmetry_healthy and symmetry_tumor have no effect: no training slice is of a class without tumour"
        )
    valid = ClassificationSlices(opened.valid.samples, classes, size, cache=cache)
    return ClassificationTask(network, train, valid, recipe.model, negative)


def check_symmetry(kind: str, recipe: Recipe) -> None:
    """Refuses symmetry augmentation if some tumours may have no box, or some boxes no tumour."""
    reason = None
    if kind == "detector" and recipe.data.negative_boxes == "keep":
        reason = "data.negative_boxes: keep also gives boxes to slices without a tumour"
    if recipe.data.faults == "fix":
        reason = "data.faults: fix may remove the box of a tumour"
    if recipe.augment.symmetry and reason:
        raise ConfigError(
            f"augment.symmetry_healthy and symmetry_tumor need a box for every tumour and no others, but {reason}",
            remedy="--set augment.symmetry_healthy=0 --set augment.symmetry_tumor=0",
        )


TASKS: dict[str, Callable[[Any, OpenedData], Task]] = {"detector": _detection_task, "classifier": _classification_task}
"""Kind of stage -> what makes network, slices and task from a recipe of that kind and its data."""
