"""Rebuilds the atlas of figshare 1512427, detectclf/assets/figshare_atlas.npz, from the original files.

    python scripts/build_atlas.py DIR [--out FILE] [--before FILE]

DIR holds ``1.mat`` to ``3064.mat`` and ``cvind.mat``, unpacked from figshare 1512427 (J. Cheng, "brain tumor dataset",
CC BY 4.0), in any folders. They are HDF5 (MATLAB v7.3), so the package h5py is needed. ``cjdata`` of each has
``image``, ``label`` (1 meningioma, 2 glioma, 3 pituitary), ``PID``, and ``tumorMask``, which is not used; ``cvind`` has
the published patient-level fold of each. The atlas has a thumbnail of 24 x 24 pixels of each slice and a number for
each patient. Models record these numbers, so those of the atlas before (by default the packaged one) are kept.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import typer

from detectclf.errors import DataError, DetectclfError
from detectclf.files import atomic_write

SIDE = 24
LABELS = {1: "meningioma", 2: "glioma", 3: "pituitary"}
PACKAGED = Path(__file__).parents[1] / "detectclf" / "assets" / "figshare_atlas.npz"
LIMIT_BYTES = 1536 * 1024
"""Most bytes that the atlas may add to the package."""


class Slice(NamedTuple):
    """What the atlas needs of one original file."""

    source: int
    thumbnail: npt.NDArray[np.uint8]
    identity: str
    label: str


def read_slice(file: Path) -> Slice:
    """Reads one of the original files.

    Raises:
        DataError: it is not one.
    """
    try:
        with _hdf5().File(file, "r") as content:
            data = content["cjdata"]
            # MATLAB stores columns first.
            image = np.asarray(data["image"][()], dtype=np.float32).T
            identity = "".join(chr(code) for code in np.asarray(data["PID"][()]).ravel())
            label = LABELS[int(np.asarray(data["label"][()]).ravel()[0])]
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError("not a slice of figshare 1512427", file=file, remedy="unpack the original files") from error
    return Slice(int(file.stem), thumbnail(image), identity, label)


def thumbnail(image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """``(SIDE, SIDE)`` uint8 by a box filter; the slice's own range of intensities becomes 0 to 255."""
    low, high = float(image.min()), float(image.max())
    grey = np.rint((image - low) * (255.0 / max(high - low, 1e-6))).astype(np.uint8)
    small = cv2.resize(grey.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.rint(small).astype(np.uint8)


def read_folds(file: Path) -> npt.NDArray[np.int8]:
    """The fold of each slice, 1 to 5, in the order of their numbers; raises DataError where it is not ``cvind.mat``."""
    try:
        try:
            with _hdf5().File(file, "r") as content:
                folds = np.asarray(content["cvind"][()])
        except OSError:  # not HDF5, so of an older version of MATLAB
            from scipy.io import loadmat

            folds = np.asarray(loadmat(file)["cvind"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError("has no folds (cvind)", file=file, remedy="unpack the original files") from error
    return folds.ravel().astype(np.int8)


def number_patients(slices: Sequence[Slice], before: Mapping[int, int]) -> dict[str, int]:
    """A number for each patient: that of the atlas before, or where there is none the rank of the id, from 1.

    Args:
        slices: all slices.
        before: source -> patient of the atlas before.

    Raises:
        DataError: the atlas before has other patients.
    """
    ranks = {identity: rank for rank, identity in enumerate(sorted({s.identity for s in slices}), start=1)}
    if not before:
        return ranks
    known: dict[str, set[int]] = {}
    for one in slices:
        known.setdefault(one.identity, set()).add(before.get(one.source, 0))
    numbers = {identity: next(iter(found)) for identity, found in known.items() if len(found) == 1}
    if len(set(numbers.values()) - {0}) < len(ranks):
        raise DataError("the atlas before has other patients", remedy="check the files, or give another --before")
    return numbers


def build(folder: Path, before: Mapping[int, int]) -> dict[str, Any]:
    """The arrays of the atlas.

    Raises:
        DataError: files are missing, or one is not of the set.
    """
    files = {int(file.stem): file for file in folder.rglob("*.mat") if file.stem.isdecimal()}
    listed = next(iter(sorted(folder.rglob("cvind.mat"))), None)
    if listed is None or not files:
        raise DataError("holds no N.mat, or no cvind.mat", file=folder, remedy="unpack the original files there")
    folds = read_folds(listed)
    missing = sorted(set(range(1, len(folds) + 1)) - set(files))
    if missing:
        reason = f"{len(missing)} of {len(folds)} files are missing, the first is {missing[0]}.mat"
        raise DataError(reason, file=folder, remedy="unpack all the original files there")
    slices = [read_slice(files[number]) for number in range(1, len(folds) + 1)]
    numbers = number_patients(slices, before)
    return {
        "source": np.array([s.source for s in slices], dtype=np.int16),
        "patient": np.array([numbers[s.identity] for s in slices], dtype=np.int16),
        "fold": folds,
        "label": np.array([s.label for s in slices]),
        "thumbnail": np.stack([s.thumbnail for s in slices]),
    }


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with the original files.", metavar="DIR")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = PACKAGED,
    before: Annotated[Path, typer.Option(help="Atlas whose numbers of patients are kept.")] = PACKAGED,
) -> None:
    """Rebuild the atlas of figshare 1512427 from the original files."""
    try:
        old: dict[str, Any] = {}
        if before.is_file():
            with np.load(before, allow_pickle=False) as arrays:
                old = {name: arrays[name] for name in ("source", "patient")}
        numbers = dict(zip(old["source"].tolist(), old["patient"].tolist(), strict=True)) if old else {}
        arrays_now = build(folder, numbers)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays_now)
        if len(buffer.getvalue()) > LIMIT_BYTES:
            raise DataError(f"the atlas has more than {LIMIT_BYTES} bytes", remedy="build it of the original set only")
        atomic_write(out, buffer.getvalue())
    except DetectclfError as error:
        typer.echo(f"build_atlas: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    patients = len(set(arrays_now["patient"].tolist()))
    typer.echo(f"{out}: {len(arrays_now['source'])} slices of {patients} patients, {len(buffer.getvalue())} bytes")


def _hdf5() -> Any:
    try:
        import h5py
    except ImportError:
        raise DataError("the original files need h5py to be read", remedy="pip install h5py") from None
    return h5py


if __name__ == "__main__":
    typer.run(main)
