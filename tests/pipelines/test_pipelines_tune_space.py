"""Search spaces: what YAML may say, and the values that trials get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detectclf.config import ClassifierRecipe, Dimension
from detectclf.errors import ConfigError
from detectclf.pipelines.tune_space import read_space, suggest, values_of
from detectclf.recipes import configs_folder


@pytest.mark.parametrize("stage", ["detector", "classifier"])
def test_shipped_spaces_hold_the_recipe_itself(stage: str) -> None:
    from detectclf.pipelines.settings import RECIPES

    made: Any = RECIPES[stage][0]()
    assert values_of(made, read_space(None, stage, made)), "so that the recipe is the first trial"
    assert (configs_folder() / "spaces" / f"{stage}.yaml").is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping"),
        ("- a", "must be a mapping"),
        ("training.rl: {low: 0, high: 1}", "training.rl: unknown setting"),
        ("training.epochs: {low: 1, high: 9}", "cannot be compared"),
        ("data.limit: {low: 1, high: 9}", "cannot be compared"),
        ("training.lr: 0.1", "training.lr"),
        ("training.lr: {low: 0.1}", "needs low and a larger high"),
        ("training.lr: {low: 0.1, high: 0.1}", "needs low and a larger high"),
        ("training.lr: {low: 0.0, high: 0.1, log: true}", "log needs a low above 0"),
        ("training.lr: {low: -1.0, high: 0.1}", "-1.0: training.lr"),
        ("augment.flip: {low: 0.0, high: 2.0}", "2.0: augment.flip"),
        ("model.dropout: {choices: [0.1]}", "choices"),
        ("model.dropout: {choices: [0.1, 0.1]}", "twice"),
        ("model.dropout: {choices: [0.1, 0.2], low: 1}", "keep one of them"),
        ("model.frozen: {choices: [[a], [b]]}", "choices"),
        ("training.optimizer: {choices: [adamw, adam]}", "'adam': training.optimizer"),
        ("augment.flip: {low: 0.0, high: 1.0, setp: 0.1}", "setp"),
        ("training.lr: {low: 0.1, high: .inf}", "finite"),
        ("training.lr: {choices: [0.1, .nan]}", "finite"),
        ("training.lr: {low: true, high: 3}", "training.lr.low"),
        ('training.lr: {low: "1", high: "2"}', "training.lr.low"),
        ("training.lr: {low: 0.1, high: 0.2, log: 1}", "training.lr.log"),
        ("training.lr: {low: 0.1, high: 0.2, step: 5}", "step must divide the distance"),
        ("training.lr: {low: 1.0e-3, high: 1.0e-2, step: 0.0035}", "step must divide the distance"),
        ("training.batch_size: {choices: [8, 8.0]}", "twice"),
        ("training.batch_size: {low: 8, high: 16, step: 0.5}", "8.5: training.batch_size"),
        ("training.batch_size: {low: 8.0, high: 16.0}", "training.batch_size"),
    ],
)
def test_space_that_does_not_fit_is_refused_before_any_trial(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_space(file, "classifier", ClassifierRecipe())
    assert said in str(error.value) and str(file) in str(error.value) and "; " in str(error.value)


def test_suggested_values_have_the_types_of_the_space() -> None:
    optuna = pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    space = {
        "a": Dimension(low=1, high=9),
        "b": Dimension(low=1, high=9.0),
        "c": Dimension(choices=(None, "x")),
        "d": Dimension(low=0.0, high=1.0, step=0.5),
    }
    study = optuna.create_study()
    for _ in range(8):
        values = suggest(study.ask(), space)
        assert isinstance(values["a"], int) and isinstance(values["b"], float)
        assert values["c"] in (None, "x") and values["d"] in (0.0, 0.5, 1.0)
        assert all(space[name].holds(value) for name, value in values.items())
