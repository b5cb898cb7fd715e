"""``tune``: a search of settings, each trial of which is a training on held-out patients of the training split."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from detectclf.documents import read_json
from detectclf.errors import ConfigError, DataError, DivergedError, TrainingError
from detectclf.files import atomic_write, free_folder
from detectclf.leftovers import is_unfinished
from detectclf.pipelines.train import TASKS, check_symmetry, train_on
from detectclf.pipelines.train_data import OpenedData, open_data
from detectclf.pipelines.tune_page import publish
from detectclf.pipelines.tune_search import Pruner, Sampler, Search
from detectclf.pipelines.tune_space import read_space, values_of
from detectclf.pipelines.tune_study import SharedStudy, Taken, check_installed
from detectclf.recipes import changed
from detectclf.signals import ended_like_interrupted

if TYPE_CHECKING:
    from detectclf.training.runs import Recipe

log = logging.getLogger(__name__)

DESCRIPTION = "study.json"
_FOLDS = 5
_WAIT_S = 2.0
_PAGE_S = 60.0
# A run may be resumed with others; trials of one study must be trained alike.
_FIXED = ("training.epochs", "training.patience")


def tune(
    kind: str,
    recipe: Recipe,
    out: Path | None = None,
    *,
    trials: int,
    space: Path | None = None,
    sampler: Sampler | None = None,
    pruner: Pruner | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Searches settings of a stage, or goes on with the search that is in ``out``.

    Several processes may be given the same ``out``; they share the trials.

    Args:
        kind: kind of stage.
        recipe: what every trial starts from.
        out: folder of the search; by default a new one below ``runs/``.
        trials: how many, by all processes and earlier calls together.
        space: YAML file of the search space; by default the shipped one.
        sampler: how values are chosen: by a Gaussian process over the figures so far, by Parzen estimators of those
            that did well (Bergstra et al. 2011), or at random; by default as the search in ``out`` was begun, else
            ``gp``.
        pruner: ``median`` ends a trial whose figure is below the median of the others at the same epoch; by default as
            the search in ``out`` was begun, else ``none`` with ``gp``, which learns from whole trials only.
        quiet: show no progress.

    Returns:
        ``out``, ``metric``, counts of trials, and of the best one its number, figure and settings, with the files
        ``recipe`` and ``page``.

    Raises:
        ConfigError: no Optuna, a space that does not fit, several processes of torchrun, or other settings than those
            that the search in ``out`` was begun with.
        DataError: the data cannot be read or are others than before, or ``out`` holds other files.
        KeyboardInterrupt: a signal arrived; the running trial is saved, to be gone on with.

    Also what :func:`detectclf.pipelines.train.train` raises, but for a loss that is not finite.
    """
    check_installed()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        remedy = "start `detectclf tune` itself, several times with one --out to use several processes"
        raise ConfigError("tune does not run under torchrun", remedy=remedy)
    folder = out or free_folder(Path("runs") / f"tune-{kind}")
    trial_recipe = changed(recipe, _common(recipe))
    searched = read_space(space, kind, trial_recipe)
    sampler, pruner = _chosen(folder, sampler, pruner)
    search = Search(kind, recipe, trial_recipe, searched, folder, trials, sampler, pruner)
    with ended_like_interrupted():
        _check_folder(folder)
        opened = _open(search)
        described = _begin(search, opened)
        study = SharedStudy(
            folder,
            seed=recipe.training.seed,
            sampler=sampler,
            warm_up=None if pruner == "none" else max(1, recipe.training.epochs // 4),
            first=values_of(recipe, searched),
        )
        try:
            _work(search, study, opened, described["data"], quiet)
        finally:  # also of a search that was interrupted
            with study.locked():
                found = publish(search, study, described["data"], page=True)
    return found


def _common(recipe: Recipe) -> dict[str, Any]:
    data = recipe.data
    return {
        "data.folds": data.folds or _FOLDS,
        "data.held_out": data.held_out or (0,),
        "data.fold_splits": data.fold_splits or (data.train_split,),
        "training.evaluate_every": 1,
    }


def _chosen(folder: Path, sampler: Sampler | None, pruner: Pruner | None) -> tuple[Sampler, Pruner]:
    """Sampler and pruner; those that are not given are as the search in ``folder`` was begun."""
    try:
        begun = read_json(folder / DESCRIPTION)
    except (DataError, ValueError):
        begun = {}  # there is none; a damaged one is refused when it is compared
    begun = begun if isinstance(begun, dict) else {}
    sampler = sampler or begun.get("sampler") or "gp"
    return sampler, pruner or begun.get("pruner") or ("none" if sampler == "gp" else "median")


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError("is a file, not a folder", file=folder, remedy="choose another --out")
    if not folder.is_dir() or (folder / DESCRIPTION).is_file():
        return
    if any(inside.name != ".lock" and not is_unfinished(inside) for inside in folder.iterdir()):
        raise DataError("is not empty and holds no search", file=folder, remedy="choose another --out")


def _open(search: Search) -> OpenedData:
    check_symmetry(search.kind, search.recipe)
    from detectclf.datasets.index import SliceIndex

    opened = open_data(search.kind, search.recipe, SliceIndex())
    if not (search.folder / DESCRIPTION).is_file():
        # What every trial is made of is made once before anything is written, so that no folder is left where it cannot
        # be: a network that timm lacks, slices too small for it, weights that cannot be used.
        TASKS[search.kind](search.recipe, opened)
    return opened


def _begin(search: Search, opened: OpenedData) -> dict[str, Any]:
    """Writes what the search is, or makes sure that the one in the folder is the same; returns it."""
    from detectclf.pipelines.shared_patients import known_patients, note_shared_patients
    from detectclf.training.data_record import data_record, describe_slices

    index = opened.slice_index
    sides = known_patients(opened.train.samples, opened.valid.samples, index)
    note_shared_patients(*sides, search.recipe.data)
    record = data_record(opened.dataset, *(describe_slices(part, index.look_up(part).sha256) for part in sides))
    now = {
        "format_version": 1,
        "stage": search.kind,
        "metric": search.metric,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "space": {name: d.model_dump(mode="json", exclude_unset=True) for name, d in search.space.items()},
        "recipe": search.recipe.model_dump(mode="json"),
        "data": {part: record[part] for part in ("train", "valid")},
    }
    try:
        search.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(search.folder / ".lock"):
            if not (search.folder / DESCRIPTION).is_file():
                atomic_write(search.folder / DESCRIPTION, json.dumps(now, indent=2) + "\n")
                return now
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise DataError(reason, file=search.folder, remedy="check space and permission") from error
    _check_same(search, now)
    return now


def _check_same(search: Search, now: Mapping[str, Any]) -> None:
    from detectclf.training.run_settings import check_same_settings

    file, remedy = search.folder / DESCRIPTION, "choose another --out"
    try:
        before = read_json(file)
    except ValueError:
        before = None
    if not isinstance(before, dict) or not now.keys() <= before.keys() or not isinstance(before["recipe"], dict):
        raise DataError("is not the description of a search", file=file, remedy=remedy)
    names = {"stage": "--stage", "metric": "figure", "sampler": "--sampler", "pruner": "--pruner", "space": "space"}
    for key, name in names.items():
        if before[key] != now[key]:
            reason = f"the search was begun with another {name}" + _first_difference(before[key], now[key])
            raise ConfigError(reason, file=search.folder, remedy=f"give the same, or {remedy}")
    check_same_settings(search.folder, before["recipe"], search.recipe, fixed=_FIXED)
    if before["data"] != now["data"]:
        reason = "the slices or labels have changed since the search was begun, so that its figures cannot be compared"
        raise DataError(reason, file=search.folder, remedy=f"restore the data, or {remedy}")


def _first_difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        return next((f" ({k})" for k in sorted({*before, *now}) if before.get(k) != now.get(k)), "")
    return f" ({before})"


def _work(search: Search, study: SharedStudy, opened: OpenedData, data: Mapping[str, Any], quiet: bool) -> None:
    """Trains trials until all are done, those that processes leave unfinished too."""
    waiting, page = False, time.monotonic()
    while True:
        taken = study.take(search.total, search.space)
        if taken is None:
            with study.locked():
                if not study.running():
                    return
            if not waiting:
                log.info("the remaining trials are running in other processes; waiting for them")
            waiting = True
            time.sleep(_WAIT_S)
            continue
        waiting = False
        shown = ", ".join(f"{name}={_short(value)}" for name, value in taken.values.items())
        with study.locked():
            begun = len(study.finished()) + len(study.running())  # numbers of folders have gaps
        log.info("trial %s (%d of %d): %s", taken.folder.name, begun, search.total, shown)
        try:
            figure, note = _trial(search, study, taken, opened, quiet)
        except BaseException:
            study.leave()
            raise
        study.tell(taken, figure, note)
        said = note or "pruned" if figure is None else f"{search.metric} {figure:.4f}"
        due = time.monotonic() - page > _PAGE_S
        page = time.monotonic() if due else page
        with study.locked():
            best = publish(search, study, data, page=due)["best"]
        log.info("trial %s: %s; best %s", taken.folder.name, said, "-" if best is None else f"{best['figure']:.4f}")


class _PrunedError(Exception):
    """Ends the training of a trial."""


def _trial(
    search: Search, study: SharedStudy, taken: Taken, opened: OpenedData, quiet: bool
) -> tuple[float | None, str | None]:
    """Trains one trial, or the rest of it; returns its figure, or why there is none."""
    import torch

    try:
        recipe = changed(search.recipe, taken.values)
        check_symmetry(search.kind, recipe)
    except ConfigError as error:
        return None, error.reason  # values that do not fit together
    reported = set()
    for record in _earlier_epochs(taken.folder):
        reported.add(record["epoch"])
        study.report(taken, _figure(search, record["metrics"]), record["epoch"])

    def after_epoch(record: Mapping[str, Any]) -> None:
        figure, epoch = _figure(search, record["metrics"]), record["epoch"]
        if epoch not in reported and study.report(taken, figure, epoch) and epoch < recipe.training.epochs:
            raise _PrunedError

    try:
        done = train_on(opened, search.kind, recipe, taken.folder, resume=True, quiet=quiet, after_epoch=after_epoch)
    except _PrunedError:
        return None, None
    except DivergedError:
        return None, "the loss was not finite"
    except torch.OutOfMemoryError:
        return None, "out of memory on the device"
    return _figure(search, done["best"]), None


def _figure(search: Search, metrics: Mapping[str, float | None]) -> float:
    figure = metrics.get(search.metric)
    if figure is None:
        reason = f"{search.metric} cannot be measured on the held-out slices"
        raise TrainingError(reason, file=search.folder, remedy="hold out others with --set data.held_out=[1], or more")
    return figure


def _earlier_epochs(folder: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
