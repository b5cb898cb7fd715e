"""A ``predict`` that is stopped, in whatever way, loses no record, and ``--resume`` repeats none."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from volume_examples import slice_pixels

from detectclf.config import PredictConfig
from detectclf.errors import ConfigError
from detectclf.inference.loading import default_bundle
from detectclf.pipelines.predict import predict

RUN = """
import runpy, signal, sys, time
from detectclf.imaging import images
from detectclf.inference.journal import Journal

at, how, sys.argv = int(sys.argv[1]), sys.argv[2], ["detectclf", "predict", *sys.argv[3:]]
write, read = Journal.write, images.read_content

def writes(self, record):
    write(self, record)
    if self.count == at and "image" in record:
        signal.raise_signal(getattr(signal, how))

def reads(path, **limits):
    while str(path).endswith("silent.png"):  # as on a network share that is gone
        time.sleep(600)
    return read(path, **limits)

Journal.write, images.read_content = writes, reads
runpy.run_module("detectclf", run_name="__main__")
"""
JOURNAL = "predictions.partial.jsonl"


def start(folder: Path, out: Path, at: int, how: str) -> subprocess.Popen[str]:
    """Predicts in a process of its own, which ``how`` hits after ``at`` records."""
    words = [sys.executable, "-c", RUN, str(at), how, str(folder), "--out", str(out), "--batch-size", "2"]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=_listen)


def _listen() -> None:
    # Under nohup, signals of a closed terminal are ignored, and in the background of a shell's script Ctrl-C, by what
    # is started there as well.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def go_on(folder: Path, out: Path, **changes: Any) -> list[Any]:
    """Predicts in this process; gives the results that were made."""
    made: list[Any] = []
    config = changes.pop("config", PredictConfig(batch_size=2))
    predict([str(folder)], config, out=out, each=made.append, **changes)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slices, and a file that is none."""
    folder = tmp_path_factory.mktemp("slices")
    for number in range(4):
        Image.fromarray(slice_pixels(number)).save(folder / f"{number}.png")
    (folder / "2-broken.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    go_on(folder, out)
    return out / "predictions.jsonl"


@pytest.fixture(scope="module")
def killed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that is killed after its second record."""
    out = tmp_path_factory.mktemp("killed")
    process = start(folder, out, 2, "SIGKILL")
    assert process.communicate(timeout=120) and process.returncode == -signal.SIGKILL
    return out


def test_resume_gives_every_record_of_the_run(folder: Path, whole: Path, killed: Path, tmp_path: Path) -> None:
    """What ``--json`` prints must not depend on where a run was stopped; also where nothing is left to do."""
    out = Path(shutil.copytree(killed, tmp_path / "out"))
    for records_made in (3, 0):
        given: list[dict[str, Any]] = []
        made = go_on(folder, out, resume=True, earlier=given.append)
        assert len(made) == records_made
        assert [*given, *(each.to_record() for each in made)] == lines(whole)


def test_resume_gives_studies_after_their_slices(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("nibabel")
    from volume_examples import write_nifti

    volumes = tmp_path / "in"
    volumes.mkdir()
    for name in ("a.nii", "b.nii"):
        write_nifti(volumes / name, 3)
    (volumes / "c.nii").write_text("no volume")
    shutil.copy(folder / "1.png", volumes / "d.png")
    for format in ("jsonl", "json"):
        given: list[dict[str, Any]] = []
        made = [each.to_record() for each in go_on(volumes, tmp_path / format, format=format)]
        go_on(volumes, tmp_path / format, format=format, resume=True, earlier=given.append)
        names = ["study" if "slices" in each else Path(each["image"]).name for each in given]
        assert names == ["study" if "slices" in each else Path(each["image"]).name for each in made]
        assert names[:8] == [*["a.nii"] * 3, "study", *["b.nii"] * 3, "study"], names
    go_on(folder, tmp_path / "csv", format="csv")
    given.clear()
    go_on(folder, tmp_path / "csv", format="csv", resume=True, earlier=given.append)
    assert given == [] and "csv does not hold records in full" in caplog.text


def test_a_killed_run_goes_on(folder: Path, whole: Path, killed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(killed, tmp_path / "out"))
    assert lines(out / JOURNAL) == lines(whole)[:2] and not (out / "predictions.jsonl").exists()
    with (out / JOURNAL).open("a") as file:
        file.write('{"image": "half a li')
    with pytest.raises(ConfigError, match="--resume"):
        go_on(folder, out)  # what was made is not thrown away
    assert len(go_on(folder, out, resume=True)) == 3
    assert (out / "predictions.jsonl").read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in out.iterdir()) == ["predictions.jsonl", "run.json"]
    assert go_on(folder, out, resume=True) == [], "nothing is left to do"


@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP"])
def test_signals_that_end_a_program_save_like_ctrl_c(folder: Path, whole: Path, tmp_path: Path, how: str) -> None:
    process = start(folder, tmp_path, 2, how)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "interrupted; what was finished is saved" in said, said
    assert lines(tmp_path / "predictions.jsonl") == lines(tmp_path / JOURNAL) == lines(whole)[:2]
    assert len(go_on(folder, tmp_path, resume=True)) == 3
    assert (tmp_path / "predictions.jsonl").read_bytes() == whole.read_bytes()


def test_a_read_that_hangs_does_not_hold_up_an_interruption(folder: Path, tmp_path: Path) -> None:
    slices = Path(shutil.copytree(folder, tmp_path / "in"))
    (slices / "silent.png").write_bytes(b"x")
    process = start(slices, tmp_path / "out", -1, "")
    journal = tmp_path / "out" / JOURNAL
    deadline = time.monotonic() + 120
    while not (journal.exists() and len(lines(journal)) == 4) and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert len(lines(tmp_path / "out" / "predictions.jsonl")) == 4, "the two of the last batch were never made"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frame": 0}, "settings.frame"),
        ({"format": "csv"}, "settings.format"),
        ({"visualize": True}, "settings.visualize"),
        ({"config": PredictConfig(runtime="onnx")}, "model.runtime"),
        ("model", "model.sha256"),
        ("more", "inputs.count"),
        ("renamed", "inputs.sha256"),
        ("version", "detectclf"),
    ],
    ids=str,
)
def test_records_of_other_settings_are_not_mixed(
    folder: Path, killed: Path, tmp_path: Path, change: Any, said: str
) -> None:
    out, slices = Path(shutil.copytree(killed, tmp_path / "out")), folder
    changes = change if isinstance(change, dict) else {}
    if change == "model":
        changes["model"] = Path(shutil.copytree(default_bundle(), tmp_path / "bundle"))
        with (tmp_path / "bundle" / "bundle.json").open("a") as file:
            file.write("\n")
    elif change == "version":
        text = (out / "run.json").read_text()
        (out / "run.json").write_text(text.replace('"detectclf": "', '"detectclf": "0.'))
    elif change in ("more", "renamed"):
        slices = Path(shutil.copytree(folder, tmp_path / folder.name))
        if change == "more":
            Image.new("L", (64, 64)).save(slices / "new.png")
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(ConfigError, match=said):
        go_on(slices, out, resume=True, **changes)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_records_that_nothing_describes_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"no run\.json"):
        go_on(folder, tmp_path, resume=True)
    assert (tmp_path / "predictions.jsonl").read_text() == "{}\n"


def test_a_volume_goes_on_at_its_beginning(folder: Path, tmp_path: Path) -> None:
    """Its study needs the predictions of all its slices."""
    pytest.importorskip("nibabel")
    from volume_examples import write_nifti

    volumes = tmp_path / "in"
    volumes.mkdir()
    for name in ("a.nii", "b.nii"):
        write_nifti(volumes / name, 4)
    shutil.copy(folder / "1.png", volumes / "c.png")
    go_on(volumes, tmp_path / "whole")
    process = start(volumes, tmp_path / "out", 6, "SIGKILL")
    assert process.communicate(timeout=120) and process.returncode == -signal.SIGKILL
    made = go_on(volumes, tmp_path / "out", resume=True)
    assert len(made) == 4 + 1 + 1, "the second volume, its study, and the picture"
    for name in ("predictions.jsonl", "studies.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
