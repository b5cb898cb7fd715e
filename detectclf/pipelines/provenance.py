"""Provenance: which slices and patients a model was trained on, so that leakage into other data is found."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from detectclf.config import DataConfig
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients import identify, number_of_patients, patients_of, without_atlas_slices
from detectclf.duplicates.disjoint_sets import join_names
from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE, Fingerprints
from detectclf.errors import ModelError
from detectclf.models.anonymise import without_folders
from detectclf.pseudonyms import is_hashed, is_pseudonym, key_check
from detectclf.types import Sample

log = logging.getLogger(__name__)

PATIENTS_KEY = "training_patients"
"""Key of the patients in the metadata of a bundle, which may have no fingerprints."""

_OURS = ("model.json", "bundle.json", FINGERPRINTS_FILE)


class TrainingPatients(NamedTuple):
    """Whom the training slices of a model show.

    Attributes:
        patients: all opaque names, of the slices whose patient is known; some have several.
        slices: how many training slices there are.
        unknown: how many of them have no known patient.
        persons: how many persons the names are.
        keys: check values of the keys under which names were hashed; see :func:`detectclf.pseudonyms.key_check`.
    """

    patients: frozenset[str]
    slices: int
    unknown: int
    persons: int
    keys: frozenset[str] = frozenset()

    @property
    def has_other_key(self) -> bool:
        """Whether names were hashed under another key than the present one, so that they tell nothing here."""
        return _has_other_key(self.patients, self.keys)


def training_patients(model: Path | None, runs: Sequence[Path] = ()) -> frozenset[str] | None:
    """The patients that any stage of a bundle, or of ``runs``, was trained on.

    Args:
        model: a bundle; ``None`` is the packaged one.
        runs: run directories, instead of a bundle.

    Returns:
        Opaque names, as :attr:`detectclf.types.Sample.patient` has them. ``None`` if a model keeps no record, or knows
        the patient of none of its slices: then no patient can be called new.
    """
    record = training_patient_record(model, runs)
    return record.patients if record is not None and record.patients else None


def training_patient_record(model: Path | None, runs: Sequence[Path] = ()) -> TrainingPatients | None:
    """As :func:`training_patients`, with how many training slices have a known patient; ``None`` without a record."""
    from detectclf.inference.loading import default_bundle

    prints = model_provenance(model, runs)
    if prints is not None:
        slices = len(prints) + len(prints.atlas_slices)
        unknown = sum(patient is None for patient in prints.patients)
        return TrainingPatients(patients_of(prints), slices, unknown, number_of_patients(prints), prints.keys)
    return None if runs else _patients_of_bundle(model or default_bundle())


def patients_metadata(runs: Sequence[Path]) -> dict[str, Any]:
    """The part of a bundle's metadata that names the patients of ``runs``; empty if a run keeps no record."""
    record = training_patient_record(None, runs)
    if record is None:
        return {}
    content = {
        "patients": sorted(record.patients),
        "persons": record.persons,
        "slices": record.slices,
        "unknown": record.unknown,
        "keys": sorted(record.keys),
    }
    return {PATIENTS_KEY: content}


def _patients_of_bundle(folder: Path) -> TrainingPatients | None:
    from detectclf.models.bundle import BUNDLE_FILE
    from detectclf.models.stage_files import read_json

    file = folder / BUNDLE_FILE
    if not file.is_file():
        return None  # a missing bundle is reported where it is loaded
    content = read_json(file, missing="not a bundle: it has no bundle.json", remedy="make one with `detectclf bundle`")
    try:
        record = content["facts"][PATIENTS_KEY]
        patients = frozenset(name for name in map(str, record["patients"]) if is_pseudonym(name))
        persons, keys = int(record.get("persons", len(patients))), frozenset(map(str, record.get("keys", ())))
        return TrainingPatients(patients, int(record["slices"]), int(record["unknown"]), persons, keys)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # bundles before 2026-12


