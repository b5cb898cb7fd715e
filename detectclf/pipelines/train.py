"""``train-detector``, ``train-classifier`` and ``train-refiner``: from exports to a run directory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import ClassifierRecipe, DataConfig, DetectorRecipe, RefinerRecipe
from detectclf.errors import ConfigError, ModelError
from detectclf.types import Dataset, Sample

if TYPE_CHECKING:
    from detectclf.data.fingerprints import Fingerprints
    from detectclf.training.tasks import ClassificationTask, DetectionTask, RefinementTask

log = logging.getLogger(__name__)


def train_detector(
    recipe: DetectorRecipe, out: Path | None = None, *, resume: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Trains the box stage and writes a run directory (default ``runs/ARCH``).

    Raises:
        DataError, ModelError, DeviceError, TrainingError: see each room.
    """
    from detectclf.data.augment import detection_augment
    from detectclf.data.loading import DetectionSlices
    from detectclf.models.detectors import build_detector
    from detectclf.training.environment import seed_everything
    from detectclf.training.tasks import DetectionTask

    data, model, seed = recipe.data, recipe.model, recipe.training.seed
    dataset, train, valid = _open(recipe)
    classes = dataset.classes if data.negative_boxes == "keep" else dataset.tumor_classes
    augment = detection_augment(recipe.augment, seed=seed) if recipe.augment.enabled else None
    seed_everything(seed)
    detector = build_detector(model, len(classes))
    log.info("%s: %s", model.arch, detector.weights_report.summary())
    task = DetectionTask(
        detector,
        DetectionSlices(train.samples, classes, model.image_size, augment, seed=seed, cache=data.cache),
        DetectionSlices(valid.samples, classes, model.image_size, cache=data.cache),
        dataset.negative,
    )
    return _train(task, recipe, dataset, out, resume=resume, quiet=quiet)


