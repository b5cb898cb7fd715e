"""Folds of source slices: copies stay together, every slice is held out once, the settings say what is what."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.config import DataConfig, DetectorRecipe
from detectclf.datasets.dataset import open_dataset
from detectclf.errors import ConfigError, DataError
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample slices, one of them a second time, mirrored, in another published split."""
    folder = write_sample_data(tmp_path_factory.mktemp("folds") / "data", n=40, seed=0)
    slices = open_dataset(DataConfig(sources=(folder,))).split("train").samples
    kinds = folder.parent / "classes"
    for number, s in enumerate(slices[:8]):
        place = kinds / "valid" / str(s.label)
        place.mkdir(parents=True, exist_ok=True)
        mirrored = np.asarray(Image.open(s.path))[:, ::-1]
        Image.fromarray(mirrored).save(place / f"mirror{number}.png")
    return folder


def config(source: Path, **changes: object) -> DataConfig:
    return DataConfig(sources=(source, source.parent / "classes"), **changes)


def test_every_slice_is_held_out_once_and_copies_never_cross(source: Path) -> None:
    whole = open_dataset(config(source))
    held: Counter[str] = Counter()
    fold_of: dict[str, int] = {}
    for fold in range(3):
        data = open_dataset(config(source, folds=3, held_out=(fold,)))
        train, valid = data.split("train").samples, data.split("valid").samples
        assert len(train) + len(valid) == len(whole.samples)
        held.update(str(s.path) for s in valid)
        fold_of |= {str(s.path): fold for s in valid}
    assert set(held.values()) == {1} and len(held) == len(whole.samples)
    originals = open_dataset(DataConfig(sources=(source,))).split("train").samples[:8]
    for number, s in enumerate(originals):
        mirror = source.parent / "classes" / "valid" / str(s.label) / f"mirror{number}.png"
        assert fold_of[str(mirror)] == fold_of[str(s.path)], "a mirrored copy in another fold leaks"


def test_a_final_model_trains_on_everything_once(source: Path) -> None:
    data = open_dataset(config(source, folds=3, copies="one"))
    names = [s.name for s in data.split("train").samples]
    assert not [n for n in names if n.startswith("mirror")], "of copies the slice with known boxes is kept"
    assert len(names) == 40


@pytest.mark.parametrize(
    ("held", "why"), [((3,), "no such fold"), ((0, 1, 2), "nothing would be left to train on")], ids=["none", "all"]
)
def test_folds_that_cannot_be(source: Path, held: tuple[int, ...], why: str) -> None:
    with pytest.raises(ConfigError, match="held_out"):
        open_dataset(config(source, folds=3, held_out=held))


def test_folds_of_some_splits_leave_the_others_out(source: Path) -> None:
    published = open_dataset(config(source))
    data = open_dataset(config(source, folds=4, held_out=(1,), fold_splits=("train",)))
    used = {str(s.path) for s in data.samples}
    assert used == {str(s.path) for s in published.split("train").samples} and data.split("valid").samples
    with pytest.raises(DataError, match=r"'trial' is missing or empty.*fold_splits"):
        open_dataset(config(source, folds=4, fold_splits=("train", "trial")))


@pytest.mark.parametrize(
    "changes",
    [{"held_out": [0]}, {"copies": "one"}, {"fold_splits": ["train"]}],
    ids=["held_out", "copies", "fold_splits"],
)
def test_settings_of_folds_need_folds(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="need folds"):
        load_recipe(DetectorRecipe, flags={f"data.{key}": value for key, value in changes.items()})
