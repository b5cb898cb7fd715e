"""Runs and bundles: what is loaded predicts what was saved, and whatever is broken says so in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.errors import ModelError
from detectclf.models.anonymise import without_folders
from detectclf.models.bundle import Bundle, FusionParameters, load_bundle, save_bundle
from detectclf.models.classifiers import Classifier, build_classifier
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import load_stage, save_stage, weights_bytes

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
TUMORS = ("glioma", "meningioma", "pituitary")
DETECTOR = DetectorConfig(weights="none", image_size=64, proposals_test=10, score_threshold=0.0, box_loss="giou")
CLASSIFIER = ClassifierConfig(arch="cnn", weights="none", image_size=32, dropout=0.1)
FUSION = FusionParameters(1.3, 1.0, 0.4, (0.1, 0.0, -0.2, 0.1), 0.5, 0.42, 0.5, 0.6)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Untrained, its BatchNorm statistics moved a little."""
    torch.manual_seed(0)
    model = build_detector(DETECTOR, 3).train()
    model([torch.rand(1, 64, 64)], [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}])
    return model.eval()


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """Untrained, its BatchNorm statistics moved a little."""
    torch.manual_seed(0)
    model = build_classifier(CLASSIFIER, 4).train()
    model(torch.rand(4, 1, 32, 32))
    return model.eval()


@pytest.fixture
def run(tmp_path: Path, classifier: Classifier) -> Path:
    """A saved classifier."""
    stage = new_stage(classifier, CLASSES, negative="no_tumor", metadata={"epochs": 2})
    save_stage(tmp_path / "run", stage)
    return tmp_path / "run"


@pytest.fixture
def bundle(detector: Detector, classifier: Classifier) -> Bundle:
    """Both stages."""
    return Bundle(
        "test",
        "1",
        CLASSES,
        "no_tumor",
        {
            "detector": new_stage(detector, TUMORS, negative="no_tumor"),
            "classifier": new_stage(classifier, CLASSES, negative="no_tumor"),
        },
        FUSION,
        {"data": {"samples": 7}},
    )


def test_detector_round_trip(detector: Detector, tmp_path: Path) -> None:
    save_stage(tmp_path, new_stage(detector, TUMORS, negative="no_tumor"))
    stage = load_stage(tmp_path, "detector")
    loaded, meta = stage.network, stage.meta
    assert stage.network.config == DETECTOR and stage.preprocessing == meta.preprocessing
    assert meta.classes == TUMORS and meta.preprocessing.size == 64 and meta.kind == "detector"
    image = [torch.rand(1, 64, 48)]
    with torch.inference_mode():
        before, after = detector(image)[0], loaded(image)[0]
    assert len(before["scores"]) and all(torch.equal(before[key], after[key]) for key in before)


def test_classifier_round_trip_of_a_channels_last_model(classifier: Classifier, run: Path) -> None:
    saved = new_stage(classifier.to(memory_format=torch.channels_last), CLASSES, negative="no_tumor")
    save_stage(run, saved)
    stage = load_stage(run, "classifier")
    loaded = stage.network
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(classifier(images), loaded(images), atol=1e-6)
    assert stage.meta == saved.meta and not loaded.training


def test_preprocessing_written_beats_the_table(run: Path) -> None:
    content = json.loads((run / "model.json").read_text())
    content["preprocessing"]["mean"] = [0.25]
    content["config"]["image_size"] = None
    (run / "model.json").write_text(json.dumps(content))
    loaded = load_stage(run, "classifier").network
    assert loaded.mean.flatten().tolist() == [0.25]
    assert loaded.input_size == 32, "the size written, not the default of the architecture"


