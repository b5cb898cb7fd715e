"""Converts an export to another format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detectclf.errors import DataError
from detectclf.files import atomic_folder
from detectclf.formats import read, write
from detectclf.formats.faults import Faults
from detectclf.types import Dataset


def convert(
    folder: Path | str,
    out: Path | str,
    to: str,
    from_: str | None = None,
    *,
    drop_boxes: bool = False,
    change: Callable[[Dataset], Dataset] | None = None,
) -> Dataset:
    """Writes the export in ``folder`` to ``out`` in another format; images are copied byte for byte.

    Args:
        folder: the export.
        out: folder of the new export; must be empty or not exist.
        to: name of the new format, a key of :data:`detectclf.formats.FORMATS`.
        from_: name of the format of ``folder``; detected by default.
        drop_boxes: allow a format that cannot hold boxes, which loses them.
        change: what to change before the data set is written, such as to add patients.

    Returns:
        The data set that was written.

    Raises:
        DataError: the annotations have errors, or the format cannot hold the content.
        UnsafeError: a name leads out of the folder, or a file is a bomb, a device or too large.
    """
    source = Path(folder)
    faults = Faults(source)
    dataset = read(source, faults, from_)
    faults.raise_first(f"write a fixed copy first: detectclf data check {source} --fix --out DIR")
    if not dataset.samples:
        raise DataError("has no usable slice", file=source, remedy=f"see `detectclf data check {source}`")
    if Path(out).resolve().is_relative_to(source.resolve()):
        raise DataError("lies inside the data set", file=out, remedy="choose another --out")
    if change is not None:
        dataset = change(dataset)
    with atomic_folder(out) as partial:
        write(dataset, partial, to, drop_boxes=drop_boxes)
    return dataset


__all__ = ["convert"]
