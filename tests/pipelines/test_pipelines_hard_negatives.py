"""The places that a detector confuses with tumours, as the refiner's training takes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.config import AugmentConfig, DataConfig, DetectorRecipe
from detectclf.datasets.augment import detection_augment
from detectclf.datasets.crops import CropSlices, background_boxes
from detectclf.datasets.dataset import open_dataset, require_split
from detectclf.datasets.index import SliceIndex
from detectclf.errors import ModelError
from detectclf.pipelines.hard_negatives import check_detector, hard_negatives
from detectclf.pipelines.provenance import inherited_provenance
from detectclf.pipelines.train import train_detector
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data
from detectclf.types import Sample


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_data(tmp_path_factory.mktemp("confused") / "data", n=24, seed=0)


@pytest.fixture(scope="module")
def detector(source: Path) -> Path:
    """A detector that has hardly learned, so that it gives out boxes everywhere."""
    flags = {
        "data.sources": [str(source)],
        "data.folds": 4,
        "data.held_out": [0, 1],
        "model.arch": "fasterrcnn_small_fpn",
        "model.image_size": 96,
        "model.score_threshold": 0.0,
        "training.epochs": 1,
        "training.device": "cpu",
        "training.precision": "fp32",
    }
    out = source.parent / "detector"
    train_detector(load_recipe(DetectorRecipe, flags=flags), out, quiet=True)
    return out


def test_places_lie_beside_the_tumours_and_inside_slices_that_are_not_square(
    source: Path, detector: Path, tmp_path: Path
) -> None:
    data = open_dataset(DataConfig(sources=(source,)))
    samples = []
    for n, sample in enumerate(s for s in data.samples if s.boxed):
        pixels = np.asarray(Image.open(sample.path).convert("L"))
        narrow = np.ascontiguousarray(pixels[:, : pixels.shape[1] // 3])  # the rest of the input is air
        path = tmp_path / f"{n}.png"
        Image.fromarray(narrow).save(path)
        boxes = np.array([[2, 5, 40, 60]] if n % 2 else np.zeros((0, 4)), dtype=np.float32)
        labels = ("glioma",) * len(boxes)
        samples.append(
            Sample(path, path.name, "train", "glioma", boxes, labels, True, narrow.shape[1], narrow.shape[0], "")
        )
    places = hard_negatives(detector, samples, data.tumor_classes, DataConfig(), "cpu")
    assert len(places) == len(samples) and sum(map(len, places)) > len(samples)
    for boxes, sample in zip(places, samples, strict=True):
        assert (boxes[:, 2] > boxes[:, 0]).all() and (boxes[:, 3] > boxes[:, 1]).all()
        assert (boxes >= 0).all() and (boxes[:, 2] <= sample.width).all() and (boxes[:, 3] <= sample.height).all()
        assert len(background_boxes(boxes, sample.boxes_xyxy)) == len(boxes)
    augment = detection_augment(AugmentConfig(), seed=0)
    crops = CropSlices(samples, data.tumor_classes, 96, 64, 2.0, augment, hard_negatives=places)
    assert {crops[i][1]["label"] for i in range(len(crops))} <= {0, 1, 2, 3}


def test_a_run_of_another_stage_is_refused(detector: Path, tmp_path: Path) -> None:
    check_detector(detector)
    (tmp_path / "model.json").write_text(
        (detector / "model.json").read_text(encoding="utf-8").replace('"detector"', '"classifier"'), encoding="utf-8"
    )
    with pytest.raises(ModelError, match="not a detector"):
        check_detector(tmp_path)


@pytest.mark.parametrize(
    ("held_out", "seed", "count", "reason"),
    [
        ((0,), 0, 4, ""),
        ((0, 1), 0, 4, ""),
        ((), 0, 4, ""),  # a final refiner holds nothing out
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
            inherited_provenance([detector], valid, data, SliceIndex())
    else:
        seen = inherited_provenance([detector], valid, data, SliceIndex())
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
            inherited_provenance([start], valid, folds, SliceIndex())
        assert (
            inherited_provenance([start], valid, published, SliceIndex()) is None and "may be too good" in caplog.text
        )
        caplog.clear()
    (tmp_path / "linked.safetensors").symlink_to(detector / "model.safetensors")
    assert inherited_provenance([tmp_path / "linked.safetensors"], valid, published, SliceIndex()), (
        "followed to its run"
    )
    (tmp_path / "imagenet").mkdir()
    shutil.copy(detector / "model.safetensors", tmp_path / "imagenet" / "weights.safetensors")
    for stranger in ("none", "default", str(tmp_path / "imagenet" / "weights.safetensors")):
        caplog.clear()
        assert inherited_provenance([stranger], valid, folds, SliceIndex()) == () and not caplog.text
