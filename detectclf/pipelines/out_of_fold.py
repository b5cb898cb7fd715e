"""Cross-validation put together: what the runs of each fold say of the slices that they were not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.config import DataConfig, PredictConfig
from detectclf.errors import ConfigError, ModelError
from detectclf.pipelines.facts import FINGERPRINTS, STAGES
from detectclf.types import Dataset, StageOutputs

if TYPE_CHECKING:
    from detectclf.data.fingerprints import Fingerprints
    from detectclf.inference.fusion import FusionClasses

log = logging.getLogger(__name__)


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
        left_out: labelled slices that every run of a stage has seen, or copies of them; nothing is said of those.
    """

    dataset: Dataset
    outputs: list[StageOutputs]
    folds: list[int]
    groups: list[int]
    names: FusionClasses
    left_out: int


def out_of_fold(folder: Path, data: DataConfig, predict: PredictConfig, *, mirror: bool = False) -> OutOfFold:
    """Predicts every labelled slice of ``data`` with runs under ``folder`` that saw neither it nor a copy of it.

    What a run has seen is read from its own fingerprints, and copies are looked for now: so the slices may be dealt
    otherwise by now, or be more than they were, and still none is judged by a run that knows it.

    Args:
        folder: holds run directories, each trained with ``data.folds`` and ``data.held_out``; together the runs of a
            stage hold every fold out.
        data: the same sources as of the runs.
        predict: batch size and device.
        mirror: whether detector and classifier also read the mirror image of each slice.

    Raises:
        ModelError: no runs, a fold that none or several of a stage hold out, runs of other folds, or runs that have
            seen everything.
        ConfigError: a limit, which would leave slices of the folds out.
        DataError: the data cannot be read.
    """
    from detectclf.data.copies import find_copies
    from detectclf.data.dataset import open_dataset
    from detectclf.data.fingerprints import fingerprint_samples
    from detectclf.inference.loading import load_runs

    if data.limit is not None:
        raise ConfigError("folds are of all slices, without a limit", remedy="leave out --limit or --folds")
    runs = find_fold_runs(folder)
    whole = open_dataset(data.model_copy(update={"folds": None}))
    prints = fingerprint_samples(whole.samples)
    groups = list(range(len(whole.samples)))
    for group in find_copies(prints):
        for member in group.members:
            groups[member] = group.members[0]
    asked = _asked(runs, prints, groups)
    labelled = [i for i, s in enumerate(whole.samples) if s.label is not None]
    rows = [i for i in labelled if asked[i] is not None]
    if len(rows) < len(labelled):
        log.warning("%d of %d slices are left out: every run has seen them", len(labelled) - len(rows), len(labelled))
    if not rows:
        raise ModelError("the runs have seen all slices that were given", file=folder, remedy="name another folder")
    outputs: dict[int, StageOutputs] = {}
    used = sorted({chosen for i in rows if (chosen := asked[i]) is not None})
    for chosen in used:
        detector, classifier, *refiner = chosen
        predictor = load_runs(detector, classifier, predict, refiner=refiner[0] if refiner else None, mirror=mirror)
        mine = [i for i in rows if asked[i] == chosen]
        outputs |= dict(zip(mine, predictor.raw_many([whole.samples[i] for i in mine]), strict=True))
    number = {chosen: k for k, chosen in enumerate(used)}
    return OutOfFold(
        replace(whole, samples=tuple(replace(whole.samples[i], split="out of fold") for i in rows)),
        [outputs[i] for i in rows],
        [number[asked[i] or ()] for i in rows],
        [groups[i] for i in rows],
        predictor.names,
        len(labelled) - len(rows),
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


def _asked(runs: Sequence[FoldRun], prints: Fingerprints, groups: Sequence[int]) -> list[tuple[Path, ...] | None]:
    """For each slice the run of each stage (detector, classifier and, where there are any, refiner) that is asked."""
    stages = _stages(runs)
    seen = {run.path: _seen_groups(run, prints, groups) for run in runs}
    of_fold = [tuple(of_stage[fold].path for of_stage in stages) for fold in range(runs[0].folds)]
    asked: list[tuple[Path, ...] | None] = []
    for group in groups:
        unseen = [paths for paths in of_fold if not any(group in seen[path] for path in paths)]
        # Slices that are newer than the runs are unseen by those of all folds, and dealt out.
        asked.append(unseen[group % len(unseen)] if unseen else None)
    return asked


def _stages(runs: Sequence[FoldRun]) -> list[dict[int, FoldRun]]:
    """For each stage there is, fold -> the one run that holds it out."""
    stages = []
    for stage in STAGES:
        of_stage = [run for run in runs if run.kind == stage]
        if not of_stage and stage == "refiner":
            continue
        holding = {k: [run for run in of_stage if k in run.held_out] for k in range(runs[0].folds)}
        for fold, found in holding.items():
            if not found:
                raise ModelError(
                    f"no run of a {stage} holds out fold {fold}", remedy="train it, or name another folder"
                )
            if len(found) > 1:
                named = ", ".join(run.path.name for run in found)
                raise ModelError(f"several runs of a {stage} hold out fold {fold}: {named}", remedy="keep one of them")
        stages.append({fold: found[0] for fold, found in holding.items()})
    return stages


def _seen_groups(run: FoldRun, prints: Fingerprints, groups: Sequence[int]) -> frozenset[int]:
    """Groups of copies of which ``run`` has seen a slice."""
    from detectclf.data.copies import copies_between
    from detectclf.data.fingerprints import Fingerprints

    seen = Fingerprints.load(run.path / FINGERPRINTS)
    here = {digest.tobytes(): row for row, digest in enumerate(prints.rows["digest"])}
    same = [here.get(digest.tobytes()) for digest in seen.rows["digest"]]
    # Copies of slices that are here are grouped already; only of the others they have to be looked for.
    elsewhere = seen.take([row for row, match in enumerate(same) if match is None])
    copies = copies_between(elsewhere, prints).tolist() if len(elsewhere) else []
    return frozenset(groups[match] for match in [*same, *copies] if match is not None)
