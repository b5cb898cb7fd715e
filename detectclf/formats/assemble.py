"""Turns the raw slices of any format into a checked :class:`~detectclf.types.Dataset`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from detectclf.errors import ConfigError, DataError, MissingPackageError, UnsafeError
from detectclf.formats.boxes import check_boxes
from detectclf.formats.faults import Change, Faults
from detectclf.formats.files import is_there
from detectclf.formats.raw import Corners, RawBox, RawSlice
from detectclf.imaging.intensity import UNSAFE
from detectclf.types import (
    ANY_TUMOR,
    NEGATIVE_CLASS,
    Dataset,
    FloatArray,
    Sample,
    canonical_class,
    empty_boxes,
    order_classes,
)

_SPLIT_ORDER = {"train": 0, "valid": 1, "test": 2}


def is_negative(name: str) -> bool:
    """Whether ``name`` is a spelling of the negative class, "no tumour"."""
    return canonical_class(name) == NEGATIVE_CLASS


def negative_of(classes: Iterable[str]) -> str | None:
    """The first of ``classes``, sorted, that means "no tumour", or ``None``."""
    return next((c for c in sorted(classes) if is_negative(c)), None)


def spelling(name: str) -> str:
    """What a name given by the user is compared by: case, blanks, hyphens and underscores do not matter."""
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def check_any_tumor(name: str) -> None:
    """Raises ConfigError where ``name``, said to mean a tumour of unknown type, is the negative class."""
    if is_negative(name):
        raise ConfigError(f"--any-tumor {name!r} is the class without a tumour", remedy="name a class of tumours")


def slice_label(boxes_xyxy: FloatArray, box_labels: Sequence[str], negative: str | None) -> str | None:
    """Returns the class of a slice whose boxes are known.

    This is the class of its largest tumour box, among those of known type where there are any. A slice without a tumour
    box has the negative class: either its box round the head says so, or it has no box at all (Roboflow's "null" image,
    which the annotator marked as clean).

    Args:
        boxes_xyxy: ``(N, 4)`` pixels.
        box_labels: class name of each box.
        negative: the data set's negative class.
    """
    tumors = [i for i, label in enumerate(box_labels) if label != negative and not is_negative(label)]
    if not tumors:
        return box_labels[0] if box_labels else negative
    tumors = [i for i in tumors if canonical_class(box_labels[i]) != ANY_TUMOR] or tumors
    areas = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    return box_labels[max(tumors, key=lambda i: float(areas[i]))]


def assemble(slices: Sequence[RawSlice], classes: Iterable[str], folder: Path, faults: Faults) -> Dataset:
    """Checks every slice against its image and returns the data set of the usable ones.

    Only image headers are read. A slice whose image is missing, unreadable or unsafe is an error and left out.

    Args:
        slices: the slices as annotated.
        classes: class names that the export declares; those of the boxes are added.
        folder: the export, which becomes the source of the samples.
        faults: receives faults and changes.
    """
    faults.used.update(raw.stated_in for raw in slices)
    boxes = [box for raw in slices for box in raw.boxes or ()]
    declared = [*classes, *{box.label for box in boxes if box.label is not None}]
    negative = negative_of(declared)
    samples: dict[tuple[str, str], Sample] = {}
    files: set[tuple[str, str]] = set()
    for raw in slices:
        # "./a.jpg" is the same file as "a.jpg". Shards may each count their slices from 0.
        file = raw.split, f"{raw.path}:{raw.name}" if raw.span is not None else os.path.normpath(raw.path)
        if raw.span is not None and (raw.split, raw.name) in samples and file not in files:
            raw.name = f"{faults.relative(raw.path.with_suffix(''))}/{raw.name}"
        if (raw.split, raw.name) in samples or file in files:
            _leave_out(raw, "duplicate_image", raw.stated_in, f"annotated twice in split {raw.split}", faults)
            continue
        sample = _sample(raw, negative or NEGATIVE_CLASS, folder, faults)
        if sample is not None:
            samples[raw.split, raw.name] = sample
            files.add(file)
    ordered = sorted(samples.values(), key=lambda s: (_SPLIT_ORDER.get(s.split, 3), s.split, s.name))
    used = {s.label for s in ordered if s.label is not None}
    if negative is None and NEGATIVE_CLASS in used:
        negative = NEGATIVE_CLASS
    return Dataset(tuple(ordered), order_classes([*declared, *used]), negative, (str(folder),))


def _sample(raw: RawSlice, negative: str, folder: Path, faults: Faults) -> Sample | None:
    size = _image_size(raw, faults)
    if size is None:
        return None
    boxes, labels = empty_boxes(), tuple[str, ...]()
    label, boxed = raw.label, raw.boxes is not None
    if raw.boxes is not None:
        in_pixels = _in_pixels(raw, size, faults)
        boxes, labels = check_boxes(raw, in_pixels, size, faults)
        # If all its boxes are unusable, nothing is known about the slice; an image without boxes is a clean one.
        boxed = bool(labels) or not raw.boxes
        label = slice_label(boxes, labels, negative) if boxed else None
        _check_labels(raw, labels, label, faults)
    where = str(folder), raw.span, raw.patient
    return Sample(raw.path, raw.name, raw.split, label, boxes, labels, boxed, size[0], size[1], *where)


def _perhaps(missing: Path) -> str:
    """A hint to the file that differs in its suffix only: converted pictures keep the names of the old ones."""
    from detectclf.imaging.images import IMAGE_SUFFIXES

    stem = missing.stem if missing.suffix.casefold() in IMAGE_SUFFIXES else missing.name
    near = [name for suffix in IMAGE_SUFFIXES if is_there(missing.with_name(name := stem + suffix))]
    return f"; {near[0]} is, if that is meant: correct the suffix in the annotations" if len(near) == 1 else ""


def _image_size(raw: RawSlice, faults: Faults) -> tuple[int, int] | None:
    from detectclf.imaging.images import image_size
    from detectclf.imaging.intensity import ImageError

    if raw.size is not None:
        return raw.size
    if raw.span is None and not is_there(raw.path):
        _leave_out(raw, "missing_image", raw.stated_in, f"the image is not there{_perhaps(raw.path)}", faults)
        return None
    try:
        return image_size(raw.path, span=raw.span)
    except MissingPackageError:
        raise  # no fault of the slice: a fixed data set must not go without it
    except DataError as error:
        code = error.code if isinstance(error, ImageError) else "unreadable"
        _leave_out(raw, code, raw.path, error.reason, faults)
    except UnsafeError as error:
        # The file is not opened again; the rest of the data set is still checked.
        _leave_out(raw, UNSAFE, raw.path, error.reason, faults)
    return None


def _leave_out(raw: RawSlice, code: str, file: Path, reason: str, faults: Faults) -> None:
    faults.error(code, file, f"{raw.name}: {reason}", raw.line if file == raw.stated_in else None)
    boxes = [{"xyxy": [str(v) for v in b.xyxy], "class": b.label} for b in raw.boxes or ()]
    before = {"class": raw.label, "boxes": None if raw.boxes is None else boxes}
    faults.changes.append(Change("leave_out", code, raw.split, raw.name, before, None))


def _in_pixels(raw: RawSlice, size: tuple[int, int], faults: Faults) -> list[RawBox]:
    """Converts the boxes to pixels of the image as it is read, also where the annotated size is wrong."""
    width, height = size
    boxes = raw.boxes or []
    if raw.relative:
        return [_scaled(box, width, height) for box in boxes]
    stated = raw.stated_size
    if stated is None or stated == size:
        return boxes
    if stated == (height, width):
        orientation = _exif_orientation(raw)
        if orientation in _UPRIGHT:
            # The boxes belong to the image as stored; it is read upright, so they are turned too.
            return [RawBox(_UPRIGHT[orientation](box.xyxy, *stated), box.label, box.line) for box in boxes]
    detail = f"{raw.name}: the annotation says {stated[0]} x {stated[1]}, the image is {width} x {height}"
    faults.error("size_mismatch", raw.stated_in, detail, raw.line)
    faults.changes.append(Change("scale_boxes", "size_mismatch", raw.split, raw.name, list(stated), list(size)))
    return [_scaled(box, width / stated[0], height / stated[1]) for box in boxes]


def _scaled(box: RawBox, x_scale: float, y_scale: float) -> RawBox:
    x1, y1, x2, y2 = box.xyxy
    return RawBox((x1 * x_scale, y1 * y_scale, x2 * x_scale, y2 * y_scale), box.label, box.line)


def _transpose(b: Corners, w: int, h: int) -> Corners:
    return b[1], b[0], b[3], b[2]


def _clockwise(b: Corners, w: int, h: int) -> Corners:
    return h - b[3], b[0], h - b[1], b[2]


def _transverse(b: Corners, w: int, h: int) -> Corners:
    return h - b[3], w - b[2], h - b[1], w - b[0]


def _anticlockwise(b: Corners, w: int, h: int) -> Corners:
    return b[1], w - b[2], b[3], w - b[0]


# EXIF orientation -> turns a box of the stored image (w x h) upright, for the four orientations that swap the sides.
_UPRIGHT = {5: _transpose, 6: _clockwise, 7: _transverse, 8: _anticlockwise}


def _exif_orientation(raw: RawSlice) -> int | None:
    import io

    from PIL import Image

    from detectclf.stored_shards import read_content

    try:
        data = read_content(raw.path, limit_bytes=2**28, span=raw.span)
        with Image.open(io.BytesIO(data)) as image:
            value = image.getexif().get(0x0112)
    except (OSError, ValueError, DataError):
        return None
    return value if isinstance(value, int) else None


def _check_labels(raw: RawSlice, labels: Sequence[str], label: str | None, faults: Faults) -> None:
    tumors = sorted({name for name in labels if not is_negative(name)})
    canonical = {canonical_class(name) or name for name in tumors} - {ANY_TUMOR}
    if len(canonical) > 1:
        detail = f"{raw.name}: tumour boxes of {' and '.join(tumors)}; its largest box makes the slice {label}"
        faults.warning("two_tumor_classes", raw.stated_in, detail, raw.line)
    if tumors and len(tumors) < len(set(labels)):
        detail = f"{raw.name} has a box of the negative class and a {tumors[0]} box"
        faults.error("negative_with_tumor_box", raw.stated_in, detail, raw.line)


__all__ = ["assemble", "check_any_tumor", "is_negative", "negative_of", "slice_label"]
