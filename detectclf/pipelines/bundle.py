"""``bundle``: joins stages into one model, with fusion, calibration and thresholds fitted on unseen slices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.config import BundleRecipe
from detectclf.errors import ConfigError, ModelError
from detectclf.files import atomic_folder, check_free
from detectclf.pipelines.bundle_ood import ood_of
from detectclf.pipelines.opening import predictor_of
from detectclf.pipelines.unseen import Unseen, unseen_of_folds, unseen_of_split
from detectclf.prediction import Prediction
from detectclf.types import Dataset, FusedOutputs

if TYPE_CHECKING:
    from detectclf.datasets.index import IndexedSlices
    from detectclf.evaluation.report_types import Report
    from detectclf.inference.fusion import FusionClasses
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle import Bundle, FusionParameters
    from detectclf.models.bundle_arrays import OutOfFoldPredictions
    from detectclf.models.stage import Stage

log = logging.getLogger(__name__)

_FITTED_ON_SEEN = (
    "%d of the %d slices of %s are training slices of these runs, or copies of some: probabilities that are fitted on "
    "them are too sure; fit on slices that no stage was trained on (--split)"
)


def bundle(
    runs: Mapping[str, Path],
    recipe: BundleRecipe,
    split: str,
    out: Path,
    *,
    folds: Path | None = None,
    development: Path | None = None,
    report: Path | None = None,
) -> dict[str, Any]:
    """Fits calibration, fusion and thresholds and writes a bundle with its model card.

    Args:
        runs: kind of stage -> its run; a detector and a classifier.
        recipe: data, operating point, device.
        split: the split to fit on, unless ``folds`` is given.
        out: the bundle's folder.
        folds: a folder of runs that each held some folds out. Everything is fitted on their out-of-fold predictions
            for all the data, so that ``runs`` may have been trained on all of it.
        development: a folder with a run for each kind of stage (``detector``, ``classifier``) that held ``split`` out.
            Everything is fitted on their predictions for it, so that ``runs`` may have been trained on it as well.
        report: folder for the report on the slices that were fitted on.

    Raises:
        DataError: the data cannot be read, have no labelled slice, or ``out`` is not empty.
        ModelError: a run is missing or damaged, or runs have different classes.
        ConfigError: ``folds`` together with a limit on the data, or with ``development``.
        DeviceError: the device is not available.
    """
    from detectclf.datasets.index import SliceIndex
    from detectclf.datasets.useless import before_fitting, never_trained
    from detectclf.evaluation.model_card import write_model_card
    from detectclf.evaluation.report import build_report, write_report
    from detectclf.models.bundle import save_bundle
    from detectclf.pipelines.metadata import bundle_metadata, card_content, training_of, without_patients
    from detectclf.pipelines.provenance import (
        model_provenance,
        patients_metadata,
        save_provenance,
        training_patient_record,
        training_patients,
    )

    if folds is not None and development is not None:
        raise ConfigError("both folds and a development folder are given", remedy="choose one to fit on")
    check_free(out)
    index = SliceIndex()
    predictor = predictor_of(None, runs, recipe.predict)
    fitted_runs = dict(runs) if development is None else {kind: development / kind for kind in runs}
    fitting = predictor if development is None else predictor_of(None, fitted_runs, recipe.predict)
    unseen = (
        unseen_of_folds(folds, recipe, index) if folds is not None else unseen_of_split(recipe, split, fitting, index)
    )
    _check_same_classes(unseen, predictor)
    dataset, name = unseen.dataset, "out of fold" if folds is not None else split
    by_others = folds is not None or development is not None
    notes = before_fitting(dataset.samples, unseen.names.negative, unseen.names.classes)
    fusion = _fit(unseen, range(len(unseen.outputs)), recipe)
    cross_fitted = len(set(unseen.parts)) > 1
    metadata = bundle_metadata(runs, dataset, name, recipe.bundle, cross_fitted=cross_fitted, left_out=unseen.left_out)
    metadata |= patients_metadata(list(runs.values()))
    notes += never_trained(dataset.samples, metadata["training"])
    for line in notes:
        log.warning(line)
    predictions = _predictions(unseen, fusion, recipe)
    known = None if folds is not None else training_patient_record(None, list(fitted_runs.values()))
    made: Report = build_report(
        predictions,
        dataset,
        config=recipe.evaluate,
        # Out-of-fold predictions have no leakage; otherwise the card names the slices that were trained on.
        train_fingerprints=None if folds is not None else model_provenance(None, list(fitted_runs.values())),
        train_patients=frozenset() if folds is not None else training_patients(None, list(fitted_runs.values())),
        training=training_of(None, list(fitted_runs.values())),
        groups=unseen.sources,
        held_out=folds is not None,
        other_key=known is not None and known.has_other_key,
        metadata=without_patients(metadata),
        notes=notes,
        index=index,
    )
    copies = 0 if made.provenance.is_copy is None else int(made.provenance.is_copy.sum())
    if copies:
        log.warning(_FITTED_ON_SEEN, copies, len(dataset.samples), name)
    joined = replace(
        predictor.bundle,
        name=recipe.bundle.name,
        version=recipe.bundle.version,
        fusion=fusion,
        metadata=metadata,
        ood=ood_of(unseen, predictor, made.provenance.groups.tolist(), by_others, recipe.data.head_maps),
        out_of_fold=_out_of_fold_predictions(index.look_up(dataset.samples), predictions, unseen.names)
        if folds is not None
        else None,
    )
    if by_others:
        joined = _without_training_metrics(joined)
    with atomic_folder(out) as folder:
        save_bundle(folder, joined, graphs=recipe.bundle.export)
        if recipe.bundle.keep_fingerprints != "none":
            compact = recipe.bundle.keep_fingerprints == "compact"
            save_provenance(list(runs.values()), folder, index, compact=compact)
        write_model_card(folder, card_content(joined, made.record))
    if report is not None:
        write_report(made, report)
    return {"bundle": str(out), "samples": len(dataset.samples), "split": name, "fusion": asdict(fusion)}


def _check_same_classes(unseen: Unseen, predictor: Predictor) -> None:
    """Makes sure that the fusion is fitted on outputs for the same classes as the bundle has."""
    if unseen.names != predictor.names:
        raise ModelError(
            "the runs that the fusion is fitted with and the runs of the bundle have different classes",
            remedy="use runs of the same data",
        )


def _fit(unseen: Unseen, rows: Sequence[int], recipe: BundleRecipe) -> FusionParameters:
    """Fusion fitted on the slices ``rows``."""
    from detectclf.inference.fusion_fit import fit_fusion

    samples = tuple(unseen.dataset.samples[i] for i in rows)
    return fit_fusion(
        [unseen.outputs[i] for i in rows],
        [str(s.label) for s in samples],
        unseen.names,
        recipe.bundle,
        unusual=[unseen.novelty[i] == "unusual" for i in rows],
        box_scorer=_map_scorer(replace(unseen.dataset, samples=samples)),
    )


def _predictions(unseen: Unseen, whole: FusionParameters, recipe: BundleRecipe) -> list[Prediction]:
    """Predictions for the card. With several parts, the fusion of each part is fitted on the other parts."""
    from detectclf.inference.fusion import fuse
    from detectclf.inference.sources import origin_of

    parts = np.array(unseen.parts)
    fitted = {int(k): whole for k in np.unique(parts)}
    if len(fitted) > 1:
        fitted = {k: _fit(unseen, np.flatnonzero(parts != k).tolist(), recipe) for k in fitted}
    return [
        Prediction.of(
            fuse(outputs, fitted[part], unseen.names, novelty=novelty),
            s.name,
            width=s.width,
            height=s.height,
            origin=origin_of(s),
        )
        for outputs, part, novelty, s in zip(
            unseen.outputs, unseen.parts, unseen.novelty, unseen.dataset.samples, strict=True
        )
    ]


def _without_training_metrics(bundle: Bundle) -> Bundle:
    """The bundle without the validation metrics of its final runs, which were trained on the validation split too."""

    def plain(stage: Stage) -> Stage:
        kept = {key: value for key, value in stage.meta.training.items() if key != "metrics"}
        return replace(stage, meta=stage.meta.model_copy(update={"training": kept}))

    return replace(bundle, stages={kind: plain(stage) for kind, stage in bundle.stages.items()})


def _out_of_fold_predictions(
    indexed: IndexedSlices, predictions: Sequence[Prediction], names: FusionClasses
) -> OutOfFoldPredictions:
    """The out-of-fold predictions as arrays, for the check of labels."""
    from detectclf.models.bundle_arrays import OutOfFoldPredictions

    boxes = np.zeros((len(predictions), 5), dtype=np.float32)
    for i, prediction in enumerate(predictions):
        tumors = [j for j, name in enumerate(prediction.box_labels) if name != names.negative]
        if tumors:  # best score first
            boxes[i] = (*prediction.boxes_xyxy[tumors[0]], prediction.scores[tumors[0]])
    probabilities = np.array([[p.probabilities[name] for name in names.classes] for p in predictions], dtype=np.float32)
    return OutOfFoldPredictions(indexed.rows["digest"], probabilities, boxes)


def _map_scorer(dataset: Dataset) -> Callable[[Sequence[FusedOutputs]], float | None]:
    from detectclf.evaluation.detection import mean_average_precision_of

    return lambda found: mean_average_precision_of(dataset.samples, found, dataset.tumor_classes).mAP
