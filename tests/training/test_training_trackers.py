"""Trackers: off unless named, told figures and settings but nothing private, gone on with, and never in the way."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from detectclf.config import ClassifierRecipe, DetectorRecipe
from detectclf.errors import ConfigError, TrainingError
from detectclf.recipes import changed, setting_names
from detectclf.training import trackers
from detectclf.training.runs import Run
from detectclf.training.trackers import Trackers, check_trackers, figures_of, public_settings

# Text that a user chooses but that names no file and nobody.
HARMLESS = ("data.train_split", "data.valid_split", "data.fold_splits", "model.arch", "model.frozen", "training.device")


def record(epoch: int) -> dict[str, Any]:
    """A line of ``metrics.jsonl``."""
    metrics = {"accuracy": 0.1 * epoch, "macro_f1": None}
    return {"epoch": epoch, "loss": 1.0 / epoch, "losses": {"loss_class": 1.0 / epoch}, "lr": 0.1, "metrics": metrics}


def new_run(tmp_path: Path) -> Run:
    """A run of a recipe with private settings."""
    private = {
        "data.sources": [str(tmp_path / "clinic")],
        "data.patient_pattern": "^(mueller)_",
        "model.weights": str(tmp_path / "mine.safetensors"),
    }
    return Run.create(tmp_path / "run", changed(ClassifierRecipe(), private))


def resumed(run: Run) -> Run:
    """The same run in a process that goes on with it."""
    run.close()
    (run.path / "model.json").write_text("{}", encoding="utf-8")
    return Run(run.path, writes=True)


def told(tmp_path: Path, name: str) -> Path:
    """The folder of a run that a tracker was told two epochs of, and after a resumption a third."""
    run = new_run(tmp_path)
    records = [record(1), record(2)]
    with Trackers([name], run) as first:
        first.start([])
        first.log(records[:1])
        first.log(records)
    with Trackers([name], resumed(run)) as again:
        again.start(records)
        again.log([*records, record(3)])
    state = json.loads((run.path / "trackers.json").read_text(encoding="utf-8"))
    assert state[name]["epochs"] == 3
    return run.path


def test_figures_have_names_and_none_is_left_out() -> None:
    assert figures_of(record(1)) == {
        "train/loss": 1.0,
        "train/lr": 0.1,
        "train/loss_class": 1.0,
        "valid/accuracy": 0.1,
    }


@pytest.mark.parametrize("kind", [DetectorRecipe, ClassifierRecipe])
def test_no_setting_that_may_hold_a_path_or_a_name_is_told(kind: type[DetectorRecipe | ClassifierRecipe]) -> None:
    """Also not one that is added later: every setting that takes free text is tried."""
    private = 0
    for name in setting_names(kind()):
        base = {"data.folds": 3} if name.startswith("data.fold_splits") else {}
        for value in ("/secret/(x)", ["/secret/(x)"], {"/secret/(x)": "/secret/(x)"}):
            try:
                recipe = changed(kind(), base | {name: value})
            except (ConfigError, ValidationError):
                continue
            assert "secret" not in json.dumps(public_settings(recipe.model_dump(mode="json"))) or name in HARMLESS, name
            private += name not in HARMLESS
    assert private >= 8


@pytest.mark.parametrize(
    ("names", "installed", "uri", "said"),
    [
        (["mlflow"], None, "sqlite:///a.db", "mlflow is not installed; pip install 'detectclf[mlflow]'"),
        (["wandb"], None, None, "wandb is not installed; pip install 'detectclf[wandb]'"),
        (["mlflow"], "3", None, "MLFLOW_TRACKING_URI; give"),
        (["mlflow"], "3", "sqlite:///a.db", None),
        ([], None, None, None),
    ],
    ids=["no mlflow", "no wandb", "nowhere to", "fine", "none named"],
)
def test_what_is_missing_is_said_at_once(
    names: list[str], installed: str | None, uri: str | None, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "installed_version", lambda _: installed)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    if said is None:
        check_trackers(names)
    else:
        with pytest.raises(ConfigError) as error:
            check_trackers(names)
        assert said in str(error.value)


def test_tracker_that_is_down_is_warned_about_and_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("detectclf"), "propagate", True)
    steps: list[int] = []

    class Server:
        down = True

        def log(self, figures: dict[str, float], step: int) -> None:
            if self.down:
                raise ConnectionError("http://user:password@server")
            steps.append(step)

        def finish(self) -> None:
            raise ConnectionError("http://user:password@server")

    server = Server()
    monkeypatch.setitem(trackers._OPENERS, "mlflow", lambda run, before: (server, {"epochs": 0}))
    run = new_run(tmp_path)
    with Trackers(["mlflow"], run) as some:
        some.start([])
        some.log([record(1)])
        server.down = False
        some.log([record(1), record(2)])
    assert steps == [1, 2]
    assert "the training goes on" in caplog.text and "cannot be closed" in caplog.text
    assert "password" not in caplog.text

    def refuse(run: Run, before: object) -> Any:
        raise ConnectionError("http://user:password@server")

    monkeypatch.setitem(trackers._OPENERS, "mlflow", refuse)
    with pytest.raises(TrainingError) as error:
        Trackers(["mlflow"], run).start([])
    assert "cannot be opened (ConnectionError); " in str(error.value) and "password" not in str(error.value)


def test_tensorboard_shows_each_epoch_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = told(tmp_path, "tensorboard") / "tensorboard"
    shown = EventAccumulator(str(folder))
    shown.Reload()
    assert [e.step for e in shown.Scalars("valid/accuracy")] == [1, 2, 3]
    assert [e.step for e in shown.Tensors("settings/text_summary")] == [0]
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    assert str(tmp_path).encode() not in content and b"mueller" not in content


@pytest.mark.filterwarnings("ignore")  # its own: it is not ready for the newest SQLAlchemy
def test_mlflow_goes_on_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="extra mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    told(tmp_path, "mlflow")
    import mlflow

    (found,) = mlflow.MlflowClient().search_runs(
        [e.experiment_id for e in mlflow.search_experiments(filter_string="name = 'detectclf'")]
    )
    assert found.info.status == "FINISHED" and found.info.run_name == "run"
    history = mlflow.MlflowClient().get_metric_history(found.info.run_id, "valid/accuracy")
    assert [m.step for m in history] == [1, 2, 3]
    assert found.data.params["model.weights"] == "from a file" and "data.sources" not in found.data.params
    said = json.dumps([found.data.params, found.data.tags])
    assert str(tmp_path) not in said and "mueller" not in said and "site-packages" not in said
    assert found.data.tags["mlflow.user"] == "detectclf"


@pytest.mark.filterwarnings("ignore")  # its own
def test_wandb_stays_offline_and_goes_on_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="extra wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = told(tmp_path, "wandb") / "wandb"
    files = sorted(folder.glob("offline-run-*/run-*.wandb"))
    assert len({f.name for f in files}) == 1 and files, "one id"
    until = time.monotonic() + 60  # a process of wandb's own writes it
    while files[-1].read_bytes().count(b"valid/accuracy") < 3 and time.monotonic() < until:
        time.sleep(0.1)
    assert files[-1].read_bytes().count(b"valid/accuracy") >= 3, "the newest file alone has all epochs"
    content = b"".join(f.read_bytes() for f in files)
    assert b"valid/accuracy" in content and b"model.arch" in content
    for private in (str(tmp_path), "mueller", "clinic", str(Path(__file__).parents[2])):
        assert private.encode() not in content
    assert not [p for p in folder.glob("offline-run-*/files/*") if p.name != "config.yaml"], "no metadata, no output"
