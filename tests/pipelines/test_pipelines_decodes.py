"""How often a slice is decoded: by each command, with and without what the cache knows."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from detectclf.config import (
    BundleConfig,
    BundleRecipe,
    ClassifierRecipe,
    DataConfig,
    DetectorRecipe,
    EvaluateConfig,
    EvaluateRecipe,
)
from detectclf.imaging import images
from detectclf.pipelines.bundle import bundle
from detectclf.pipelines.check import check
from detectclf.pipelines.evaluate import evaluate
from detectclf.pipelines.split import split
from detectclf.pipelines.train import train_classifier, train_detector
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export, whose files are older than the index asks for."""
    folder = write_sample_data(tmp_path_factory.mktemp("decodes") / "data", n=24, seed=1)
    return Path(folder)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A detector and a classifier, hardly trained."""
    out = tmp_path_factory.mktemp("runs")
    for name, kind, train in (
        ("detector", DetectorRecipe, train_detector),
        ("classifier", ClassifierRecipe, train_classifier),
    ):
        train(_recipe(kind, name, data), out / name, quiet=True)  # type: ignore[operator]
    return {name: out / name for name in ("detector", "classifier")}


def _recipe(kind: type, name: str, data: Path, **more: object) -> object:
    flags = {"data.sources": [str(data)], "training.epochs": 1, "training.device": "cpu", "model.image_size": 64}
    return load_recipe(kind, f"demo-{name}", flags=flags | more)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counter[str]:
    """How often each file is decoded; the cache is new."""
    monkeypatch.setenv("DETECTCLF_CACHE", str(tmp_path / "cache"))
    counts: Counter[str] = Counter()
    decode = images._decode

    def counting(content: bytes, path: str | Path, *rest: object) -> object:
        counts[str(path)] += 1
        return decode(content, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "_decode", counting)
    return counts


def _most(decoded: Counter[str], command: Callable[[], object]) -> int:
    decoded.clear()
    command()
    assert decoded, "the command reads slices"
    return max(decoded.values())


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    from detectclf.datasets import index

    monkeypatch.setattr(index, "_SETTLED_S", -1.0)


def test_check_and_split_decode_once_and_then_never(data: Path, decoded: Counter[str], tmp_path: Path) -> None:
    assert _most(decoded, lambda: check([data])) == 1
    decoded.clear()
    check([data])
    split(data, tmp_path / "split")
    assert not decoded


def test_evaluate_and_bundle_decode_once(
    data: Path, runs: dict[str, Path], decoded: Counter[str], tmp_path: Path
) -> None:
    config = DataConfig(sources=(data,))
    recipe = BundleRecipe(data=config, bundle=BundleConfig(export=False), evaluate=EvaluateConfig(bootstrap=0))
    # No gallery: its few pictures are read again when they are drawn.
    judged = EvaluateRecipe(data=config, evaluate=EvaluateConfig(bootstrap=20, worst=0))
    assert _most(decoded, lambda: bundle(runs, recipe, "valid", tmp_path / "bundle")) == 1
    for model in (tmp_path / "bundle", None):  # a bundle that keeps fingerprints, and the packaged one
        shutil.rmtree(os.environ["DETECTCLF_CACHE"], ignore_errors=True)
        assert _most(decoded, lambda model=model: evaluate(judged, "test", model=model, out=tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("settings", "cold"),
    [
        ({}, 1),
        ({"data.folds": 2, "data.held_out": [0]}, 2),  # folds are dealt before the size of the input is known
    ],
    ids=["published splits", "folds"],
)
def test_training_decodes_once(
    settings: dict[str, object], cold: int, data: Path, decoded: Counter[str], tmp_path: Path
) -> None:
    recipe = _recipe(ClassifierRecipe, "classifier", data, **settings)
    assert _most(decoded, lambda: train_classifier(recipe, tmp_path / "cold", quiet=True)) == cold  # type: ignore[arg-type]
    assert _most(decoded, lambda: train_classifier(recipe, tmp_path / "warm", quiet=True)) == 1  # type: ignore[arg-type]
