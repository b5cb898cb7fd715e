"""``bundle``: stages joined into one model, with fusion, calibration and thresholds fitted on slices unseen by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.config import BundleRecipe
from detectclf.errors import DataError, ModelError
from detectclf.files import atomic_folder
from detectclf.pipelines.opening import check_classes, predictor_of, split_of
from detectclf.prediction import Origin, Prediction
from detectclf.types import Dataset, FusedOutputs, StageOutputs

if TYPE_CHECKING:
    from detectclf.evaluation.report_types import Report
    from detectclf.inference.fusion import FusionClasses
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle import Bundle, FusionParameters
    from detectclf.models.knowledge import OODStatistics, OutOfFoldPredictions
    from detectclf.models.saved import ModelMeta


@dataclass(frozen=True, slots=True)
class Stages:
    """The runs that a bundle is made of."""

    detector: Path
    classifier: Path
    refiner: Path | None = None

    @property
    def runs(self) -> tuple[Path, ...]:
        """Those there are."""
        return tuple(run for run in (self.detector, self.classifier, self.refiner) if run is not None)


@dataclass(frozen=True, slots=True, eq=False)
class _Unseen:
    """Slices that the stages were not trained on, with what they said of them.

    Attributes:
        dataset: the slices.
        outputs: one per slice.
        names: the classes of the stages.
        parts: number of the part of each slice; fusion is judged on each part as fitted on the others. One part:
            it is fitted and judged on the same slices, which the card says.
        groups: source group of each slice where known.
        left_out: slices that no run of the folds could be asked about.
    """

    dataset: Dataset
    outputs: list[StageOutputs]
    names: FusionClasses
    parts: list[int]
    groups: list[int] | None
    left_out: int = 0


def bundle(
    stages: Stages,
    recipe: BundleRecipe,
    split: str,
    out: Path,
    *,
    folds: Path | None = None,
    report: Path | None = None,
) -> dict[str, Any]:
    """Fits calibration, fusion and thresholds and writes a bundle with its model card.

    Args:
        stages: the runs.
        recipe: data, operating point, device.
        split: what is fitted on, unless ``folds`` are given.
        out: the bundle's folder.
        folds: a folder of runs that each held some folds out: everything is fitted on out-of-fold predictions of all
            the data, so that ``stages`` may have been trained on all of it.
        report: folder for the report on the slices that were fitted on.

    Raises:
        DataError, ModelError, ConfigError: see each room.
    """
    from detectclf.evaluation.model_card import write_model_card
    from detectclf.evaluation.report import build_report, write_report
    from detectclf.models.bundle import save_bundle
    from detectclf.pipelines.metadata import bundle_facts, card_facts
    from detectclf.pipelines.provenance import copy_fingerprints, training_fingerprints

    predictor = predictor_of(
        None, stages.detector, stages.classifier, recipe.predict, stages.refiner, tta=recipe.bundle.tta
    )
    unseen = _out_of_fold(folds, recipe) if folds is not None else _of_split(recipe, split, predictor)
    _check_same_stages(unseen, predictor)
    dataset, name = unseen.dataset, "out of fold" if folds is not None else split
    fusion = _fit(unseen, range(len(unseen.outputs)), recipe)
    facts = bundle_facts(stages.runs, dataset, name, recipe.bundle, cross_fitted=len(set(unseen.parts)) > 1)
    if unseen.left_out:
        facts["fitted_on"]["left_out"] = unseen.left_out
    judged = _judged(unseen, fusion, recipe)
    made: Report = build_report(
        judged,
        dataset,
        config=recipe.evaluate,
        # Out of fold nothing was seen in training, by construction; else the card says which slices were.
        train_fingerprints=None if folds is not None else training_fingerprints(None, stages.runs),
        groups=unseen.groups,
        held_out=folds is not None,
        facts=facts,
    )
    joined = replace(
        predictor.bundle,
        name=recipe.bundle.name,
        version=recipe.bundle.version,
        fusion=fusion,
        facts=facts,
        ood=_ood(unseen, predictor, made.provenance.groups.tolist(), folds is not None),
        out_of_fold=_out_of_fold_predictions(dataset, judged, unseen.names) if folds is not None else None,
    )
    if folds is not None:
        joined = _without_figures_on_seen_slices(joined)
    with atomic_folder(out) as folder:
        save_bundle(folder, joined)
        if recipe.bundle.keep_fingerprints:
            copy_fingerprints(stages.runs, folder)
        write_model_card(folder, card_facts(joined, made.record))
    if report is not None:
        write_report(made, report)
    return {"bundle": str(out), "samples": len(dataset.samples), "split": name, "fusion": asdict(fusion)}


def _check_same_stages(unseen: _Unseen, predictor: Predictor) -> None:
    """Makes sure that what fusion is fitted on are words of stages like those of the bundle."""
    refined = any(said.refined is not None for said in unseen.outputs)
    if unseen.names != predictor.names or refined != (predictor.bundle.refiner is not None):
        raise ModelError(
            "the fold runs and the runs of the bundle are of different stages or classes",
            remedy="give --refiner exactly where the folds have one, and runs of the same data",
        )


def _of_split(recipe: BundleRecipe, split: str, predictor: Predictor) -> _Unseen:
    dataset = _labelled(split_of(recipe.data, split))
    check_classes(dataset, predictor)
    outputs = list(predictor.raw_many(dataset.samples))
    return _Unseen(dataset, outputs, predictor.names, [0] * len(outputs), None)


def _out_of_fold(folds: Path, recipe: BundleRecipe) -> _Unseen:
    from detectclf.pipelines.out_of_fold import out_of_fold

    found = out_of_fold(folds, recipe.data, recipe.predict, tta=recipe.bundle.tta)
    return _Unseen(found.dataset, found.outputs, found.names, found.folds, found.groups, found.left_out)


def _fit(unseen: _Unseen, rows: Sequence[int], recipe: BundleRecipe) -> FusionParameters:
    """Fusion fitted on the slices ``rows``."""
    from detectclf.inference.fusion_fit import fit_fusion

    samples = tuple(unseen.dataset.samples[i] for i in rows)
    return fit_fusion(
        [unseen.outputs[i] for i in rows],
        [str(s.label) for s in samples],
        unseen.names,
        recipe.bundle,
        box_scorer=_map_scorer(replace(unseen.dataset, samples=samples)),
    )


def _judged(unseen: _Unseen, whole: FusionParameters, recipe: BundleRecipe) -> list[Prediction]:
    """Predictions for the card: of each part by a fusion fitted on the other parts, where there are others."""
    from detectclf.inference.fusion import fuse

    parts = np.array(unseen.parts)
    fitted = {int(k): whole for k in np.unique(parts)}
    if len(fitted) > 1:
        fitted = {k: _fit(unseen, np.flatnonzero(parts != k).tolist(), recipe) for k in fitted}
    return [
        Prediction.of(
            fuse(said, fitted[part], unseen.names), s.name, width=s.width, height=s.height, origin=Origin(s.path)
        )
        for said, part, s in zip(unseen.outputs, unseen.parts, unseen.dataset.samples, strict=True)
    ]


def _without_figures_on_seen_slices(bundle: Bundle) -> Bundle:
    """The bundle without the figures of its final runs, whose valid split was trained on as well."""

    def plain(meta: ModelMeta) -> ModelMeta:
        kept = {key: value for key, value in meta.training.items() if key != "metrics"}
        return meta.model_copy(update={"training": kept})

    refiner = None if bundle.refiner_meta is None else plain(bundle.refiner_meta)
    return replace(
        bundle,
        detector_meta=plain(bundle.detector_meta),
        classifier_meta=plain(bundle.classifier_meta),
        refiner_meta=refiner,
    )


def _ood(unseen: _Unseen, predictor: Predictor, groups: list[int], of_folds: bool) -> OODStatistics | None:
    """What the slices look like to the bundle's own detector."""
    from detectclf.inference.ood import fit_ood

    if of_folds:
        # The folds' detectors are other networks, whose features mean something else.
        return fit_ood(predictor.statistics_many(unseen.dataset.samples), groups)
    features = [o.features for o in unseen.outputs if o.features is not None]
    return fit_ood(np.stack(features), groups) if len(features) == len(groups) else None


