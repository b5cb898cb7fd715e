"""DICOM files become series in the order of their positions."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectclf.errors import DataError
from detectclf.imaging.dicom_headers import SliceHeader, read_slice_headers
from detectclf.imaging.dicom_series import find_series
from detectclf.imaging.images import read_image

pydicom = pytest.importorskip("pydicom")

from volume_examples import SERIES, write_dicom, write_enhanced, write_series  # noqa: E402


def numbers_of(folder: Path) -> list[list[int]]:
    """The numbers that the slices of each series show, in order."""
    found = find_series(headers_of(*sorted(folder.rglob("*"))))
    return [[int(read_image(each.path, frame=each.frame)[0, 0]) for each in series.slices] for series in found]


def headers_of(*paths: Path) -> list[SliceHeader]:
    return [header for path in paths for header in read_slice_headers(path)]


CORONAL, SAGITTAL = [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def turned(degrees: float) -> list[float]:
    """The orientation of a slice that is tilted by ``degrees``."""
    return [1, 0, 0, 0, math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


@pytest.mark.parametrize(
    ("slices", "expected", "reason"),
    [
        ([{}, {}, {}], [[0, 1, 2]], "names run the other way; positions count"),
        ([{"z": 9.0}, {"z": -3.0}, {"z": 2.5}], [[1, 2, 0]], "positions and not numbers"),
        (
            [{"ImageOrientationPatient": CORONAL, "ImagePositionPatient": [0, y, 0]} for y in (8, 0, 4)],
            [[0, 2, 1]],
            "along the normal, whatever the plane: from the back to the front, as in NIfTI",
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
        (
            [{"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]}] * 3,
            [[0, 1, 2]],
            "from the feet to the head, however its pictures are mirrored",
        ),
        ([{"ImageOrientationPatient": [1, 0, 0, 0, -1, 0]}] * 3, [[0, 1, 2]], "the same"),
        (
            [{"ImageOrientationPatient": SAGITTAL, "ImagePositionPatient": [x, 0, 0]} for x in (8, 0, 4)],
            [[0, 2, 1]],
            "from left to right",
        ),
        ([{"ImageOrientationPatient": turned(i)} for i in range(8)], [list(range(8))], "a drift of 1 degree a slice"),
        (
            [{"ImageOrientationPatient": turned(20 * i)} for i in range(9)],
            [],
            "slices that turn about an axis are no stack",
        ),
        (
            [{"SOPClassUID": CAPTURE, "ImagePositionPatient": None, "ImageOrientationPatient": None}] * 3,
            [],
            "pictures of screens",
        ),
        (
            [{"Modality": "OT", "ImagePositionPatient": None, "ImageOrientationPatient": None}] * 3,
            [],
            "and of whatever else",
        ),
        ([{"SOPClassUID": CAPTURE}] * 3, [[0, 1, 2]], "unless they say where they lie"),
        (
            [{"z": 5.0 * (i // 2), "EchoNumbers": i % 2 + 1} for i in range(6)],
            [[1, 3, 5], [0, 2, 4]],
            "each echo is a volume, in the order of their files",
        ),
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
    (series,) = find_series(headers_of(*sorted(tmp_path.iterdir())))
    assert series.positions == (0, 5, 10, 20, 25) and series.gaps == 1
    assert [each.path.name for each in series.duplicates] == ["copy"] or len(series.duplicates) == 1
    assert series.slices[0].spacing == (0.5, 2.0)


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0", b"text"])
def test_what_is_no_slice_has_no_header(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    assert headers_of(tmp_path / "a.dcm", tmp_path / "missing") == []


@pytest.mark.parametrize("syntax", ["DeflatedExplicitVRLittleEndian", "ImplicitVRLittleEndian"])
def test_headers_in_other_encodings(syntax: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", 3)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    data.save_as(path)
    (header,) = read_slice_headers(path)
    assert header.position == (-20, -20, 15) and header.series[1] == SERIES


@pytest.mark.parametrize(
    ("modality", "refused"),
    [
        ("MR", False),
        ("OT", False),
        ("SC", False),
        (None, False),
        ("CT", True),
        ("ct ", True),
        ("US", True),
        ("SEG", True),
    ],
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
    with pytest.raises(DataError, match=r"DICOM of modality (CT|US|SEG) \(.*\), not MR; give MRI"):
        read_image(path)


def test_absurd_millimetres_are_not_known(tmp_path: Path) -> None:
    """Their differences would be infinite, which no JSON holds."""
    paths = [write_dicom(tmp_path / f"{i}", i, z=z, PixelSpacing=[1e300, 1e300]) for i, z in enumerate((-1e308, 1e308))]
    (series,) = find_series(headers_of(*paths))
    assert series.positions is None and series.slices[0].spacing is None


def test_patients_are_kept_apart(tmp_path: Path) -> None:
    """Some anonymised exports give all patients the same numbers of study and series."""
    files = [*write_series(tmp_path / "a", 3, PatientID="A"), *write_series(tmp_path / "b", 3, PatientID="B")]
    found = find_series(headers_of(*files))
    assert [{header.path.parent.name for header in series.slices} for series in found] == [{"a"}, {"b"}]
    assert not any(series.duplicates for series in found)


def test_a_file_of_another_modality_stands_alone(tmp_path: Path) -> None:
    """Or its refusal would be that of the whole series."""
    files = [write_dicom(tmp_path / "ct", 0, z=-5.0, Modality="CT"), *write_series(tmp_path, 3)]
    (found,) = find_series(headers_of(*files))
    assert {header.modality for header in found.slices} == {"MR"} and len(found.slices) == 3


FOLDERS = [
    ({"a": range(3), "b": range(3)}, [3, 3], "two anonymised patients with all numbers alike"),
    ({"a": (0, 1.5, 3), "b": (0.7, 1.6, 2)}, [3, 3], "also where no position is the same"),
    ({"a": range(3), "b": range(3, 6)}, [6], "a series that goes on in another folder"),
    ({f"{i}": (i,) for i in range(5)}, [5], "a folder for each slice"),
    ({"a/1": range(3), "b/1": range(3, 6)}, [3, 3], "folders of different folders"),
    ({"a": range(3), "a/copy": (1,)}, [3], "a copy elsewhere is no slice of it"),
]


@pytest.mark.parametrize(("folders", "expected", "why"), FOLDERS, ids=[row[2] for row in FOLDERS])
def test_folders_of_one_series(folders: dict[str, Any], expected: list[int], why: str, tmp_path: Path) -> None:
    for folder, places in folders.items():
        for place in places:
            write_dicom(tmp_path / folder / f"IM{place}", int(place), z=5.0 * place)
    found = find_series(headers_of(*(path for path in sorted(tmp_path.rglob("*")) if path.is_file())))
    assert [len(each.slices) for each in found] == expected
    assert not any(each.duplicates for each in found)


def test_many_orientations_and_folders_take_no_longer_than_as_many_slices(tmp_path: Path) -> None:
    """Comparing each with each would take minutes."""
    (header,) = headers_of(write_dicom(tmp_path / "a", 0))
    rng = np.random.default_rng(0)
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0][:2].ravel() for _ in range(5000)]
    headers = [
        replace(header, path=tmp_path / f"{i}" / "a", orientation=tuple(map(float, turn)), order=(0.0, 0.0, 0.0, i))
        for i, turn in enumerate(turns)
    ]
    started = time.process_time()
    find_series(headers)
    find_series(replace(each, orientation=header.orientation) for each in headers)
    assert time.process_time() - started < 20


def test_enhanced_mr_whose_frames_have_no_place_is_no_volume(tmp_path: Path) -> None:
    assert headers_of(write_enhanced(tmp_path / "a", [{}, {"z": None}])) == []
    assert len(headers_of(write_enhanced(tmp_path / "b", [{"z": 0.0}, {"z": 5.0}]))) == 2
    path = write_enhanced(tmp_path / "c", [{"z": 0.0}, {"z": 5.0}])
    data = pydicom.dcmread(path)
    data.NumberOfFrames = 3
    data.save_as(path)
    assert headers_of(path) == [], "fewer descriptions than frames"


def test_echoes_of_enhanced_mr_are_volumes_of_their_own(tmp_path: Path) -> None:
    frames = [{"z": 5.0 * (i // 2), "echo": (20.0, 90.0)[i % 2]} for i in range(6)]
    write_enhanced(tmp_path / "a", frames)
    assert numbers_of(tmp_path) == [[0, 2, 4], [1, 3, 5]]
