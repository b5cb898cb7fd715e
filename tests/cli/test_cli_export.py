"""``export``: a folder that runs without detectclf, and one line for what cannot be exported."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detectclf.boxes import pairwise_iou
from detectclf.config import ClassifierConfig, DetectorConfig, PredictConfig
from detectclf.errors import ModelError
from detectclf.inference.fusion import FusionClasses, default_fusion, fused_probabilities
from detectclf.inference.loading import default_bundle, load
from detectclf.inference.predictor import Predictor
from detectclf.inference.runtimes.engines import OpenVINO
from detectclf.models.bundle import Bundle, load_bundle, save_bundle
from detectclf.models.bundle_arrays import OODStatistics
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import build_detector
from detectclf.models.graphs.export import graph_bytes
from detectclf.models.stage import Stage, new_stage
from detectclf.sample_data.export import write_sample_data
from detectclf.sample_data.slices import sample_slice

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "read_export.py"
CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
TUMORS = ("glioma", "meningioma", "pituitary")
FAR = 1000.0
"""A distance that no slice reaches."""


@pytest.fixture(scope="module")
def model() -> Predictor:
    return load()


@pytest.fixture(scope="module")
def exported(cli, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packaged model in each format."""
    root = tmp_path_factory.mktemp("exported")
    for to in ("onnx", "openvino"):
        said = cli("export", "--to", to, "--out", root / to, "--json")
        assert said.code == 0, said.err
        assert said.document == {"export": str(root / to), "to": to, "int8": None}
    return {to: root / to for to in ("onnx", "openvino")}


@pytest.mark.parametrize(
    ("to", "files"),
    [
        ("onnx", {"bundle.json", *(f"{k}.{e}" for k in ("detector", "classifier") for e in ("onnx", "safetensors"))}),
        ("openvino", {f"{k}.{e}" for k in ("detector", "classifier") for e in ("xml", "bin")}),
    ],
)
def test_the_folder_is_whole_and_described(exported, to, files):
    assert {file.name for file in exported[to].iterdir()} == {*files, "model.json", "novelty.safetensors"}
    model = json.loads((exported[to] / "model.json").read_text(encoding="utf-8"))
    assert (model["format"], model["runtime"], model["precision"]) == ("detectclf-export", to, "float32")
    assert model["sha256"].keys() == files - {"bundle.json"} | {"novelty.safetensors"}
    for name, digest in model["sha256"].items():
        assert hashlib.sha256((exported[to] / name).read_bytes()).hexdigest() == digest
    assert all(graph["file"] in model["sha256"] for graph in model["graphs"].values())
    assert model["classes"] == list(CLASSES) and model["detector_classes"] == list(TUMORS)
    assert "it has no class" in model["out_of_distribution"]["meaning"], "refused must not read as healthy"


def test_graphs_take_batches_of_any_size(exported):
    model = json.loads((exported["openvino"] / "model.json").read_text(encoding="utf-8"))
    for graph in model["graphs"].values():
        engine = OpenVINO(exported["openvino"] / graph["file"], "cpu", tuple(graph["outputs"]))
        for batch in (1, 3):
            outputs = engine(np.zeros((batch, 1, graph["size"], graph["size"]), dtype=np.uint8))
            assert outputs.keys() == graph["outputs"].keys()
            assert all(len(value) == batch for value in outputs.values())


def test_an_onnx_export_is_a_bundle(exported, model):
    pixels = sample_slice(5, "meningioma", "sagittal").pixels
    here, there = load(exported["onnx"]).predict(pixels), model.predict(pixels)
    assert here.probabilities == there.probabilities and here.model == there.model


