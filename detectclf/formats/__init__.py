"""Export formats, one module each, with ``read``, ``write`` and ``looks_like``.

Readers keep the class names of the export; :func:`~detectclf.datasets.dataset.open_dataset` maps them. A fault of one
slice does not stop a reader: it reports the fault to :class:`~detectclf.formats.faults.Faults` and goes on with the
rest. It raises ``DataError`` if a whole annotation file is unreadable, and ``UnsafeError`` if a name in it leads out of
the folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detectclf.errors import DataError
from detectclf.files import check_inside
from detectclf.formats import (
    classes_csv,
    coco,
    createml,
    detection_csv,
    folder,
    foreign,
    tfrecord,
    voc,
    webdataset,
    yolo,
)
from detectclf.formats.faults import Faults
from detectclf.formats.files import by_split, image_files, output_names, subfolders, write_bytes
from detectclf.formats.unread import note_unread
from detectclf.recipes import close_to
from detectclf.spreadsheets import table_text
from detectclf.types import Dataset, Sample

_log = logging.getLogger(__name__)

_LIMIT_NESTING = 4
"""Most folders in folders in which an export is looked for."""

PATIENTS_FILE = "patients.csv"
"""Table of file and patient in an export of a format that cannot hold patients."""


@dataclass(frozen=True, slots=True)
class Format:
    """The functions of a format module, and what the format can hold."""

    read: Callable[[Path, Faults], Dataset]
    write: Callable[[Dataset, Path], None]
    looks_like: Callable[[Path], bool]
    holds_boxes: bool
    holds_unknown: bool = False
    """Whether the format can tell a slice whose boxes are not known from one without boxes."""
    holds_classes: bool = False
    """Whether the format, which holds boxes, also holds the class of a slice whose boxes are not known."""
    holds_patients: bool = False
    names: Callable[[Sequence[Sample]], list[str]] = output_names
    """The name that each sample of one split has once it is written, below the folder of the split."""


_UNIQUE_STEMS = partial(output_names, unique_stems=True)

# In order of preference, for folders that look like several formats.
FORMATS: dict[str, Format] = {
    "coco": Format(coco.read, coco.write, coco.looks_like, holds_boxes=True, holds_patients=True),
    "yolo": Format(yolo.read, yolo.write, yolo.looks_like, True, holds_unknown=True, names=_UNIQUE_STEMS),
    "voc": Format(voc.read, voc.write, voc.looks_like, True, holds_unknown=True, names=_UNIQUE_STEMS),
    "createml": Format(createml.read, createml.write, createml.looks_like, holds_boxes=True),
    "tfrecord": Format(tfrecord.read, tfrecord.write, tfrecord.looks_like, holds_boxes=True),
    "webdataset": Format(
        webdataset.read,
        webdataset.write,
        webdataset.looks_like,
        holds_boxes=True,
        holds_unknown=True,
        holds_classes=True,
        holds_patients=True,
        names=_UNIQUE_STEMS,
    ),
    "csv": Format(detection_csv.read, detection_csv.write, detection_csv.looks_like, holds_boxes=True),
    "classes-csv": Format(classes_csv.read, classes_csv.write, classes_csv.looks_like, holds_boxes=False),
    "folder": Format(folder.read, folder.write, folder.looks_like, holds_boxes=False, names=folder.names),
}


def locate(source: Path) -> tuple[Path, str, str | None]:
    """Where the export in a folder lies, its format, and a message for the user where either has to be said.

    Archives unpack into a folder in a folder; where that is all there is, the inner one is read.

    Raises:
        DataError: the folder does not exist, or has no annotations in a known format.
    """
    if not source.is_dir():
        reason = "no such folder" if not source.exists() else "is a file, not a folder"
        raise DataError(reason, file=source, remedy="name the folder of an unpacked export")
    try:
        return _located(source)
    except PermissionError as error:
        raise DataError("cannot be read (permission)", file=source, remedy="check its permissions") from error


def _located(source: Path) -> tuple[Path, str, str | None]:
    folder = source
    for _ in range(_LIMIT_NESTING):
        fitting = _fitting(folder)
        if fitting:
            note = None if folder == source else f"{source}: the export in {folder.relative_to(source)} is read"
            if len(fitting) > 1:
                what = f"looks like {' and '.join(fitting)}; read as {fitting[0]} (choose with `data convert --from`)"
                note = f"{folder}: {what}"
            return folder, fitting[0], note
        inner = [sub for sub in subfolders(folder) if sub.name != "__MACOSX"]
        if len(inner) != 1 or image_files(folder):
            break
        folder = check_inside(source, inner[0])
    exports = [sub.relative_to(source).as_posix() for sub in subfolders(folder) if _fitting(sub)]
    if exports:
        named = " and ".join([", ".join(exports[:5]), *([f"{len(exports) - 5} more"] if len(exports) > 5 else [])])
        raise DataError("holds several exports", file=source, remedy=f"name one of its folders: {named}")
    usual = f"name the folder of an unpacked export in one of the formats {', '.join(FORMATS)}"
    raise DataError("no annotations found", file=source, remedy=foreign.remedy(source) or usual)


def _fitting(folder: Path) -> list[str]:
    """The formats that a folder looks like, the first the one to read."""
    fitting = [name for name, row in FORMATS.items() if row.looks_like(folder)]
    if len(fitting) > 1 and fitting[-1] == "folder":
        # Most formats have folders with images, so an annotation file counts more.
        fitting.pop()
    if fitting in ([], ["folder"]) and coco.looks_like_loosely(folder):
        return ["coco"]
    return fitting


def detect_format(source: Path) -> tuple[str, str | None]:
    """The format of a folder, and a message for the user if it looks like several; see :func:`locate`."""
    _, format, note = locate(source)
    return format, note


def read(source: Path, faults: Faults, format: str | None = None) -> Dataset:
    """Reads the export in ``source``.

    Args:
        source: the folder.
        faults: receives its faults.
        format: a key of :data:`FORMATS`; detected by default, with a warning if the folder looks like several.

    Raises:
        DataError: the folder does not exist, has no annotations, or has an unreadable annotation file.
        UnsafeError: a name leads out of the folder, or a file is too large.
    """
    if format is None:
        folder, format, note = locate(source)
        if note is not None:
            _log.warning(note)
    else:
        folder = _located_as(source, format)
    dataset = _row(format).read(folder, faults)
    note_unread(dataset, folder, format, faults)
    return dataset


def _located_as(source: Path, format: str) -> Path:
    """Where the export of a given format lies."""
    row = _row(format)
    if source.is_dir():
        if row.looks_like(source) or (format == "coco" and coco.looks_like_loosely(source)):
            return source
        with suppress(DataError):
            folder, found, _ = locate(source)
            if found == format:
                return folder
    raise DataError(f"no {format} annotations found", file=source, remedy="leave out --from to detect the format")


def write(dataset: Dataset, out: Path, format: str, *, drop_boxes: bool = False) -> None:
    """Writes ``dataset`` as an export into the folder ``out``, which is made if it does not exist.

    Where the format cannot hold patients, their opaque names go to :data:`PATIENTS_FILE` in ``out``: a patients
    file (``--patients``) for the new export.

    Args:
        dataset: the data set.
        out: folder of the export.
        format: a key of :data:`FORMATS`.
        drop_boxes: allow a format that cannot hold boxes, which loses them.

    Raises:
        DataError: the format cannot hold the content, or a file cannot be written.
    """
    row = _row(format)
    if not row.holds_boxes and not drop_boxes and any(s.box_labels for s in dataset.samples):
        raise DataError(f"the format {format} cannot hold boxes", remedy="add --drop-boxes to lose them")
    unboxed = (s for s in dataset.samples if not s.boxed)
    unsaid = next((s for s in unboxed if not row.holds_unknown or (s.label and not row.holds_classes)), None)
    if row.holds_boxes and unsaid is not None:
        # In these formats, an image without boxes has no tumour.
        reason = f"{unsaid.name}: its boxes are not known, which the format {format} cannot express"
        raise DataError(reason, remedy="choose the format classes-csv or folder")
    row.write(dataset, out)
    _warn_of_headers(dataset)
    if not row.holds_patients and any(s.patient is not None for s in dataset.samples):
        _write_patients(dataset, out, row)
        _log.warning(
            "the format %s cannot hold patients: their opaque names are in %s of the new export; give it as --patients",
            format,
            PATIENTS_FILE,
        )


def _warn_of_headers(dataset: Dataset) -> None:
    """Images are copied byte for byte, and with a DICOM file go its header's names, dates of birth and ids."""
    from detectclf.imaging.header_text import has_header_text
    from detectclf.imaging.images import is_dicom

    files = [sample.path for sample in dataset.samples if sample.span is None]
    dicom = {path for path in files if is_dicom(path)}
    counts = {
        "DICOM files are copied with their headers": len(dicom),
        "pictures are copied with text in their headers (EXIF, comments)": sum(
            path not in dicom and has_header_text(path) for path in files
        ),
    }
    for what, count in counts.items():
        if count:
            _log.warning("%d %s, which may name patients: anonymise them before you share the copy", count, what)


def _write_patients(dataset: Dataset, out: Path, row: Format) -> None:
    rows: list[list[object]] = [["file", "patient"]]
    for split, samples in by_split(dataset):
        named = zip(samples, row.names(samples), strict=True)
        rows += [[f"{split}/{name}", sample.patient] for sample, name in named if sample.patient is not None]
    write_bytes(out / PATIENTS_FILE, table_text(rows))


def _row(format: str) -> Format:
    if format not in FORMATS:
        raise DataError(
            f"unknown format {format!r}{close_to(format, FORMATS)}", remedy=f"choose one of {', '.join(FORMATS)}"
        )
    return FORMATS[format]


__all__ = ["FORMATS", "PATIENTS_FILE", "Format", "detect_format", "locate", "read", "write"]
