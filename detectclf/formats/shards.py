"""Data in shards that are named one by one: a pattern of local files, or files, folders and patterns of a store.

``shards/train-*.tar``, ``s3://bucket/shards`` and ``gs://bucket/shards/**/*.tfrecord`` are such names. Only what is
said of the slices is kept in memory. Those of a store have a :class:`~detectclf.stored_shards.StoredSpan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from glob import glob
from pathlib import Path

from detectclf.errors import DataError, UnsafeError
from detectclf.files import open_regular
from detectclf.formats import tfrecord, webdataset
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import files_with, is_split_name, split_name, split_of
from detectclf.formats.raw import RawSlice
from detectclf.storage import file_name, is_uri, list_stored, read_stored, shown, stored_stamp
from detectclf.stored_shards import StoredSpan, copy_of
from detectclf.types import Dataset

_PACKED = re.compile(r"\.(tar|tfrecords?)\.\w+$|\.t[gbx]z2?$", re.IGNORECASE)
_LIMIT_BYTES = 2**40
_LIMIT_MAP_BYTES = 2**20


def names_shards(source: str) -> bool:
    """Whether a source is not a folder of this machine, but a pattern of shards or something in a store."""
    return is_uri(source) or (
        not Path(source).is_dir() and (_is_shard(source) or any(sign in source for sign in "*?["))
    )


def folder_of(source: str) -> Path:
    """The folder with all shards of ``source``, as messages and names of slices go out from it."""
    said = Path(shown(source))
    if not is_uri(source):
        # A sign in the name of a folder that is there is no sign.
        return next((folder for folder in said.parents if folder.is_dir()), Path())
    plain = [path for path in (said, *said.parents) if not any(sign in str(path) for sign in "*?[")]
    return plain[0].parent if _is_shard(plain[0].name) else plain[0]


def read_shards(source: str, faults: Faults) -> Dataset:
    """Reads what is said of the slices in the shards of ``source``.

    The split of a shard is that of its folder, or else the one with which its name starts, or else ``train``.

    Raises:
        DataError: there are no shards.
        StorageError, ConfigError: the store refuses or does not answer, or its library is not installed.
    """
    files = sorted(list_stored(source) if is_uri(source) else _local(source))
    shards = [name for name in files if _is_shard(name)]
    if packed := [name for name in files if _PACKED.search(file_name(name))]:
        said = f"{len(packed)} compressed shards are not read; decompress them"
        faults.warning("unread_annotations", Path(shown(packed[0])), said)
    if not shards:
        reason = "there are no TFRecord or tar files"
        remedy = "name shards, such as 's3://bucket/*.tar', that `detectclf data convert --to webdataset` writes"
        raise DataError(reason, file=shown(source), remedy=remedy)
    slices: list[RawSlice] = []
    classes: dict[str, None] = {}
    tables: dict[str, dict[int, str]] = {}
    for shard in shards:
        beside = shard.rpartition("/")[0]
        if tfrecord.is_record_file(file_name(shard)) and beside not in tables:
            tables[beside] = _class_names(shard, source, files)
        names = tables.get(beside, {})
        classes.update(dict.fromkeys(names.values()))
        slices += _slices(shard, names, faults)
    dataset = assemble(slices, classes, folder_of(source), faults)
    if not is_uri(source):
        return dataset
    said = shown(source)
    return replace(dataset, samples=tuple(replace(s, source=said) for s in dataset.samples), sources=(said,))


def _local(source: str) -> list[str]:
    """The files of this machine that a name or pattern means."""
    if Path(source).exists():
        return [source]
    folder = folder_of(source)
    # Not pathlib's, which follows no symlinks below **.
    found = glob(str(Path(source).relative_to(folder)), root_dir=folder, recursive=True)  # noqa: PTH207
    return [str(folder / each) for each in found]


def _is_shard(name: str) -> bool:
    last = file_name(name)
    return tfrecord.is_record_file(last) or webdataset.is_tar(last)


def _class_names(shard: str, source: str, files: list[str]) -> dict[int, str]:
    """Class ids of the label maps beside a TFRecord file, also where a pattern leaves them out."""
    beside = shard.rpartition("/")[0]
    if not is_uri(shard):
        maps = [str(path) for path in files_with(Path(shard).parent, ".pbtxt")]
    elif "::" in source or not any(sign in shown(source) for sign in "*?["):
        # Of a folder all files are known; a store that gives a file need not say what lies beside it.
        maps = [name for name in files if name.endswith(".pbtxt") and name.rpartition("/")[0] == beside]
    else:
        try:
            maps = sorted(list_stored(f"{beside}/*.pbtxt"))
        except DataError:  # there are none
            maps = []
    names: dict[int, str] = {}
    for name in maps:
        names.update(tfrecord.label_map(read_stored(name, _LIMIT_MAP_BYTES).decode("utf-8", "surrogateescape")))
    return names


def _slices(shard: str, names: dict[int, str], faults: Faults) -> Iterator[RawSlice]:
    from detectclf.imaging.images import image_size

    last, file = file_name(shard), Path(shown(shard))
    parent = file_name(shard.rpartition("/")[0])
    split = split_name(parent) if is_split_name(parent) else split_of(last) or "train"
    whole = StoredSpan(0, 0, shard, *stored_stamp(shard)) if is_uri(shard) else None
    with open_regular(copy_of(whole) if whole else shard, limit_bytes=_LIMIT_BYTES) as stream:
        if tfrecord.is_record_file(last):
            found = tfrecord.slices_in(stream, file, split, names, faults)
        else:
            found = webdataset.slices_in(stream, file, split, faults)
        for raw in found:
            if whole is not None and raw.span is not None:
                raw.span = replace(whole, offset=raw.span.offset, length=raw.span.length)
                with suppress(DataError, UnsafeError):  # said when the slices are checked
                    # While the copy is there: many shards later it may not be.
                    raw.size = image_size(raw.path, span=raw.span)
            yield raw


__all__ = ["names_shards", "read_shards"]
