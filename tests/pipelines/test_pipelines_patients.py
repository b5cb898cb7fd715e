"""Evaluating and bundling by patient, from the export's patients to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detectclf.config import (
    BundleConfig,
    BundleRecipe,
    ClassifierRecipe,
    DataConfig,
    DetectorRecipe,
    EvaluateConfig,
    EvaluateRecipe,
    PredictConfig,
)
from detectclf.datasets.index import SliceIndex
from detectclf.pipelines.bundle import bundle
from detectclf.pipelines.evaluate import evaluate
from detectclf.pipelines.out_of_fold import out_of_fold
from detectclf.pipelines.train import train_classifier, train_detector
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data

KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "detector": (DetectorRecipe, train_detector, {"model.arch": "fasterrcnn_small_fpn", "model.image_size": 96}),
    "classifier": (ClassifierRecipe, train_classifier, {"model.arch": "cnn", "model.image_size": 32}),
}
CPU = PredictConfig(device="cpu")
FAST = EvaluateConfig(bootstrap=20)
VALID = 4
"""Slices of each patient of the valid split."""


def with_patients(folder: Path, *, known: bool = True) -> Path:
    """Sample data in which the slices of valid are of the patients S (also in train), V, W and so on, four of each.

    Every fourth slice of train has no patient; with ``known=False`` no slice of train has one.
    """
    write_sample_data(folder, n=48, seed=0)
    for split in ("train", "valid"):
        file = folder / split / "_annotations.coco.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        for i, image in enumerate(content["images"]):
            if split == "valid":
                image["patient"] = f"{'SVWXYZ'[i // VALID]}-of-a-clinic"
            elif known and i % 4:
                image["patient"] = f"{'STU'[i % 3]}-of-a-clinic"
        file.write_text(json.dumps(content), encoding="utf-8")
    return folder


def train(data: Path, out: Path, **more: Any) -> dict[str, Path]:
    """A detector and a classifier, hardly trained."""
    runs = {}
    for kind, (recipe, run, small) in KINDS.items():
        flags = {
            "data.sources": [str(data)],
            "model.weights": "none",
            "training.epochs": 1,
            "training.device": "cpu",
            "training.precision": "fp32",
            "training.batch_size": 8,
            "augment.enabled": False,
            **small,
            **more,
        }
        runs[kind] = out / f"{kind}{''.join(map(str, more.get('data.held_out', ())))}"
        run(load_recipe(recipe, flags=flags), runs[kind], quiet=True)
    return runs


def report_of(data: Path, **model: Any) -> dict[str, Any]:
    recipe = EvaluateRecipe(data=DataConfig(sources=(data,)), predict=CPU, evaluate=FAST)
    return evaluate(recipe, "valid", **model).report.record


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_patients(tmp_path_factory.mktemp("patients") / "data")


@pytest.fixture(scope="module")
def runs(data: Path) -> dict[str, Path]:
    return train(data, data.parent / "runs")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, True),  # S is in train and valid
        ({"data.folds": 2, "data.held_out": [0]}, False),  # folds keep patients together
        ({"data.folds": 2, "data.held_out": []}, False),  # a final model: valid is a part of train on purpose
    ],
)
def test_training_says_that_a_patient_is_on_both_sides(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], said: bool
) -> None:
    run = train(data, tmp_path, **settings)["classifier"]
    assert ("1 patients have slices in both train and valid" in caplog.text) == said
    counts = json.loads((run / "data.json").read_text(encoding="utf-8"))
    assert all(0 < counts[part]["patients"] < counts[part]["slices_with_patient"] for part in ("train", "valid"))
    assert "of-a-clinic" not in caplog.text and "anon-" not in caplog.text + json.dumps(counts)


def test_patients_of_training_are_told_from_new_ones(data: Path, runs: dict[str, Path]) -> None:
    record = report_of(data, **runs)
    count = record["data"]["evaluated"]
    assert record["data"]["slices_with_patient"] == count and record["data"]["patients"] == -(-count // VALID)
    new = record["new_patients"]
    assert new["samples"] == count - VALID, "all but those of S"
    assert new["patients"] == record["data"]["patients"] - 1
    assert f"{VALID} of {count} slices with a known patient are of patients in training" in new["note"]
    assert record["unknown_patients"]["samples"] == 0
    training = record["training"]
    assert training["patients"] == 3 and training["slices_without_patient"] > 0
    assert any(f"{training['slices_without_patient']} of {training['slices']} training" in n for n in record["notes"])
    assert "of-a-clinic" not in json.dumps(record) and "anon-" not in json.dumps(record), "no patient is named"


@pytest.mark.parametrize(("split", "said"), [("train", True), ("valid", False)])
def test_fitting_on_training_slices_is_said(
    data: Path, runs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, split: str, said: bool
) -> None:
    recipe = BundleRecipe(
        data=DataConfig(sources=(data,)), bundle=BundleConfig(export=False), predict=CPU, evaluate=FAST
    )
    bundle(runs, recipe, split, tmp_path / "bundle")
    assert (f"slices of {split} are training slices of these runs" in caplog.text) is said


@pytest.mark.parametrize("fingerprints", ["all", "compact", "none"])
def test_a_bundle_knows_the_patients_of_its_runs(
    data: Path, runs: dict[str, Path], tmp_path: Path, fingerprints: str
) -> None:
    recipe = BundleRecipe(
        data=DataConfig(sources=(data,)), bundle=BundleConfig(export=False), predict=CPU, evaluate=FAST
    )
    config = recipe.bundle.model_copy(update={"keep_fingerprints": fingerprints})
    bundle(runs, recipe.model_copy(update={"bundle": config}), "valid", tmp_path / "bundle", report=tmp_path / "report")
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.index("| New patients |") < card.index("| All slices |") and "anon-" not in card
    record = report_of(data, model=tmp_path / "bundle")
    direct = report_of(data, **runs)
    assert record["new_patients"]["samples"] == direct["new_patients"]["samples"]
    assert record["training"] == direct["training"]
    assert (record["clean"]["samples"] is None) == (fingerprints == "none")
    assert "anon-" not in json.dumps(record)


def test_a_model_of_unknown_patients_has_no_new_ones(tmp_path: Path) -> None:
    data = with_patients(tmp_path / "data", known=False)
    record = report_of(data, **train(data, tmp_path / "runs"))
    assert record["new_patients"]["samples"] is None and record["new_patients"]["combined"] is None
    assert "keeps no list of its training patients" in record["new_patients"]["note"]


def test_out_of_fold_predictions_are_of_new_patients(data: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    for fold in range(2):
        train(data, tmp_path / "folds", **{"data.folds": 2, "data.held_out": [fold]})
    config = DataConfig(sources=(data,))
    found = out_of_fold(tmp_path / "folds", config, CPU, SliceIndex())
    fold_of: dict[str, set[int]] = {}
    for sample, fold in zip(found.dataset.samples, found.folds, strict=True):
        if sample.patient is not None:
            fold_of.setdefault(sample.patient, set()).add(fold)
    assert len(fold_of) > 3 and all(len(folds) == 1 for folds in fold_of.values()), "no patient in two folds"
    assert len(set(found.groups)) < len(set(found.sources)), "patients join slices that are no copies"
    recipe = BundleRecipe(data=config, bundle=BundleConfig(export=False), predict=CPU, evaluate=FAST)
    bundle(runs, recipe, "valid", tmp_path / "bundle", folds=tmp_path / "folds", report=tmp_path / "report")
    record = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert record["new_patients"]["samples"] == record["data"]["slices_with_patient"] > 0
    assert record["bootstrap"]["unit"] == "patient where known, source group elsewhere"
    assert record["bootstrap"]["patient_groups"] == len(fold_of)
    assert record["data"]["source_groups"] == len(set(found.sources))
