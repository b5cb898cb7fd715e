"""DICOM files become series in the order of their positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detectclf.errors import DataError
from detectclf.imaging.dicom_series import find_series, read_slice_header
from detectclf.imaging.images import read_image

pydicom = pytest.importorskip("pydicom")

from volume_examples import SERIES, write_dicom, write_series  # noqa: E402


def numbers_of(folder: Path) -> list[list[int]]:
    """The numbers that the slices of each series show, in order."""
    headers = [read_slice_header(path) for path in sorted(folder.rglob("*"))]
    found = find_series(header for header in headers if header is not None)
    return [[int(read_image(each.path)[0, 0]) for each in series.slices] for series in found]


CORONAL = [1, 0, 0, 0, 0, -1]


@pytest.mark.parametrize(
    ("slices", "expected", "reason"),
    [
        ([{}, {}, {}], [[0, 1, 2]], "names run the other way; positions count"),
        ([{"z": 9.0}, {"z": -3.0}, {"z": 2.5}], [[1, 2, 0]], "positions and not numbers"),
        (
            [{"ImageOrientationPatient": CORONAL, "ImagePositionPatient": [0, y, 0]} for y in (8, 0, 4)],
            [[1, 2, 0]],
            "along the normal, whatever the plane",
        ),
        ([{"ImagePositionPatient": None}] * 3, [[0, 1, 2]], "by number where positions are not known"),
        ([{}, {"ImagePositionPatient": None}, {}], [[0, 1, 2]], "one position that is missing spoils them all"),
        ([{}, {}, {"SeriesInstanceUID": "1.2.9"}], [[0, 1]], "a slice alone in its series is no volume"),
        (
            [{}, {"SeriesInstanceUID": "1.2.9"}, {}, {"SeriesInstanceUID": "1.2.9"}],
            [[1, 3], [0, 2]],
            "two series in one folder, in the order of their file names",
        ),
        (
            [{"StudyInstanceUID": f"1.{i % 2 + 1}"} for i in range(4)],
            [[1, 3], [0, 2]],
            "one series number, two studies",
        ),
        ([{"SeriesInstanceUID": None}] * 3, [], "without a series they are pictures"),
        ([{"z": 0.0}, {"z": 0.0}, {"z": 5.0}], [[0, 2]], "of one position, the first by number"),
        (
            [{"z": 0.0, "EchoNumbers": 2}, {"z": 0.0, "EchoNumbers": 1}, {"z": 5.0, "EchoNumbers": 1}],
            [[1, 2]],
            "the first echo",
        ),
        ([{"z": 0.0}] * 3, [], "all at one place: no volume"),
        ([{}, {}, {"ImageOrientationPatient": CORONAL}], [[0, 1]], "one orientation"),
        ([{"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}] * 2, [[0, 1]], "no right angle: by number"),
        ([{}, {}, {"Rows": 20, "Columns": 80}], [[0, 1]], "one size"),
        ([{"NumberOfFrames": 2, "Rows": 20}] * 2, [], "files of several frames are asked for a frame"),
    ],
)
def test_series(slices: list[dict[str, Any]], expected: list[list[int]], reason: str, tmp_path: Path) -> None:
    for number, tags in enumerate(slices):
        write_dicom(tmp_path / f"IM{99 - number}", number, **tags)
    assert numbers_of(tmp_path) == expected, reason


def test_positions_spacing_gaps_and_duplicates(tmp_path: Path) -> None:
    files = write_series(tmp_path, 6)
    files[3].unlink()
    write_dicom(tmp_path / "copy", 1)
    headers = [header for path in sorted(tmp_path.iterdir()) if (header := read_slice_header(path)) is not None]
    (series,) = find_series(headers)
    assert series.positions == (0, 5, 10, 20, 25) and series.gaps == 1
    assert [each.path.name for each in series.duplicates] == ["copy"] or len(series.duplicates) == 1
    assert series.slices[0].spacing == (0.5, 2.0)


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0", b"text"])
def test_what_is_no_slice_has_no_header(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    assert read_slice_header(tmp_path / "a.dcm") is None
    assert read_slice_header(tmp_path / "missing") is None


@pytest.mark.parametrize("syntax", ["DeflatedExplicitVRLittleEndian", "ImplicitVRLittleEndian"])
def test_headers_in_other_encodings(syntax: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", 3)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    data.save_as(path)
    header = read_slice_header(path)
    assert header is not None and header.along == 15.0 and header.series[1] == SERIES


@pytest.mark.parametrize(
    ("modality", "refused"),
    [("MR", False), ("OT", False), ("SC", False), (None, False), ("CT", True), ("ct ", True), ("US", True)],
)
def test_what_is_surely_no_mri_is_refused(modality: str | None, refused: bool, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", 0)
    data = pydicom.dcmread(path)
    del data.Modality
    if modality is not None:
        data.add_new("Modality", "SH", modality)  # in lower case, which the type of the real element forbids
    data.save_as(path)
    if not refused:
        assert read_image(path)[0, 0] == 0
        return
    with pytest.raises(DataError, match=r"DICOM of modality (CT|US) \(.*\), not MR; give MRI"):
        read_image(path)


def test_absurd_millimetres_are_not_known(tmp_path: Path) -> None:
    """Their differences would be infinite, which no JSON holds."""
    paths = [write_dicom(tmp_path / f"{i}", i, z=z, PixelSpacing=[1e300, 1e300]) for i, z in enumerate((-1e308, 1e308))]
    (series,) = find_series(header for path in paths if (header := read_slice_header(path)) is not None)
    assert series.positions is None and series.slices[0].spacing is None


def test_patients_are_kept_apart(tmp_path: Path) -> None:
    """Some anonymised exports give all patients the same numbers of study and series."""
    files = [*write_series(tmp_path / "a", 3, PatientID="A"), *write_series(tmp_path / "b", 3, PatientID="B")]
    headers = [header for file in files if (header := read_slice_header(file)) is not None]
    found = find_series(headers)
    assert [{header.path.parent.name for header in series.slices} for series in found] == [{"a"}, {"b"}]
    assert not any(series.duplicates for series in found)


def test_a_file_of_another_modality_stands_alone(tmp_path: Path) -> None:
    """Or its refusal would be that of the whole series."""
    files = [write_dicom(tmp_path / "ct", 0, z=-5.0, Modality="CT"), *write_series(tmp_path, 3)]
    headers = [header for file in files if (header := read_slice_header(file)) is not None]
    (found,) = find_series(headers)
    assert {header.modality for header in found.slices} == {"MR"} and len(found.slices) == 3