def fingerprints_of(samples: Sequence[Sample], index: SliceIndex, rest: Sequence[Sample] = ()) -> Fingerprints:
    """Fingerprints of ``samples`` with all names of their patients, those of the atlas too.

    Args:
        samples: the slices.
        index: the slice index of the command.
        rest: other slices of the same data, so that a patient has one name in all of it.
    """
    prints = index.look_up([*samples, *rest]).fingerprints
    found = identify(prints, index)
    patients = found.patients[: len(samples)]
    aliases = tuple(names for names in found.aliases if names.intersection(filter(None, patients)))
    hashed = any(map(is_hashed, {*filter(None, patients)}.union(*aliases)))
    keys = frozenset([key_check()]) if hashed else frozenset()
    own = index.look_up(samples).fingerprints
    return replace(own, patients=patients, aliases=aliases, keys=keys)


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
    start: str | Path, valid: Sequence[Sample], data: DataConfig, index: SliceIndex
) -> tuple[Fingerprints, ...] | None:
    """Fingerprints of the slices that the model which a training starts from was trained on.

    Args:
        start: as in ``model.weights``. A run, or a weights file in the folder of a run or of a bundle, has a record;
            other weights are assumed to come from other pictures.
        valid: the validation slices of the new run.
        data: its data; leakage is an error if folds are held out, else a warning.
        index: the slice index of the command.

    Returns:
        The fingerprints, none for weights from elsewhere; ``None`` if a model that detectclf trained keeps no record.

    Raises:
        ModelError: folds are held out, and the model was trained on slices of them, on copies or on other slices of
            their patients, or keeps no record.
    """
    folder = _folder_of_ours(start)
    if folder is None:
        return ()
    trained_on = _read(folder)
    final = data.folds is not None and not data.held_out  # such a run trains on its validation slices anyway
    if not final:
        _check_leakage(start, trained_on, fingerprints_of(valid, index), index, strict=bool(data.held_out))
    return None if trained_on is None else (trained_on,)


def save_provenance(runs: Sequence[Path], folder: Path, index: SliceIndex, *, compact: bool = False) -> None:
    """Writes the provenance of ``runs`` into a bundle, if all of them keep a record; without names of folders.

    Args:
        runs: of the bundle's stages.
        folder: of the bundle.
        index: the slice index of the command.
        compact: without fingerprints of slices that the atlas knows; their numbers are kept.
    """
    merged = model_provenance(None, runs)
    if merged is not None:
        if compact:
            merged = without_atlas_slices(merged, index)
        sources = without_folders(tuple(map(Path, merged.sources)))
        replace(merged, sources=sources).save(folder / FINGERPRINTS_FILE)


def _read(folder: Path) -> Fingerprints | None:
    file = folder / FINGERPRINTS_FILE
    if not file.is_file():
        return None
    prints = Fingerprints.load(file)
    if any(patient is not None for patient in prints.patients):
        return prints
    # Made before patients were recorded, or of slices without one: the atlas knows some by their content.
    return replace(prints, patients=identify(prints, SliceIndex()).patients)


def _has_other_key(names: Iterable[str], keys: frozenset[str]) -> bool:
    # No record of a key: names that came hashed, as in a data set that states pseudonyms.
    return bool(keys) and any(map(is_hashed, names)) and keys != {key_check()}


def _folder_of_ours(start: str | Path) -> Path | None:
    """The folder of the run or bundle that ``start`` belongs to."""
    if start in ("none", "default"):
        return None
    path = Path(start).resolve()
    folder = path if path.is_dir() else path.parent
    return folder if any((folder / name).is_file() for name in _OURS) else None


def _common_patients(one: Fingerprints, other: Fingerprints) -> int:
    common = patients_of(one) & patients_of(other)
    first = {name: min(names) for names in join_names([*one.aliases, *other.aliases]) for name in names}
    return len({first.get(name, name) for name in common})


def _check_leakage(
    start: str | Path, trained_on: Fingerprints | None, valid: Fingerprints, index: SliceIndex, *, strict: bool
) -> None:
    """Warns of, or refuses, a model that may have been trained on the validation slices."""
    if trained_on is None:
        reason = "keeps no record of the slices that it was trained on"
    elif count := len(index.copies_between(trained_on, valid)):
        reason = f"was trained on {count} of the {len(valid)} validation slices, or on copies of them"
    elif count := _common_patients(trained_on, valid):
        reason = f"was trained on slices of {count} patients of the validation slices"
    elif any(map(is_hashed, patients_of(valid))) and _has_other_key(patients_of(trained_on), trained_on.keys):
        reason = "was trained on patients who were hashed under another key, and may be those of the validation slices"
    else:
        return
    if strict:
        remedy = "give a run of the same data, data.folds, data.fold_seed and data.held_out, made by this version"
        raise ModelError(reason, file=start, remedy=remedy)
    log.warning("%s %s: metrics on the validation slices may be too good", start, reason)
