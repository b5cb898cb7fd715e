"""Bad input of every kind: the contract's exit code, and one line that names the file and the remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

CLASSIFIER = ("train-classifier", "--config", "demo-classifier", "--set", "model.image_size=64", "--epochs", "1")
DETECTOR = ("train-detector", "--config", "demo-detector", "--set", "model.image_size=96", "--epochs", "1")


def edit_annotations(change: Callable[[dict], None], split: str = "train") -> Callable[[Path], None]:
    def edit(data: Path) -> None:
        file = data / split / "_annotations.coco.json"
        document = json.loads(file.read_text(encoding="utf-8"))
        change(document)
        file.write_text(json.dumps(document), encoding="utf-8")

    return edit


def first_image(change: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda data: change(min((data / "train").glob("*.jpg"))) and None


def rename_glioma(document: dict) -> None:
    for category in document["categories"]:
        if category["name"].lower() == "glioma":
            category["name"] = "astrocytoma"


def no_annotations(data: Path) -> None:
    for file in data.rglob("*.json"):
        file.unlink()


FAULTS = {
    "no such folder": (shutil.rmtree, "no such folder"),
    # The images of an export lie in train/, valid/, test/: these are no classes.
    "no annotations": (no_annotations, "no annotations found"),
    "missing split": (lambda data: shutil.rmtree(data / "valid"), "data.valid_split"),
    "empty split": (edit_annotations(lambda d: d.update(images=[], annotations=[]), "valid"), "'valid'"),
    "unknown class": (edit_annotations(rename_glioma), "unknown class 'astrocytoma'"),
    "zero bytes": (first_image(lambda p: p.write_bytes(b"")), "empty (0 bytes)"),
    "cut short": (first_image(lambda p: p.write_bytes(p.read_bytes()[:1500])), "cut short"),
    "corrupt": (first_image(lambda p: p.write_bytes(bytes(range(256)) * 8)), "cannot be decoded"),
    "text named .jpg": (first_image(lambda p: p.write_text("hello")), "cannot be decoded"),
    "box outside": (
        edit_annotations(lambda d: d["annotations"][0].update(bbox=[600, 600, 100, 100])),
        "leaves the 256 x 256 image",
    ),
}


def assert_one_line(said, code: int, *words: object) -> None:
    lines = [line for line in said.err.splitlines() if line.startswith("detectclf: ")]
    assert said.code == code, said.err
    assert len(lines) == 1 and "Traceback" not in said.err and said.out == ""
    assert "; " in lines[0], "no remedy"
    for word in words:
        assert str(word) in lines[0]


@pytest.fixture
def data(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained.data, tmp_path / "export"))


@pytest.mark.parametrize("name", FAULTS)
def test_training_on_bad_data_is_one_line_and_no_run(cli, data, tmp_path, name):
    spoil, reason = FAULTS[name]
    spoil(data)
    said = cli(*CLASSIFIER, "--device", "cpu", "--data", data, "--out", tmp_path / "run", "--quiet")
    assert_one_line(said, 2, data, reason)
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("bundle", "--detector", "{data}", "--classifier", "{classifier}", "--data", "{data}"), "not a run directory"),
        (("bundle", "--detector", "{classifier}", "--classifier", "{detector}", "--data", "{data}"), "not a detector"),
        (("predict", "{data}", "--model", "{detector}"), "not a bundle"),
        (("predict", "{data}", "--model", "{nothing}"), "no such folder"),
        (("predict", "{data}", "--detector", "{detector}"), "--classifier"),
        (("predict", "{data}", "--model", "{bundle}", "--format", "xml"), "unknown format 'xml'"),
        (("predict", "{data}", "--model", "{bundle}", "--device", "tpu"), "unknown device 'tpu'"),
        (("evaluate", "--data", "{data}", "--model", "{bundle}", "--split", "dawn"), "split 'dawn'"),
        (("compare", "{data}"), "neither an evaluation nor a run"),
        ((*DETECTOR, "--data", "{data}", "--weights", "{classifier}/model.safetensors"), "another architecture"),
        ((*CLASSIFIER, "--data", "{data}", "--weights", "{detector}/model.safetensors"), "another architecture"),
        ((*CLASSIFIER, "--data", "{data}", "--weights", "{nothing}"), "no such weights file"),
        ((*DETECTOR, "--data", "{data}", "--arch", "yolo"), "no detector 'yolo'"),
        ((*DETECTOR, "--data", "{data}", "--set", "training.wings=2"), "training.wings: unknown setting"),
        ((*DETECTOR, "--data", "{data}", "--config", "{nothing}"), "no such recipe"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_or_setting_that_cannot_be_used(cli, trained, tmp_path, arguments, reason):
    names = {name: getattr(trained, name) for name in ("data", "detector", "classifier", "bundle")}
    filled = [word.format(**names, nothing=tmp_path / "nothing") for word in arguments]
    out = () if filled[0] == "compare" else ("--out", tmp_path / "out")
    assert_one_line(cli(*filled, *out), 2, reason)
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there(cli, trained, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    said = cli(*DETECTOR, "--data", trained.data, "--out", tmp_path / "run", "--device", "cuda")
    assert_one_line(said, 2, "no CUDA GPU", "--device auto or cpu")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("evaluate",), "Missing option '--data'"),
        (("tune",), "Missing option '--stage'. Choose from: detector, classifier; see"),  # click lists these in lines
        (("export", "--to", "tflite"), "'--to': 'tflite' is not one of 'onnx', 'openvino'"),
        (("data",), "Missing command"),
        (("paint",), "No such command 'paint'"),
        (("data", "stats", "x", "--jsn"), "No such option: --jsn"),
        (("train-detector", "--data", "x", "--epochs", "0"), "--epochs"),
        (("train-detector", "--data", "x", "--epochs", "many"), "--epochs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line_too(cli, arguments, reason):
    said = cli(*arguments)
    assert_one_line(said, 2, reason, "--help")
    assert len(said.err.splitlines()) == 1 and "\\n" not in said.err


def test_predict_does_what_it_can_of_a_folder(cli, trained, tmp_path):
    folder = shutil.copytree(trained.data / "test", tmp_path / "mixed")
    (folder / "text.jpg").write_text("hello")
    (folder / "zero.jpg").write_bytes(b"")
    arguments = ("--model", trained.bundle, "--out", tmp_path / "out", "--device", "cpu", "--json")
    said = cli("predict", folder, *arguments)
    records = [json.loads(line) for line in said.out.splitlines()]
    failed = [r for r in records if r["error"] is not None]
    assert said.code == 4 and len(records) == 6
    assert sorted(Path(r["image"]).name for r in failed) == ["text.jpg", "zero.jpg"]
    assert all(v is None for r in failed for k, v in r.items() if k not in ("image", "error"))
    assert len(said.err.splitlines()) == 3 and said.err.splitlines()[-1] == "2 of 6 could not be read"
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 6


def test_a_place_that_cannot_be_written_is_said_before_the_work(cli, trained, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "locked").mkdir()
    for out in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc/none")):
        said = cli("predict", trained.data / "test", "--model", trained.bundle, "--out", out, "--device", "cpu")
        assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
        assert "choose another --out" in said.err


def test_a_picture_that_cannot_be_written_costs_no_record(cli, trained, tmp_path):
    first = sorted((trained.data / "test").glob("*.jpg"))[0]
    blocked = tmp_path / f"{first.stem}.pred.png"
    blocked.mkdir()
    (blocked / "x").write_text("kept")
    arguments = ("--model", trained.bundle, "--out", tmp_path, "--device", "cpu", "--visualize", "--json")
    said = cli("predict", trained.data / "test", *arguments)
    assert said.code == 4 and len(said.err.splitlines()) == 1 and blocked.name in said.err
    assert len(said.out.splitlines()) == 4 == len((tmp_path / "predictions.jsonl").read_text().splitlines())
    assert len([p for p in tmp_path.glob("*.pred.png") if p.is_file()]) == 3


def test_maps_without_pictures_are_said_to_be_nowhere(cli, trained, tmp_path):
    arguments = ("--model", trained.bundle, "--out", tmp_path, "--device", "cpu", "--explain", "--json")
    said = cli("predict", trained.data / "test", *arguments)
    assert said.code == 0 and "--visualize" in said.err


def test_a_single_unreadable_image_is_2_and_a_bomb_is_3(cli, trained, tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    Image.new("1", (30000, 30000)).save(tmp_path / "bomb.png")
    for name, code in (("text.jpg", 2), ("nothing.jpg", 2), ("bomb.png", 3)):
        arguments = ("--model", trained.bundle, "--out", tmp_path / "out", "--device", "cpu", "--quiet")
        said = cli("predict", tmp_path / name, *arguments)
        assert (said.code, said.out, len(said.err.splitlines())) == (code, "", 1)
        assert name in said.err and ";" in said.err


def test_data_check_with_errors_is_2_and_still_one_document(cli, data):
    FAULTS["box outside"][0](data)
    said = cli("data", "check", data, "--json")
    assert said.code == 2
    assert "box_outside_image" in {p["code"] for p in said.document["problems"]}
