"""The study of ``tune``: trials in SQLite, shared by processes, each trial taken by one of them.

Optuna notices that a process is gone by heartbeats. That takes minutes, and gives the trial of a process that was only
asleep to another one. Here a process holds a lock for as long as it works on a trial; the operating system releases it
at once when the process ends, however it ends.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from detectclf.errors import ConfigError, DataError
from detectclf.pipelines.tune_space import Space, suggest
from detectclf.version import installed_version

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)

DATABASE = "study.db"
FOLDER = "folder"
"""Attribute of a trial that goes on with an earlier one: the number of that one's folder."""
NOTE = "note"
"""Attribute of a trial that could not be finished: why."""
MOST_TRIES = 3
"""A trial whose process ended so often without a further checkpoint is given up: it may be what ends them."""
_RANDOM_FIRST = 10
_TRIES = "tries"
_SAVED = "saved"
# Of a finished run: what is of no use once its figure is known. A trial is a recipe, not a model.
_HEAVY = ("last", "model.safetensors", "model.json", "fingerprints.safetensors", "curves.png", ".lock")
_NAME = "tune"


class Taken(NamedTuple):
    """A trial that this process works on.

    Attributes:
        trial: Optuna's, to report to.
        values: dotted setting -> value.
        folder: its run directory.
    """

    trial: Trial
    values: Mapping[str, Any]
    folder: Path


