"""Input items: the names of files and containers that a prediction goes over, and the pictures in each.

Every engine knows its inputs as names (paths or URIs), which cost no memory to list and can be sent anywhere, and opens
each name where it is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from detectclf.errors import DataError
from detectclf.imaging.images import image_suffix
from detectclf.inference.containers import Container, is_container
from detectclf.inference.input_files import collect_inputs
from detectclf.inference.manifests import is_manifest, rows_of
from detectclf.inference.picture_names import PICTURE_SUFFIX
from detectclf.inference.sources import ImageSource, StoredFile
from detectclf.inference.volumes import Input, Volume, inputs_of, one_slice_of
from detectclf.storage import check_stored, file_name, is_uri, list_stored, shown

Item: TypeAlias = "Input | ImageSource | Container"
Unit: TypeAlias = "ImageSource | Volume"


def item_names(arguments: Sequence[str], stdin: BinaryIO | None = None) -> Iterator[str]:
    """The names that the arguments of ``predict`` mean, one at a time.

    Beside what :func:`~detectclf.inference.input_files.collect_inputs` takes: manifests
    (:mod:`detectclf.inference.manifests`), each row of which is a name; URIs of files, folders and globs.

    Raises:
        DataError: nothing is named, a folder or glob holds nothing, or a manifest is damaged.
        StorageError, ConfigError: a store cannot be reached.
    """
    plain = [argument for argument in arguments if not is_uri(argument) and not is_manifest(argument)]
    if plain or not arguments:
        yield from map(str, collect_inputs(plain, stdin))
    for argument in arguments:
        if is_manifest(argument):
            yield from rows_of(argument)
        elif is_uri(argument):
            yield from _in_store(argument)


def _in_store(uri: str) -> Iterator[str]:
    empty = True
    for name in list_stored(uri):
        last = file_name(name)
        known = image_suffix(last) is not None or is_container(last)
        if name == uri and not known:  # a file without a suffix, or a folder that is misspelt
            check_stored(uri)
        taken = known or name == uri
        if taken and not last.startswith(".") and not last.endswith(PICTURE_SUFFIX):
            empty = False
            yield name
    if empty:
        raise DataError("no images", file=shown(uri), remedy="name a folder with image files")


def items_of(names: Sequence[str], frame: int | None = None, axis: str | None = None) -> list[Item]:
    """The items that a list of names means; files of one DICOM series are one volume.

    Args:
        names: such as from :func:`item_names`.
        frame, axis: as ``--frame`` and ``--axis``.
    """
    local = [Path(name) for name in names if not is_uri(name) and not is_container(name)]
    found = inputs_of(local, axis)
    # Each once, since frames of one file that are no volume are sources of their own.
    items: list[Item] = list(found if frame is None else dict.fromkeys(one_slice_of(each, frame) for each in found))
    for name in names:
        if is_container(name):
            items.append(Container(name))
        elif is_uri(name):
            items.append(StoredFile(name, frame, axis))
    return items


def items_alone(name: str, frame: int | None = None, axis: str | None = None) -> list[Item]:
    """The items in the file of one name, whatever lies beside it; volumes are called after its path.

    A DICOM file of one slice is a picture then, and one of several frames may be volumes, pictures, or both.
    """
    items = items_of([name], frame, axis)
    volumes = [each for each in items if isinstance(each, Volume)]
    stem = name.removesuffix(".gz").removesuffix(".nii")
    names = {each.name: f"{stem}-{number}" if len(volumes) > 1 else stem for number, each in enumerate(volumes, 1)}
    return [replace(each, name=names[each.name]) if isinstance(each, Volume) else each for each in items]


def units_alone(names: Sequence[str], frame: int | None = None, axis: str | None = None) -> Iterator[Unit]:
    """The pictures and volumes of :func:`items_alone` of each name, in order; containers are read as it goes.

    Raises:
        StorageError, ConfigError: the store of a container refuses or does not answer.
    """
    for name in names:
        for item in items_alone(name, frame, axis):
            if isinstance(item, Container):
                yield from item
            else:
                yield item


__all__ = ["Item", "Unit", "item_names", "items_alone", "items_of", "units_alone"]