@pytest.mark.parametrize(
    ("to", "label", "size", "near"),
    [
        ("openvino", "glioma", (500, 620), 2e-3),
        ("onnx", "meningioma", (384, 300), 2e-3),  # the detector's own size
        # OpenCV enlarges in fixed point, a grey level off here and there. Scores of faint tumours are sensitive to
        # that; this one is plain.
        ("onnx", "meningioma", (256, 256), 1e-2),
    ],
)
def test_the_example_reads_it_without_detectclf(exported, model, tmp_path, to, label, size, near):
    picture = tmp_path / "slice.png"
    Image.fromarray(sample_slice(4, label, "coronal").pixels).resize(size).save(picture)
    found = read_by_example(exported[to], picture)
    wanted = model.predict(picture).before_fusion.outputs
    # Steps 1 to 3; that the drawn slice is unlike the training slices is step 7.
    probabilities = fused_probabilities(wanted, model.bundle.fusion, model.names)
    assert list(found["probabilities"]) == list(CLASSES)
    assert list(found["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=near)
    best = [i for i, score in enumerate(wanted.scores) if score >= 0.1]
    assert best
    for i in best:
        box = found["boxes"][i]
        assert (box["class"], box["score"]) == (wanted.box_labels[i], pytest.approx(float(wanted.scores[i]), abs=near))
        assert pairwise_iou(np.array([box["xyxy"]]), wanted.boxes_xyxy[[i]])[0, 0] > 1 - near


def read_by_example(export: Path, picture: Path) -> dict[str, Any]:
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-E", EXAMPLE, export, picture]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    content: dict[str, Any] = json.loads(said.stdout)
    return content


@pytest.mark.parametrize(
    ("detector_classes", "negative"),
    [
        (("glioma", "meningioma", "other"), "no_tumor"),  # the detector does not know pituitary
        (("glioma", "meningioma", "no_tumor"), "no_tumor"),  # it was trained on boxes of healthy tissue as well
        (TUMORS, None),  # every slice shows a tumour
    ],
)
def test_the_example_reads_models_of_other_classes(exported, model, tmp_path, detector_classes, negative):
    export = shutil.copytree(exported["openvino"], tmp_path / "export")
    content = json.loads((export / "model.json").read_text(encoding="utf-8"))
    changed = {"detector_classes": detector_classes, "negative": negative}
    (export / "model.json").write_text(json.dumps(content | changed), encoding="utf-8")
    picture = tmp_path / "slice.png"
    Image.fromarray(sample_slice(4, "glioma", "coronal").pixels).resize((500, 620)).save(picture)
    outputs = model.predict(picture).before_fusion.outputs
    own = dict(zip(TUMORS, detector_classes, strict=True))
    outputs = replace(outputs, box_labels=tuple(own[name] for name in outputs.box_labels))
    names = FusionClasses(CLASSES, negative, detector_classes)
    wanted = fused_probabilities(outputs, model.bundle.fusion, names)
    found = read_by_example(export, picture)["probabilities"]
    assert list(found.values()) == pytest.approx(wanted.tolist(), abs=2e-3)


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    import torch

    torch.manual_seed(0)
    config = DetectorConfig(arch="fasterrcnn_small_fpn", weights="none", image_size=64, proposals_test=15, max_boxes=8)
    detector = build_detector(config, len(TUMORS)).eval()
    classifier = build_classifier(ClassifierConfig(arch="mlp", weights="none", image_size=64), len(CLASSES)).eval()
    stages = {
        "detector": new_stage(detector, TUMORS, negative=None),
        "classifier": new_stage(classifier, CLASSES, negative="no_tumor"),
    }
    bundle = Bundle("tiny", "1", CLASSES, "no_tumor", stages, default_fusion(CLASSES))
    pixels = sample_slice(0, "glioma", "axial").pixels
    count = Predictor(bundle, PredictConfig(runtime="torch")).statistics_many([pixels]).shape[1]
    return replace(bundle, ood=OODStatistics(np.zeros(count, np.float32), np.eye(count, dtype=np.float32), FAR, FAR))


@pytest.fixture(scope="module")
def made(cli, tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a tiny bundle that had no graphs."""
    root = tmp_path_factory.mktemp("made")
    save_bundle(root / "bundle", tiny)
    said = cli("export", root / "bundle", "--to", "onnx", "--out", root / "out")
    assert said.code == 0, said.err
    return root / "out"


def test_a_bundle_without_graphs_gets_them(made):
    model = load(made, runtime="onnx")
    assert (model.name, model.runtime.name) == ("tiny 1", "onnx")


def test_an_architecture_without_a_graph_is_refused_by_name(tiny, tmp_path):
    import torch

    class Undecided(torch.nn.Module):
        def forward(self, images):
            return images[:, 0] if images.mean() > 0.5 else images[:, 0, 0]

    stage = tiny.stages["classifier"]
    with pytest.raises(ModelError, match=r"classifier mlp cannot be exported: .*--no-export"):
        graph_bytes(Stage(stage.meta, Undecided), tmp_path / "classifier.safetensors")


@pytest.fixture(scope="module")
def small(cli, made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The tiny bundle in int8, a slice, and what the command said."""
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    root = tmp_path_factory.mktemp("int8")
    data, out = write_sample_data(root / "data", n=24), root / "out"
    said = cli("export", made, "--to", "onnx", "--int8", "--data", data, "--split", "train", "--limit", 8, "--out", out)
    assert said.code == 0, said.err
    return out, min((data / "train").glob("*.jpg")), said.out


def test_int8_is_a_bundle_that_says_what_it_loses(small, made, cli, tmp_path):
    out, picture, said = small
    assert not (out / "detector.safetensors").exists()
    content = json.loads((out / "model.json").read_text(encoding="utf-8"))
    measured = content["int8"]
    assert measured["calibration_slices"] == measured["measured_slices"] == 4
    lines = said.splitlines()
    assert lines[0].split() == ["float32", "int8", "loss"] and len(lines) == 3 + len(measured["loss"])
    for name in ("accuracy", "mAP"):
        assert measured["loss"][name] == pytest.approx(measured["float32"][name] - measured["int8"][name], abs=1e-4)
    # The thresholds moved with the features.
    assert content["out_of_distribution"]["threshold"] != pytest.approx(FAR, rel=1e-9)
    predicted = cli("predict", picture, "--model", out, "--out", tmp_path, "--json")
    assert predicted.code == 0, predicted.err
    exact = load(made).predict(picture)
    assert max(abs(predicted.document["probabilities"][k] - p) for k, p in exact.probabilities.items()) < 0.2


def test_int8_is_evaluated_and_knows_its_size(small, made, cli, tmp_path):
    out, picture, _ = small
    data = ("--data", picture.parents[1], "--split", "train", "--limit", 8)
    said = cli("evaluate", *data, "--model", out, "--out", tmp_path, "--json", "--set", "evaluate.bootstrap=0")
    assert said.code == 0, said.err
    sizes = [{kind: stage.parameters for kind, stage in load(b).bundle.stages.items()} for b in (out, made)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "{picture}", "--model", "{int8}", "--runtime", "torch", "--out", "{out}"), "int8 only"),
        (
            ("predict", "{picture}", "--model", "{int8}", "--visualize", "--explain", "--out", "{out}"),
            "activation maps need torch",
        ),
        (("export", "{int8}", "--to", "openvino", "--out", "{out}"), "in int8 already"),
    ],
)
def test_what_int8_cannot_do_is_said_in_one_line(small, cli, tmp_path, arguments, words):
    known = {"int8": small[0], "picture": small[1], "out": tmp_path / "out"}
    assert_one_line(cli(*(a.format(**known) for a in arguments)), words)


