"""Export formats, one module each: ``read``, ``write``, ``looks_like`` and whether the format holds boxes.

Readers keep the class names of the data as they are; :func:`~detectclf.datasets.dataset.open_dataset` maps them. A
reader never stops at a fault of one slice: it hands it to :class:`~detectclf.formats.faults.Faults` and goes on with
what is usable. It stops (``DataError``) where the annotation file itself is unreadable, and (``UnsafeError``) where a
name in it leads out of the folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detectclf.errors import DataError
from detectclf.formats import classes_csv, coco, createml, detection_csv, folder, tfrecord, voc, yolo
from detectclf.formats.faults import Faults
from detectclf.types import Dataset

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Format:
    """What a format module offers."""

    read: Callable[[Path, Faults], Dataset]
    write: Callable[[Dataset, Path], None]
    looks_like: Callable[[Path], bool]
    holds_boxes: bool
    holds_unknown: bool = False
    """Whether a slice of which nothing is known can be told from one without boxes."""


# In the order in which they are preferred where several fit.
FORMATS: dict[str, Format] = {
    "coco": Format(coco.read, coco.write, coco.looks_like, coco.HOLDS_BOXES),
    "yolo": Format(yolo.read, yolo.write, yolo.looks_like, yolo.HOLDS_BOXES, True),
    "voc": Format(voc.read, voc.write, voc.looks_like, voc.HOLDS_BOXES, True),
    "createml": Format(createml.read, createml.write, createml.looks_like, createml.HOLDS_BOXES),
    "tfrecord": Format(tfrecord.read, tfrecord.write, tfrecord.looks_like, tfrecord.HOLDS_BOXES),
    "csv": Format(detection_csv.read, detection_csv.write, detection_csv.looks_like, detection_csv.HOLDS_BOXES),
    "classes-csv": Format(classes_csv.read, classes_csv.write, classes_csv.looks_like, classes_csv.HOLDS_BOXES),
    "folder": Format(folder.read, folder.write, folder.looks_like, folder.HOLDS_BOXES),
}


def detect_format(source: Path) -> tuple[str, str | None]:
    """The format of a folder, and a line for the user where several fit.

    Raises:
        DataError: no such folder, or nothing in it that a format knows.
    """
    if not source.is_dir():
        reason = "no such folder" if not source.exists() else "is a file, not a folder"
        raise DataError(reason, file=source, remedy="name the folder of an unpacked export")
    try:
        fitting = [name for name, row in FORMATS.items() if row.looks_like(source)]
    except PermissionError as error:
        raise DataError("cannot be read (permission)", file=source, remedy="check its permissions") from error
    if not fitting:
        remedy = f"name the folder of an unpacked export in one of the formats {', '.join(FORMATS)}"
        raise DataError("no annotations found", file=source, remedy=remedy)
    if len(fitting) > 1 and fitting[-1] == "folder":
        # Folders with images are part of most formats, so they say nothing beside an annotation file.
        fitting.pop()
    note = None
    if len(fitting) > 1:
        note = f"{source}: looks like {' and '.join(fitting)}; read as {fitting[0]} (`data convert --from` chooses)"
    return fitting[0], note


def read(source: Path, faults: Faults, format: str | None = None) -> Dataset:
    """Reads the export in ``source``.

    Args:
        source: the folder.
        faults: gets what is wrong with it.
        format: a row of :data:`FORMATS`; by default found by looking, with a line in the log where several fit.

    Raises:
        DataError: no such folder, no annotations, or annotations that are unreadable as a whole.
        UnsafeError: a name leads out of the folder, or a file is too large.
    """
    if format is None:
        format, note = detect_format(source)
        if note is not None:
            _log.warning(note)
    elif not (source.is_dir() and _row(format).looks_like(source)):
        raise DataError(f"no {format} annotations found", file=source, remedy="leave --from out to have it found")
    return _row(format).read(source, faults)


def write(dataset: Dataset, out: Path, format: str, *, drop_boxes: bool = False) -> None:
    """Writes ``dataset`` as a new export; ``out`` is written into, and made where it is not there.

    Args:
        dataset: what to write.
        out: folder of the export.
        format: a row of :data:`FORMATS`.
        drop_boxes: agree that a format without boxes loses them.

    Raises:
        DataError: the format cannot hold the content, or the disk is full.
    """
    row = _row(format)
    if not row.holds_boxes and not drop_boxes and any(s.box_labels for s in dataset.samples):
        raise DataError(f"the format {format} cannot hold boxes", remedy="add --drop-boxes to leave them out")
    unboxed = next((s for s in dataset.samples if not s.boxed and not (row.holds_unknown and s.label is None)), None)
    if row.holds_boxes and unboxed is not None:
        # An image without boxes would say "no tumour" there.
        reason = f"{unboxed.name}: its boxes are not known, which the format {format} cannot say"
        raise DataError(reason, remedy="choose the format classes-csv or folder")
    row.write(dataset, out)


def _row(format: str) -> Format:
    if format not in FORMATS:
        raise DataError(f"unknown format {format!r}", remedy=f"choose one of {', '.join(FORMATS)}")
    return FORMATS[format]


__all__ = ["FORMATS", "Format", "detect_format", "read", "write"]
