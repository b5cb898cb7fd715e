"""Metadata of a model, from its runs into the bundle, the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import BundleConfig
from detectclf.documents import read_json
from detectclf.errors import ModelError
from detectclf.models.anonymise import without_folders
from detectclf.pipelines.provenance import PATIENTS_KEY
from detectclf.types import Dataset

if TYPE_CHECKING:
    from detectclf.evaluation.model_card import CardContent
    from detectclf.evaluation.record import Training
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle import Bundle


def bundle_metadata(
    runs: Mapping[str, Path], dataset: Dataset, split: str, config: BundleConfig, *, cross_fitted: bool, left_out: int
) -> dict[str, Any]:
    """JSON metadata of a bundle: data of its runs, slices that the fusion was fitted on, requested operating point.

    Args:
        runs: kind of stage -> its run.
        dataset: the slices that the fusion was fitted on.
        split: their split.
        config: settings of the bundle.
        cross_fitted: whether the fusion was evaluated on other slices than it was fitted on.
        left_out: number of slices without out-of-fold outputs, on which nothing was fitted.
    """
    from detectclf.formats.licences import stated_licences

    training = {kind: _run_metadata(run) for kind, run in runs.items()}
    trained_on = [s for part in training.values() for s in (part.get("data") or {}).get("sources", [])]
    return {
        "training": without_folders(training),
        "licences": stated_licences(dict.fromkeys([*trained_on, *dataset.sources])) | config.licences,
        "fitted_on": {
            "split": split,
            "cross_fitted": cross_fitted,
            "samples": len(dataset.samples),
            "sources": without_folders([Path(s) for s in dataset.sources]),
            **({"left_out": left_out} if left_out else {}),
        },
        "operating_point": {
            "sensitivity": config.sensitivity,
            "max_false_alarm_rate": config.max_false_alarm_rate,
        },
    }


def _run_metadata(run: Path) -> dict[str, Any]:
    return {name.partition(".")[0]: _read(run / name) for name in ("data.json", "env.json") if (run / name).is_file()}


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except ValueError as error:
        raise ModelError("damaged: not JSON", file=file, remedy="train the run again") from error


def training_metadata(runs: Sequence[Path]) -> dict[str, Any]:
    """Name of each run -> what it was trained with, as :func:`bundle_metadata` has it for its stages."""
    return {run.name: _run_metadata(run) for run in runs}


def model_metadata(predictor: Predictor) -> dict[str, Any]:
    """The model's part of the report: its stages, their sizes, the fusion, and the metadata of its bundle."""
    stages = _stages(predictor.bundle)
    return {
        **without_patients(predictor.bundle.metadata),
        "model": {
            "name": predictor.name,
            **stages,
            "parameters": sum(stage["parameters"] for stage in stages.values()),
            "fusion": asdict(predictor.bundle.fusion),
        },
    }


def without_patients(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``metadata`` of a bundle with the number of its training patients instead of their opaque names and keys."""
    record = metadata.get(PATIENTS_KEY)
    if not isinstance(record, Mapping) or not isinstance(record.get("patients"), list):
        return dict(metadata)
    counts = {key: value for key, value in record.items() if key not in ("patients", "persons", "keys")}
    return {**metadata, PATIENTS_KEY: {"patients": record.get("persons", len(record["patients"])), **counts}}


def training_of(model: Path | None, runs: Sequence[Path] = ()) -> Training | None:
    """How many slices and patients a bundle, or ``runs``, were trained on; ``None`` where they keep no record."""
    from detectclf.evaluation.record import Training
    from detectclf.pipelines.provenance import training_patient_record

    record = training_patient_record(model, runs)
    return None if record is None else Training(record.persons, record.slices, record.unknown)


def card_content(bundle: Bundle, evaluation: dict[str, Any]) -> CardContent:
    """The content of the model card."""
    from detectclf.evaluation.model_card import CardContent

    return CardContent(
        name=bundle.name,
        version=bundle.version,
        classes=bundle.classes,
        negative=bundle.negative,
        stages=_stages(bundle),
        fusion=asdict(bundle.fusion),
        metadata=without_patients(bundle.metadata),
        evaluation=evaluation,
    )


def _stages(bundle: Bundle) -> dict[str, dict[str, Any]]:
    return {
        kind: {
            "arch": stage.meta.arch,
            "input_size": stage.preprocessing.size,
            "parameters": stage.parameters,
            "weights": stage.meta.config.get("weights"),
            "training": stage.meta.training,
        }
        for kind, stage in bundle.stages.items()
    }
