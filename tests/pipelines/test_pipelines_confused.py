"""The places that a detector confuses with tumours, as the refiner's training takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf import pipelines
from detectclf.config import AugmentConfig, DataConfig, DetectorRecipe
from detectclf.data.augment import detection_augment
from detectclf.data.crops import CropSlices, beside_tumors
from detectclf.data.dataset import open_dataset
from detectclf.data.phantom import write_sample_data
from detectclf.errors import ModelError
from detectclf.pipelines.confused import check_detector, confused_places
from detectclf.recipes import load_recipe
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
    pipelines.train_detector(load_recipe(DetectorRecipe, flags=flags), out, quiet=True)
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
    places = confused_places(detector, samples, data.tumor_classes, DataConfig(), "cpu")
    assert len(places) == len(samples) and sum(map(len, places)) > len(samples)
    for boxes, sample in zip(places, samples, strict=True):
        assert (boxes[:, 2] > boxes[:, 0]).all() and (boxes[:, 3] > boxes[:, 1]).all()
        assert (boxes >= 0).all() and (boxes[:, 2] <= sample.width).all() and (boxes[:, 3] <= sample.height).all()
        assert len(beside_tumors(boxes, sample.boxes_xyxy)) == len(boxes)
    augment = detection_augment(AugmentConfig(), seed=0)
    crops = CropSlices(samples, data.tumor_classes, 96, 64, 2.0, augment, confused=places)
    assert {crops[i][1]["label"] for i in range(len(crops))} <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("held_out", "seed", "refused"),
    [
        ((0,), 0, False),
        ((0, 1), 0, False),
        ((), 0, False),  # a final refiner holds nothing out
        ((2,), 0, True),
        ((0, 2), 0, True),
        ((0,), 1, True),  # other folds of the same numbers
    ],
)
def test_a_detector_that_saw_the_slices_held_out_is_refused(
    detector: Path, held_out: tuple[int, ...], seed: int, refused: bool
) -> None:
    data = DataConfig(folds=4, held_out=held_out, fold_seed=seed)
    if not refused:
        check_detector(detector, data)
        return
    with pytest.raises(ModelError, match="held out here"):
        check_detector(detector, data)
