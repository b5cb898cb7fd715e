"""A run directory: everything about one training.

``config.yaml`` (all settings), ``env.json``, ``data.json``, ``fingerprints.safetensors`` (provenance: fingerprints of
the training slices and of those of the starting weights), ``metrics.jsonl`` (one line per epoch), ``model.safetensors``
and ``model.json`` (best epoch, averaged weights), ``last/`` (the checkpoint), ``curves.png``, and ``tensorboard/`` if
TensorBoard is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from detectclf.config import ClassifierRecipe, DetectorRecipe, Settings
from detectclf.documents import read_json, read_yaml
from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE
from detectclf.errors import ConfigError, DataError, ModelError
from detectclf.files import atomic_write
from detectclf.training.checkpoints import disk_error
from detectclf.types import Dataset, Sample

if TYPE_CHECKING:
    from detectclf.duplicates.fingerprints import Fingerprints

Recipe = DetectorRecipe | ClassifierRecipe

# May differ when a run is resumed: they change how long or where it runs, not what a step learns.
_FREE = ("training.epochs", "training.patience", "training.device", "training.precision", "data.cache", "data.workers")


class Run:
    """One run directory. Under torchrun only the main process writes; in other processes the calls do nothing.

    Attributes:
        path: the directory.
        writes: whether this process writes.
    """

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path, self.writes = path, writes

    @classmethod
    def create(cls, out: Path, recipe: Recipe, *, resume: bool = False) -> Run:
        """Starts a run in ``out``, or resumes the one that is there.

        Args:
            out: created if missing; must be empty unless ``resume``.
            recipe: saved as ``config.yaml``.
            resume: resume the run in ``out``, or start one if there is none.

        Raises:
            DataError: ``out`` holds a run and ``resume`` is off, or it holds other files.
            ConfigError: the run was started with other settings.
            TrainingError: it cannot be written.
        """
        run = cls(Path(out), writes=int(os.environ.get("RANK", "0")) == 0)
        if not run.writes:
            return run
        if run.path.exists() and not run.path.is_dir():
            raise DataError("is a file, not a folder", file=run.path, remedy="choose another --out")
        if run.begun and not resume:
            raise DataError("already holds a run", file=run.path, remedy="choose another --out, or give --resume")
        if run.begun:
            _check_same_settings(run, recipe)
        elif not (run.path / "config.yaml").is_file() and run.path.is_dir() and any(run.path.iterdir()):
            raise DataError("is not empty and not a run directory", file=run.path, remedy="choose another --out")
        with run._writing():
            run.path.mkdir(parents=True, exist_ok=True)
            if not run.begun:  # an earlier start that failed may have been on other slices
                (run.path / FINGERPRINTS_FILE).unlink(missing_ok=True)
        run.write_text("config.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """The run in ``path``, for reading.

        Raises:
            ModelError: ``path`` is not a run directory, or its training never got as far as a model.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            remedy = "give the --out of train-detector or train-classifier"
            raise ModelError("not a run directory", file=path, remedy=remedy)
        if not (path / "model.json").is_file():
            raise ModelError("this run has no model yet", file=path, remedy="finish its training with --resume")
        return cls(path, writes=False)

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint. A run that failed before its first checkpoint starts again."""
        return any((self.path / name).is_file() for name in ("model.json", "last/state.json"))

    @property
    def last(self) -> Path:
        """Folder of the checkpoint."""
        return self.path / "last"

    def settings(self) -> dict[str, Any]:
        """The settings in ``config.yaml``.

        Raises:
            ModelError: they cannot be read.
            UnsafeError: they are too large, or have YAML aliases.
        """
        file = self.path / "config.yaml"
        loaded = read_yaml(file, error=ModelError, remedy="train again")
        if not isinstance(loaded, dict):
            raise ModelError("not a mapping of settings", file=file, remedy="train again")
        return loaded

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the run, completely or not at all.

        Raises:
            TrainingError: it cannot be written.
        """
        if not self.writes:
            return
        with self._writing():
            atomic_write(self.path / name, text)

    def write_json(self, name: str, document: Any) -> None:
        """Writes a JSON file of the run; raises as :meth:`write_text`."""
        if self.writes:
            self.write_text(name, json.dumps(document, indent=2, allow_nan=False) + "\n")

    def write_history(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Replaces ``metrics.jsonl`` and adds the newest epoch to TensorBoard's file."""
        self.write_text("metrics.jsonl", "".join(json.dumps(r, allow_nan=False) + "\n" for r in records))
        if self.writes and records and find_spec("tensorboard") is not None:
            with self._writing():
                _to_tensorboard(self.path / "tensorboard", records[-1])

    def write_curves(self, records: Sequence[Mapping[str, Any]], best_epoch: int | None) -> None:
        """Draws ``curves.png``."""
        if not self.writes:
            return
        from detectclf.drawing.curves import curves_figure

        picture = BytesIO()
        curves_figure(records, best_epoch).savefig(picture)
        with self._writing():
            atomic_write(self.path / "curves.png", picture.getvalue())

    def describe_data(self, dataset: Dataset, train: Sequence[Sample], valid: Sequence[Sample]) -> None:
        """Writes ``data.json``: sources, classes, counts, and a hash of which slices with which labels were used.

        Args:
            dataset: all slices.
            train, valid: those of the two splits, with their patients.

        Raises:
            DataError: as :meth:`check_data`.
            TrainingError: the file cannot be written.
        """
        self.check_data(train, valid)
        document = {
            "sources": list(dataset.sources),
            "classes": list(dataset.classes),
            "negative": dataset.negative,
            "train": count_slices(train),
            "valid": count_slices(valid),
        }
        self.write_json("data.json", document)

    def check_data(self, train: Sequence[Sample], valid: Sequence[Sample]) -> None:
        """Makes sure that a run is resumed with the slices and labels that it was started with.

        Raises:
            DataError: it is not.
        """
        if not (self.writes and self.begun):
            return
        now = {"train": count_slices(train), "valid": count_slices(valid)}
        try:
            before = read_json(self.path / "data.json")
            changed = [part for part in ("train", "valid") if before[part]["sha256"] != now[part]["sha256"]]
        except (DataError, ValueError, KeyError, TypeError):
            return  # there is nothing to compare with
        if changed:
            raise DataError(
                f"the slices or labels for {' and '.join(changed)} have changed since this run was started",
                file=self.path,
                remedy="restore the data, or start a new run with another --out",
            )

    @property
    def lacks_fingerprints(self) -> bool:
        """Whether this process has to write them; a run that is resumed has them."""
        return self.writes and not (self.path / FINGERPRINTS_FILE).is_file()

    def write_fingerprints(self, train: Fingerprints, inherited: Sequence[Fingerprints] = ()) -> None:
        """Writes the run's provenance, with which copies of its training slices are found in other data.

        Args:
            train: of the slices that it trains on.
            inherited: of the slices that the models it starts from were trained on.

        Raises:
            TrainingError: the file cannot be written.
        """
        from detectclf.duplicates.fingerprints import Fingerprints

        with self._writing():
            Fingerprints.merged([train, *inherited]).save(self.path / FINGERPRINTS_FILE)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DataError) as error:
            raise disk_error(error, self.path) from error


