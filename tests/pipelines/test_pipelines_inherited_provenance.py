"""What a training inherits from the model that it starts from: the record of the slices that it was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detectclf.config import DataConfig, DetectorRecipe
from detectclf.datasets.dataset import open_dataset, require_split
from detectclf.datasets.index import SliceIndex
from detectclf.errors import ModelError
from detectclf.pipelines.provenance import inherited_provenance
from detectclf.pipelines.train import train_detector
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_data(tmp_path_factory.mktemp("confused") / "data", n=24, seed=0)


@pytest.fixture(scope="module")
def detector(source: Path) -> Path:
    """A detector that held two of four folds out."""
    flags = {
        "data.sources": [str(source)],
        "data.folds": 4,
        "data.held_out": [0, 1],
        "model.arch": "fasterrcnn_small_fpn",
        "model.image_size": 96,
        "training.epochs": 1,
        "training.device": "cpu",
        "training.precision": "fp32",
    }
    out = source.parent / "detector"
    train_detector(load_recipe(DetectorRecipe, flags=flags), out, quiet=True)
    return out


@pytest.mark.parametrize(
    ("held_out", "seed", "count", "reason"),
    [
        ((0,), 0, 4, ""),
        ((0, 1), 0, 4, ""),
        ((), 0, 4, ""),  # a final model holds nothing out
        ((2,), 0, 4, "was trained on"),
        ((0, 2), 0, 4, "was trained on"),
        ((0,), 1, 4, "was trained on"),  # other folds of the same numbers
        ((0,), 0, 2, "was trained on"),
    ],
)
def test_a_detector_that_saw_the_slices_held_out_is_refused(
    source: Path, detector: Path, held_out: tuple[int, ...], seed: int, count: int, reason: str
) -> None:
    data = DataConfig(sources=(source,), folds=count, held_out=held_out, fold_seed=seed)
    valid = require_split(open_dataset(data), data.valid_split).samples
    if reason:
        with pytest.raises(ModelError, match=reason):
            inherited_provenance(detector, valid, data, SliceIndex())
    else:
        seen = inherited_provenance(detector, valid, data, SliceIndex())
        assert seen is not None and [len(theirs) > 0 for theirs in seen] == [True]


def test_a_model_that_keeps_no_record_may_have_seen_everything(
    source: Path, detector: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("model.json", "model.safetensors"):
        shutil.copy(detector / name, tmp_path / name)
    folds, published = DataConfig(sources=(source,), folds=4, held_out=(0,)), DataConfig(sources=(source,))
    valid = open_dataset(published).samples
    for start in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(ModelError, match="keeps no record"):
            inherited_provenance(start, valid, folds, SliceIndex())
        assert inherited_provenance(start, valid, published, SliceIndex()) is None and "may be too good" in caplog.text
        caplog.clear()
    (tmp_path / "linked.safetensors").symlink_to(detector / "model.safetensors")
    assert inherited_provenance(tmp_path / "linked.safetensors", valid, published, SliceIndex()), "followed to its run"
    (tmp_path / "imagenet").mkdir()
    shutil.copy(detector / "model.safetensors", tmp_path / "imagenet" / "weights.safetensors")
    for stranger in ("none", "default", str(tmp_path / "imagenet" / "weights.safetensors")):
        caplog.clear()
        assert inherited_provenance(stranger, valid, folds, SliceIndex()) == () and not caplog.text
