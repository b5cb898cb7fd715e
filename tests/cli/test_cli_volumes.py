"""``predict`` on volumes: slices and studies, in files, on stdout and as pictures; what is wrong costs only itself."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

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


@pytest.fixture
def predict(cli, trained, tmp_path):
    """``predict(inputs...)`` -> outcome, records of slices, records of studies; all of them from the files."""

    def run(*arguments, out="out"):
        said = cli("predict", *arguments, "--model", trained.bundle, "--out", tmp_path / out, "--device", "cpu")
        read = [
            [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else None
            for file in (tmp_path / out / "predictions.jsonl", tmp_path / out / "studies.jsonl")
        ]
        return said, *read

    return run


def test_a_nifti_volume_is_read_as_a_whole(predict, tmp_path):
    write_nifti(tmp_path / "head.nii.gz", 5)
    said, slices, studies = predict(tmp_path / "head.nii.gz", "--json", "--visualize")
    assert said.code == 0, said.err
    assert [(each["study"], each["frame"]) for each in slices] == [("head", number) for number in range(5)]
    (study,) = studies
    assert (study["study"], study["slices"], study["records"]) == ("head", 5, "predictions.jsonl")
    # On stdout, slices have `image` and studies do not; the study follows its slices.
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert lines == [*slices, study]
    assert ["image" in line for line in lines] == [True] * 5 + [False]
    assert [file.name for file in (tmp_path / "out").glob("*.png")] == ["head.pred.png"]
    with Image.open(tmp_path / "out" / "head.pred.png") as picture:
        assert min(picture.size) > 256


@pytest.mark.parametrize(
    ("format", "file"),
    [
        (None, None),  # --json alone writes nothing
        ("json", "predictions.json"),
        ("jsonl", "predictions.jsonl"),
        ("csv", "predictions.csv"),
        ("coco", "predictions.coco.json"),
        ("yolo", "predictions.jsonl"),
    ],
)
def test_a_study_names_the_file_of_its_slices(cli, trained, tmp_path, monkeypatch, format, file):
    write_nifti(tmp_path / "head.nii", 3)
    monkeypatch.chdir(tmp_path)
    asked = () if format is None else ("--format", format)
    said = cli("predict", "head.nii", "--json", "--model", trained.bundle, *asked)
    study = json.loads(said.out.splitlines()[-1])
    assert (said.code, study["study"], study["records"]) == (0, "head", file)
    if file is not None:
        assert (tmp_path / "predictions" / file).is_file()
        assert json.loads((tmp_path / "predictions" / "studies.jsonl").read_text()) == study


def test_one_slice_of_a_volume_goes_on_as_before(predict, tmp_path):
    write_nifti(tmp_path / "head.nii.gz", 5, times=2)
    said, slices, studies = predict(tmp_path / "head.nii.gz", "--visualize", "--frame", 2, "--axis", "coronal")
    assert said.code == 0 and "head.nii.gz (coronal 2): " in said.out
    assert said.err.count("4-D") == 1, "the files are looked at once"
    assert [(each["frame"], each["axis"], "study" in each) for each in slices] == [(2, "coronal", False)]
    assert studies is None
    assert [file.name for file in (tmp_path / "out").glob("*.png")] == ["head.coronal.2.pred.png"]


def test_results_never_lie_among_others(predict, tmp_path):
    """Records of one run beside studies, pictures and boxes of another would be taken for one."""
    write_nifti(tmp_path / "head.nii", 3)
    assert predict(tmp_path / "head.nii", "--quiet")[2]
    Image.fromarray(slice_pixels(1)).save(tmp_path / "a.png")
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    said, *_ = predict(tmp_path / "a.png", "--quiet", "--format", "csv")
    assert (said.code, len(said.err.splitlines())) == (2, 1) and "already holds results" in said.err
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    # A slip in a name leaves nothing that is worth keeping.
    assert predict(tmp_path / "b.png", "--quiet", out="slip")[0].code == 2
    assert predict(tmp_path / "a.png", "--quiet", out="slip")[0].code == 0


@pytest.mark.parametrize("resume", [(), ("--resume",)], ids=["anew", "resumed"])
@pytest.mark.parametrize("kept", ["labels/a.txt", "data.yaml", "boxes.csv", "index.html", "manifest.json"])
def test_files_of_others_in_the_folder_are_never_overwritten(predict, tmp_path, kept, resume):
    """Such as the true labels of the data set that is predicted."""
    Image.fromarray(slice_pixels(1)).save(tmp_path / "a.png")
    file = tmp_path / "out" / kept
    file.parent.mkdir(parents=True)
    file.write_text("mine", encoding="utf-8")
    shards = ("--shard-size", 2) if kept == "manifest.json" else ("--format", "yolo")
    if kept == "manifest.json":
        pytest.importorskip("pyarrow", reason="shards are Parquet as well (extra cloud)")
    said, *_ = predict(tmp_path / "a.png", "--quiet", *shards, *resume)
    assert said.code == 2 and "choose another --out" in said.err
    assert file.read_text(encoding="utf-8") == "mine" and not (tmp_path / "out" / "run.json").exists()


def test_a_mixed_folder_with_faults(predict, tmp_path):
    folder = tmp_path / "disk"
    for file in write_series(folder / "a", 5)[3:4]:
        file.write_bytes(file.read_bytes()[:-100])
    write_dicom(folder / "a" / "again", 2)
    write_series(folder / "b", 3, SeriesInstanceUID="1.2.9", Modality="CT")
    write_dicom(folder / "scout", 0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_nifti(folder / "four.nii.gz", 2, times=3)
    Image.fromarray(slice_pixels(1)).save(folder / "z.png")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM")
    said, slices, studies = predict(folder, "--visualize")
    assert said.code == 4, said.err
    assert [(each.get("study"), each.get("frame"), each["error"] is None) for each in slices] == [
        *[("series-1", number, number != 3) for number in range(5)],
        (None, None, False),
        ("four", 0, True),
        ("four", 1, True),
        (None, None, True),
        (None, None, True),
    ]
    assert [each["study"] for each in studies] == ["series-1", "series-2", "four"]
    first, ct, four = studies
    assert {"duplicate_positions", "unreadable_slices"} <= set(first["flags"]) and first["unreadable"] == [3]
    assert "modality CT (computed tomography), not MR" in ct["error"] and (ct["slices"], ct["class"]) == (3, None)
    assert "first_volume_only" in four["flags"]
    assert first["left_out"] == [str(folder / "a" / "again")], "nothing is lost without a word"
    assert slices[8]["image"] == str(folder / "scout"), "a localizer is a picture"
    assert sorted(file.name for file in (tmp_path / "out").glob("*.png")) == [
        "four.pred.png", "scout.pred.png", "series-1.pred.png", "z.pred.png"
    ]  # fmt: skip


def test_missing_slices_one_slice_and_an_archive(predict, tmp_path):
    series = write_series(tmp_path / "a", 6)
    series[4].unlink()
    write_nifti(tmp_path / "one.nii", 1)
    (tmp_path / "locked.zip").write_bytes(b"PK\3\4 with a password or without")
    said, slices, (study,) = predict(tmp_path / "a", tmp_path / "one.nii", tmp_path / "locked.zip")
    assert said.code == 4 and (study["slices"], study["flags"].count("missing_slices")) == (5, 1)
    assert [("study" in each, each["error"] is None) for each in slices] == [
        *[(True, True)] * 5,
        (False, True),
        (False, False),
    ]
    assert "locked.zip: " in slices[-1]["error"] and said.err.count("locked.zip") == 1


def test_a_thick_sagittal_volume_says_how_it_is_sliced(predict, tmp_path):
    levels = np.random.default_rng(0).integers(0, 200, (4, 40, 40)).astype(np.int16)
    nibabel.Nifti1Image(levels, np.diag([5.0, 1.0, 1.0, 1.0])).to_filename(tmp_path / "a.nii")
    said, slices, (study,) = predict(tmp_path / "a.nii")
    assert study["axis"] == "sagittal" and [each["axis"] for each in slices] == ["sagittal"] * 4
    assert "so sagittal slices are read" in said.err


def test_an_axis_of_no_volume_has_no_effect_and_that_is_said(predict, tmp_path):
    Image.fromarray(slice_pixels(1)).save(tmp_path / "a.png")
    said, *_ = predict(tmp_path / "a.png", "--axis", "coronal")
    assert said.code == 0 and "--axis has no effect" in said.err
    write_nifti(tmp_path / "a.nii", 2)
    assert "--axis has no effect" not in predict(tmp_path, "--axis", "axial", out="volume")[0].err


def test_enhanced_mr_of_one_file(predict, tmp_path):
    write_enhanced(tmp_path / "e.dcm", [{"z": 5.0 * number} for number in (2, 0, 1)])
    said, slices, (study,) = predict(tmp_path / "e.dcm", "--visualize")
    assert said.code == 0 and (study["study"], study["slices"], study["step_mm"]) == ("series-1", 3, 5.0)
    assert [(each["study"], each["frame"]) for each in slices] == [("series-1", number) for number in range(3)]
    said, slices, studies = predict(tmp_path / "e.dcm", "--frame", 0, out="frame")
    assert said.code == 0 and len(slices) == 1 and studies is None
    planes = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]]
    write_enhanced(tmp_path / "e.dcm", [{"orientation": plane} for plane in planes])
    said, slices, studies = predict(tmp_path / "e.dcm", out="planes")
    assert (said.code, [each["frame"] for each in slices], studies) == (0, [0, 1, 2], None)
    said, slices, _ = predict(tmp_path / "e.dcm", "--frame", 1, out="plane")
    assert (said.code, [each["frame"] for each in slices]) == (0, [1])


def test_a_missing_package_is_one_line_for_all_files(predict, tmp_path, monkeypatch):
    write_series(tmp_path / "s", 3)
    write_nifti(tmp_path / "a.nii", 3)
    Image.fromarray(slice_pixels(1)).save(tmp_path / "a.png")
    for name in ("pydicom", "nibabel"):
        monkeypatch.setitem(sys.modules, name, None)
    said, records, _ = predict(tmp_path / "s", tmp_path / "a.nii", tmp_path / "a.png")
    assert said.code == 4 and [each["error"] is None for each in records] == [False] * 4 + [True]
    line, count = [line for line in said.err.splitlines() if not line.startswith("predicting")]
    assert count == "4 of 5 could not be read"
    assert line == '4 files are not read: nibabel and pydicom not installed; pip install "detectclf[medical]"'
    assert "a.nii" not in said.out and "a.png: " in said.out


def test_nothing_of_a_patient_is_said(predict, tmp_path):
    write_series(tmp_path / "s", 3)
    write_series(tmp_path / "t", 3, SeriesInstanceUID="1.2.826.0.1.4711.2", Modality="CT")
    said, *_ = predict(tmp_path / "s", tmp_path / "t", "--verbose", "--visualize")
    text = said.out + said.err + "".join(f.read_text() for f in (tmp_path / "out").glob("*.jsonl"))
    assert not any(secret in text for secret in (NAME, "Geheim", PATIENT, SERIES))
    assert "series-1, 3 slices together: " in said.out and "modality CT" in said.err


@pytest.mark.parametrize(("frame", "code"), [(1, 0), (9, 2)])
def test_one_slice_of_a_series(predict, tmp_path, frame, code):
    write_series(tmp_path / "s", 3)
    said, slices, studies = predict(tmp_path / "s", "--frame", frame)
    assert (said.code, studies, len(slices)) == (code, None, 1)
    if code == 0:
        assert (slices[0]["study"], slices[0]["frame"]) == ("series-1", 1) and slices[0]["image"].endswith("IM0002")
    else:
        assert "no slice 9 among 3 of its series; choose another" in said.err


def test_nothing_but_ct(predict, tmp_path):
    write_series(tmp_path / "s", 3, Modality="CT")
    said, slices, studies = predict(tmp_path / "s")
    assert said.code == 2 and slices == [] and studies[0]["error"]
    write_dicom(tmp_path / "a.dcm", 0, Modality="CT")
    said, slices, studies = predict(tmp_path / "a.dcm", out="other")
    assert said.code == 2 and "not MR" in slices[0]["error"] and studies is None
