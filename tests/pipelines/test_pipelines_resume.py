"""A training goes on with its data wherever they are now, and with other data only if that is wanted."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from detectclf.config import ClassifierRecipe
from detectclf.duplicates.fingerprints import Fingerprints
from detectclf.errors import DataError
from detectclf.pipelines.train import train_classifier
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data


def train(data: Path, out: Path, epochs: int, **options: Any) -> dict[str, Any]:
    """A run of the smallest classifier."""
    flags = {
        "data.sources": [str(data)],
        "model.arch": "cnn",
        "model.weights": "none",
        "model.image_size": 32,
        "training.epochs": epochs,
        "training.device": "cpu",
        "training.precision": "fp32",
    }
    return train_classifier(load_recipe(ClassifierRecipe, flags=flags), out, quiet=True, **options)


def test_moved_data_are_known_again_and_swapped_pictures_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("detectclf"), "propagate", True)
    data, run = write_sample_data(tmp_path / "data", n=16, seed=0), tmp_path / "run"
    train(data, run, 1)
    before, prints = json.loads((run / "data.json").read_text()), Fingerprints.load(run / "fingerprints.safetensors")
    moved = data.rename(tmp_path / "moved")
    assert train(moved, run, 2, resume=True)["epochs"] == 2
    assert json.loads((run / "data.json").read_text())["train"] == before["train"]
    other = write_sample_data(tmp_path / "other", n=16, seed=1)
    one, another = (sorted((folder / "train").glob("*.jpg"))[0] for folder in (moved, other))
    shutil.copyfile(another, one)
    with pytest.raises(DataError, match=r"slices or labels for train have changed.*--allow-changed-data"):
        train(moved, run, 3, resume=True)
    assert train(moved, run, 3, resume=True, allow_changed_data=True)["epochs"] == 3
    assert "data.json keeps a record of it" in caplog.text
    record = json.loads((run / "data.json").read_text())
    assert record["changes"] == [{"epochs": 2, "train": before["train"], "valid": before["valid"]}]
    both = Fingerprints.load(run / "fingerprints.safetensors")
    assert set(both.digests) > set(prints.digests), "the slices before were trained on too"
