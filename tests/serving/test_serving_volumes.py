"""Volumes over HTTP: study records, names, limits, and nothing left on disk."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path

import pytest
from serving_examples import files, png, serving
from starlette.testclient import TestClient
from test_serving_api import encrypted, packed
from volume_examples import NAME, PATIENT, write_dicom, write_enhanced, write_nifti, write_series

from detectclf.inference.predictor import Predictor
from detectclf.serving import volumes
from detectclf.serving.batching import Upload

pytest.importorskip("nibabel", reason="the extra medical is not installed")
pydicom = pytest.importorskip("pydicom")


def sent(paths: list[Path]) -> list[tuple[str, tuple[str, bytes]]]:
    return files(*((path.name, path.read_bytes()) for path in paths))


def test_a_nifti_file_and_a_series_are_studies(predictor: Predictor, tmp_path: Path, temporary: Path) -> None:
    nifti = write_nifti(tmp_path / "a head.nii.gz", 3)
    with serving(predictor) as client:
        answer = client.post("/v1/volumes", files=sent([nifti, *write_series(tmp_path / "series", 4)]))
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert [(each["study"], each["slices"], each["error"]) for each in content["studies"]] == [
        ("a_head", 3, None),
        ("series-1", 4, None),
    ]
    assert content["studies"][0]["class"] == predictor.predict_study(nifti).label
    assert [(each["image"], each["study"], each["frame"]) for each in content["records"]] == [
        *(("a head.nii.gz", "a_head", number) for number in range(3)),
        *((f"IM{4 - number:04}", "series-1", number) for number in range(4)),
    ]
    assert NAME not in answer.text and PATIENT not in answer.text
    assert not list(temporary.iterdir())


def test_nothing_beside_a_volume_is_dropped(client: TestClient, tmp_path: Path, temporary: Path) -> None:
    volume = sent([write_nifti(tmp_path / "a.nii", 2)])
    beside = files(("b.png", png()), ("cut.nii.gz", b"garbage"), ("refused.zip", b"PK\3\4 no archive"))
    answer = client.post("/v1/volumes", files=[*volume, *beside])
    assert answer.status_code == 200, answer.text
    records = {each["image"]: each["error"] for each in answer.json()["records"] if "study" not in each}
    assert records.keys() == {"b.png", "cut.nii.gz", "refused.zip"}
    assert records["b.png"] is None
    assert records["cut.nii.gz"].startswith("cut.nii.gz: ") and records["refused.zip"].startswith("refused.zip: ")
    assert str(temporary) not in answer.text and not list(temporary.iterdir())


def test_a_mixed_request_with_faults(predictor: Predictor, tmp_path: Path, temporary: Path) -> None:
    """As ``predict`` on such a folder: what is wrong costs only itself, and everything has a record."""
    series = write_series(tmp_path / "a", 6)
    series[3].write_bytes(series[3].read_bytes()[:-100])
    del series[1]
    again = write_dicom(tmp_path / "again", 2)
    ct = [path.rename(path.with_name(f"ct{path.name}")) for path in write_series(tmp_path / "c", 2, Modality="CT")]
    scout = write_dicom(tmp_path / "scout", 0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    enhanced = write_enhanced(tmp_path / "e.dcm", [{"z": 0.0}, {"z": 5.0}])
    data = pydicom.dcmread(enhanced)
    data.SeriesInstanceUID = "1.2.9"
    data.save_as(enhanced)
    others = [write_nifti(tmp_path / "four.nii", 2, times=3), write_nifti(tmp_path / "one.nii", 1)]
    broken = files(("broken.dcm", b"\0" * 128 + b"DICM"), ("locked.zip", encrypted(packed(("a.png", png())))))
    with serving(predictor) as client:
        answer = client.post("/v1/volumes", files=sent([*series, again, *ct, scout, enhanced, *others]) + broken)
    assert answer.status_code == 200, answer.text
    first, second, third, four = answer.json()["studies"]
    assert {"duplicate_positions", "missing_slices", "unreadable_slices"} <= set(first["flags"])
    assert (first["slices"], first["unreadable"], first["left_out"]) == (5, [2], ["again"])
    assert "modality CT" in second["error"] and third["slices"] == 2 and "first_volume_only" in four["flags"]
    alone = {each["image"]: each["error"] for each in answer.json()["records"] if "study" not in each}
    assert alone.keys() == {"locked.zip", "scout", "one.nii", "broken.dcm"}
    assert alone["scout"] is None and alone["one.nii"] is None and "encrypted" in alone["locked.zip"]
    assert str(temporary) not in answer.text and not list(temporary.iterdir())


def test_series_of_two_patients_with_the_same_names_and_numbers(client: TestClient, tmp_path: Path) -> None:
    """Anonymised ones; by the folders of an archive, by those that the client names, and by names that occur twice."""
    paths = [path for which in "ab" for path in write_series(tmp_path / which, 2)]
    archive = packed(*((f"{path.parent.name}/{path.name}", path.read_bytes()) for path in paths))
    named = files(*((f"{path.parent.name}/{number}.dcm", path.read_bytes()) for number, path in enumerate(paths)))
    for uploads in (files(("both.zip", archive)), named, sent(paths)):
        answer = client.post("/v1/volumes", files=uploads)
        assert [each["slices"] for each in answer.json()["studies"]] == [2, 2], answer.text
        assert not any(each["flags"].count("duplicate_positions") for each in answer.json()["studies"])


def test_a_series_has_more_files_than_pictures_are_allowed(client: TestClient, tmp_path: Path) -> None:
    """``max_files`` is 4 here."""
    series = write_series(tmp_path, 6)
    assert client.post("/v1/predict", files=sent(series)).json()["code"] == "too_many_files"
    for uploads in (sent(series), files(("s.zip", packed(*((path.name, path.read_bytes()) for path in series))))):
        answer = client.post("/v1/volumes", files=uploads)
        assert answer.status_code == 200 and answer.json()["studies"][0]["slices"] == 6, answer.text


@pytest.mark.parametrize(
    ("case", "status", "words"),
    [
        ("picture", 422, "no volume among the files"),
        ("one slice", 422, "no volume among the files"),
        ("CT", 200, "CT"),  # a study with the reason, beside those that could be read
        ("garbage", 422, "no volume among the files"),
        ("refused", 422, "refused.zip: "),  # `records` says why
    ],
)
def test_what_is_no_mri_volume_is_said(
    client: TestClient, tmp_path: Path, temporary: Path, case: str, status: int, words: str
) -> None:
    uploads = {
        "picture": lambda: files(("a.png", png())),
        "one slice": lambda: sent([write_dicom(tmp_path / "one.dcm", 0)]),
        "CT": lambda: sent(write_series(tmp_path, 3, Modality="CT")),
        "garbage": lambda: files(("a.nii.gz", b"garbage")),
        "refused": lambda: files(("refused.zip", b"PK\3\4 no archive")),
    }[case]()
    answer = client.post("/v1/volumes", files=uploads)
    assert answer.status_code == status and words in answer.text, answer.text
    assert str(temporary) not in answer.text
    assert not list(temporary.iterdir())


def test_archives_together_do_not_fill_the_disk(client: TestClient, temporary: Path) -> None:
    """Each unpacks to less than the 2 MiB that an archive may, both together to more."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.nii", "b.nii"):
            archive.writestr(name, bytes(range(256)) * 3600)
    answer = client.post("/v1/volumes", files=files(("1.zip", content.getvalue()), ("2.zip", content.getvalue())))
    assert answer.status_code == 413 and answer.json()["code"] == "too_large_unpacked", answer.text
    assert not list(temporary.iterdir())


def test_one_request_at_a_time(client: TestClient, tmp_path: Path) -> None:
    """A volume keeps the model busy; a second one is told when to come again."""
    lock = client.app.state.service.volumes
    client.portal.call(lock.acquire)
    try:
        answer = client.post("/v1/volumes", files=sent([write_nifti(tmp_path / "a.nii", 2)]))
    finally:
        client.portal.call(_released, lock)
    assert answer.status_code == 429 and answer.json()["code"] == "volumes_busy"
    assert int(answer.headers["retry-after"]) > 0


async def _released(lock: object) -> None:
    lock.release()  # type: ignore[attr-defined]


def test_work_stops_with_its_client(client: TestClient, tmp_path: Path, temporary: Path) -> None:
    content = write_nifti(tmp_path / "a.nii", 3).read_bytes()
    stop = threading.Event()
    stop.set()
    with pytest.raises(volumes._Stopped):
        volumes._answer(client.app.state.service, [Upload("a.nii", len(content), lambda: content)], stop)
    assert not list(temporary.iterdir())