def count_slices(samples: Sequence[Sample]) -> dict[str, Any]:
    """Counts by class, with and without boxes, of known patients, and a hash over names, labels and boxes."""
    digest = hashlib.sha256()
    for s in samples:
        digest.update(repr((s.name, s.label, s.box_labels, s.boxes_xyxy.round(2).tolist())).encode("utf-8", "replace"))
    return {
        "samples": len(samples),
        "boxed": sum(s.boxed for s in samples),
        "boxes": sum(len(s.box_labels) for s in samples),
        "classes": dict(sorted(Counter(s.label for s in samples if s.label is not None).items())),
        "patients": len({s.patient for s in samples if s.patient is not None}),
        "slices_with_patient": sum(s.patient is not None for s in samples),
        "sha256": digest.hexdigest(),
    }


def _check_same_settings(run: Run, recipe: Settings) -> None:
    before, now = dict(_flat(_with_defaults(run, recipe))), dict(_flat(recipe.model_dump(mode="json")))
    for key in sorted(before.keys() | now.keys()):
        if key not in _FREE and before.get(key) != now.get(key):
            reason = f"was started with {key} = {before.get(key)}, not {now.get(key)}"
            raise ConfigError(reason, file=run.path, remedy="give the same settings, or another --out")


def _with_defaults(run: Run, recipe: Settings) -> dict[str, Any]:
    """The settings of ``run``, with defaults for settings that were added after it; these keep the old behaviour."""
    settings = run.settings()
    try:
        return type(recipe).model_validate(settings).model_dump(mode="json")
    except ValidationError:
        return settings  # written by a version that accepted more


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _to_tensorboard(folder: Path, record: Mapping[str, Any]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    values = {"train/loss": record["loss"], "train/lr": record["lr"]}
    values |= {f"train/{k}": v for k, v in record["losses"].items()}
    values |= {f"valid/{k}": v for k, v in record["metrics"].items() if v is not None}
    with SummaryWriter(str(folder)) as writer:
        for name, value in values.items():
            writer.add_scalar(name, value, record["epoch"])
