"""Cross-validation put together: what the runs of each fold say of the slices that they were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.config import DataConfig, PredictConfig
from detectclf.errors import ConfigError, ModelError
from detectclf.pipelines.facts import STAGES
from detectclf.types import Dataset, StageOutputs

if TYPE_CHECKING:
    from detectclf.inference.fusion import FusionClasses


@dataclass(frozen=True, slots=True)
class FoldRun:
    """One training with some folds held out; ``valid_sha256`` is of the slices that were."""

    path: Path
    kind: str
    folds: int
    held_out: tuple[int, ...]
    seed: int
    valid_sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Every slice with what was said of it by models that saw neither it nor a copy of it.

    Attributes:
        dataset: slices of all published splits, split ``out of fold``.
        outputs: of the stages, one per slice.
        folds: fold of each slice.
        groups: source group of each slice.
        names: the classes of the stages.
    """

    dataset: Dataset
    outputs: list[StageOutputs]
    folds: list[int]
    groups: list[int]
    names: FusionClasses


def out_of_fold(folder: Path, data: DataConfig, predict: PredictConfig, *, mirror: bool = False) -> OutOfFold:
    """Predicts every labelled slice of ``data`` with those runs under ``folder`` that had it held out.

    Args:
        folder: holds run directories, each trained with ``data.folds`` and ``data.held_out``; together the runs of a
            stage hold every fold out.
        data: the same sources as of the runs.
        predict: batch size and device.
        mirror: whether detector and classifier also read the mirror image of each slice.

    Raises:
        ModelError: no runs, a fold that none or several of a stage hold out, runs of other folds or of other data.
        ConfigError: a limit, which would leave slices of the folds out.
        DataError: the data cannot be read.
    """
    from dataclasses import replace

    from detectclf.data.copies import find_copies
    from detectclf.data.dataset import open_dataset
    from detectclf.data.fingerprints import fingerprint_samples
    from detectclf.data.folds import fold_of_slices
    from detectclf.inference.loading import load_runs

    if data.limit is not None:
        raise ConfigError("folds are of all slices, without a limit", remedy="leave out --limit or --folds")
    runs = find_fold_runs(folder)
    count, seed = runs[0].folds, runs[0].seed
    whole = open_dataset(data.model_copy(update={"folds": None}))
    copies = find_copies(fingerprint_samples(whole.samples))
    folds = fold_of_slices(whole, copies, count, seed)
    _check_data(runs, whole, folds)
    groups = list(range(len(whole.samples)))
    for group in copies:
        for member in group.members:
            groups[member] = group.members[0]
    rows = [i for i, s in enumerate(whole.samples) if s.label is not None]
    outputs: dict[int, StageOutputs] = {}
    names: FusionClasses | None = None
    for used in sorted({_runs_for(runs, k) for k in range(count)}, key=str):
        detector, classifier, *refiner = used
        predictor = load_runs(detector, classifier, predict, refiner=refiner[0] if refiner else None, mirror=mirror)
        names = predictor.names
        mine = [i for i in rows if _runs_for(runs, folds[i]) == used]
        outputs |= dict(zip(mine, predictor.raw_many([whole.samples[i] for i in mine]), strict=True))
    assert names is not None
    samples = tuple(replace(whole.samples[i], split="out of fold") for i in rows)
    return OutOfFold(
        replace(whole, samples=samples),
        [outputs[i] for i in rows],
        [folds[i] for i in rows],
        [groups[i] for i in rows],
        names,
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
            facts = run.read_json("data.json")
            sha = str(facts.get("valid", {}).get("sha256"))
            found.append(FoldRun(path, kind, int(data["folds"]), held, int(data.get("fold_seed", 0)), sha))
    if not found:
        raise ModelError(
            "holds no runs with folds held out",
            file=folder,
            remedy="train with --set data.folds=4 --set data.held_out=[0] and so on, with --out inside this folder",
        )
    if len({(run.folds, run.seed) for run in found}) > 1:
        raise ModelError("holds runs of different folds", file=folder, remedy="keep runs of one data.folds in a folder")
    return found


def _runs_for(runs: Sequence[FoldRun], fold: int) -> tuple[Path, ...]:
    """The run of each stage that had ``fold`` held out: detector, classifier and, where there are any, refiner."""
    chosen: list[Path] = []
    for stage in STAGES:
        of_stage = [run for run in runs if run.kind == stage]
        holding = [run.path for run in of_stage if fold in run.held_out]
        if len(holding) > 1:
            named = ", ".join(path.name for path in holding)
            raise ModelError(f"several runs of a {stage} hold out fold {fold}: {named}", remedy="keep one of them")
        if holding:
            chosen.append(holding[0])
        elif of_stage or stage != "refiner":
            raise ModelError(f"no run of a {stage} holds out fold {fold}", remedy="train it, or name another folder")
    return tuple(chosen)


def _check_data(runs: Sequence[FoldRun], whole: Dataset, folds: Sequence[int]) -> None:
    """Makes sure that each run held out exactly the slices that are now called its folds: else slices would leak."""
    from detectclf.training.runs import count_slices

    for run in runs:
        held = [s for s, k in zip(whole.samples, folds, strict=True) if k in run.held_out]
        usable: list[Any] = [s for s in held if (s.label is not None if run.kind == "classifier" else s.boxed)]
        if count_slices(usable)["sha256"] != run.valid_sha256:
            raise ModelError(
                "was trained on other data, or with other folds, than given here",
                file=run.path,
                remedy="give the same --data in the same order",
            )