@pytest.mark.parametrize("weights", ["/home/somebody/secret/w.safetensors", "somebody/w.safetensors"])
def test_names_of_folders_stay_at_home(classifier: Classifier, monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    monkeypatch.setattr(classifier, "config", CLASSIFIER.model_copy(update={"weights": weights}))
    meta = new_stage(classifier, CLASSES, negative=None).meta
    assert meta.config["weights"] == "w.safetensors" and "somebody" not in meta.model_dump_json()


def test_only_the_last_name_of_a_path_is_published() -> None:
    value = {"a": ["/home/somebody/data", "train/valid", 3, None], "b": (Path("somebody/run"), {"c": "/x/y.txt"})}
    assert without_folders(value) == {"a": ["data", "train/valid", 3, None], "b": ("run", {"c": "y.txt"})}
    words = ["--set", "data.head_maps=/home/somebody/heads", "--data=/x/y", "training.lr=1e-3", "a=b/c"]
    assert without_folders(words) == ["--set", "data.head_maps=heads", "--data=y", "training.lr=1e-3", "a=b/c"]
    stores = ["s3://clinic/a/x", "https://host/y.tar?key=secret=1", "--data=file:///home/somebody/z/", "/a/b/"]
    assert without_folders(stores) == ["x", "y.tar", "--data=z", "b"]


def test_wrong_number_of_class_names_is_refused(classifier: Classifier) -> None:
    with pytest.raises(ModelError, match="3 class names"):
        new_stage(classifier, TUMORS, negative=None)


def edit(key: str, value: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        content = json.loads((run / "model.json").read_text())
        content[key] = value
        (run / "model.json").write_text(json.dumps(content))

    return change


def poison(run: Path) -> None:
    state = load_file(run / "model.safetensors")
    state["head.bias"][0] = float("nan")
    save_file(state, run / "model.safetensors")


def truncate(run: Path) -> None:
    content = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(content[:-100])


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no description": (lambda run: (run / "model.json").unlink(), "not a run directory"),
    "no weights": (lambda run: (run / "model.safetensors").unlink(), "no such weights file"),
    "description is no JSON": (lambda run: (run / "model.json").write_text("{"), "not JSON"),
    "deeply nested JSON": (lambda run: (run / "model.json").write_text("[" * 100_000), "not JSON"),
    "description is a list": (lambda run: (run / "model.json").write_text("[]"), "not a description"),
    "another format version": (edit("format_version", 2), "format_version"),
    "unknown key": (edit("surprise", 1), "surprise"),
    "bad setting": (edit("config", {"image_size": -3, "typo": 1}), "not a description"),
    "no classes": (edit("classes", []), "classes"),
    "fewer classes than the weights": (edit("classes", ["a", "b"]), "another architecture"),
    "another architecture": (edit("arch", "mlp"), "another architecture"),
    "an architecture nobody knows": (edit("arch", "lenet"), "no classifier 'lenet'"),
    "the other stage": (edit("kind", "detector"), "is a detector"),
    "a stage nobody knows": (edit("kind", "segmenter"), "should be one of detector, classifier"),
    "a stage of earlier versions": (edit("kind", "refiner"), "is a refiner, a stage that this version no longer runs"),
    "weights not finite": (poison, "not finite"),
    "weights cut off": (truncate, "corrupted"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_run_is_one_line(run: Path, case: str) -> None:
    breaks, reason = BROKEN[case]
    breaks(run)
    with pytest.raises(ModelError, match=reason) as caught:
        load_stage(run, "classifier")
    assert "\n" not in str(caught.value) and caught.value.remedy


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_stage(tmp_path / "nowhere", "detector")


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-6), (True, 0.02)])
def test_bundle_round_trip(bundle: Bundle, tmp_path: Path, half: bool, tolerance: float) -> None:
    save_bundle(tmp_path / "b", bundle, half=half)
    loaded = load_bundle(tmp_path / "b")
    assert (loaded.name, loaded.version, loaded.classes, loaded.negative) == ("test", "1", CLASSES, "no_tumor")
    assert loaded.fusion == FUSION and loaded.metadata == bundle.metadata
    assert {k: s.meta for k, s in loaded.stages.items()} == {k: s.meta for k, s in bundle.stages.items()}
    content = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert content["facts"] == bundle.metadata
    detector, classifier = loaded.stages["detector"].network, loaded.stages["classifier"].network
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        assert (classifier(images) - bundle.stages["classifier"].network(images)).abs().max() < tolerance
        assert len(detector([torch.rand(1, 64, 64)])[0]["scores"])
    assert next(detector.parameters()).dtype == torch.float32


