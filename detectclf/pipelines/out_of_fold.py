"""Out-of-fold predictions: for every slice, those of runs that were trained neither on it nor on its patient."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from detectclf.config import DataConfig, PredictConfig
from detectclf.errors import ConfigError, DataError, ModelError
from detectclf.models.stage import STAGES
from detectclf.pipelines.opening import check_classes
from detectclf.pipelines.provenance import run_provenance
from detectclf.types import Dataset, StageOutputs

if TYPE_CHECKING:
    from detectclf.datasets.index import SliceIndex
    from detectclf.duplicates.fingerprints import Fingerprints
    from detectclf.inference.fusion import FusionClasses

log = logging.getLogger(__name__)

RunsOfFold = tuple[Path, ...]
"""Runs of a detector and a classifier, in the order of ``STAGES``."""


@dataclass(frozen=True, slots=True)
class FoldRun:
    """A run that held some folds out."""

    path: Path
    kind: str
    folds: int
    held_out: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Slices with the outputs of stages that were trained neither on them nor on copies of them nor on their patients.

    Attributes:
        dataset: slices of all published splits; their split is now ``out of fold``.
        outputs: outputs of the stages, one per slice.
        folds: for each slice, the number (from 0) of the set of runs that predicted it; a group has one number.
        groups: group of each slice: of its patient, of copies, or of itself alone.
        sources: source group of each slice: of copies alone.
        names: the classes of the stages.
        left_out: number of labelled slices without a prediction, because each fold has a run trained on them.
    """

    dataset: Dataset
    outputs: list[StageOutputs]
    folds: list[int]
    groups: list[int]
    sources: list[int]
    names: FusionClasses
    left_out: int


def out_of_fold(folder: Path, data: DataConfig, predict: PredictConfig, index: SliceIndex) -> OutOfFold:
    """Predicts every labelled slice of ``data`` with runs that were trained neither on it nor on its patient.

    Where its patient is not known, copies of the slice count instead. The training slices of a run and their patients
    are known from its own fingerprints, and copies are searched now. So predictions stay
    free of leakage even if the slices are now in other folds, or if there are more of them.

    Args:
        folder: holds run directories, each trained with ``data.folds`` and ``data.held_out``; together the runs of a
            stage hold out every fold.
        data: the slices of the runs, possibly with more.
        predict: batch size and device.
        index: the slice index of the command.

    Raises:
        ModelError: there are no runs; no run or several runs of a stage hold out the same fold; the runs have
            different folds or classes; or every slice was trained on in every fold.
        ConfigError: the data have a limit, which would leave out slices of the folds.
        DataError: the data cannot be read, have no known class, or have a class that the runs do not know.
    """
    from detectclf.datasets.dataset import open_dataset
    from detectclf.datasets.patients import with_patients

    if data.limit is not None:
        raise ConfigError(
            "--folds uses all slices, so it works without a limit only", remedy="leave out --limit or --folds"
        )
    runs = find_fold_runs(folder)
    of_fold = _runs_of_folds(runs)
    whole = with_patients(open_dataset(data.model_copy(update={"folds": None})), index)
    labelled = [i for i, s in enumerate(whole.samples) if s.label is not None]
    if not labelled:
        raise DataError("no slice with a known class", file=", ".join(whole.sources), remedy="give other --data")
    known = groups_and_provenance(index.look_up(whole.samples).fingerprints, runs, index)
    chosen = {i: found for i in labelled if (found := _runs_for(known.groups[i], of_fold, known.trained_on))}
    rows, left_out = list(chosen), len(labelled) - len(chosen)
    if left_out:
        log.warning("%d of %d slices are left out: in each fold a run was trained on them", left_out, len(labelled))
    if not rows:
        raise ModelError(
            "the runs were trained on all slices that were given", file=folder, remedy="name another folder"
        )
    outputs, names = _predict(whole, chosen, predict)
    number = {found: k for k, found in enumerate(sorted(set(chosen.values())))}
    return OutOfFold(
        replace(whole, samples=tuple(replace(whole.samples[i], split="out of fold") for i in rows)),
        [outputs[i] for i in rows],
        [number[chosen[i]] for i in rows],
        [known.groups[i] for i in rows],
        [known.sources[i] for i in rows],
        names,
        left_out,
    )


