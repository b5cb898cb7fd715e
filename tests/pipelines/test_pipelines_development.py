"""A bundle of runs that have seen everything, fitted by runs that held a split out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detectclf.config import (
    BundleConfig,
    BundleRecipe,
    ClassifierRecipe,
    DataConfig,
    DetectorRecipe,
    EvaluateConfig,
    PredictConfig,
)
from detectclf.errors import ConfigError, ModelError
from detectclf.models.bundle import load_bundle
from detectclf.pipelines.bundle import bundle
from detectclf.pipelines.train import train_classifier, train_detector
from detectclf.pipelines.unseen import FEWEST_GROUPS
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data

SMALL = {
    "detector": {"model.arch": "fasterrcnn_small_fpn", "model.image_size": 96, "training.batch_size": 4},
    "classifier": {"model.arch": "cnn", "model.image_size": 32, "training.batch_size": 8},
}
CPU = PredictConfig(device="cpu")


def train(source: Path, out: Path, train_split: str) -> dict[str, Path]:
    """A detector and a classifier after one epoch."""
    flags = {
        "data.sources": [str(source)],
        "data.train_split": train_split,
        "model.weights": "none",
        "training.epochs": 1,
        "training.device": "cpu",
        "augment.enabled": False,
    }
    train_detector(load_recipe(DetectorRecipe, flags={**flags, **SMALL["detector"]}), out / "detector", quiet=True)
    train_classifier(
        load_recipe(ClassifierRecipe, flags={**flags, **SMALL["classifier"]}), out / "classifier", quiet=True
    )
    return {kind: out / kind for kind in SMALL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("development")
    write_sample_data(folder / "data", n=360, seed=0)
    train(folder / "data", folder / "development", "train")
    train(folder / "data", folder / "final", "valid")
    return folder


def recipe(folder: Path) -> BundleRecipe:
    return BundleRecipe(
        data=DataConfig(sources=(folder / "data",)),
        bundle=BundleConfig(export=False),
        predict=CPU,
        evaluate=EvaluateConfig(bootstrap=20, worst=0),
    )


def runs(folder: Path, name: str) -> dict[str, Path]:
    return {kind: folder / name / kind for kind in SMALL}


def test_fusion_comes_from_runs_that_held_the_split_out(folder: Path) -> None:
    said = bundle(
        runs(folder, "final"),
        recipe(folder),
        "valid",
        folder / "bundle",
        development=folder / "development",
        report=folder / "report",
    )
    own = bundle(runs(folder, "development"), recipe(folder), "valid", folder / "own")
    assert said["fusion"] == own["fusion"]
    assert said["samples"] >= FEWEST_GROUPS
    joined, alone = load_bundle(folder / "bundle"), load_bundle(folder / "own")
    final = joined.stages["classifier"].network.state_dict()
    held_out = alone.stages["classifier"].network.state_dict()
    assert any(not np.array_equal(final[k], held_out[k]) for k in final), "the final networks are bundled"
    assert joined.metadata["fitted_on"]["cross_fitted"], (
        "patients are enough to evaluate on other slices than fitted on"
    )
    assert joined.ood is not None and not np.array_equal(joined.ood.mean, alone.ood.mean)
    report = json.loads((folder / "report/report.json").read_text())
    assert report["data"]["samples"] == said["samples"]
    assert report["clean"]["samples"] == said["samples"], "those runs were not trained on these slices"


def test_only_one_way_of_fitting(folder: Path) -> None:
    with pytest.raises(ConfigError, match="both folds and a development folder"):
        bundle(
            runs(folder, "final"),
            recipe(folder),
            "valid",
            folder / "none",
            folds=folder,
            development=folder / "development",
        )


def test_development_folder_needs_a_run_for_each_stage(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="detector"):
        bundle(runs(folder, "final"), recipe(folder), "valid", tmp_path / "none", development=tmp_path)