def test_half_precision_halves_the_file_and_spares_the_vectors(bundle: Bundle, tmp_path: Path) -> None:
    for name, half in (("whole", False), ("half", True)):
        save_bundle(tmp_path / name, bundle, half=half)
    sizes = [(tmp_path / name / "detector.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.53 * sizes[1]
    state = load_file(tmp_path / "half" / "classifier.safetensors")
    assert state["network.block1.1.running_var"].dtype == torch.float32
    assert state["head.weight"].dtype == torch.float16


def test_weights_that_float16_cannot_hold_stay_in_float32() -> None:
    """As infinite numbers they would make a bundle that nothing can run, of runs that were fine."""
    layer = torch.nn.Linear(8, 8)
    with torch.no_grad():
        layer.weight[0, 0] = 1e5
    state = load(weights_bytes(layer, half=True))
    assert state["weight"].dtype == torch.float32 and torch.equal(state["weight"], layer.weight)


def edit_bundle(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "bundle.json").read_text())
        content[key] = value
        (folder / "bundle.json").write_text(json.dumps(content))

    return change


BROKEN_BUNDLES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no description": (lambda folder: (folder / "bundle.json").unlink(), "not a bundle"),
    "a part is missing": (lambda folder: (folder / "detector.safetensors").unlink(), "missing from the bundle"),
    "a byte is another": (
        lambda folder: (folder / "classifier.safetensors").write_bytes(
            (folder / "classifier.safetensors").read_bytes()[:-1] + b"x"
        ),
        "corrupted",
    ),
    "classes of another bundle": (edit_bundle("classes", ["a", "b", "c", "d"]), "differ"),
    "a stage of earlier versions": (
        lambda folder: edit_bundle("refiner", json.loads((folder / "bundle.json").read_text())["classifier"])(folder),
        "has a refiner, a stage that this version no longer runs; bundle its runs again without it",
    ),
    "no classifier": (edit_bundle("classifier", None), "classifier"),
    "a classifier in the detector's place": (
        lambda folder: edit_bundle("detector", json.loads((folder / "bundle.json").read_text())["classifier"])(folder),
        "is a classifier, not a detector",
    ),
    "no fusion": (edit_bundle("fusion", None), "fusion"),
    "another format": (edit_bundle("format", "zip"), "format"),
}


@pytest.mark.parametrize("case", BROKEN_BUNDLES)
def test_a_broken_bundle_is_one_line(bundle: Bundle, tmp_path: Path, case: str) -> None:
    breaks, reason = BROKEN_BUNDLES[case]
    save_bundle(tmp_path, bundle)
    breaks(tmp_path)
    with pytest.raises(ModelError, match=reason) as caught:
        load_bundle(tmp_path)
    assert "\n" not in str(caught.value) and caught.value.remedy


OLD_PARAMETERS: dict[str, dict[str, Any]] = {
    "version 4": {
        "refiner_weight": 0.0,
        "refined_score_weights": [0.75, 0.25, 0.0],
        "refined_box_weight": 0.5,
        "tta": True,
    },
    "version 3": {"place_weight": 0.0, "place_weights": [0.75, 0.25, 0.0], "place_mix": 0.5, "mirror": True},
}


@pytest.mark.parametrize("version", OLD_PARAMETERS)
def test_a_bundle_of_two_stages_from_an_earlier_version_is_read(
    bundle: Bundle, tmp_path: Path, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier versions wrote parameters of a refiner, and an empty description of it, where there was none."""
    save_bundle(tmp_path, bundle)
    content = json.loads((tmp_path / "bundle.json").read_text())
    old = content["fusion"] | OLD_PARAMETERS[version]
    content |= {"fusion": old, "refiner": None, "format_version": int(version[-1])}
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    assert load_bundle(tmp_path).fusion == FUSION
    assert [r for r in caplog.records if "fitted with mirror images" in r.message]
