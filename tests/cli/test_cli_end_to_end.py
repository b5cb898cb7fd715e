"""The main job through the command line: the contract's keys, exit codes and files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

CLASSES = ["glioma", "meningioma", "no_tumor", "pituitary"]
RECORD = {
    *("image", "class", "confidence", "probabilities", "boxes", "flags", "width", "height", "model", "error"),
}
REPORT = {
    "data": {"split", "samples", "boxed", "sources", "sha256"},
    "detection": {"mAP", "mAP50", "mAP75", "per_class", "froc", "false_alarms_per_healthy_slice"},
    "classification": {
        *("accuracy", "balanced_accuracy", "macro_f1", "per_class", "confusion_matrix", "ece", "nll", "auroc"),
    },
    "combined": {"accuracy", "mAP", "mAP50", "joint_accuracy", "referred"},
    "stages": {"classifier_alone", "detector_alone"},
    "intervals": {"combined.accuracy", "combined.mAP"},
    "clean": {"samples", "combined", "detection"},
    "speed": {"images_per_second", "device"},
}
EVALUATE = ("--device", "cpu", "--set", "evaluate.bootstrap=20")


@pytest.fixture(scope="module")
def evaluated(cli, trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "report"
    said = cli("evaluate", "--data", trained.data, "--model", trained.bundle, "--out", out, *EVALUATE, "--json")
    assert said.code == 0, said.err
    return out, said


def test_each_training_step_says_one_json_document(trained):
    for stage in ("detector", "classifier"):
        summary = trained.said[f"train-{stage}"].document
        assert summary["epochs"] == 1 and summary["best_epoch"] == 1
        assert Path(summary["run"]) == getattr(trained, stage)
    assert set(trained.said["train-detector"].document["best"]) >= {"mAP", "mAP50"}
    assert set(trained.said["train-classifier"].document["best"]) >= {"accuracy", "macro_f1"}
    assert trained.said["bundle"].document["split"] == "valid"


def test_a_run_directory_has_what_a_later_reader_needs(trained):
    for run in (trained.detector, trained.classifier):
        for name in ("config.yaml", "env.json", "metrics.jsonl", "model.safetensors", "model.json"):
            assert (run / name).is_file(), f"{run.name} has no {name}"
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 1 and json.loads(lines[0])["epoch"] == 1


def test_no_pickle_is_ever_written(trained):
    kinds = {p.suffix for folder in (trained.detector, trained.classifier, trained.bundle) for p in folder.rglob("*.*")}
    assert not kinds & {".pt", ".pth", ".pkl", ".ckpt", ".bin"}


def test_report_has_every_key_of_the_contract(evaluated):
    out, said = evaluated
    report = said.document
    assert report == json.loads((out / "report.json").read_text(encoding="utf-8"))
    for part, keys in REPORT.items():
        assert keys <= set(report[part]), f"{part} lacks {keys - set(report[part])}"
    assert set(report["detection"]["per_class"]) == {"glioma", "meningioma", "pituitary"}
    assert {"AP", "AP50", "recall"} <= set(report["detection"]["per_class"]["glioma"])
    matrix = report["classification"]["confusion_matrix"]
    assert sum(map(sum, matrix)) == report["data"]["samples"] == 4
    assert "accuracy" in report["stages"]["classifier_alone"]
    assert {"accuracy", "mAP"} <= set(report["stages"]["detector_alone"])


def test_report_folder_is_whole_and_the_page_stands_alone(evaluated):
    out, _ = evaluated
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "data:image/" in page
    # Names of XML vocabularies look like addresses; only what a browser would load counts.
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*|url\((?!["']?data:|#)[^)]*""", page) == []
    assert len((out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 4


def test_evaluate_takes_two_runs_instead_of_a_bundle(cli, trained, tmp_path):
    runs = ("--detector", trained.detector, "--classifier", trained.classifier)
    said = cli("evaluate", "--data", trained.data, *runs, "--out", tmp_path / "report", *EVALUATE)
    assert said.code == 0, said.err
    assert "mAP" in said.out and "accuracy" in said.out
    assert said.out.rstrip().endswith(f"report: {tmp_path / 'report' / 'report.html'}")


def test_predict_says_one_record_per_image_and_draws_each(cli, trained, tmp_path):
    test = trained.data / "test"
    arguments = ("--model", trained.bundle, "--out", tmp_path, "--device", "cpu", "--visualize", "--json")
    said = cli("predict", test, *arguments)
    assert said.code == 0, said.err
    records = [json.loads(line) for line in said.out.splitlines()]
    assert [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()] == records
    assert len(records) == 4
    for record in records:
        assert set(record) == RECORD | {"picture"} and record["error"] is None
        assert (tmp_path / record["picture"]).is_file()
        assert list(record["probabilities"]) == CLASSES
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert record["class"] == max(record["probabilities"], key=record["probabilities"].get)
        scores = [box["score"] for box in record["boxes"]]
        assert scores == sorted(scores, reverse=True)
        for box in record["boxes"]:
            left, top, right, bottom = box["xyxy"]
            assert 0 <= left < right <= record["width"] and 0 <= top < bottom <= record["height"]
    pictures = sorted(tmp_path.glob("*.pred.png"))
    assert [p.name.removesuffix(".pred.png") for p in pictures] == sorted(p.stem for p in test.glob("*.jpg"))
    with Image.open(pictures[0]) as picture:
        assert min(picture.size) >= 256


@pytest.mark.parametrize("format", ["json", "csv", "coco", "yolo"])
def test_predict_writes_the_format_that_is_asked_for(cli, trained, tmp_path, format):
    arguments = ("--model", trained.bundle, "--out", tmp_path, "--device", "cpu", "--format", format, "--quiet")
    said = cli("predict", trained.data / "test", *arguments)
    assert (said.code, said.out, said.err) == (0, "", "")
    (file,) = tmp_path.glob("predictions.*")
    assert file.suffix == {"csv": ".csv", "yolo": ".jsonl"}.get(format, ".json")
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) >= 4 if format in ("csv", "yolo") else json.loads(text)


def test_predict_writes_into_folders_of_its_own_or_nowhere(cli, trained, tmp_path, monkeypatch):
    (picture, *_) = sorted((trained.data / "test").glob("*.jpg"))
    words = ("predict", picture, "--model", trained.bundle, "--device", "cpu")
    monkeypatch.chdir(tmp_path)
    assert cli(*words, "--json").document["image"] == str(picture)
    assert not list(tmp_path.iterdir()), "records on stdout need no folder"
    for folder in ("predictions", "predictions-2"):
        said = cli(*words)
        assert said.code == 0 and (tmp_path / folder / "predictions.jsonl").is_file() and folder in said.out
    assert cli(*words, "--resume").code == 0 and len(list(tmp_path.iterdir())) == 2, "goes on with the last"
    assert cli(*words, "--min-score", "0.1", "--all-candidates").code == 2


def test_an_interrupted_predict_keeps_the_records_it_made(cli, trained, tmp_path, monkeypatch):
    from detectclf.cli import output

    said_so_far = []

    def print_two(record):
        said_so_far.append(record)
        if len(said_so_far) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(output, "print_json", print_two)
    arguments = ("--model", trained.bundle, "--out", tmp_path, "--device", "cpu", "--json")
    said = cli("predict", trained.data / "test", *arguments)
    assert said.code == 130 and "saved" in said.err
    written = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["image"] for line in written] == [record["image"] for record in said_so_far]