def find_fold_runs(folder: Path) -> list[FoldRun]:
    """The run directories under ``folder`` that hold out folds, sorted by name.

    Raises:
        ModelError: there is none, or their folds differ.
    """
    from detectclf.models.stage_files import META_FILE, read_meta
    from detectclf.training.runs import Run

    found = []
    for path in sorted(p.parent for p in folder.glob(f"*/{META_FILE}")):
        run = Run.open(path)
        data = run.settings().get("data") or {}
        if data.get("held_out"):
            kind = read_meta(path / META_FILE).kind
            held = tuple(int(k) for k in data["held_out"])
            found.append(FoldRun(path, kind, int(data["folds"]), held, int(data.get("fold_seed", 0))))
    if not found:
        raise ModelError(
            "holds no runs with folds held out",
            file=folder,
            remedy="train with --set data.folds=4 --set data.held_out=[0] and so on, with --out inside this folder",
        )
    if len({(run.folds, run.seed) for run in found}) > 1:
        raise ModelError(
            "holds runs of different folds",
            file=folder,
            remedy="keep only runs with the same data.folds and data.fold_seed in a folder",
        )
    return found


def _runs_of_folds(runs: Sequence[FoldRun]) -> list[RunsOfFold]:
    """For each fold, the run of each kind of stage that holds it out."""
    of_fold = []
    for fold in range(runs[0].folds):
        chosen = []
        for kind in STAGES:
            holding = [run.path for run in runs if run.kind == kind and fold in run.held_out]
            if len(holding) > 1:
                named = ", ".join(path.name for path in holding)
                raise ModelError(f"several runs of a {kind} hold out fold {fold}: {named}", remedy="keep one of them")
            if not holding:
                reason = f"no run of a {kind} holds out fold {fold}"
                raise ModelError(reason, remedy="train it, or name another folder")
            chosen += holding
        of_fold.append(tuple(chosen))
    return of_fold


class KnownGroups(NamedTuple):
    """Groups of slices.

    Attributes:
        groups: of each slice: of its patient, of copies, or of itself alone.
        sources: of copies alone.
        trained_on: for each run, the numbers in ``groups`` that it was trained on.
    """

    groups: list[int]
    sources: list[int]
    trained_on: dict[Path, frozenset[int]]


def groups_and_provenance(prints: Fingerprints, runs: Sequence[FoldRun], index: SliceIndex) -> KnownGroups:
    """Group of each slice, and for each run the groups that it was trained on.

    Groups are slices of one patient and copies, searched among the given slices and all training slices of the runs,
    because two given slices may be linked only through a third one that is no longer here.
    """
    from detectclf.duplicates.disjoint_sets import DisjointSets
    from detectclf.duplicates.fingerprints import Fingerprints

    known = {run.path: run_provenance(run.path) for run in runs}
    distinct = Fingerprints.merged([prints, *known.values()])
    row_of = {digest: row for row, digest in enumerate(distinct.digests)}
    joined = DisjointSets(len(distinct))
    for copies in index.find_copies(distinct):
        for member in copies.members[1:]:
            joined.join(copies.members[0], member)
    sources = [joined.find(row_of[digest]) for digest in prints.digests]
    first: dict[str, int] = {}
    # Of each part, not of the merged ones: a patient may have two names that one slice links.
    for part in (prints, *known.values()):
        for digest, patient, readable in zip(part.digests, part.patients, part.readable, strict=True):
            if patient is not None and readable:  # those that cannot be read share one digest
                joined.join(first.setdefault(patient, row_of[digest]), row_of[digest])
    for alike in distinct.aliases:
        members = [first[name] for name in alike if name in first]
        for member in members[1:]:
            joined.join(members[0], member)
    trained_on = {path: frozenset(joined.find(row_of[d]) for d in theirs.digests) for path, theirs in known.items()}
    return KnownGroups([joined.find(row_of[digest]) for digest in prints.digests], sources, trained_on)


def _runs_for(group: int, of_fold: Sequence[RunsOfFold], trained_on: Mapping[Path, frozenset[int]]) -> RunsOfFold:
    """The runs that predict the slices of ``group``; none if each fold has a run that was trained on the group."""
    free = [paths for paths in of_fold if not any(group in trained_on[path] for path in paths)]
    # No run was trained on slices that are newer than the runs: they are spread over the folds.
    return free[group % len(free)] if free else ()


def _predict(
    whole: Dataset, chosen: Mapping[int, RunsOfFold], predict: PredictConfig
) -> tuple[dict[int, StageOutputs], FusionClasses]:
    """Outputs of the runs chosen for each slice, and the classes that the runs know."""
    from detectclf.inference.loading import load_runs

    outputs: dict[int, StageOutputs] = {}
    names: FusionClasses | None = None
    for runs in sorted(set(chosen.values())):
        predictor = load_runs(dict(zip(STAGES, runs, strict=True)), predict)
        check_classes(whole, predictor)
        if names not in (None, predictor.names):
            named = ", ".join(path.name for path in runs)
            raise ModelError(f"{named}: other classes than in the runs of other folds", remedy="train them again")
        names = predictor.names
        mine = [i for i in chosen if chosen[i] == runs]
        outputs |= dict(zip(mine, predictor.raw_many([whole.samples[i] for i in mine]), strict=True))
    assert names is not None
    return outputs, names
