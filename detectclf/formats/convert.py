"""Converts an export to another format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from detectclf.errors import DataError
from detectclf.files import atomic_folder
from detectclf.formats import read, write
from detectclf.formats.assemble import check_any_tumor, slice_label, spelling
from detectclf.formats.faults import Faults
from detectclf.formats.unread import lines_to_say
from detectclf.types import ANY_TUMOR, Dataset

_log = logging.getLogger(__name__)


def convert(
    folder: Path | str,
    out: Path | str,
    to: str,
    from_: str | None = None,
    *,
    drop_boxes: bool = False,
    any_tumor: Sequence[str] = (),
    change: Callable[[Dataset], Dataset] | None = None,
) -> Dataset:
    """Writes the export in ``folder`` to ``out`` in another format; images are copied byte for byte.

    Args:
        folder: the export.
        out: folder of the new export; must be empty or not exist.
        to: name of the new format, a key of :data:`detectclf.formats.FORMATS`.
        from_: name of the format of ``folder``; detected by default.
        drop_boxes: allow a format that cannot hold boxes, which loses them.
        any_tumor: classes of tumours of unknown type, which are written as ``any_tumor``; spelt as
            in ``data.any_tumor``.
        change: what to change before the data set is written, such as to add patients.

    Returns:
        The data set that was written.

    Raises:
        DataError: the annotations have errors, the format cannot hold the content, or there is no class of a name in
            ``any_tumor``.
        ConfigError: ``any_tumor`` names the negative class.
        UnsafeError: a name leads out of the folder, or a file is a bomb, a device or too large.
    """
    source = Path(folder)
    faults = Faults(source)
    dataset = read(source, faults, from_)
    for line in lines_to_say(faults):
        _log.warning("%s: %s", source, line)
    faults.raise_first(f"write a fixed copy first: detectclf data check {source} --fix --out DIR")
    if not dataset.samples:
        raise DataError("has no usable slice", file=source, remedy=f"see `detectclf data check {source}`")
    dataset = _with_any_tumor(dataset, any_tumor, source)
    if Path(out).resolve().is_relative_to(source.resolve()):
        raise DataError("lies inside the data set", file=out, remedy="choose another --out")
    if change is not None:
        dataset = change(dataset)
    with atomic_folder(out) as partial:
        write(dataset, partial, to, drop_boxes=drop_boxes)
    return dataset


def _with_any_tumor(dataset: Dataset, names: Sequence[str], source: Path) -> Dataset:
    spelt: dict[str, list[str]] = {}
    for name in dataset.classes:
        spelt.setdefault(spelling(name), []).append(name)
    if foreign := [name for name in names if spelling(name) not in spelt]:
        remedy = f"its classes are {', '.join(dataset.classes)}"
        raise DataError(f"has no class {foreign[0]!r}", file=source, remedy=remedy)
    for name in names:
        check_any_tumor(name)
    renamed = {name: ANY_TUMOR for given in names for name in spelt[spelling(given)]}
    samples = []
    for sample in dataset.samples:
        labels = tuple(renamed.get(name, name) for name in sample.box_labels)
        if sample.boxed:
            label = slice_label(sample.boxes_xyxy, labels, dataset.negative)
        else:
            label = None if sample.label is None else renamed.get(sample.label, sample.label)
        samples.append(replace(sample, label=label, box_labels=labels))
    return replace(dataset, samples=tuple(samples), classes=tuple(c for c in dataset.classes if c not in renamed))


__all__ = ["convert"]