def nothing(folder: Path) -> None:
    pass


def no_bundle(folder: Path) -> None:
    shutil.rmtree(folder)


def damaged(folder: Path) -> None:
    (folder / "detector.onnx").write_bytes(b"not a graph")


def damaged_with_its_digest(folder: Path) -> None:
    damaged(folder)
    content = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    content["sha256"]["detector.onnx"] = hashlib.sha256(b"not a graph").hexdigest()
    (folder / "bundle.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("fault", "further", "words"),
    [
        (no_bundle, (), "no such folder"),
        (damaged, (), "corrupted"),
        (damaged_with_its_digest, (), "cannot be opened"),
        (nothing, ("--int8",), "add --data"),
        (nothing, ("--data", "{data}"), "with --int8 only"),
        (nothing, ("--limit", "5"), "with --int8 only"),
        (nothing, ("--int8", "--data", "{folder}/none"), "none"),
        # The last --out counts.
        (nothing, ("--out", "{folder}"), "not an empty folder"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(cli, tmp_path, fault: Callable[[Path], None], further, words):
    folder, out = tmp_path / "bundle", tmp_path / "out"
    shutil.copytree(default_bundle(), folder)
    fault(folder)
    extra = (a.format(data=tmp_path, folder=folder) for a in further)
    assert_one_line(cli("export", folder, "--to", "openvino", "--out", out, *extra), words)
    assert sorted(p.name for p in tmp_path.iterdir()) in (["bundle"], [])


def test_weights_that_are_missing_are_still_noticed(tiny, tmp_path):
    save_bundle(tmp_path, replace(tiny))
    (tmp_path / "detector.safetensors").unlink()
    with pytest.raises(ModelError, match="missing from the bundle"):
        load_bundle(tmp_path)


def assert_one_line(said, words: str) -> None:
    assert said.code == 2 and said.out == ""
    assert words in said.err and said.err.count("\n") == 1, said.err


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ((), True),
        (("--no-export",), False),
        (("--set", "bundle.export=false"), False),  # a flag that nobody gave must not override it
        (("--export", "--set", "bundle.export=false"), True),
    ],
)
def test_whether_bundle_writes_graphs(cli, tmp_path, monkeypatch, flags, wanted):
    seen = []

    def fitted(runs, recipe, *_, **__):
        seen.append(recipe.bundle.export)
        return {"bundle": "", "samples": 0, "split": ""}

    # Only what the flags become is looked at; fitting a bundle takes a minute.
    monkeypatch.setattr("detectclf.pipelines.bundle.bundle", fitted)
    given = ("--detector", tmp_path, "--classifier", tmp_path, "--data", tmp_path, "--out", tmp_path)
    assert cli("bundle", *given, *flags).code == 0
    assert seen == [wanted]
