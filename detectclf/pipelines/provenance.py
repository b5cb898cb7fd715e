"""Provenance: which slices a model was trained on, so that leakage into validation and test data is found."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from detectclf.config import DataConfig
from detectclf.datasets.index import SliceIndex
from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE, Fingerprints
from detectclf.errors import ModelError
from detectclf.models.anonymise import without_folders
from detectclf.types import Sample

log = logging.getLogger(__name__)

_OURS = ("model.json", "bundle.json", FINGERPRINTS_FILE)


def run_provenance(run: Path) -> Fingerprints:
    """Fingerprints of all slices that a run was trained on, including those of its starting weights.

    Raises:
        ModelError: the run keeps no record of them.
    """
    known = _read(run)
    if known is None:
        raise ModelError("keeps no record of the slices that it was trained on", file=run, remedy="train it again")
    return known


def model_provenance(model: Path | None, runs: Sequence[Path] = ()) -> Fingerprints | None:
    """Fingerprints of every slice that any stage of a bundle, or of ``runs``, was trained on.

    Args:
        model: a bundle; ``None`` is the packaged one.
        runs: run directories, instead of a bundle.

    Returns:
        The fingerprints, or ``None`` if one of the models keeps no record.
    """
    from detectclf.inference.loading import default_bundle

    known = [_read(folder) for folder in list(runs) or [model or default_bundle()]]
    complete = [prints for prints in known if prints is not None]
    return Fingerprints.merged(complete) if len(complete) == len(known) else None


def inherited_provenance(
    starts: Sequence[str | Path], valid: Sequence[Sample], data: DataConfig, index: SliceIndex
) -> tuple[Fingerprints, ...] | None:
    """Fingerprints of the slices that the models which a training starts from were trained on.

    Args:
        starts: as in ``model.weights``. A run, or a weights file in the folder of a run or of a bundle, has a record;
            the weights of others are assumed to come from other pictures.
        valid: the validation slices of the new run.
        data: its data; leakage is an error if folds are held out, else a warning.
        index: the slice index of the command.

    Returns:
        The fingerprints, or ``None`` if a model that detectclf trained keeps no record.

    Raises:
        ModelError: folds are held out, and a model was trained on slices of them or on copies, or keeps no record.
    """
    ours = {start: folder for start in starts if (folder := _folder_of_ours(start)) is not None}
    trained_on = {start: _read(folder) for start, folder in ours.items()}
    final = data.folds is not None and not data.held_out  # such a run trains on its validation slices anyway
    if trained_on and not final:
        prints = index.look_up(valid).fingerprints
        for start, theirs in trained_on.items():
            _check_leakage(start, theirs, prints, index, strict=bool(data.held_out))
    known = tuple(theirs for theirs in trained_on.values() if theirs is not None)
    return known if len(known) == len(trained_on) else None


def save_provenance(runs: Sequence[Path], folder: Path) -> None:
    """Writes the provenance of ``runs`` into a bundle, if all of them keep a record; without names of folders."""
    merged = model_provenance(None, runs)
    if merged is not None:
        sources = without_folders(tuple(map(Path, merged.sources)))
        Fingerprints(merged.rows, merged.names, merged.splits, sources).save(folder / FINGERPRINTS_FILE)


def _read(folder: Path) -> Fingerprints | None:
    file = folder / FINGERPRINTS_FILE
    return Fingerprints.load(file) if file.is_file() else None


def _folder_of_ours(start: str | Path) -> Path | None:
    """The folder of the run or bundle that ``start`` belongs to."""
    if start in ("none", "default"):
        return None
    path = Path(start).resolve()
    folder = path if path.is_dir() else path.parent
    return folder if any((folder / name).is_file() for name in _OURS) else None


def _check_leakage(
    start: str | Path, trained_on: Fingerprints | None, valid: Fingerprints, index: SliceIndex, *, strict: bool
) -> None:
    """Warns of, or refuses, a model that may have been trained on the validation slices."""
    if trained_on is None:
        reason = "keeps no record of the slices that it was trained on"
    elif count := len(index.copies_between(trained_on, valid)):
        reason = f"was trained on {count} of the {len(valid)} validation slices, or on copies of them"
    else:
        return
    if strict:
        remedy = "give a run of the same data, data.folds, data.fold_seed and data.held_out, made by this version"
        raise ModelError(reason, file=start, remedy=remedy)
    log.warning("%s %s: metrics on the validation slices may be too good", start, reason)