class SharedStudy:
    """Trials in a folder.

    Args:
        folder: of the search; must exist.
        seed: of the sampler.
        sampler: ``gp``, ``tpe`` or ``random``.
        warm_up: epochs in which no trial is pruned; ``None`` to prune none at all.
        first: values of the first trial, where there are any.

    Raises:
        DataError: the file of the study cannot be read, or has not the trials that lie in the folder.
    """

    def __init__(
        self, folder: Path, *, seed: int, sampler: str, warm_up: int | None, first: Mapping[str, Any] | None
    ) -> None:
        self.folder, self._sampler, self._seed = folder, sampler, seed
        (folder / "trials").mkdir(exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        self._mine: FileLock | None = None
        with self.locked():
            self.study = _open_study(folder / DATABASE, warm_up)
            if self.study.get_trials(deepcopy=False):
                return
            if any((folder / "trials").iterdir()):
                reason = "has lost the trials in trials/, which would be trained again and overwritten"
                raise DataError(reason, file=folder / DATABASE, remedy="restore it, or choose another --out")
            if first is not None:
                self.study.enqueue_trial(dict(first))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other process changes the study or the files of the search."""
        with self._lock, _readable(self.folder / DATABASE):
            yield

    def take(self, total: int, space: Space) -> Taken | None:
        """The next trial, which may be one that another process left unfinished; ``None`` if none is to be begun now.

        Args:
            total: trials of the study, by all processes together.
            space: what is searched.
        """
        with self.locked():
            self._take_up_left()
            self._remove_heavy()
            if len(self.finished()) + len(self.running()) >= total:
                return None
            self.study.sampler = _sampler(self._sampler, self._seed, len(self.finished()) + len(self.running()))
            trial = self.study.ask()
            values = suggest(trial, space)
            number = trial.user_attrs.get(FOLDER, trial.number)
            self._mine = self._lock_of(number)
            self._mine.acquire(timeout=0)
            return Taken(trial, values, self._folder_of(number))

    def report(self, taken: Taken, figure: float, epoch: int) -> bool:
        """Records the figure of an epoch (from 1); returns whether the trial is to be pruned."""
        with self.locked():
            taken.trial.report(figure, epoch)
            return bool(taken.trial.should_prune())

    def tell(self, taken: Taken, figure: float | None, note: str | None = None) -> None:
        """Records the result of a trial; one without a figure counts as pruned."""
        from optuna.trial import TrialState

        with self.locked():
            if note is not None:
                taken.trial.set_user_attr(NOTE, note)
            if figure is None:
                self.study.tell(taken.trial, state=TrialState.PRUNED)
            else:
                self.study.tell(taken.trial, figure)
            self.leave()
            self._remove_heavy()

    def leave(self) -> None:
        """Gives the trial of this process free, to be gone on with."""
        if self._mine is not None:
            self._mine.release(force=True)
            self._mine = None

    def finished(self) -> list[FrozenTrial]:
        """The trials that are complete or pruned, in order."""
        from optuna.trial import TrialState

        return list(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def running(self) -> list[FrozenTrial]:
        """The trials that some process has begun and not finished."""
        from optuna.trial import TrialState

        return list(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def _take_up_left(self) -> None:
        """Puts trials of processes that are gone first in the queue, each to go on in its folder."""
        from optuna.trial import TrialState

        for left in self.running():
            number = left.user_attrs.get(FOLDER, left.number)
            lock = self._lock_of(number)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            lock.release()  # nobody else takes it meanwhile: they all need the lock of the study first
            saved = _newest_checkpoint(self._folder_of(number))
            tries = left.user_attrs.get(_TRIES, 0) + 1 if saved == left.user_attrs.get(_SAVED, "") else 0
            if tries >= MOST_TRIES:
                log.warning("trial %d ended its process %d times and is given up", number, tries)
                self.study.tell(left.number, state=TrialState.PRUNED)
                continue
            log.info("going on with trial %d, whose process is gone", number)
            # In this order a process that is killed between the two loses the trial, and does not repeat it.
            self.study.tell(left.number, state=TrialState.FAIL)
            self.study.enqueue_trial(left.params, {FOLDER: number, _TRIES: tries, _SAVED: saved})

    def _remove_heavy(self) -> None:
        from optuna.trial import TrialState

        open_states = (TrialState.RUNNING, TrialState.WAITING)
        unfinished = self.study.get_trials(deepcopy=False, states=open_states)
        used = {self._folder_of(t.user_attrs.get(FOLDER, t.number)) for t in unfinished}
        for folder in {path.with_suffix("") for path in (self.folder / "trials").iterdir()} - used:
            for path in (folder / name for name in _HEAVY):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            folder.with_suffix(".lock").unlink(missing_ok=True)

    def _folder_of(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def _lock_of(self, number: int) -> FileLock:
        return FileLock(self._folder_of(number).with_suffix(".lock"))


def _newest_checkpoint(folder: Path) -> str:
    return max((path.name for path in (folder / "last").glob("*.safetensors")), default="")


def check_installed() -> None:
    """Makes sure that Optuna is installed; raises ConfigError where it is not."""
    if installed_version("optuna") is None:
        raise ConfigError("tune needs optuna, which is not installed", remedy="pip install 'detectclf[tune]'")


def _open_study(file: Path, warm_up: int | None) -> Study:
    import optuna
    from sqlalchemy import URL

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
    # A process waits this long, seconds, while another one writes.
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    except RuntimeError as error:
        reason, remedy = "the study was made by another version of Optuna", "use that one, or choose another --out"
        raise DataError(reason, file=file, remedy=remedy) from error
    pruner = (
        optuna.pruners.NopPruner()
        if warm_up is None
        else optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warm_up)
    )
    study: Study = optuna.create_study(
        storage=storage, study_name=_NAME, direction="maximize", pruner=pruner, load_if_exists=True
    )
    return study


def _sampler(name: str, seed: int, number: int) -> BaseSampler:
    """A sampler for one trial, whose choice depends on the seed, on how many trials were begun, and on their figures.

    Not on the process: processes that begin together try different values, and a search that was interrupted goes on as
    if it had not been. So a trial that is gone on with, of which Optuna has two, counts once.
    """
    import numpy as np
    from optuna.samplers import GPSampler, RandomSampler, TPESampler

    key = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    if name == "random":
        return RandomSampler(seed=key)
    if name == "gp":
        return GPSampler(seed=key, n_startup_trials=_RANDOM_FIRST)
    return TPESampler(seed=key, n_startup_trials=_RANDOM_FIRST, multivariate=True)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ or error
        said = getattr(cause, "orig", None) or type(cause).__name__
        remedy = "check the disk and its space, or choose another --out"
        raise DataError(f"the study cannot be read or written ({said})", file=file, remedy=remedy) from error
