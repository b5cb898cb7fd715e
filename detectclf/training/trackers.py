"""Trackers of experiments, by Accelerate: TensorBoard, MLflow, Weights & Biases. None is used unless it is named.

``metrics.jsonl`` is what counts. A tracker that fails during a training is warned about, not waited for, and gets the
epochs that it missed as soon as it answers again. What it is told are figures and settings; no path, no name of a file,
nothing of patients.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detectclf.documents import read_json
from detectclf.errors import ConfigError, DataError, TrainingError
from detectclf.training.runs import Run
from detectclf.version import installed_version

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

log = logging.getLogger(__name__)

STATE = "trackers.json"
"""For each tracker the id of its run, and how many epochs it has been told."""
_PROJECT = "detectclf"
_PACKAGES = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "mlflow-skinny"), "wandb": ("wandb",)}
# Settings that may hold paths, or names that mean somebody.
_PRIVATE = (
    "data.sources",
    "data.patients",
    "data.patient_pattern",
    "data.class_map",
    "data.any_tumor",
    "data.lesion_masks",
    "data.head_maps",
)
_WEIGHTS = "model.weights"
# Of themselves, MLflow reports its use, logs what it does, and waits minutes for a server that does not answer; wandb
# reports its errors.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "WANDB_ERROR_REPORTING": "false",
}


def check_trackers(names: Sequence[str]) -> None:
    """Makes sure that trackers can be used, before anything else is done.

    Args:
        names: as ``training.trackers``.

    Raises:
        ConfigError: one is not installed, or MLflow has no place to track to.
    """
    for name in names:
        if not any(installed_version(package) for package in _PACKAGES[name]):
            raise ConfigError(
                f"training.trackers: {name} is not installed", remedy=f"pip install 'detectclf[{name}]'"
            )  # fmt: skip
    if "mlflow" in names and not os.environ.get("MLFLOW_TRACKING_URI"):
        reason = "training.trackers: mlflow needs the environment variable MLFLOW_TRACKING_URI"
        raise ConfigError(reason, remedy="give your server's address, or a file such as sqlite:///mlflow.db")


def public_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of a run that trackers are told: dotted name -> value, without what is private."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in _PRIVATE:
            found |= public_settings(value, f"{name}.")
        elif name == _WEIGHTS and value not in ("default", "none"):
            found[name] = "from a file"
        elif name not in _PRIVATE:
            found[name] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return found


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a line of ``metrics.jsonl``, by the name that trackers know them by."""
    figures = {"train/loss": record["loss"], "train/lr": record["lr"]}
    figures |= {f"train/{name}": value for name, value in record["losses"].items()}
    return figures | {f"valid/{name}": value for name, value in record["metrics"].items() if value is not None}


class Trackers:
    """The trackers of a run, in its main process.

    Args:
        names: as ``training.trackers``.
        run: a run that is resumed goes on in the runs of its trackers.
    """

    def __init__(self, names: Sequence[str], run: Run) -> None:
        self._names, self._run = tuple(dict.fromkeys(names)), run
        self._open: dict[str, GeneralTracker] = {}
        self._state: dict[str, dict[str, Any]] = {}

    def start(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Opens them, and tells them what they do not know yet.

        Args:
            records: lines of ``metrics.jsonl`` of a run that is resumed.

        Raises:
            TrainingError: one cannot be opened, or :data:`STATE` cannot be written.
        """
        if not self._names:
            return
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        before = _state_of(self._run) if self._run.begun else {}
        for name in self._names:
            try:
                self._open[name], self._state[name] = _OPENERS[name](self._run, before.get(name, {}))
            except Exception as error:  # each of them has its own, and those of its network
                self.finish()
                reason = f"the tracker {name} cannot be opened ({type(error).__name__})"
                raise TrainingError(reason, remedy=f"correct its settings, or leave {name} out") from error
        self.log(records)

    def log(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Tells each of them the epochs that it does not know yet.

        Args:
            records: lines of ``metrics.jsonl``, from the first epoch on.

        Raises:
            TrainingError: :data:`STATE` cannot be written.
        """
        for name, tracker in self._open.items():
            state = self._state[name]
            try:
                for record in records[state["epochs"] :]:
                    tracker.log(figures_of(record), step=record["epoch"])
                    state["epochs"] = record["epoch"]
            except Exception as error:  # see start
                text = "the tracker %s does not take the figures (%s); the training goes on, metrics.jsonl has them"
                log.warning(text, name, type(error).__name__)
        if self._open:
            self._run.write_json(STATE, self._state)

    def finish(self) -> None:
        """Closes them."""
        for name, tracker in self._open.items():
            try:
                tracker.finish()
            except Exception as error:  # see start
                log.warning("the tracker %s cannot be closed (%s)", name, type(error).__name__)
        self._open = {}

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()


def _state_of(run: Run) -> dict[str, dict[str, Any]]:
    try:
        state = read_json(run.path / STATE)
    except (DataError, ValueError):
        return {}  # they are new in this run
    entries = state.items() if isinstance(state, dict) else ()
    return {k: v for k, v in entries if isinstance(v, dict) and isinstance(v.get("epochs"), int)}


def _tensorboard(run: Run, before: Mapping[str, Any]) -> tuple[GeneralTracker, dict[str, Any]]:
    from accelerate.tracking import TensorBoardTracker

    epochs = before.get("epochs", 0)
    # Of what a killed process had written, TensorBoard shows no step from purge_step on.
    tracker = TensorBoardTracker("tensorboard", run.path, purge_step=epochs + 1)
    tracker.start()
    if not before:
        lines = [f"    {name}: {value}" for name, value in public_settings(run.settings()).items()]
        tracker.log({"settings": "\n".join(lines)}, step=0)
    return tracker, {"epochs": epochs}


def _mlflow(run: Run, before: Mapping[str, Any]) -> tuple[GeneralTracker, dict[str, Any]]:
    from accelerate.tracking import MLflowTracker

    tracker = MLflowTracker(_PROJECT, run_id=before.get("run"), run_name=_name(run))
    # MLflow adds the path of the program and the name of the user, unless it is told others.
    tracker.tags = {**(tracker.tags or {}), "mlflow.source.name": _PROJECT, "mlflow.user": _PROJECT}
    tracker.start()
    if not before:
        tracker.store_init_configuration(public_settings(run.settings()))
    return tracker, {"run": tracker.tracker.info.run_id, "epochs": before.get("epochs", 0)}


def _wandb(run: Run, before: Mapping[str, Any]) -> tuple[GeneralTracker, dict[str, Any]]:
    import wandb
    from accelerate.tracking import WandBTracker

    number, mode = before.get("run") or secrets.token_hex(4), os.environ.get("WANDB_MODE", "offline")
    # Of itself it records the machine, its user, paths, packages, code and everything that is printed.
    silence = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    tracker = WandBTracker(
        os.environ.get("WANDB_PROJECT", _PROJECT),
        id=number,
        name=_name(run),
        dir=str(run.path),
        mode=mode,
        resume="allow",
        settings=silence,
    )
    tracker.start()
    # Offline, each process writes a file of its own, and of files of one run the last that is sent replaces the others:
    # so each is told everything.
    anew = not before or mode == "offline"
    if anew:
        tracker.store_init_configuration(public_settings(run.settings()))
    return tracker, {"run": number, "epochs": 0 if anew else before.get("epochs", 0)}


def _name(run: Run) -> str:
    return run.path.resolve().name


_OPENERS: dict[str, Callable[[Run, Mapping[str, Any]], tuple[GeneralTracker, dict[str, Any]]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
