"""A fixed copy of data sets, with a log of every change that is complete enough to undo them.

Fixed are: boxes that have to be clipped, turned round or left out (:mod:`detectclf.formats.boxes`); boxes stated for
another size of their image; several spellings of one class; slices whose image is missing, unreadable or useless, which
are left out. What only a person can decide, such as a slice labelled both as a tumour and as none, stays as it is and
is reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from detectclf.audit.check import check
from detectclf.config import DataConfig
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients import with_stated_patients
from detectclf.errors import DataError
from detectclf.files import atomic_folder
from detectclf.formats import FORMATS, detect_format, read, write
from detectclf.formats.faults import Change, Faults
from detectclf.formats.files import write_bytes
from detectclf.imaging.intensity import UNSAFE
from detectclf.types import Dataset, Problem, canonical_class, order_classes

LOG_NAME = "fixes.jsonl"
_USELESS = frozenset({"unreadable", "truncated", "zero_byte", UNSAFE, "multi_frame", "one_pixel"})


@dataclass(frozen=True, slots=True)
class Fixes:
    """What :func:`fix` did.

    Attributes:
        out: the fixed copy; with several data sets, one folder each inside it.
        log: the file with one line per change.
        changes: how many changes were made.
        remaining: the errors that are left for a person.
    """

    out: Path
    log: Path
    changes: int
    remaining: tuple[Problem, ...]


def fix(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    format: str | None = None,
    class_map: Mapping[str, str] | None = None,
    patients: Path | None = None,
    patient_pattern: str | None = None,
    index: SliceIndex | None = None,
) -> Fixes:
    """Writes a fixed copy of the data sets in ``folders`` to ``out``, in its own format; the source is not changed.

    Each slice keeps the opaque name of its patient, also one that only ``patients`` or ``patient_pattern`` (as
    ``data.patients`` and ``data.patient_pattern``) states: in COCO, else in a ``patients.csv`` per data set.

    ``fixes.jsonl`` in ``out`` begins with one ``copy`` line per data set, then has one line per change: ``action``,
    ``code``, ``split``, ``name`` and the value ``before`` and ``after``.

    Raises:
        DataError: a data set cannot be read, nothing is left of it, or ``out`` is not empty or lies inside one.
        UnsafeError: as :func:`detectclf.audit.check.check`.
    """
    target, index = Path(out), index or SliceIndex()
    for folder in folders:
        if target.resolve().is_relative_to(Path(folder).resolve()):
            raise DataError("lies inside the data set", file=out, remedy="choose another --out")
    names = _folder_names(folders)
    lines: list[dict[str, Any]] = []
    parts = [_read(Path(folder), format) for folder in folders]
    # All at once: a table for all folders names files that are not in each.
    stated = iter(
        with_stated_patients(
            [sample for part in parts for sample in part.dataset.samples],
            DataConfig(patients=patients, patient_pattern=patient_pattern),
        )
    )
    with atomic_folder(target) as partial:
        for part, name in zip(parts, names, strict=True):
            samples = tuple(islice(stated, len(part.dataset.samples)))
            lines += _fix_one(
                replace(part, dataset=replace(part.dataset, samples=samples)), partial / name, name, index
            )
        write_bytes(partial / LOG_NAME, "".join(json.dumps(line) + "\n" for line in lines))
    remaining = check(
        [target / name for name in names], format=format, copies=False, class_map=class_map, index=index
    ).errors
    return Fixes(target, target / LOG_NAME, sum(line["action"] != "copy" for line in lines), remaining)


def _folder_names(folders: Sequence[Path | str]) -> list[str]:
    """``.`` for a single data set; else a different name for each."""
    if len(folders) == 1:
        return ["."]
    names: list[str] = []
    for folder in folders:
        name = Path(folder).resolve().name or "data"
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One data set as read."""

    folder: Path
    format: str
    faults: Faults
    dataset: Dataset


def _read(folder: Path, format: str | None) -> _Part:
    found = format or detect_format(folder)[0]
    faults = Faults(folder)
    return _Part(folder, found, faults, read(folder, faults, found))


def _fix_one(part: _Part, out: Path, name: str, index: SliceIndex) -> list[dict[str, Any]]:
    """Writes the fixed copy of one data set; returns the lines of the log."""
    row, faults = FORMATS[part.format], part.faults
    dataset = _without_useless(part.dataset, faults, row.holds_boxes, row.holds_unknown, index)
    dataset = _one_spelling(dataset, faults)
    if not dataset.samples:
        remedy = f"see `detectclf data check {part.folder}`"
        raise DataError("nothing is left to write", file=part.folder, remedy=remedy)
    write(dataset, out, part.format, drop_boxes=True)
    names = _renamed(dataset, part.format)
    start = {"action": "copy", "source": str(part.folder), "folder": name, "format": part.format, "names": names}
    return [start, *({**change.to_record(), "folder": name} for change in faults.changes)]


def _renamed(dataset: Dataset, format: str) -> dict[str, str]:
    """New name -> original, for slices whose name the copy could not keep."""
    result = {}
    for split in dataset.splits:
        samples = dataset.split(split).samples
        for sample, name in zip(samples, FORMATS[format].names(samples), strict=True):
            if name != sample.name and not sample.name.endswith(f"/{name}"):
                result[f"{split}/{name}"] = sample.name
    return result


def _without_useless(
    dataset: Dataset, faults: Faults, holds_boxes: bool, holds_unknown: bool, index: SliceIndex
) -> Dataset:
    """Leaves out useless images, and slices without a label where the format needs one."""
    kept = []
    for sample, found in zip(dataset.samples, index.look_up(dataset.samples).faults, strict=True):
        code = next((c for c, _ in found if c in _USELESS), None)
        unknown = not sample.boxed if holds_boxes else sample.label is None
        if code is None and unknown and not holds_unknown:
            code = "nothing_known"
        if code is None:
            kept.append(sample)
            continue
        boxes = [
            {"xyxy": box.tolist(), "class": c} for box, c in zip(sample.boxes_xyxy, sample.box_labels, strict=True)
        ]
        before = {"class": sample.label, "boxes": boxes if sample.boxed else None}
        faults.changes.append(Change("leave_out", code, sample.split, sample.name, before, None))
    return replace(dataset, samples=tuple(kept))


def _one_spelling(dataset: Dataset, faults: Faults) -> Dataset:
    """Gives classes that come in several known spellings their canonical name."""
    spellings: dict[str, list[str]] = {}
    for name in dataset.classes:
        spellings.setdefault(canonical_class(name) or name, []).append(name)
    names: Mapping[str, str] = {
        name: known for known, found in spellings.items() for name in found if len(found) > 1 and name != known
    }
    for name, known in names.items():
        faults.changes.append(Change("rename_class", "class_spelling", None, None, name, known))
    samples = tuple(
        replace(
            s,
            label=None if s.label is None else names.get(s.label, s.label),
            box_labels=tuple(names.get(label, label) for label in s.box_labels),
        )
        for s in dataset.samples
    )
    classes = order_classes([names.get(name, name) for name in dataset.classes])
    negative = None if dataset.negative is None else names.get(dataset.negative, dataset.negative)
    return replace(dataset, samples=samples, classes=classes, negative=negative)


__all__ = ["LOG_NAME", "Fixes", "fix"]