def test_verbose_says_which_tensors_of_a_weights_file_matched_and_random_layers_are_not_frozen(cli, trained, tmp_path):
    train = ("train-classifier", "--data", trained.data, "--config", "demo-classifier", "--set", "model.image_size=64")
    once = (*train, "--epochs", "1", "--device", "cpu", "--set", "training.freeze_epochs=1", "--verbose")
    said = cli(*once, "--weights", trained.classifier / "model.safetensors", "--out", tmp_path / "tuned")
    assert said.code == 0, said.err
    assert "matched: block1.0.weight" in said.err and "unexpected: " in said.err
    assert "nothing is frozen" not in said.err
    assert "nothing is frozen" in cli(*once, "--out", tmp_path / "scratch").err


def test_compare_lists_evaluations_and_runs(cli, trained, evaluated, tmp_path):
    said = cli("compare", evaluated[0], trained.detector, trained.classifier, "--json")
    assert said.code == 0, said.err
    assert len(said.document["runs"]) == 3
    assert cli("compare", evaluated[0], evaluated[0], "--out", tmp_path / "board").code == 0
    assert any((tmp_path / "board").iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "check", "{data}"),
        ("data", "stats", "{data}"),
        ("data", "show", "{data}", "--out", "{out}/sheet.png", "--n", "2"),
        ("data", "convert", "{data}", "--to", "yolo", "--out", "{out}/yolo"),
        ("data", "split", "{data}", "--out", "{out}/split"),
        ("doctor",),
    ],
    ids=lambda a: " ".join(w for w in a[:2] if "{" not in w),
)
def test_json_is_all_of_stdout(cli, trained, tmp_path, arguments):
    filled = [word.format(data=trained.data, out=tmp_path) for word in arguments]
    said = cli(*filled, "--json")
    assert said.code == 0, said.err
    assert isinstance(said.document, dict)


def test_the_source_stays_byte_for_byte(cli, trained, tmp_path):
    def state():
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in trained.data.rglob("*") if p.is_file()}

    before = state()
    arguments = ("--model", trained.bundle, "--device", "cpu", "--visualize", "--out", tmp_path / "p")
    assert cli("predict", trained.data, *arguments).code == 0
    assert cli("data", "check", trained.data, "--fix", "--out", tmp_path / "mended").code == 0
    assert state() == before
