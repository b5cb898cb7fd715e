"""Which slices a model has seen in training, so that no figure on them passes for one on unseen slices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detectclf.config import DataConfig
from detectclf.data.fingerprints import ROW, Fingerprints
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


UNKNOWN = Fingerprints(np.zeros(0, dtype=ROW), (), (), ())
"""What a model of ours has seen that keeps no record."""


def seen_before(start: str | Path, valid: Sequence[Sample], data: DataConfig) -> Fingerprints | None:
    """What a training that starts from, or listens to, another model has seen through it.

    Args:
        start: as in ``model.weights``: a run, or a weights file in the folder of a run or of a bundle, tells.
        valid: slices that the new run will be measured on.
        data: its data; whether folds are held out decides how strict this is.

    Returns:
        The fingerprints, ``UNKNOWN`` of a model that keeps no record, or ``None`` where ``start`` is none of ours.

    Raises:
        ModelError: folds are held out, and the model has seen slices of them or copies of those, or keeps no record.
    """
    if start in ("none", "default"):
        return None
    path = Path(start).resolve()
    folder = path if path.is_dir() else path.parent
    known = (folder / FINGERPRINTS).is_file()
    if not known and not any((folder / name).is_file() for name in _OURS):
        return None
    seen = Fingerprints.load(folder / FINGERPRINTS) if known else UNKNOWN
    if data.folds is not None and not data.held_out:
        return seen  # a final run, which trains on its validation slices anyway
    reason = _reason(seen, valid)
    if reason and data.held_out:
        raise ModelError(
            reason,
            file=start,
            remedy="give a run of the same data, data.folds, data.fold_seed and data.held_out, made by this version",
        )
    if reason:
        log.warning("%s %s: figures on the validation slices may be too good", start, reason)
    return seen


def _reason(seen: Fingerprints, valid: Sequence[Sample]) -> str:
    """Why a model is no start for a training that is measured on ``valid``; empty where it is one."""
    from detectclf.data.copies import copies_between
    from detectclf.data.fingerprints import fingerprint_samples

    if seen is UNKNOWN:
        return "keeps no record of the slices that it was trained on"
    count = len(copies_between(seen, fingerprint_samples(valid)))
    return f"was trained on {count} of the {len(valid)} validation slices, or on copies of them" if count else ""


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
