"""Folders that nobody named: none is left behind by a command that made nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detectclf.datasets.index import SliceIndex
from detectclf.sample_data.export import write_sample_data
from detectclf.sample_data.slices import sample_slice


@pytest.fixture
def slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two slices and a file that is none, in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(sample_slice(number, "glioma", "axial").pixels).save(folder / f"{number}.png")
    (folder / "bad.png").write_text("no picture")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("typo.png",),
        ("typo.png", "--visualize", "--format", "csv"),
        ("slices/bad.png", "--format", "yolo"),
        ("slices/bad.png", "--json", "--visualize"),
        ("slices", "--model", "gone"),
        ("empty",),
        ("slices", "--visualize", "--explain", "--detector", "gone", "--classifier", "gone"),
    ],
    ids=" ".join,
)
def test_predict_leaves_no_folder_where_nothing_was_read(cli, slices, arguments) -> None:
    (slices.parent / "empty").mkdir()
    before = sorted(slices.parent.rglob("*"))
    said = cli("predict", *arguments)
    assert said.code == 2 and len(said.err.splitlines()) >= 1
    assert sorted(slices.parent.rglob("*")) == before


def test_a_folder_that_was_named_gets_the_records_of_errors(cli, slices) -> None:
    """Scripts look there for why a picture has no prediction."""
    assert cli("predict", "typo.png", "--out", "named").code == 2
    assert "cannot be read" in (slices.parent / "named" / "predictions.jsonl").read_text(encoding="utf-8")


def test_predict_says_in_the_end_how_many_could_not_be_read(cli, slices) -> None:
    for more in ((), ("--json",), ("--resume",)):
        said = cli("predict", "slices", "--out", "resumed" if more == ("--resume",) else "out" + "".join(more), *more)
        assert said.code == 4 and said.err.splitlines()[-1] == "1 of 3 could not be read", said.err
    assert cli("predict", "slices", "--out", "resumed", "--resume").err.splitlines() == [
        "resumed: the run had come to its end",
        "1 of 3 could not be read",
    ]
    assert cli("predict", "slices", "--quiet", "--out", "quiet").err.splitlines() == [
        "slices/bad.png: image cannot be decoded; replace or remove it"
    ]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (("--out", "runs/detectr"), "runs/detectr: no run to go on with, did you mean detector?; correct --out"),
        (("--out", "elsewhere/detector"), "elsewhere/detector: no run to go on with; correct --out, or name a folder"),
        ((), "no run to go on with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_misspelt_run_to_resume_is_told_as_such(cli, slices, out, said) -> None:
    (slices.parent / "runs" / "detector").mkdir(parents=True)
    (slices.parent / "runs" / "detector" / "config.yaml").touch()
    answer = cli("train-detector", "--resume", *out)
    assert answer.code == 2 and said in answer.err and len(answer.err.splitlines()) == 1
    assert "no data given" in cli("train-detector").err
    assert sorted(each.name for each in slices.parent.iterdir()) == ["runs", "slices"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data", "split", "DATA", "--out", "full"), "full: exists and is not an empty folder"),
        (("data", "check", "DATA", "--fix", "--out", "full"), "full: exists and is not an empty folder"),
        (("data", "check", "DATA", "--sheet", "sheet.txt"), "sheet.txt: a picture is .png, .jpg or .webp"),
        (
            ("bundle", "--data", "DATA", "--detector", "gone", "--classifier", "gone", "--out", "full"),
            "full: exists and is not an empty folder",
        ),
        (("data", "convert", "DATA", "--to", "yollo", "--out", "new"), "unknown format 'yollo', did you mean yolo?"),
        (("predict", ""), "an input is empty; name a file or folder; is a variable not set?"),
        (("predict", "slices", "--format", "jsnl"), "did you mean jsonl?"),
        (("bench", "--runtime", "opnvino"), "did you mean openvino?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_the_end_of_the_work_would_refuse_is_refused_before_it(cli, slices, monkeypatch, arguments, said) -> None:
    """Reading all slices for nothing takes minutes."""
    monkeypatch.setattr(SliceIndex, "look_up", lambda *of: pytest.fail("slices were read first"))
    data = write_sample_data(slices.parent / "data", n=12, seed=0)
    (slices.parent / "full").mkdir()
    (slices.parent / "full" / "notes.txt").touch()
    answer = cli(*(str(data) if word == "DATA" else word for word in arguments))
    assert answer.code == 2 and said in answer.err and len(answer.err.splitlines()) == 1
    assert sorted(each.name for each in slices.parent.iterdir()) == ["data", "full", "slices"]
