"""A run directory: everything about one training.

``config.yaml`` (all settings), ``env.json``, ``data.json``, ``fingerprints.safetensors`` (provenance: fingerprints of
the training slices and of those of the starting weights), ``metrics.jsonl`` (one line per epoch), ``model.safetensors``
and ``model.json`` (best epoch, averaged weights), ``last/`` (the checkpoints), ``curves.png``, what trackers keep
(``trackers.json``, ``tensorboard/``, ``wandb/``), and ``.lock``, which keeps a second training out.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock

from detectclf.config import ClassifierRecipe, DetectorRecipe
from detectclf.documents import read_json, read_yaml
from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE
from detectclf.errors import DataError, ModelError
from detectclf.files import atomic_write
from detectclf.training.checkpoints import disk_error, has_checkpoint
from detectclf.training.data_record import changed_parts, with_changes
from detectclf.training.run_folder import check_folder, lock_folder, remove_leftovers
from detectclf.training.run_settings import check_same_settings

if TYPE_CHECKING:
    from detectclf.duplicates.fingerprints import Fingerprints
    from detectclf.models.transfer import TransferModel
    from detectclf.training.tasks import Task

log = logging.getLogger(__name__)

Recipe = DetectorRecipe | ClassifierRecipe


class Run:
    """One run directory. Under torchrun only the main process writes; in other processes the calls do nothing.

    What :meth:`create` returns has the directory for itself until it is closed, or used as a context manager.

    Attributes:
        path: the directory.
        writes: whether this process writes.
    """

    def __init__(self, path: Path, *, writes: bool, lock: FileLock | None = None) -> None:
        self.path, self.writes, self._lock = path, writes, lock

    @classmethod
    def at(cls, out: Path) -> Run:
        """The directory, of which nothing is known and nothing is written yet."""
        return cls(Path(out), writes=int(os.environ.get("RANK", "0")) == 0)

    @classmethod
    def create(cls, out: Path, recipe: Recipe, *, resume: bool = False, allow_changed_data: bool = False) -> Run:
        """Starts a run in ``out``, or resumes the one that is there.

        Args:
            out: created if missing; must be empty unless ``resume``.
            recipe: saved as ``config.yaml``.
            resume: resume the run in ``out``, or start one if there is none.
            allow_changed_data: masks and label maps may be in other folders than before.

        Raises:
            DataError: ``out`` holds a run and ``resume`` is off, or it holds other files.
            ConfigError: the run was started with other settings.
            TrainingError: it cannot be written, or another process is training into it.
        """
        run = cls.at(out)
        if not run.writes:
            return run
        run.check(recipe, resume=resume, allow_changed_data=allow_changed_data)
        with run._writing():
            run.path.mkdir(parents=True, exist_ok=True)
            run._lock = lock_folder(run.path)
        try:
            run.check(recipe, resume=resume, allow_changed_data=allow_changed_data)  # now that nobody else begins one
            run._begin(recipe)
        except BaseException:
            run.close()
            raise
        return run

    def check(self, recipe: Recipe, *, resume: bool, allow_changed_data: bool) -> None:
        """Makes sure that :meth:`create` may use the directory; arguments and errors as there."""
        if not self.writes:
            return
        check_folder(self.path)
        if self.begun and not resume:
            raise DataError("already holds a run", file=self.path, remedy="choose another --out, or give --resume")
        if self.begun:
            check_same_settings(self.path, self.settings(), recipe, allow_changed_data=allow_changed_data)

    def _begin(self, recipe: Recipe) -> None:
        with self._writing():
            if not self.begun:  # an earlier start that failed may have been on other slices
                (self.path / FINGERPRINTS_FILE).unlink(missing_ok=True)
            remove_leftovers(self.path)
        self.write_text("config.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))

    def close(self) -> None:
        """Gives the directory free for other processes."""
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        return (self.path / "model.json").is_file() or has_checkpoint(self.last)

    @property
    def last(self) -> Path:
        """Folder of the checkpoints."""
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
        """Replaces ``metrics.jsonl``; raises as :meth:`write_text`."""
        self.write_text("metrics.jsonl", "".join(json.dumps(r, allow_nan=False) + "\n" for r in records))

    def write_model(self, task: Task, model: TransferModel, metadata: Mapping[str, Any]) -> None:
        """Writes ``model.safetensors`` and ``model.json``; raises as :meth:`write_text`."""
        if self.writes:
            with self._writing():
                task.save(self.path, model, metadata)

    def write_curves(self, records: Sequence[Mapping[str, Any]], best_epoch: int | None) -> None:
        """Draws ``curves.png``."""
        if not self.writes:
            return
        from detectclf.drawing.curves import curves_figure

        picture = BytesIO()
        curves_figure(records, best_epoch).savefig(picture)
        with self._writing():
            atomic_write(self.path / "curves.png", picture.getvalue())

    def check_data(self, record: Mapping[str, Any], *, allow_changed: bool = False) -> bool:
        """Whether a run is resumed with other slices than it was started with.

        Args:
            record: what :func:`~detectclf.training.data_record.data_record` says of the present ones.
            allow_changed: go on with other slices or labels.

        Raises:
            DataError: they are others, and ``allow_changed`` is off.
        """
        changed = self._changed_parts(record)
        if not changed:
            return False
        reason = f"the slices or labels for {' and '.join(changed)} have changed since this run was started"
        if not allow_changed:
            remedy = "restore the data, start a new run with another --out, or give --allow-changed-data"
            raise DataError(reason, file=self.path, remedy=remedy)
        log.warning("%s: %s; data.json keeps a record of it", self.path, reason)
        return True

    def write_data(self, record: Mapping[str, Any]) -> None:
        """Writes ``data.json``; of slices before that were others, it keeps the description.

        Args:
            record: as for :meth:`check_data`.

        Raises:
            TrainingError: the file cannot be written.
        """
        before, changed = self._data_before(), bool(self._changed_parts(record))
        self.write_json("data.json", with_changes(before, record, changed=changed, epochs=self._finished_epochs()))

    def _changed_parts(self, record: Mapping[str, Any]) -> list[str]:
        return changed_parts(self._data_before(), record)

    def _data_before(self) -> dict[str, Any]:
        if not (self.writes and self.begun):
            return {}
        try:
            before = read_json(self.path / "data.json")
        except (DataError, ValueError):
            return {}  # there is nothing to compare with
        return before if isinstance(before, dict) else {}

    def _finished_epochs(self) -> int:
        try:
            return len((self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError):
            return 0

    @property
    def lacks_fingerprints(self) -> bool:
        """Whether this process has to write them; a run that is resumed has them."""
        return self.writes and not (self.path / FINGERPRINTS_FILE).is_file()

    def write_fingerprints(self, train: Fingerprints, inherited: Sequence[Fingerprints] = ()) -> None:
        """Adds to the run's provenance, with which copies of its training slices are found in other data.

        Args:
            train: of the slices that it trains on.
            inherited: of the slices that the models it starts from were trained on.

        Raises:
            TrainingError: the file cannot be written.
        """
        from detectclf.duplicates.fingerprints import Fingerprints

        file = self.path / FINGERPRINTS_FILE
        before = [Fingerprints.load(file)] if file.is_file() else []
        with self._writing():
            Fingerprints.merged([*before, train, *inherited]).save(file)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DataError) as error:
            raise disk_error(error, self.path) from error
