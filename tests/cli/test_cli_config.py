"""Settings can be found: ``config show``, a hint after a slip, a run repeated from its own file, numbered folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detectclf.config import ClassifierRecipe, DetectorRecipe
from detectclf.errors import ConfigError, DataError
from detectclf.files import free_folder
from detectclf.pipelines.evaluate import report_folder
from detectclf.pipelines.settings import RECIPES, settings_table, show_settings
from detectclf.recipes import load_recipe, setting_names
from detectclf.training.runs import Run


@pytest.mark.parametrize("stage", RECIPES)
def test_every_setting_is_listed_with_its_default_values_and_meaning(stage: str) -> None:
    found = show_settings(stage)
    kind = RECIPES[stage][0]
    assert [s.key for s in found] == setting_names(kind())
    without = [s.key for s in found if not (s.values and s.meaning)]
    assert not without, "a setting without a docstring"
    text = settings_table(stage, found)
    assert all(f"\n{s.key} = " in text for s in found)
    for setting in found:  # what is shown can be given back
        shown = text.split(f"\n{setting.key} = ")[1].split("    [")[0]
        assert load_recipe(kind, None, [f"{setting.key}={shown}"]) == kind()


def test_a_search_without_a_result_says_so() -> None:
    assert "other stages: classifier, bundle" in settings_table("detector", show_settings("detector", "tempratur"))


def test_the_values_of_a_setting_are_told() -> None:
    values = {s.key: (s.values, s.default) for s in show_settings("classifier")}
    assert values["training.lr"] == ("number, above 0", 8e-4), "the classifier's own default"
    assert values["training.optimizer"] == ("adamw, sgd", "adamw")
    assert values["data.limit"] == ("whole number, 1 or more, or null", None)
    assert [s.key for s in show_settings("detector", "PEAK LEARNING")] == ["training.lr", "training.backbone_lr"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("training.epoch=3", "training.epochs"),
        ("lr=0.1", "training.lr"),
        ("train.epochs=3", "training.epochs"),
        ("augment.symetry_tumor=0.1", "augment.symmetry_tumor"),
        ("epoch=3", "training.epochs"),
        ("training.learning_rate=1", "training.lr"),  # as other programs call it
        ("wings.of=1", None),
        ("training.zzz=1", None),  # only the group is alike
    ],
)
def test_a_slip_in_a_name_gets_the_name_that_was_meant(typed: str, meant: str | None) -> None:
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        load_recipe(DetectorRecipe, None, [typed])
    assert ("did you mean" in str(caught.value)) is (meant is not None)
    assert meant is None or f"did you mean {meant}?" in str(caught.value)
    assert "config show" in str(caught.value)


def test_the_settings_that_a_run_keeps_repeat_it(tmp_path: Path) -> None:
    recipe = load_recipe(ClassifierRecipe, "classifier-transfer", ["training.seed=7"], {"data.sources": ["export"]})
    run = Run.create(tmp_path / "run", recipe)
    assert load_recipe(ClassifierRecipe, str(run.path / "config.yaml")) == recipe


def test_an_error_in_a_recipe_names_its_file_and_one_of_a_flag_does_not(tmp_path: Path) -> None:
    other = Run.create(tmp_path / "run", load_recipe(ClassifierRecipe)).path / "config.yaml"
    slip = tmp_path / "slip.yaml"
    slip.write_text("augment: {scale: [1, two]}\ntraining: {lr: fast}\n")
    for recipe, assigned, named in (
        (other, [], "config.yaml: model.dropout: unknown setting"),
        (slip, ["training.lr=0.1"], "slip.yaml: augment.scale: "),
        (slip, ["training.lr=0.1", "augment.scale=x"], "augment.scale: "),
    ):
        with pytest.raises(ConfigError) as caught:
            load_recipe(DetectorRecipe, str(recipe), assigned)
        assert str(caught.value).removeprefix(f"{tmp_path}/").removeprefix("run/").startswith(named)


def test_a_run_to_be_resumed_knows_its_settings_and_a_taken_one_is_said_first(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = load_recipe(ClassifierRecipe, None, ["training.seed=7"], {"data.sources": [str(tmp_path / "gone")]})
    run = Run.create(tmp_path / "run", recipe)
    run.close()
    done = cli("train-classifier", "--out", run.path, "--resume")
    assert done.code == 2 and f"{tmp_path / 'gone'}: " in done.err, "the data that it was started with"
    (run.path / "model.json").write_text('{"kind": "classifier"}', encoding="utf-8")
    done = cli("train-detector", "--out", run.path, "--resume")
    assert done.code == 2 and "holds a run of a classifier; resume it with `detectclf train-classifier`" in done.err
    (run.path / "model.json").write_bytes(b"")
    done = cli("train-classifier", "--out", run.path, "--data", tmp_path, "--weights", tmp_path / "none.pt")
    assert done.code == 2 and "already holds a run" in done.err, "before weights and data"


def test_a_training_without_data_names_the_flag(cli: Callable[..., Any]) -> None:
    done = cli("train-classifier", "--epochs", "1")
    assert done.code == 2 and "name a folder with --data" in done.err


def test_a_slip_in_the_name_of_a_recipe_gets_it_too() -> None:
    with pytest.raises(ConfigError, match=r"did you mean classifier-transfer\?"):
        load_recipe(ClassifierRecipe, "clasifier-transfer")


def test_folders_that_nobody_named_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert free_folder(Path("runs/a")) == Path("runs/a") and report_folder(None) == Path("evaluation")
    for name in ("evaluation", "evaluation-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").touch()
    assert report_folder(None) == Path("evaluation-3")
    (tmp_path / "evaluation-3").mkdir()
    assert report_folder(None) == Path("evaluation-3"), "empty"
    with pytest.raises(DataError, match="already holds results"):
        report_folder(Path("evaluation"))
    assert report_folder(Path("new")) == Path("new")


def test_config_show_prints_json(cli: Callable[..., Any]) -> None:
    done = cli("config", "show", "--stage", "bundle", "--find", "evaluate.bootstrap", "--json")
    (row,) = done.document
    assert (row["key"], row["default"]) == ("evaluate.bootstrap", 500)
