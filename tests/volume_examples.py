"""Small made volumes: DICOM series and NIfTI files, whose slices tell by one pixel which they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

NAME, PATIENT, SERIES = "Geheim^Erika", "PID-4711", "1.2.826.0.1.4711.1"
SIDE = 40


def slice_pixels(number: int) -> np.ndarray:
    """``(SIDE, SIDE)`` uint8 with ``number`` as the grey level at the top left, and white somewhere."""
    pixels = np.random.default_rng(number).integers(0, 200, (SIDE, SIDE)).astype(np.uint8)
    pixels[0, 0], pixels[20, 20] = number, 255
    return pixels


def write_dicom(path: Path, number: int, *, z: float | None = None, **tags: Any) -> Path:
    """One slice of an axial MR series, of which any tag may be another; ``None`` leaves a tag out.

    Args:
        number: of the slice, which its pixels show.
        z: millimetres; by default 5 per number.
    """
    import pydicom

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pixels = slice_pixels(number)
    fields: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "SOPInstanceUID": f"1.2.3.{number}",
        "PatientName": NAME,
        "PatientID": PATIENT,
        "StudyInstanceUID": "1.2.826.0.1.4711",
        "SeriesInstanceUID": SERIES,
        "SeriesDescription": NAME,
        "Modality": "MR",
        "InstanceNumber": number + 1,
        "ImagePositionPatient": [-20.0, -20.0, 5.0 * number if z is None else z],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [2.0, 0.5],  # down, across
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": SIDE,
        "Columns": SIDE,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }
    for tag, value in (fields | tags).items():
        if value is not None:
            setattr(data, tag, value)
    data["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, count: int, **tags: Any) -> list[Path]:
    """A series whose file names run against its positions; the files in the order of their positions."""
    return [write_dicom(folder / f"IM{count - number:04}", number, **tags) for number in range(count)]


def write_nifti(path: Path, slices: int, *, times: int = 1, step: float = 5.0) -> Path:
    """An axial volume; 4-D where ``times`` is more than 1, with other pixels at each time."""
    import nibabel

    frames = [slice_pixels(number) for number in range(slices * times)]
    # Columns of a NIfTI run to the patient's right and front: stored so that slices come out as they are.
    volume = np.stack([frame[::-1, ::-1].T for frame in frames], axis=-1).astype(np.int16)
    if times > 1:
        volume = volume.reshape(SIDE, SIDE, slices, times, order="F")
    image = nibabel.Nifti1Image(volume, np.diag([0.5, 2.0, step, 1.0]))
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.to_filename(path)
    return path


def write_enhanced(path: Path, frames: list[dict[str, Any]]) -> Path:
    """An enhanced MR file: a frame each, whose pixels show its number.

    Args:
        frames: of each ``z`` or ``y`` (millimetres; ``None`` for no position), ``orientation`` and ``echo``.
    """
    import pydicom

    def item(**tags: Any) -> Any:
        data = pydicom.Dataset()
        for tag, value in tags.items():
            setattr(data, tag, value)
        return data

    groups = []
    for frame in frames:
        place = [-20.0, frame.get("y", -20.0), frame.get("z", 0.0)]
        group = item(
            PlanePositionSequence=[item(**({} if place[2] is None else {"ImagePositionPatient": place}))],
            PlaneOrientationSequence=[item(ImageOrientationPatient=frame.get("orientation", [1, 0, 0, 0, 1, 0]))],
        )
        if "echo" in frame:
            group.MREchoSequence = [item(EffectiveEchoTime=frame["echo"])]
        groups.append(group)
    return write_dicom(
        path,
        0,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1",
        NumberOfFrames=len(frames),
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[item(PixelMeasuresSequence=[item(PixelSpacing=[2.0, 0.5])])],
        PixelData=b"".join(slice_pixels(number).tobytes() for number in range(len(frames))),
    )
