"""Files become pictures and volumes, and the slices of a volume are read in order."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.errors import DataError
from detectclf.imaging import volumes
from detectclf.imaging.dicom import parse_dicom
from detectclf.imaging.images import image_size
from detectclf.inference.input_files import collect_inputs
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import FileSlice, name_of, pixels_of
from detectclf.inference.volumes import Volume, inputs_of, one_slice_of, volume_in

pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")

from volume_examples import (  # noqa: E402
    NAME,
    PATIENT,
    SERIES,
    slice_pixels,
    write_dicom,
    write_enhanced,
    write_nifti,
    write_series,
)


def found_in(folder: Path) -> dict[str, int | str]:
    """Name of each input -> its number of slices, or what it is."""
    inputs = inputs_of(collect_inputs([str(folder)]))
    return {
        each.name if isinstance(each, Volume) else Path(each.path).name: len(each)
        if isinstance(each, Volume)
        else "picture"
        for each in inputs
    }


def test_a_mixed_folder(tmp_path: Path) -> None:
    write_series(tmp_path / "b", 4)
    write_series(tmp_path / "c", 3, SeriesInstanceUID="1.2.9")
    write_dicom(tmp_path / "alone.dcm", 0, SeriesInstanceUID="1.2.10")
    write_dicom(tmp_path / "b" / "scout", 7, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_nifti(tmp_path / "head.nii.gz", 5)
    write_nifti(tmp_path / "one.nii", 1)
    write_nifti(tmp_path / "d" / "series-1.nii", 2)
    Image.fromarray(slice_pixels(9)).save(tmp_path / "a.png")
    (tmp_path / "b" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM")
    assert found_in(tmp_path) == {
        "a.png": "picture",
        "alone.dcm": "picture",
        "series-1": 4,
        "broken.dcm": "picture",
        "scout": "picture",
        "series-2": 3,
        "series-1.nii": 2,
        "head": 5,
        "one.nii": "picture",
    }


def test_scouts_are_pictures_and_no_volume(tmp_path: Path) -> None:
    write_series(tmp_path, 3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert found_in(tmp_path) == {f"IM000{i}": "picture" for i in (1, 2, 3)}


def test_enhanced_mr_is_a_volume_and_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_enhanced(tmp_path / "e.dcm", [{"z": 10.0}, {"z": 0.0}, {"z": 5.0}, {"z": 0.0}])
    volume = volume_in(tmp_path / "e.dcm")
    parsed = []
    monkeypatch.setattr(volumes, "parse_dicom", lambda *given: parsed.append(given) or parse_dicom(*given))
    assert [int(pixels_of(each)[0, 0]) for each in volume] == [1, 2, 0] and len(parsed) == 1
    assert (volume.step, volume.spacing, volume.flags) == (5, (0.5, 2.0), ("duplicate_positions",))
    assert [each.file.frame for each in volume] == [1, 2, 0] and volume.left_out == (tmp_path / "e.dcm",)
    volume.close()
    assert int(pixels_of(one_slice_of(volume, 2))[0, 0]) == 0 and len(parsed) == 2, "parsed again after it was closed"


def test_slices_of_one_file_that_are_no_volume_are_pictures(tmp_path: Path) -> None:
    """Three planes of two slices, and one alone: nothing of the file is lost."""
    planes = [{"orientation": turn} for turn in ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]) for _ in range(2)]
    places = [{"z": 0.0}, {"z": 5.0}, {"y": 0.0}, {"y": 5.0}, {"orientation": [0, 1, 0, 0, 0, -1]}]
    frames = [plane | place for plane, place in zip([*planes, {}], places, strict=True)]
    found = inputs_of([write_enhanced(tmp_path / "e", frames)])
    assert [len(each) if isinstance(each, Volume) else each.frame for each in found] == [2, 2, 4]


THICK = [
    ((0.9, 0.9, 5.0), None, "axial"),
    ((5.0, 0.9, 0.9), "sagittal", "thick sagittal slices"),
    ((0.9, 5.0, 0.9), "coronal", "thick coronal slices"),
    ((1.2, 1.0, 1.0), None, "thin sagittal slices are nearly a cube"),
    ((1.0, 1.0, 1.0), None, "a cube"),
]


@pytest.mark.parametrize(("sizes", "axis", "why"), THICK, ids=[row[2] for row in THICK])
def test_a_nifti_is_sliced_as_it_was_taken(
    sizes: tuple[float, ...], axis: str | None, why: str, tmp_path: Path
) -> None:
    shape = tuple(round(60 / size) for size in sizes)
    levels = np.random.default_rng(0).integers(0, 200, shape).astype(np.int16)
    nibabel.Nifti1Image(levels, np.diag([*sizes, 1.0])).to_filename(tmp_path / "a.nii")
    volume = volume_in(tmp_path / "a.nii")
    along = {"sagittal": 0, "coronal": 1}.get(axis or "", 2)
    assert {each.axis for each in volume.files} == {axis} and len(volume) == shape[along]
    assert volume.step == pytest.approx(sizes[along])
    for each in (None, "axial", "coronal", "sagittal"):
        cut = volume_in(tmp_path / "a.nii", each)
        height, width = pixels_of(next(iter(cut))).shape
        assert cut.spacing is not None
        # 60 mm each way, and square pixels, unless it is axial by default.
        assert (width * cut.spacing[0], height * cut.spacing[1]) == pytest.approx((60, 60), abs=1)
        assert cut.spacing[0] == pytest.approx(cut.spacing[1]) or (each is None and axis is None)
        assert image_size(tmp_path / "a.nii", axis=each) == (width, height)


@pytest.mark.parametrize("axis", [None, "coronal", "sagittal"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slices_of_a_nifti_are_those_of_the_file(axis: str | None, suffix: str, tmp_path: Path) -> None:
    volume = volume_in(write_nifti(tmp_path / f"a{suffix}", 5), axis)
    slices = list(volume)
    assert [each.number for each in slices] == list(range(5 if axis is None else 40))
    for each in slices[:3]:
        assert (pixels_of(each) == pixels_of(FileSlice(each.file.path, each.number, axis))).all()
    volume.close()
    shutil.rmtree(tmp_path)
    with pytest.raises((DataError, OSError)):  # nothing is kept after it is closed
        pixels_of(slices[0])


def test_of_a_four_dimensional_file_the_first_volume_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    volume = volume_in(write_nifti(tmp_path / "a.nii.gz", 3, times=4))
    assert (
        len(volume) == 3 and volume.flags == ("first_volume_only",) and volume.step == 5 and volume.spacing == (0.5, 2)
    )
    assert [int(pixels_of(each)[0, 0]) for each in volume] == [0, 1, 2]
    assert "a.nii.gz: 4-D; volume 0 of 4 is read" in caplog.text


def test_slices_of_a_series_are_in_order_and_say_nothing_of_the_patient(tmp_path: Path) -> None:
    files = write_series(tmp_path, 4)
    files[2].unlink()
    write_dicom(tmp_path / "copy", 1)
    volume = volume_in(tmp_path)
    assert [int(pixels_of(each)[0, 0]) for each in volume] == [0, 1, 3]
    assert (volume.name, volume.step, volume.spacing) == ("series-1", 7.5, (0.5, 2.0))
    assert volume.flags == ("duplicate_positions",)  # of two steps, neither is the usual one
    assert not any(secret in repr(volume) for secret in (NAME, PATIENT, SERIES))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: [write_series(folder / n, 2, SeriesInstanceUID=f"1.{n}") for n in "12"], "holds 2 volumes"),
        (lambda folder: [write_dicom(folder / n, 0, SeriesInstanceUID=None) for n in "ab"], "0 volumes and 2 pictures"),
        (lambda folder: folder.mkdir(), "no images in the folder"),
    ],
)
def test_one_volume_has_to_be_named(make: object, message: str, tmp_path: Path) -> None:
    make(tmp_path / "a")  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        volume_in(tmp_path / "a")


def test_one_slice_of_a_volume(tmp_path: Path) -> None:
    write_series(tmp_path / "s", 3)
    write_nifti(tmp_path / "a.nii", 3, times=2)
    Image.fromarray(slice_pixels(9)).save(tmp_path / "b.png")
    nifti, picture, series = inputs_of(collect_inputs([str(tmp_path)]))
    assert int(pixels_of(one_slice_of(nifti, 4))[0, 0]) == 4  # on through the volumes of a 4-D file
    assert one_slice_of(picture, 0) == FileSlice(tmp_path / "b.png", 0)
    assert int(pixels_of(one_slice_of(series, 2))[0, 0]) == 2
    beyond = one_slice_of(series, 3)
    assert name_of(beyond).endswith("IM0003")
    with pytest.raises(DataError, match="no slice 3 among 3 of its series"):
        pixels_of(beyond)


def test_predict_study_end_to_end(predictor: Predictor, tmp_path: Path) -> None:
    files = write_series(tmp_path, 7)
    content = files[4].read_bytes()
    files[4].write_bytes(content[:-200])
    said = []
    study = predictor.predict_study(tmp_path, each=said.append)
    assert [each.to_record()["frame"] for each in said] == list(range(7))
    assert {each.to_record()["study"] for each in said} == {"series-1"}
    assert [each.path for each in said] == files
    record = study.to_record()
    assert (record["slices"], record["unreadable"], record["error"]) == (7, [4], None)
    assert sum(record["probabilities"].values()) == pytest.approx(1) and len(record["curve"]) == 7
    assert "unreadable_slices" in record["flags"] and record["curve"][4] is None
    picture = np.asarray(study.draw())
    assert picture.shape[2] == 3 and picture.shape[1] >= 4 * 240


def test_studies_that_cannot_be_predicted(predictor: Predictor, tmp_path: Path) -> None:
    write_series(tmp_path / "ct", 3, Modality="CT")
    with pytest.raises(DataError, match="modality CT"):
        predictor.predict_study(tmp_path / "ct")
    for file in write_series(tmp_path / "cut", 3):
        file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"none of its 3 slices could be read; .*cut short"):
        predictor.predict_study(tmp_path / "cut")
    with pytest.raises(DataError, match="none of its 1 slices"):
        predictor.predict_study(tmp_path / "missing.nii")


def test_a_single_slice_is_a_study_of_one(predictor: Predictor, tmp_path: Path) -> None:
    study = predictor.predict_study(write_nifti(tmp_path / "a.nii", 1))
    assert (study.name, len(study.predictions), study.agree) == ("a", 1, 1) and "few_slices" in study.flags
    study = predictor.predict_study(write_dicom(tmp_path / f"{PATIENT}.dcm", 0))
    assert study.name == "series-1"