def train_classifier(
    recipe: ClassifierRecipe, out: Path | None = None, *, resume: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Trains the class stage and writes a run directory (default ``runs/ARCH``); errors as for the box stage."""
    from detectclf.data.augment import classification_augment
    from detectclf.data.loading import ClassificationSlices
    from detectclf.models.classifiers import build_classifier
    from detectclf.training.environment import seed_everything
    from detectclf.training.tasks import ClassificationTask

    data, model, seed = recipe.data, recipe.model, recipe.training.seed
    dataset, train, valid = _open(recipe)
    augment = classification_augment(recipe.augment, seed=seed) if recipe.augment.enabled else None
    seed_everything(seed)
    classifier = build_classifier(model, len(dataset.classes))
    log.info("%s: %s", model.arch, classifier.weights_report.summary())
    size = classifier.input_size
    task = ClassificationTask(
        classifier,
        ClassificationSlices(train.samples, dataset.classes, size, augment, seed=seed, cache=data.cache),
        ClassificationSlices(valid.samples, dataset.classes, size, cache=data.cache),
        model,
        dataset.negative,
    )
    return _train(task, recipe, dataset, out, resume=resume, quiet=quiet)


def train_refiner(
    recipe: RefinerRecipe, out: Path | None = None, *, resume: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Trains the refining stage and writes a run directory (default ``runs/refiner-ARCH``); errors as above.

    Raises:
        ConfigError: boxes of the negative class are kept, of which a refiner makes nothing.
    """
    from detectclf.data.augment import detection_augment
    from detectclf.data.crops import CropSlices
    from detectclf.models.refiner import build_refiner
    from detectclf.pipelines.confused import check_detector, confused_places
    from detectclf.training.environment import seed_everything
    from detectclf.training.tasks import RefinementTask

    data, model, seed = recipe.data, recipe.model, recipe.training.seed
    if data.negative_boxes == "keep":
        raise ConfigError("data.negative_boxes: keep: a refiner reads tumours", remedy="leave the setting out")
    if recipe.detector is not None:
        check_detector(recipe.detector, data)
    dataset, train, valid = _open(recipe)
    classes = dataset.tumor_classes
    run, device = recipe.detector, recipe.training.device
    places = [] if run is None else confused_places(run, train.samples, classes, data, device)
    augment = detection_augment(recipe.augment, seed=seed) if recipe.augment.enabled else None
    seed_everything(seed)
    refiner = build_refiner(model, len(classes))
    log.info("%s: %s", model.arch, refiner.weights_report.summary())
    sizes = (model.slice_size, model.image_size, model.context)
    task = RefinementTask(
        refiner,
        CropSlices(train.samples, classes, *sizes, augment, seed=seed, cache=data.cache, confused=places),
        CropSlices(valid.samples, classes, *sizes, cache=data.cache),
        dataset.negative,
    )
    return _train(
        task, recipe, dataset, out or Path("runs") / f"refiner-{_folder(model.arch)}", resume=resume, quiet=quiet
    )


def _open(recipe: DetectorRecipe | ClassifierRecipe | RefinerRecipe) -> tuple[Dataset, Dataset, Dataset]:
    from detectclf.data.dataset import open_dataset, require_split
    from detectclf.models.device import resolve_device

    # First what is quick to check: nobody wants to hear of a missing GPU after the data were read.
    resolve_device(recipe.training.device)
    dataset = open_dataset(recipe.data)
    return (
        dataset,
        require_split(dataset, recipe.data.train_split),
        require_split(dataset, recipe.data.valid_split),
    )


def _train(
    task: DetectionTask | ClassificationTask | RefinementTask,
    recipe: DetectorRecipe | ClassifierRecipe | RefinerRecipe,
    dataset: Dataset,
    out: Path | None,
    *,
    resume: bool,
    quiet: bool,
) -> dict[str, Any]:
    from detectclf.pipelines.facts import inherited_fingerprints
    from detectclf.training.loop import fit
    from detectclf.training.progress import make_progress
    from detectclf.training.runs import Run

    inherited = inherited_fingerprints(recipe.model.weights)
    if inherited is not None:
        _check_start(inherited, task.valid.samples, recipe.data, recipe.model.weights)
    run = Run.create(out or Path("runs") / _folder(recipe.model.arch), recipe, resume=resume)
    run.describe_data(dataset, task.train.samples, task.valid.samples)
    run.write_fingerprints(task.train.samples, inherited)
    training = recipe.training
    if training.freeze_epochs and not task.pretrained:
        log.info("no pretrained weights: nothing is frozen, all layers are trained from the first epoch")
        training = training.model_copy(update={"freeze_epochs": 0})
    history = fit(task, training, run, resume=resume, progress=make_progress(quiet), workers=recipe.data.workers)
    if not run.writes:
        return {}
    return {
        "run": str(run.path),
        "arch": recipe.model.arch,
        "epochs": len(history.records),
        "best_epoch": history.best_epoch,
        "best": history.best.get("metrics", {}),
    }


def _check_start(inherited: Fingerprints, valid: Sequence[Sample], data: DataConfig, weights: str) -> None:
    """Makes sure that figures on the validation slices stay figures on unseen slices.

    Raises:
        ModelError: ``weights`` were trained on slices of the folds held out here, or on copies of them.
    """
    from detectclf.data.copies import copies_between
    from detectclf.data.fingerprints import fingerprint_samples

    if data.folds is not None and not data.held_out:
        return  # a final run, which trains on its validation slices anyway
    seen = len(copies_between(inherited, fingerprint_samples(valid)))
    if seen and data.held_out:
        raise ModelError(
            f"was trained on {seen} of the {len(valid)} slices held out here, or on copies of them",
            file=weights,
            remedy="start from weights of a run that held these folds out as well",
        )
    if seen:
        log.warning("%s was trained on %d of the %d validation slices or their copies", weights, seen, len(valid))


def _folder(arch: str) -> str:
    return arch.replace(":", "-").replace("/", "-")
