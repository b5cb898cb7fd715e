"""``data split``: a new split in which slices of one patient, and copies of one slice, stay together."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectclf.errors import ConfigError, DataError
from detectclf.files import atomic_folder, atomic_write, check_free
from detectclf.pipelines.opening import open_folder

log = logging.getLogger(__name__)

_ROUNDING = 0.011
"""Shares such as 0.33,0.33,0.33 are meant to add up to 1."""


def split(
    folder: Path,
    out: Path,
    *,
    ratios: str = "0.7,0.2,0.1",
    seed: int = 0,
    any_tumor: Sequence[str] = (),
    patients: Path | None = None,
    pattern: str | None = None,
) -> dict[str, Any]:
    """Splits anew, patients and copies together, classes balanced; written in the source's own format.

    Args:
        folder: an export.
        out: folder of the new one.
        ratios: shares of train, valid and test, or of train and valid; they must add up to 1 if one is below
            1, others are proportions.
        seed: the same seed gives the same split.
        any_tumor: as ``data.any_tumor``.
        patients, pattern: as ``data.patients`` and ``data.patient_pattern``.

    Raises:
        ConfigError: ``ratios`` or ``pattern`` make no sense.
        DataError: the data cannot be read, are of too few patients, or ``out`` cannot be written.
    """
    from detectclf.datasets.index import SliceIndex
    from detectclf.datasets.patients import with_patients
    from detectclf.datasets.splits import SPLIT_FILE, grouped_split, large_groups
    from detectclf.formats import detect_format, write

    shares = _ratios(ratios)
    check_free(out)
    dataset = open_folder(folder, negative_boxes="keep", any_tumor=any_tumor, patients=patients, pattern=pattern)
    if out.resolve().is_relative_to(folder.resolve()):
        raise DataError("lies inside the data set", file=out, remedy="choose another --out")
    index = SliceIndex()
    indexed = index.look_up(dataset.samples)
    unreadable = np.flatnonzero(~indexed.readable)
    if len(unreadable):
        raise DataError(
            "cannot be read, so its copies cannot be found",
            file=dataset.samples[int(unreadable[0])].path,
            remedy=f"fix the data first: detectclf data check {folder} --fix --out DIR",
        )
    groups = index.find_copies(indexed.fingerprints)
    for line, first in large_groups([group.members for group in groups], len(dataset.samples)):
        log.warning("%s: %s (such as %s)", folder, line, dataset.samples[first].name)
    dataset = with_patients(dataset, index)
    dealt = grouped_split(dataset, groups, shares, seed)
    people = [s.patient for s in dealt.samples if s.patient is not None]
    with atomic_folder(out) as partial:
        write(dealt, partial, detect_format(folder)[0])
        made = {"patients": len(set(people)), "groups": len(groups), "ratios": shares, "seed": seed}
        atomic_write(partial / SPLIT_FILE, json.dumps(made) + "\n")
    counts = {name: len(dealt.split(name).samples) for name in dealt.splits}
    detail = ", ".join(f"{name} {n}" for name, n in counts.items())
    detail += "" if len(shares) > 2 else "; no split test, since two shares were given"
    detail += f"; kept together: {len(groups)} groups of copies, {len(set(people))} patients ({len(people)} slices)"
    return {
        "wrote": str(out),
        "detail": detail,
        "splits": counts,
        "groups": len(groups),
        "patients": len(set(people)),
        "without_patient": len(dealt.samples) - len(people),
    }


def _ratios(text: str) -> dict[str, float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    names = ("train", "valid", "test")
    if not 2 <= len(shares) <= len(names) or not all(0 < share < float("inf") for share in shares):
        raise ConfigError(f"--ratios {text!r}", remedy="give two or three positive shares such as 0.7,0.2,0.1")
    total = sum(shares)
    # Whole numbers such as 8,1,1 or 70,20,10 are proportions; of fractions that do not fill the whole one is missing.
    if min(shares) < 1 and abs(total - 1) > _ROUNDING:
        rest = 1 - total
        third = f"{text},{rest:.4g} for a split test of the rest, or " if len(shares) == 2 and rest > 0 else ""
        reason = f"--ratios {text!r} add up to {total:.4g}, not to 1"
        raise ConfigError(reason, remedy=f"give {third}shares that add up to 1, or whole numbers such as 8,1,1")
    return dict(zip(names, shares, strict=False))
