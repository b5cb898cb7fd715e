"""What is known of a model, carried from its runs into the bundle, the report and the model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import BundleConfig
from detectclf.types import Dataset

if TYPE_CHECKING:
    from detectclf.evaluation.model_card import CardFacts
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle import Bundle

STAGES = ("detector", "classifier", "refiner")


def bundle_facts(
    runs: Sequence[Path], dataset: Dataset, split: str, config: BundleConfig, *, cross_fitted: bool = False
) -> dict[str, Any]:
    """Free JSON facts of a bundle: the data of its runs, what the fusion was fitted on, the operating point asked."""
    from detectclf.formats.licences import stated_licences

    training = {stage: _run_facts(run) for stage, run in zip(STAGES, runs, strict=False)}
    trained_on = [s for part in training.values() for s in (part.get("data") or {}).get("sources", [])]
    return {
        "training": _without_folders(training),
        "licences": stated_licences(dict.fromkeys([*trained_on, *dataset.sources])) | config.licences,
        "fitted_on": {
            "split": split,
            "cross_fitted": cross_fitted,
            "samples": len(dataset.samples),
            "sources": [Path(s).name for s in dataset.sources],
        },
        "operating_point": {
            "sensitivity": config.sensitivity,
            "max_false_alarm_rate": config.max_false_alarm_rate,
        },
    }


def _run_facts(run: Path) -> dict[str, Any]:
    return {
        name.partition(".")[0]: json.loads((run / name).read_text(encoding="utf-8"))
        for name in ("data.json", "env.json")
        if (run / name).is_file()
    }


def _without_folders(facts: Any) -> Any:
    """``facts`` with the last name of every absolute path: where files lie is the business of nobody else."""
    if isinstance(facts, dict):
        return {key: _without_folders(value) for key, value in facts.items()}
    if isinstance(facts, list):
        return [_without_folders(value) for value in facts]
    return Path(facts).name if isinstance(facts, str) and Path(facts).is_absolute() else facts


def model_facts(predictor: Predictor) -> dict[str, Any]:
    """What the report says of the model: its parts, sizes, fusion, and the facts of its bundle."""
    stages = _stages(predictor.bundle)
    return {
        **predictor.bundle.facts,
        "model": {
            "name": predictor.name,
            **stages,
            "parameters": sum(stage["parameters"] for stage in stages.values()),
            "fusion": asdict(predictor.bundle.fusion),
        },
    }


def card_facts(bundle: Bundle, evaluation: dict[str, Any]) -> CardFacts:
    """What the model card is filled in from."""
    from detectclf.evaluation.model_card import CardFacts

    return CardFacts(
        name=bundle.name,
        version=bundle.version,
        classes=bundle.classes,
        negative=bundle.negative,
        stages=_stages(bundle),
        fusion=asdict(bundle.fusion),
        facts=bundle.facts,
        evaluation=evaluation,
    )


def _stages(bundle: Bundle) -> dict[str, dict[str, Any]]:
    return {
        stage: {
            "arch": meta.arch,
            "input_size": meta.preprocessing.size,
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights": meta.config.get("weights"),
            "training": meta.training,
        }
        for stage, (model, meta) in bundle.parts().items()
    }
