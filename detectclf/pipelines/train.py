"""``train-detector``, ``train-classifier`` and ``train-refiner``: from exports to a run directory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from detectclf.config import ClassifierRecipe, DetectorRecipe, RefinerRecipe
from detectclf.errors import ConfigError
from detectclf.types import Dataset

if TYPE_CHECKING:
    from detectclf.duplicates.fingerprints import Fingerprints
    from detectclf.training.tasks import ClassificationTask, DetectionTask, RefinementTask

log = logging.getLogger(__name__)


def train_detector(
    recipe: DetectorRecipe, out: Path | None = None, *, resume: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Trains the box stage and writes a run directory (default ``runs/ARCH``).

    Raises:
        ConfigError: halves of heads are to be shown twice, and boxes are not those of all tumours and nothing else.
        DataError, ModelError, DeviceError, TrainingError: see each room.
    """
    from detectclf.datasets.augment import detection_augment
    from detectclf.datasets.loading import DetectionSlices
    from detectclf.models.detectors import build_detector
    from detectclf.training.environment import seed_everything
    from detectclf.training.tasks import DetectionTask

    data, model, seed = recipe.data, recipe.model, recipe.training.seed
    _check_halves(recipe, keeps_negative_boxes=data.negative_boxes == "keep")
    opened = _open(recipe)
    dataset, train, valid = opened.dataset, opened.train, opened.valid
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
    return _train(task, recipe, opened, out, resume=resume, quiet=quiet)


def train_classifier(
    recipe: ClassifierRecipe, out: Path | None = None, *, resume: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Trains the class stage and writes a run directory (default ``runs/ARCH``); errors as for the box stage."""
    from detectclf.datasets.augment import classification_augment
    from detectclf.datasets.loading import ClassificationSlices
    from detectclf.models.classifiers import build_classifier
    from detectclf.training.environment import seed_everything
    from detectclf.training.tasks import ClassificationTask

    data, model, seed = recipe.data, recipe.model, recipe.training.seed
    _check_halves(recipe)
    opened = _open(recipe)
    dataset, train, valid = opened.dataset, opened.train, opened.valid
    augment = classification_augment(recipe.augment, seed=seed) if recipe.augment.enabled else None
    seed_everything(seed)
    classifier = build_classifier(model, len(dataset.classes))
    log.info("%s: %s", model.arch, classifier.weights_report.summary())
    size, negative = classifier.input_size, dataset.negative
    slices = ClassificationSlices(
        train.samples, dataset.classes, size, augment, seed=seed, cache=data.cache, negative=negative
    )
    if recipe.augment.symmetry and slices.healthy is None:
        log.warning(
            "augment.symmetry_healthy, symmetry_tumor: nothing is done, no training slice is of a class without tumour"
        )
    task = ClassificationTask(
        classifier,
        slices,
        ClassificationSlices(valid.samples, dataset.classes, size, cache=data.cache),
        model,
        negative,
    )
    return _train(task, recipe, opened, out, resume=resume, quiet=quiet)


def train_refiner(
    recipe: RefinerRecipe, out: Path | None = None, *, resume: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Trains the refining stage and writes a run directory (default ``runs/refiner-ARCH``); errors as above.

    Raises:
        ConfigError: boxes of the negative class are kept, of which a refiner makes nothing.
    """
    from detectclf.datasets.augment import detection_augment
    from detectclf.datasets.crops import CropSlices
    from detectclf.models.refiner import build_refiner
    from detectclf.pipelines.hard_negatives import check_detector, hard_negatives
    from detectclf.training.environment import seed_everything
    from detectclf.training.tasks import RefinementTask

    data, model, seed = recipe.data, recipe.model, recipe.training.seed
    if data.negative_boxes == "keep":
        raise ConfigError("data.negative_boxes: keep: a refiner reads tumours", remedy="leave the setting out")
    _check_halves(recipe)
    if recipe.detector is not None:
        check_detector(recipe.detector)
    opened = _open(recipe)
    dataset, train, valid = opened.dataset, opened.train, opened.valid
    classes = dataset.tumor_classes
    run, device = recipe.detector, recipe.training.device
    places = [] if run is None else hard_negatives(run, train.samples, classes, data, device)
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
        task, recipe, opened, out or Path("runs") / f"refiner-{_folder(model.arch)}", resume=resume, quiet=quiet
    )


def _check_halves(
    recipe: DetectorRecipe | ClassifierRecipe | RefinerRecipe, *, keeps_negative_boxes: bool = False
) -> None:
    """Refuses halves of heads where a half without a box may hold a tumour, or one with a box may not."""
    reason = "data.negative_boxes: keep gives boxes to what is no tumour" if keeps_negative_boxes else None
    if recipe.data.faults == "fix":
        reason = "data.faults: fix may take the box of a tumour away"
    if recipe.augment.symmetry and reason:
        raise ConfigError(
            f"augment.symmetry_healthy and symmetry_tumor need boxes of all tumours, but {reason}",
            remedy="--set augment.symmetry_healthy=0 --set augment.symmetry_tumor=0",
        )


class _Opened(NamedTuple):
    """The data of a training; ``seen`` is what it has seen beside ``train``, through the models that it starts from:
    ``None`` where one of them keeps no record, so that neither can this one."""

    dataset: Dataset
    train: Dataset
    valid: Dataset
    seen: tuple[Fingerprints, ...] | None


def _open(recipe: DetectorRecipe | ClassifierRecipe | RefinerRecipe) -> _Opened:
    from detectclf.datasets.dataset import open_dataset, require_split
    from detectclf.models.device import resolve_device
    from detectclf.pipelines.provenance import seen_through

    # First what is quick to check: nobody wants to hear of a missing GPU after the data were read.
    resolve_device(recipe.training.device)
    dataset = open_dataset(recipe.data)
    train, valid = (require_split(dataset, name) for name in (recipe.data.train_split, recipe.data.valid_split))
    starts: list[str | Path] = [recipe.model.weights]
    if isinstance(recipe, RefinerRecipe) and recipe.detector is not None:
        starts.append(recipe.detector)  # what it confuses tells of what it was trained on
    return _Opened(dataset, train, valid, seen_through(starts, valid.samples, recipe.data))


def _train(
    task: DetectionTask | ClassificationTask | RefinementTask,
    recipe: DetectorRecipe | ClassifierRecipe | RefinerRecipe,
    opened: _Opened,
    out: Path | None,
    *,
    resume: bool,
    quiet: bool,
) -> dict[str, Any]:
    from detectclf.training.loop import fit
    from detectclf.training.progress import make_progress
    from detectclf.training.runs import Run

    run = Run.create(out or Path("runs") / _folder(recipe.model.arch), recipe, resume=resume)
    run.describe_data(opened.dataset, task.train.samples, task.valid.samples)
    if opened.seen is not None:
        run.write_fingerprints(task.train.samples, opened.seen)
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


def _folder(arch: str) -> str:
    return arch.replace(":", "-").replace("/", "-")
