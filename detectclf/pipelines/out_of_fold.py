"""Cross-validation put together: what the runs of each fold say of the slices that they were not trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.config import DataConfig, PredictConfig
from detectclf.errors import ConfigError, DataError, ModelError
from detectclf.pipelines.metadata import STAGES
from detectclf.pipelines.opening import check_classes
from detectclf.pipelines.provenance import fingerprints_of_run
from detectclf.types import Dataset, StageOutputs

if TYPE_CHECKING:
    from detectclf.duplicates.fingerprints import Fingerprints
    from detectclf.inference.fusion import FusionClasses

log = logging.getLogger(__name__)

RunsOfFold = tuple[Path, ...]
"""Runs of a detector, a classifier and, where there is one, a refiner."""


@dataclass(frozen=True, slots=True)
class FoldRun:
    """One training with some folds held out."""

    path: Path
    kind: str
    folds: int
    held_out: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Every slice with what was said of it by models that saw neither it nor a copy of it.

    Attributes:
        dataset: slices of all published splits, split ``out of fold``.
        outputs: of the stages, one per slice.
        folds: number of the runs that were asked about each slice, from 0; copies have the same.
        groups: source group of each slice.
        names: the classes of the stages.
        left_out: labelled slices that are unseen by the runs of no fold; nothing is said of those.
    """

    dataset: Dataset
    outputs: list[StageOutputs]
    folds: list[int]
    groups: list[int]
    names: FusionClasses
    left_out: int


def out_of_fold(folder: Path, data: DataConfig, predict: PredictConfig, *, tta: bool = False) -> OutOfFold:
    """Predicts every labelled slice of ``data`` with runs under ``folder`` that saw neither it nor a copy of it.

    What a run has seen is read from its own fingerprints, and copies are looked for now: so the slices may be dealt
    otherwise by now, or be more than they were, and still none is judged by a run that knows it.

    Args:
        folder: holds run directories, each trained with ``data.folds`` and ``data.held_out``; together the runs of a
            stage hold every fold out.
        data: the slices, those of the runs or more.
        predict: batch size and device.
        tta: whether detector and classifier also read the mirror image of each slice.

    Raises:
        ModelError: no runs, a fold that none or several of a stage hold out, runs of other folds or of other classes,
            or runs that have seen everything.
        ConfigError: a limit, which would leave slices of the folds out.
        DataError: the data cannot be read, have no known class, or have one that the runs do not know.
    """
    from detectclf.datasets.dataset import open_dataset
    from detectclf.duplicates.fingerprints import fingerprint_samples

    if data.limit is not None:
        raise ConfigError("folds are of all slices, without a limit", remedy="leave out --limit or --folds")
    runs = find_fold_runs(folder)
    of_fold = _runs_of_folds(runs)
    whole = open_dataset(data.model_copy(update={"folds": None}))
    labelled = [i for i, s in enumerate(whole.samples) if s.label is not None]
    if not labelled:
        raise DataError("no slice with a known class", file=", ".join(whole.sources), remedy="give other --data")
    groups, seen = groups_and_seen(fingerprint_samples(whole.samples), runs)
    asked = {i: chosen for i in labelled if (chosen := _asked(groups[i], of_fold, seen))}
    rows, left_out = list(asked), len(labelled) - len(asked)
    if left_out:
        log.warning("%d of %d slices are left out: no fold's runs have all not seen them", left_out, len(labelled))
    if not rows:
        raise ModelError("the runs have seen all slices that were given", file=folder, remedy="name another folder")
    outputs, names = _asked_all(whole, asked, predict, tta)
    number = {chosen: k for k, chosen in enumerate(sorted(set(asked.values())))}
    return OutOfFold(
        replace(whole, samples=tuple(replace(whole.samples[i], split="out of fold") for i in rows)),
        [outputs[i] for i in rows],
        [number[asked[i]] for i in rows],
        [groups[i] for i in rows],
        names,
        left_out,
    )


def find_fold_runs(folder: Path) -> list[FoldRun]:
    """The run directories under ``folder`` that hold folds out, in order of their names.

    Raises:
        ModelError: there is none, or they are not of the same folds.
    """
    from detectclf.models.saved import META_FILE, read_meta
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
        raise ModelError("holds runs of different folds", file=folder, remedy="keep runs of one data.folds in a folder")
    return found


def _runs_of_folds(runs: Sequence[FoldRun]) -> list[RunsOfFold]:
    """For each fold the run of each stage that holds it out: detector, classifier and, where there are any, refiner."""
    of_fold = []
    for fold in range(runs[0].folds):
        chosen = []
        for stage in STAGES:
            of_stage = [run for run in runs if run.kind == stage]
            holding = [run.path for run in of_stage if fold in run.held_out]
            if len(holding) > 1:
                named = ", ".join(path.name for path in holding)
                raise ModelError(f"several runs of a {stage} hold out fold {fold}: {named}", remedy="keep one of them")
            if not holding and (of_stage or stage != "refiner"):
                reason = f"no run of a {stage} holds out fold {fold}"
                raise ModelError(reason, remedy="train it, or name another folder")
            chosen += holding
        of_fold.append(tuple(chosen))
    return of_fold


def groups_and_seen(prints: Fingerprints, runs: Sequence[FoldRun]) -> tuple[list[int], dict[Path, frozenset[int]]]:
    """Group of copies of each slice, and the groups of which each run has seen one.

    Copies are looked for among all that is here and all that was seen, for two slices that are here may be copies only
    by way of a third one that is not.
    """
    from detectclf.duplicates.copies import find_copies
    from detectclf.duplicates.fingerprints import Fingerprints

    known = {run.path: fingerprints_of_run(run.path) for run in runs}
    distinct = Fingerprints.merged([prints, *known.values()])
    digests = distinct.digests
    group = {digest: row for row, digest in enumerate(digests)}
    for copies in find_copies(distinct):
        group.update((digests[member], copies.members[0]) for member in copies.members)
    seen = {path: frozenset(group[digest] for digest in theirs.digests) for path, theirs in known.items()}
    return [group[digest] for digest in prints.digests], seen


def _asked(group: int, of_fold: Sequence[RunsOfFold], seen: Mapping[Path, frozenset[int]]) -> RunsOfFold:
    """The runs that are asked about the slices of ``group``; none where those of every fold have seen one."""
    unseen = [paths for paths in of_fold if not any(group in seen[path] for path in paths)]
    # Slices that are newer than the runs are unseen by those of all folds, and dealt out.
    return unseen[group % len(unseen)] if unseen else ()


def _asked_all(
    whole: Dataset, asked: Mapping[int, RunsOfFold], predict: PredictConfig, tta: bool
) -> tuple[dict[int, StageOutputs], FusionClasses]:
    """What the runs say of the slices that they are asked about, and the classes that they know."""
    from detectclf.inference.loading import load_runs

    outputs: dict[int, StageOutputs] = {}
    names: FusionClasses | None = None
    for chosen in sorted(set(asked.values())):
        detector, classifier, *refiner = chosen
        predictor = load_runs(detector, classifier, predict, refiner=refiner[0] if refiner else None, tta=tta)
        check_classes(whole, predictor)
        if names not in (None, predictor.names):
            named = ", ".join(path.name for path in chosen)
            raise ModelError(f"{named}: other classes than in the runs of other folds", remedy="train them anew")
        names = predictor.names
        mine = [i for i in asked if asked[i] == chosen]
        outputs |= dict(zip(mine, predictor.raw_many([whole.samples[i] for i in mine]), strict=True))
    assert names is not None
    return outputs, names
