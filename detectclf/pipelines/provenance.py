"""Which slices a model has seen in training, so that no figure on them passes for one on unseen slices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from detectclf.config import DataConfig
from detectclf.duplicates.fingerprints import Fingerprints
from detectclf.errors import ModelError
from detectclf.types import Sample

log = logging.getLogger(__name__)

FINGERPRINTS = "fingerprints.safetensors"
_OURS = ("model.json", "bundle.json")


def fingerprints_of_run(run: Path) -> Fingerprints:
    """Of all slices that the run was trained on, those of its starting weights included.

    Raises:
        ModelError: it keeps no record of them.
    """
    if not (run / FINGERPRINTS).is_file():
        raise ModelError("keeps no record of the slices that it was trained on", file=run, remedy="train it again")
    return Fingerprints.load(run / FINGERPRINTS)


def seen_through(
    starts: Sequence[str | Path], valid: Sequence[Sample], data: DataConfig
) -> tuple[Fingerprints, ...] | None:
    """What a training has seen through the models that it starts from or listens to.

    Args:
        starts: as in ``model.weights``: a run, or a weights file in the folder of a run or of a bundle, tells; weights
            of others are taken to be of other pictures.
        valid: slices that the new run will be measured on.
        data: its data; whether folds are held out decides how strict this is.

    Returns:
        The fingerprints, or ``None`` where a model of ours keeps no record, so that nobody knows.

    Raises:
        ModelError: folds are held out, and a model has seen slices of them or copies of those, or keeps no record.
    """
    from detectclf.duplicates.fingerprints import fingerprint_samples

    ours = {start: folder for start in starts if (folder := _folder_of_ours(start)) is not None}
    seen = {
        start: Fingerprints.load(folder / FINGERPRINTS) if (folder / FINGERPRINTS).is_file() else None
        for start, folder in ours.items()
    }
    final = data.folds is not None and not data.held_out  # such a run trains on its validation slices anyway
    if seen and not final:
        prints = fingerprint_samples(valid)
        for start, theirs in seen.items():
            _check(start, theirs, prints, strict=bool(data.held_out))
    known = tuple(theirs for theirs in seen.values() if theirs is not None)
    return known if len(known) == len(seen) else None


def _folder_of_ours(start: str | Path) -> Path | None:
    """The folder of the run or bundle that ``start`` belongs to."""
    if start in ("none", "default"):
        return None
    path = Path(start).resolve()
    folder = path if path.is_dir() else path.parent
    return folder if any((folder / name).is_file() for name in (*_OURS, FINGERPRINTS)) else None


def _check(start: str | Path, seen: Fingerprints | None, valid: Fingerprints, *, strict: bool) -> None:
    """Refuses, or only warns of, a model that may have seen slices that a training will be measured on."""
    from detectclf.duplicates.copies import copies_between

    if seen is None:
        reason = "keeps no record of the slices that it was trained on"
    elif count := len(copies_between(seen, valid)):
        reason = f"was trained on {count} of the {len(valid)} validation slices, or on copies of them"
    else:
        return
    if strict:
        remedy = "give a run of the same data, data.folds, data.fold_seed and data.held_out, made by this version"
        raise ModelError(reason, file=start, remedy=remedy)
    log.warning("%s %s: figures on the validation slices may be too good", start, reason)


def training_fingerprints(model: Path | None, runs: Sequence[Path] = ()) -> Fingerprints | None:
    """Fingerprints of every slice that any stage was trained on, or ``None`` where they were not kept."""
    from detectclf.inference.loading import default_bundle

    folders = list(runs) or [model or default_bundle()]
    files = [folder / FINGERPRINTS for folder in folders]
    if not all(file.is_file() for file in files):
        return None
    return Fingerprints.merged([Fingerprints.load(file) for file in files])


def copy_fingerprints(runs: Sequence[Path], folder: Path) -> None:
    """Puts the fingerprints of the runs' training slices into a bundle, without the folders they came from."""
    merged = training_fingerprints(None, runs)
    if merged is not None:
        names = tuple(Path(source).name for source in merged.sources)
        Fingerprints(merged.rows, merged.names, merged.splits, names).save(folder / FINGERPRINTS)
