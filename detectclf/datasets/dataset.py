"""Opening the data set of a config: every source read, class names mapped, merged split by split."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.config import DataConfig
from detectclf.datasets.class_names import map_names
from detectclf.datasets.patients import with_stated_patients
from detectclf.errors import DataError
from detectclf.formats import read
from detectclf.formats.assemble import negative_of, slice_label
from detectclf.formats.faults import Faults
from detectclf.formats.shards import folder_of, names_shards, read_shards
from detectclf.formats.unread import lines_to_say
from detectclf.storage import shown
from detectclf.types import ANY_TUMOR, NEGATIVE_CLASS, Dataset, Sample, order_classes

if TYPE_CHECKING:
    from detectclf.datasets.index import SliceIndex

_log = logging.getLogger(__name__)

_SPLIT_REMEDY = (
    "name one of these with --split (when training: --set data.valid_split=NAME), or make new ones with "
    "`detectclf data split`"
)


def open_dataset(config: DataConfig, index: SliceIndex | None = None) -> Dataset:
    """Reads and merges every source of ``config``.

    Class names become canonical (see :mod:`detectclf.datasets.class_names`), those of tumours of unknown type
    ``ANY_TUMOR``; negative boxes are dropped or kept, slices get the patients that are stated
    (:mod:`detectclf.datasets.patients`), and the limit is applied. The label of a slice whose boxes are known comes
    from its tumour boxes; without any it is the negative class. Only annotations and image headers are read; with folds
    also the slices, since copies and slices of one patient are kept in one fold.

    Args:
        config: sources, class names, folds, limit.
        index: the slice index of the command; only folds need it.

    Raises:
        DataError: no source, no such folder, no annotations, an unknown class, no usable slice, or, unless
            ``config.faults`` is ``fix``, the first error in the annotations with how many there are.
        ConfigError: there is no key for the ids of patients, see :mod:`detectclf.pseudonyms`.
        UnsafeError: a name in the annotations leads out of its folder, or a file is too large.
    """
    if not config.sources or "" in config.sources:  # as of a variable that is not set
        raise DataError("no data given", remedy="name a folder with --data DIR")
    parts = [_read_source(source, config) for source in config.sources]
    mapping = _mapping(parts, config.spellings)
    classes, negative = _classes(parts, mapping)
    keep = config.negative_boxes == "keep"
    samples = [_renamed(s, mapping, negative, keep) for part in parts for s in part.samples]
    sources = tuple(source for part in parts for source in part.sources)
    merged = Dataset(with_stated_patients(samples, config), classes, negative, sources)
    if config.folds is not None:
        from detectclf.datasets.folds import as_fold
        from detectclf.datasets.index import SliceIndex

        merged = as_fold(merged, config, index or SliceIndex())
    return merged if config.limit is None else limited(merged, config.limit)


def require_split(dataset: Dataset, name: str) -> Dataset:
    """Only split ``name`` of ``dataset``.

    Raises:
        DataError: it has no slice.
    """
    chosen = dataset.split(name)
    if chosen.samples:
        return chosen
    where = ", ".join(dataset.sources) or None
    present = ", ".join(dataset.splits) or "no split at all"
    raise DataError(f"split {name!r} is missing or empty; there is {present}", file=where, remedy=_SPLIT_REMEDY)


def limited(dataset: Dataset, limit: int) -> Dataset:
    """At most ``limit`` slices of each split, as even over the classes as they allow, and the same every time.

    A smaller limit gives a part of what a larger one gives. Slices of a class are taken far from each other, because
    neighbours in its list are often slices of one head; classes take turns, each until it has no more.
    """
    kept: set[int] = set()
    for split in dataset.splits:
        members: dict[str, list[int]] = {}
        for index, sample in enumerate(dataset.samples):
            if sample.split == split:
                members.setdefault(sample.label or "", []).append(index)
        spread = [[indices[i] for i in _far_apart(len(indices))] for _, indices in sorted(members.items())]
        turns = (index for turn in zip_longest(*spread) for index in turn if index is not None)
        kept.update(islice(turns, limit))
    return replace(dataset, samples=tuple(s for i, s in enumerate(dataset.samples) if i in kept))


def _far_apart(count: int) -> list[int]:
    """``0`` to ``count - 1`` so that those in front are spread evenly: ordered by their bits in reverse."""
    bits = max(count - 1, 1).bit_length()
    return [place for i in range(2**bits) if (place := int(f"{i:0{bits}b}"[::-1], 2)) < count]


def _read_source(given: str, config: DataConfig) -> Dataset:
    if given.startswith("~"):  # which shells leave alone in a pattern, that must be quoted
        given = os.path.expanduser(given)  # noqa: PTH111 - pathlib's raises where there is no home
    shards = names_shards(given)
    source = shown(given) if shards else str(Path(given))
    faults = Faults(folder_of(given) if shards else Path(source))
    dataset = read_shards(given, faults) if shards else read(Path(source), faults)
    for problem in faults.errors if shards else ():
        _log.debug("%s: %s [%s]", problem.file, problem.detail, problem.code)
    for line in lines_to_say(faults):
        _log.warning("%s: %s", source, line)
    if config.faults == "stop":
        # `data check` reads folders of this machine.
        faults.raise_first("list them with --verbose, or fix with --set data.faults=fix" if shards else None)
    elif faults.errors:
        _log.warning("%s: fixed %d faults: %s", source, len(faults.errors), faults.summary())
    if not dataset.samples:
        remedy = "list why with --verbose" if shards else f"see `detectclf data check {source}`"
        raise DataError("holds no usable slice", file=source, remedy=remedy)
    return dataset


def _mapping(parts: Sequence[Dataset], class_map: Mapping[str, str]) -> dict[str, str]:
    names: dict[str, str] = {}
    used: set[str] = set()
    for part in parts:
        for name in part.classes:
            names.setdefault(name, part.sources[0])
        used.update(label for s in part.samples for label in (s.label, *s.box_labels) if label is not None)
    return map_names(names, used, class_map)


def _classes(parts: Sequence[Dataset], mapping: Mapping[str, str]) -> tuple[tuple[str, ...], str | None]:
    classes = set(mapping.values()) - {ANY_TUMOR}
    negative = negative_of(classes)
    clean = any(s.boxed and not s.box_labels for part in parts for s in part.samples)
    if negative is None and clean:
        # Images without any box are slices without a tumour, even where no class is named for them.
        negative = NEGATIVE_CLASS
        classes.add(NEGATIVE_CLASS)
    return order_classes(sorted(classes)), negative


def _renamed(sample: Sample, mapping: Mapping[str, str], negative: str | None, keep_negative: bool) -> Sample:
    labels = tuple(mapping[label] for label in sample.box_labels)
    if sample.boxed:
        label = slice_label(sample.boxes_xyxy, labels, negative)
    else:
        label = None if sample.label is None else mapping[sample.label]
    chosen = [i for i, name in enumerate(labels) if keep_negative or name != negative]
    boxes = sample.boxes_xyxy[chosen]
    return replace(sample, label=label, boxes_xyxy=boxes, box_labels=tuple(labels[i] for i in chosen))


__all__ = ["limited", "open_dataset", "require_split"]