def _out_of_fold_predictions(
    dataset: Dataset, judged: Sequence[Prediction], names: FusionClasses
) -> OutOfFoldPredictions:
    """The out-of-fold words, for the label doctor."""
    from detectclf.duplicates.fingerprints import fingerprint_samples
    from detectclf.models.knowledge import OutOfFoldPredictions

    boxes = np.zeros((len(judged), 5), dtype=np.float32)
    for i, prediction in enumerate(judged):
        tumors = [j for j, name in enumerate(prediction.box_labels) if name != names.negative]
        if tumors:  # best score first
            boxes[i] = (*prediction.boxes_xyxy[tumors[0]], prediction.scores[tumors[0]])
    chances = np.array([[p.probabilities[name] for name in names.classes] for p in judged], dtype=np.float32)
    return OutOfFoldPredictions(fingerprint_samples(dataset.samples).rows["digest"], chances, boxes)


def _labelled(dataset: Dataset) -> Dataset:
    labelled = tuple(s for s in dataset.samples if s.label is not None)
    if not labelled:
        raise DataError("no slice with a known class in this split", remedy="choose another --split or add --data")
    return replace(dataset, samples=labelled)


def _map_scorer(dataset: Dataset) -> Callable[[Sequence[FusedOutputs]], float | None]:
    from detectclf.evaluation.detection import mean_average_precision

    boxed = [i for i, s in enumerate(dataset.samples) if s.boxed]
    truth = [dataset.samples[i] for i in boxed]

    def score(predictions: Sequence[FusedOutputs]) -> float | None:
        said = [predictions[i] for i in boxed]
        return mean_average_precision(
            [s.boxes_xyxy for s in truth],
            [s.box_labels for s in truth],
            [p.boxes_xyxy for p in said],
            [p.box_labels for p in said],
            [p.scores for p in said],
            dataset.tumor_classes,
        ).mAP

    return score
