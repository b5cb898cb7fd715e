"""A search of settings: what it compares, what it leaves, and that several processes share it and may be killed."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from detectclf.config import ClassifierRecipe, Dimension
from detectclf.errors import ConfigError, DataError, DetectclfError
from detectclf.recipes import load_recipe
from detectclf.sample_data.export import write_sample_data

SMALL = {
    "model.arch": "cnn",
    "model.weights": "none",
    "model.image_size": 32,
    "training.epochs": 2,
    "training.device": "cpu",
    "training.precision": "fp32",
}
SPACE = "training.lr: {low: 1.0e-4, high: 1.0e-2, log: true}\ntraining.batch_size: {choices: [8, 32]}\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn slices."""
    return write_sample_data(tmp_path_factory.mktemp("tune") / "data", n=30, seed=0)


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A small search space."""
    file = tmp_path / "space.yaml"
    file.write_text(SPACE, encoding="utf-8")
    return file


def recipe(data: Path, **changes: Any) -> ClassifierRecipe:
    """The smallest classifier."""
    return load_recipe(ClassifierRecipe, flags={"data.sources": [str(data)]} | SMALL | changes)


def lines(out: Path) -> list[dict[str, Any]]:
    """The trials of a search."""
    return [json.loads(line) for line in (out / "trials.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        ({"low": 1, "high": 9}, [1, 9, 5], [0, 10, 2.5, True, None, "3"]),
        ({"low": 0.0, "high": 0.5, "step": 0.1}, [0.0, 0.3, 0.5], [0.25, 0.6]),
        ({"low": 16, "high": 64, "step": 16}, [16, 48], [20]),
        ({"choices": [1, None, "a"]}, [1, None, "a"], [1.0, "b", False, True]),
    ],
)
def test_values_of_a_dimension(dimension: Mapping[str, Any], inside: list[Any], outside: list[Any]) -> None:
    made = Dimension.model_validate(dimension)
    assert all(made.holds(v) for v in inside) and not any(made.holds(v) for v in outside)


def test_figure_that_is_searched_for_is_that_of_the_best_epoch() -> None:
    from detectclf.pipelines.tune_search import METRICS
    from detectclf.training.tasks import ClassificationTask, DetectionTask

    assert {"detector": DetectionTask.metric, "classifier": ClassificationTask.metric} == METRICS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.arch": "inception_v3"}, "needs slices of at least 75 pixels"),
        ({"model.weights": "{data}/train/_annotations.coco.json"}, "not a weights file"),
        ({"model.arch": "timm:no_such_net"}, "timm has no network"),
        ({"augment.drawn": 0.5}, "needs label maps of heads"),
        ({"data.lesion_masks": "{data}/no", "augment.paint": 0.5}, "no"),
    ],
)
def test_what_cannot_be_trained_leaves_no_folder(
    data: Path, space: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune import tune

    change = {key: value.format(data=data) if isinstance(value, str) else value for key, value in change.items()}
    with pytest.raises(DetectclfError, match=said):
        tune("classifier", recipe(data, **change), tmp_path / "out", trials=2, space=space, quiet=True)
    assert not (tmp_path / "out").exists()


def test_search_trains_publishes_goes_on_and_refuses_another(
    data: Path, space: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune import tune

    monkeypatch.setattr(logging.getLogger("detectclf"), "propagate", True)
    caplog.set_level(logging.INFO)
    base, out = recipe(data), tmp_path / "out"
    found = tune("classifier", base, out, trials=2, space=space, quiet=True)
    said = [line for line in caplog.messages if "weights: " in line]
    assert said == ["cnn: weights: none; every layer is trained from scratch"], "once, and not for each trial"
    assert found["trials"] == len(lines(out)) == 2 and found["pruned"] == 0 and found["metric"] == "accuracy"
    first, second = lines(out)
    assert first["settings"] == {"training.lr": 8e-4, "training.batch_size": 32}, "the recipe itself is the first"
    assert list(second["epochs"]) == ["1", "2"] and second["figure"] == max(second["epochs"].values())
    best = load_recipe(ClassifierRecipe, str(out / "best.yaml"))
    assert (
        best.model_dump()
        == load_recipe(
            ClassifierRecipe, flags={"data.sources": [str(data)]} | SMALL | found["best"]["settings"]
        ).model_dump()
    ), "nothing of how trials are judged is left in it"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "flatters" in page and "patients that were never used" in page and page.count("<svg") == 3
    assert not any(text in page for text in ("<script", "<link", "src=", 'href="http', "url(http", str(data)))
    assert {p.name for p in (out / "trials" / "0001").iterdir()} == {
        "config.yaml", "data.json", "env.json", "metrics.jsonl",
    }  # fmt: skip
    assert not list((out / "trials").glob("*.lock"))

    untouched = {p: p.stat().st_mtime_ns for p in (out / "trials").rglob("*")}
    assert tune("classifier", base, out, trials=2, space=space, quiet=True) == found
    assert untouched == {p: p.stat().st_mtime_ns for p in (out / "trials").rglob("*")}, "nothing left to do"
    assert tune("classifier", base, out, trials=3, space=space, quiet=True)["trials"] == 3

    space.write_text(SPACE.replace("1.0e-2", "2.0e-2"), encoding="utf-8")
    other = write_sample_data(tmp_path / "other", n=30, seed=1)
    again = space.with_name("again.yaml")
    again.write_text(SPACE, encoding="utf-8")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"recipe": base, "space": space}, r"another space \(training.lr\)"),
        ({"recipe": base, "space": again, "sampler": "random"}, "another --sampler"),
        ({"recipe": recipe(data, **{"training.epochs": 3}), "space": again}, "training.epochs = 2, not 3"),
        ({"recipe": recipe(data, **{"augment.flip": 0.1}), "space": again}, "augment.flip"),
        ({"recipe": recipe(other), "space": again}, "slices or labels have changed"),
    ]
    for changes, said in cases:
        with pytest.raises(DetectclfError, match=said):
            tune("classifier", out=out, trials=4, quiet=True, **changes)


@pytest.mark.parametrize(
    ("begun", "given", "chosen"),
    [
        (None, (None, None), ("gp", "none")),
        (None, ("tpe", None), ("tpe", "median")),
        (None, (None, "median"), ("gp", "median")),
        ({"sampler": "tpe", "pruner": "median"}, (None, None), ("tpe", "median")),
        ({"sampler": "random", "pruner": "none"}, (None, None), ("random", "none")),
        ({"sampler": "random", "pruner": "none"}, ("gp", None), ("gp", "none")),  # which is refused then
        ([], (None, None), ("gp", "none")),
    ],
)
def test_a_search_goes_on_as_it_was_begun(tmp_path: Path, begun: Any, given: Any, chosen: tuple[str, str]) -> None:
    from detectclf.pipelines.tune import DESCRIPTION, _chosen

    if begun is not None:
        (tmp_path / DESCRIPTION).write_text(json.dumps(begun), encoding="utf-8")
    assert _chosen(tmp_path, *given) == chosen


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_samplers_find_better_values_than_chance(tmp_path: Path, sampler: str) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune_study import SharedStudy

    space = {name: Dimension(low=0.0, high=1.0) for name in ("augment.flip", "augment.tone", "augment.scale")}

    def best(name: str) -> float:
        (tmp_path / name).mkdir()
        study, figures = SharedStudy(tmp_path / name, seed=0, sampler=name, warm_up=None, first=None), []
        for _ in range(24):
            taken = study.take(24, space)
            assert taken is not None
            figures.append(-sum((value - 0.7) ** 2 for value in taken.values.values()))
            study.tell(taken, figures[-1])
        return max(figures)

    assert best(sampler) > best("random")


def test_folder_with_other_files_is_refused(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune import tune

    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="holds no search"):
        tune("classifier", recipe(data), tmp_path, trials=1, quiet=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.db").write_bytes(b"not a database" * 100)
    for damaged in ("{}", "{", "[]", ""):
        (tmp_path / "out" / "study.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(DataError, match="not the description of a search"):
            tune("classifier", recipe(data), tmp_path / "out", trials=1, quiet=True)


def test_database_that_is_none_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune_study import SharedStudy

    (tmp_path / "study.db").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match=r"study.db: the study cannot be read or written .*another --out"):
        SharedStudy(tmp_path, seed=0, sampler="tpe", warm_up=1, first=None)


@pytest.mark.parametrize(
    ("sampler", "trials", "interrupted"),
    [("tpe", 4, (0, 2)), ("random", 4, (0, 2)), ("gp", 13, (2, 11))],  # the first ten are at random
)
def test_interrupted_search_tries_the_values_of_one_that_was_not(
    tmp_path: Path, sampler: str, trials: int, interrupted: tuple[int, ...]
) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune_study import SharedStudy

    def values(folder: Path, interrupted: tuple[int, ...]) -> list[float]:
        folder.mkdir()
        study, found = SharedStudy(folder, seed=0, sampler=sampler, warm_up=None, first=None), []
        for number in range(trials):
            if number in interrupted:
                assert study.take(trials, {"training.lr": Dimension(low=0.1, high=0.9)}) is not None
                study.leave()
            taken = study.take(trials, {"training.lr": Dimension(low=0.1, high=0.9)})
            assert taken is not None
            found.append(taken.values["training.lr"])
            study.tell(taken, found[-1])
        return found

    assert values(tmp_path / "a", ()) == values(tmp_path / "b", interrupted)


@pytest.mark.parametrize("left", [None, b""], ids=["removed", "empty"])
def test_database_that_has_lost_its_trials_overwrites_none(tmp_path: Path, left: bytes | None) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune_study import SharedStudy

    (tmp_path / "trials" / "0000").mkdir(parents=True)
    if left is not None:
        (tmp_path / "study.db").write_bytes(left)
    for _ in range(2):
        with pytest.raises(DataError, match=r"study.db: has lost the trials .*another --out"):
            SharedStudy(tmp_path, seed=0, sampler="tpe", warm_up=1, first=None)


def test_trial_of_a_process_that_is_gone_is_taken_up_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune_study import MOST_TRIES, SharedStudy

    space = {"training.lr": Dimension(low=0.1, high=0.9)}

    def process() -> SharedStudy:
        return SharedStudy(tmp_path, seed=0, sampler="tpe", warm_up=None, first=None)

    one, two = process(), process()
    first, second = one.take(3, space), two.take(3, space)
    assert first is not None and second is not None and first.folder != second.folder and first.values != second.values
    third = process()
    last = third.take(3, space)
    assert last is not None and process().take(3, space) is None, "three are running"
    one.leave()
    folder = first.folder
    (folder / "last").mkdir(parents=True)
    for saved in (1, 1, 2, 2, 2, 2):
        again = one.take(3, space)
        assert again is not None and (again.folder, again.values) == (folder, first.values)
        (folder / "last" / f"{saved:06d}-0.safetensors").touch()
        one.leave()
    assert MOST_TRIES == 3
    assert one.take(3, space) is None and len(one.finished()) == 1, "given up: thrice without a further checkpoint"
    two.tell(second, 0.5)
    third.tell(last, None, "why")
    assert sorted(t.value or 0 for t in process().finished()) == [0, 0, 0.5]


def test_pruned_trial_has_no_figure_and_is_never_the_best(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune_page import publish
    from detectclf.pipelines.tune_search import Search
    from detectclf.pipelines.tune_study import SharedStudy

    space, wanted = {"training.lr": Dimension(low=0.1, high=0.9)}, ClassifierRecipe()
    search = Search("classifier", wanted, wanted, space, tmp_path, 8, "random", "median")
    study = SharedStudy(tmp_path, seed=0, sampler="random", warm_up=1, first=None)
    said = []
    for number in range(7):
        taken = study.take(8, space)
        assert taken is not None
        first = 0.3 if number == 5 else 0.5
        said.append(study.report(taken, first, 1))
        pruned = said[-1] or number == 6
        study.tell(taken, None if pruned else 0.25, "the loss was not finite" if number == 6 else None)
    assert said == [False] * 5 + [True, False], "below the median of five others at the same epoch"
    counts = {"samples": 2, "patients": 1}
    found = publish(search, study, {"train": counts, "valid": counts}, page=True)
    assert (found["trials"], found["pruned"], found["best"]["figure"]) == (7, 2, 0.25)
    assert [t["figure"] for t in lines(tmp_path)] == [0.25] * 5 + [None, None]
    assert lines(tmp_path)[6]["note"] == "the loss was not finite"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<td>pruned</td>") == 2


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_same_seed_same_search_whoever_runs_it(tmp_path: Path, sampler: str) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune_study import SharedStudy

    space = {"training.lr": Dimension(low=0.1, high=0.9), "training.batch_size": Dimension(choices=(8, 16))}

    def values(folder: Path, restart: bool) -> list[Any]:
        folder.mkdir()
        study, found = SharedStudy(folder, seed=4, sampler=sampler, warm_up=None, first=None), []
        for _ in range(12):
            taken = study.take(12, space)
            assert taken is not None
            found.append(dict(taken.values))
            study.tell(taken, float(taken.values["training.lr"]))
            if restart:
                study = SharedStudy(folder, seed=4, sampler=sampler, warm_up=None, first=None)
        return found

    assert values(tmp_path / "a", False) == values(tmp_path / "b", True)


def test_killed_process_loses_nothing_and_trials_are_counted_once(data: Path, space: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    from detectclf.pipelines.tune import tune

    out, metrics = tmp_path / "out", tmp_path / "out" / "trials" / "0000" / "metrics.jsonl"
    flags = [f"--set={key}={value}" for key, value in {**SMALL, "training.epochs": 8}.items()]
    command = [sys.executable, "-m", "detectclf", "tune", "--stage", "classifier", "--data", str(data), *flags]
    command += ["--trials", "2", "--space", str(space), "--out", str(out), "--quiet"]
    victim = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    until = time.monotonic() + 200
    while not metrics.is_file() and victim.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    before = metrics.read_text(encoding="utf-8").splitlines()
    assert 1 <= len(before) < 8
    found = tune("classifier", recipe(data, **{"training.epochs": 8}), out, trials=2, space=space, quiet=True)
    assert found["trials"] == len(lines(out)) == 2 and len({t["trial"] for t in lines(out)}) == 2
    assert metrics.read_text(encoding="utf-8").splitlines()[: len(before) - 1] == before[:-1], "it went on"
    assert len(lines(out)[0]["epochs"]) == 8 and lines(out)[0]["trial"] == 0, "the killed one, with all its epochs"


def test_without_optuna_one_line_says_how_to_get_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectclf.pipelines import tune_study

    monkeypatch.setattr(tune_study, "installed_version", lambda _: None)
    with pytest.raises(ConfigError) as error:
        tune_study.check_installed()
    assert str(error.value) == "tune needs optuna, which is not installed; pip install 'detectclf[tune]'"
