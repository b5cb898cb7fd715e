"""The inputs of a prediction, told apart: pictures, and volumes with their slices in order.

A volume is a NIfTI file of several slices, or two or more DICOM slices of one series, in one file or several, that lie
one behind the other. A DICOM slice that is alone in its series, or names none, is a picture like others; so is each
localizer (scout). Whatever is read has a record, and what is not is named in the record of its study.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypeAlias

from detectclf.errors import DataError, DetectclfError, one_line
from detectclf.imaging.dicom import check_modality
from detectclf.imaging.dicom_headers import read_slice_headers
from detectclf.imaging.dicom_series import Series, find_series
from detectclf.imaging.images import image_suffix, is_dicom
from detectclf.imaging.volumes import DicomFrames, NiftiVolume, open_nifti
from detectclf.inference.input_files import collect_inputs
from detectclf.inference.picture_names import PICTURE_SUFFIX, picture_names
from detectclf.inference.sources import Encoded, FileSlice, ImageSource, StudySlice

log = logging.getLogger(__name__)

DUPLICATE_POSITIONS = "duplicate_positions"
"""Flag of a study: several files show one position; one of them is read."""
MISSING_SLICES = "missing_slices"
"""Flag of a study: somewhere the step from slice to slice is much wider than elsewhere."""
UNKNOWN_POSITIONS = "unknown_positions"
"""Flag of a study: its slices are in the order of their numbers, since their positions are not known."""
FIRST_VOLUME_ONLY = "first_volume_only"
"""Flag of a study: the file is 4-D, and only the first of its volumes is read."""

_OF_VOLUMES = frozenset({None, ".dcm", ".dicom", ".ima", ".nii", ".nii.gz"})
"""Suffixes of files that may be part of a volume; the others are not opened before they are predicted."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A volume before its prediction.

    Attributes:
        name: of the study: the stem of a NIfTI file, ``series-N`` of DICOM, so that it says nothing of a patient.
        files: where each slice lies, in order: from left to right, back to front, or feet to head.
        positions: of each slice, millimetres, ascending; ``None`` where they are not known.
        spacing: millimetres per pixel across and down; ``None`` where they are not known.
        flags: what is wrong with the order of the slices.
        error: why the volume is refused; it is not read then.
        nifti: the file that all slices are read from.
        multiframe: files of several frames among those of the slices.
        left_out: files of slices that are not read, since another slice shows their position.
    """

    name: str
    files: tuple[FileSlice, ...]
    positions: tuple[float, ...] | None = None
    spacing: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()
    error: DetectclfError | None = None
    nifti: NiftiVolume | None = None
    multiframe: dict[Path, DicomFrames] = field(default_factory=dict)
    left_out: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[StudySlice]:
        for number, file in enumerate(self.files):
            yield StudySlice(file, self.name, number, self.nifti or self.multiframe.get(Path(file.path)))

    @property
    def step(self) -> float | None:
        """Usual millimetres from slice to slice; ``None`` where they are not known."""
        if self.positions is None or len(self.positions) < 2:
            return None
        return median(after - before for before, after in pairwise(self.positions))

    @property
    def stem(self) -> str:
        """What its picture is named after: the NIfTI file, or the study."""
        return self.name if self.nifti is None else str(self.nifti.path)

    def close(self) -> None:
        """Gives the memory of an unpacked file back."""
        for opened in (*self.multiframe.values(), *((self.nifti,) if self.nifti is not None else ())):
            opened.close()


Input: TypeAlias = "FileSlice | Volume"


def inputs_of(files: Sequence[Path], axis: str | None = None) -> list[Input]:
    """``files`` as pictures and volumes, in their order; a DICOM series is at the place of its first file.

    All but one of the slices at one position are left out, which their study says.

    Args:
        files: each once, such as from :func:`detectclf.inference.input_files.collect_inputs`.
        axis: along which NIfTI volumes are sliced.
    """
    candidates = [path for path in files if image_suffix(path) in _OF_VOLUMES]
    headers = {path: read_slice_headers(path) for path in candidates}
    series = find_series(header for found in headers.values() for header in found if not header.localizer)
    niftis = [opened for path in candidates if (opened := open_nifti(path, axis)) is not None and _has_slices(opened)]
    _say_what_is_read(niftis)
    volumes = _named(series, niftis)
    inputs: list[Input] = []
    placed: set[str] = set()
    for path in files:
        frames = [header.frame for header in headers.get(path, [])] or [None]
        for frame in frames:
            volume = volumes.get((path, frame))
            if volume is None:
                inputs.append(FileSlice(path, frame, axis))
            elif volume.name not in placed:
                placed.add(volume.name)
                inputs.append(volume)
    return inputs


def volume_in(path: str | Path, axis: str | None = None) -> Volume:
    """The one volume that ``path`` names: a file, or a folder with one DICOM series; a single slice will do.

    Raises:
        DataError: there is none, or there are several.
    """
    inputs = inputs_of(collect_inputs([str(path)]), axis)
    volumes = [each for each in inputs if isinstance(each, Volume)]
    if not volumes and len(inputs) == 1 and isinstance(alone := inputs[0], FileSlice):
        # Its name may be any that a scanner gave it, while those of pictures and NIfTI files are the user's.
        (stem,) = _names([alone.path]) if not is_dicom(alone.path) else ["series-1"]
        return Volume(stem, (alone,))
    if len(volumes) != 1:
        pictures = len(inputs) - len(volumes)
        raise DataError(
            f"holds {len(volumes)} volumes and {pictures} pictures, not one volume",
            file=path,
            remedy="name one NIfTI file, or a folder with one DICOM series",
        )
    if len(inputs) > 1:
        log.warning("%s: %d files that are no part of its volume are not read", one_line(path), len(inputs) - 1)
    return volumes[0]


def one_slice_of(source: Input, frame: int) -> ImageSource:
    """What ``--frame`` chooses: that frame or page of a file, or that slice of a volume."""
    if isinstance(source, FileSlice):
        return FileSlice(source.path, frame, source.axis)
    if source.nifti is not None:
        return FileSlice(source.nifti.path, frame, source.nifti.axis)
    if frame < len(source):
        return list(source)[frame]
    name = str(source.files[0].path)
    return Encoded(
        name, DataError(f"no slice {frame} among {len(source)} of its series", file=name, remedy="choose another")
    )


def _has_slices(opened: NiftiVolume) -> bool:
    return opened.grid.slices * opened.grid.times > 1


def _say_what_is_read(niftis: Sequence[NiftiVolume]) -> None:
    """Says once what is special about the files of each kind."""
    thick: dict[str, list[NiftiVolume]] = {}
    times: dict[int, list[NiftiVolume]] = {}
    for each in niftis:
        if each.grid.axis not in (None, each.asked):
            thick.setdefault(str(each.grid.axis), []).append(each)
        if each.grid.times > 1:
            times.setdefault(each.grid.times, []).append(each)
    for axis, found in thick.items():
        log.info("%s: voxels are thickest that way, so %s slices are read", _files(found), axis)
    for count, found in times.items():
        log.warning("%s: 4-D; volume 0 of %d is read (--frame for others)", _files(found), count)


def _files(niftis: Sequence[NiftiVolume]) -> str:
    return one_line(niftis[0].path) if len(niftis) == 1 else f"{len(niftis)} files"


def _named(series: Sequence[Series], niftis: Sequence[NiftiVolume]) -> dict[tuple[Path, int | None], Volume]:
    """Each file, or frame of a file, that is part of a volume -> that volume."""
    numbered = [f"series-{number}" for number in range(1, len(series) + 1)]
    names = _names([*numbered, *(each.path for each in niftis)])
    volumes: dict[tuple[Path, int | None], Volume] = {}
    for each, name in zip(series, names, strict=False):
        volume = _of_series(each, name)
        volumes |= {(header.path, header.frame): volume for header in (*each.slices, *each.duplicates)}
    for opened, name in zip(niftis, names[len(series) :], strict=True):
        volumes[opened.path, None] = _of_nifti(opened, name)
    return volumes


def _names(paths: Sequence[str | Path]) -> list[str]:
    """The stem of each, or more of its path where stems are equal."""
    return [name.removesuffix(PICTURE_SUFFIX) for name in picture_names(paths)]


def _of_nifti(opened: NiftiVolume, name: str) -> Volume:
    slices, times, spacing, _ = opened.grid
    return Volume(
        name,
        tuple(FileSlice(opened.path, frame, opened.axis) for frame in range(slices)),
        None if spacing is None else tuple(frame * spacing[2] for frame in range(slices)),
        None if spacing is None else spacing[:2],
        (FIRST_VOLUME_ONLY,) if times > 1 else (),
        nifti=opened,
    )


def _of_series(series: Series, name: str) -> Volume:
    first = series.slices[0]
    if series.duplicates:
        log.warning("%s: %d files at positions of others are not read", name, len(series.duplicates))
    if series.gaps:
        log.warning("%s: slices are missing in %d places", name, series.gaps)
    flags = {
        DUPLICATE_POSITIONS: bool(series.duplicates),
        MISSING_SLICES: series.gaps > 0,
        UNKNOWN_POSITIONS: series.positions is None,
    }
    error = None
    try:
        check_modality(first.modality, first.path.parent)
    except DataError as refusal:
        error = refusal
    return Volume(
        name,
        tuple(FileSlice(header.path, header.frame) for header in series.slices),
        series.positions,
        first.spacing,
        tuple(flag for flag, raised in flags.items() if raised),
        error,
        multiframe={each.path: DicomFrames(each.path) for each in series.slices if each.frame is not None},
        left_out=tuple(each.path for each in series.duplicates),
    )


__all__ = [
    "DUPLICATE_POSITIONS",
    "FIRST_VOLUME_ONLY",
    "MISSING_SLICES",
    "UNKNOWN_POSITIONS",
    "Input",
    "Volume",
    "inputs_of",
    "one_slice_of",
    "volume_in",
]
