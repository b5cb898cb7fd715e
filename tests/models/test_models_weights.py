"""Pretrained weights: every layout fits, strangers are refused, and nothing in a file is run."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.errors import DetectclfError, ModelError, UnsafeError
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import build_detector
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import save_stage
from detectclf.models.weights import WeightsReport, fill

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def resnet18() -> State:
    """A whole ResNet-18 of 1000 classes, as torchvision writes it."""
    from torchvision.models import resnet18

    torch.manual_seed(3)
    return dict(resnet18(weights=None).state_dict())


@pytest.fixture(scope="module")
def mobilenet() -> State:
    """A whole MobileNetV2 of 1000 classes."""
    from torchvision.models import mobilenet_v2

    torch.manual_seed(3)
    return dict(mobilenet_v2(weights=None).state_dict())


def prefixed(prefix: str) -> Callable[[State], Any]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def features_only(state: State) -> State:
    return {n: t for n, t in state.items() if n.startswith("features.")}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "DataParallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "Lightning": lambda state: {"state_dict": prefixed("model.")(state), "epoch": 3},
    "wrapped twice": prefixed("module._orig_mod."),
    "as somebody's backbone": prefixed("backbone."),
    "features only": features_only,
    "features without their name": lambda s: {n.removeprefix("features."): t for n, t in features_only(s).items()},
    "half precision": lambda s: {n: t.half() if t.is_floating_point() else t for n, t in s.items()},
    "no counters": lambda s: {n: t for n, t in s.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_fill_classifier_and_detector(mobilenet: State, tmp_path: Path, layout: str) -> None:
    file = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](mobilenet), file)
    classifier = build_classifier(ClassifierConfig(weights=str(file), image_size=32), 4)
    report = classifier.weights_report
    assert len(report.matched) == 260 and not report.missing and not report.mismatched
    stem = classifier.network.features[0][0].weight
    assert torch.allclose(stem, mobilenet["features.0.0.weight"], atol=1e-3)

    detector = build_detector(DetectorConfig(weights=str(file), image_size=64), 3)
    body = [name for name in detector.weights_report.matched if name.startswith("backbone.body.")]
    assert len(body) == len(detector.weights_report.matched) == 255
    assert not any(name.startswith("backbone.body.") for name in detector.weights_report.missing)
    assert torch.allclose(detector.network.backbone.body["0"][0].weight, stem)


def test_weights_of_our_own_runs_fit_other_class_counts(tmp_path: Path) -> None:
    config = DetectorConfig(weights="none", image_size=64)
    old = build_detector(config, 3)
    save_stage(tmp_path / "detector", new_stage(old, ["a", "b", "c"], negative=None))
    new = build_detector(DetectorConfig(weights=str(tmp_path / "detector"), image_size=64), 5)
    assert torch.equal(
        new.network.backbone.fpn.inner_blocks[0][0].weight, old.network.backbone.fpn.inner_blocks[0][0].weight
    )
    assert set(new.weights_report.mismatched) == {
        f"roi_heads.box_predictor.{layer}.{kind}" for layer in ("cls_score", "bbox_pred") for kind in ("weight", "bias")
    }
    cnn = ClassifierConfig(arch="cnn", weights="none", image_size=32)
    first = build_classifier(cnn, 4)
    save_stage(tmp_path / "classifier", new_stage(first, list("abcd"), negative=None))
    file = tmp_path / "classifier" / "model.safetensors"
    second = build_classifier(cnn.model_copy(update={"weights": str(file)}), 7)
    assert torch.equal(second.network.block1[0].weight, first.network.block1[0].weight)
    assert second.weights_report.missing == second.weights_report.mismatched == ()


def test_stock_detector_takes_coco_layout_without_its_head(tmp_path: Path) -> None:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    coco = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=91)
    save_file(coco.state_dict(), tmp_path / "coco.safetensors")
    config = DetectorConfig(
        arch="fasterrcnn_mobilenet_v3_large_320_fpn", weights=str(tmp_path / "coco.safetensors"), image_size=64
    )
    report = build_detector(config, 3).weights_report
    assert not report.missing and not report.unexpected
    assert {name.split(".")[1] for name in report.mismatched} == {"box_predictor"}


def test_timm_names_of_pyramids_are_found(tmp_path: Path) -> None:
    import timm

    # features_only models say stages_0 where the whole model says stages.0.
    save_file(timm.create_model("convnext_atto", pretrained=False).state_dict(), tmp_path / "w.safetensors")
    config = DetectorConfig(
        arch="fasterrcnn_timm:convnext_atto", weights=str(tmp_path / "w.safetensors"), image_size=64
    )
    report = build_detector(config, 3).weights_report
    assert not any(name.startswith("backbone.body.") for name in (*report.missing, *report.mismatched))


@pytest.mark.parametrize("arch", ["resnet50", "mobilenet_v2", "cnn"])
def test_weights_of_another_architecture_are_refused(resnet18: State, tmp_path: Path, arch: str) -> None:
    save_file(resnet18, tmp_path / "resnet18.safetensors")
    with pytest.raises(ModelError, match="another architecture") as caught:
        build_classifier(ClassifierConfig(arch=arch, weights=str(tmp_path / "resnet18.safetensors")), 4)
    assert arch in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="another architecture"):
        build_detector(DetectorConfig(weights=str(tmp_path / "resnet18.safetensors")), 3)


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("writer", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content))])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, writer: Callable[[Any, Path], Any]) -> None:
    mark, file = tmp_path / "it-ran", tmp_path / "weights.pth"
    writer({"state_dict": Bomb(mark)}, file)
    with pytest.raises(UnsafeError, match="could run code") as caught:
        build_classifier(ClassifierConfig(arch="cnn", weights=str(file)), 4)
    assert caught.value.exit_code == 3 and "safetensors" in str(caught.value)
    assert not mark.exists()


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("w.pth", b"", "not a weights file"),
    "text": ("w.pth", b"hello, this is text\n", "not a weights file"),
    "a zip of nothing": ("w.pt", b"PK\x05\x06" + bytes(18), "not a weights file"),
    "empty safetensors": ("w.safetensors", b"", "corrupted"),
    "header without a body": ("w.safetensors", b'\x40\x00\x00\x00\x00\x00\x00\x00{"a":', "corrupted"),
    "header of 2^60 bytes": ("w.safetensors", b"\x00\x00\x00\x00\x00\x00\x00\x10{", "corrupted"),
    "pickle called safetensors": ("w.safetensors", pickle.dumps({"a": 1}), "corrupted"),
    "pickle of numbers": ("w.pth", pickle.dumps({"a": 1}), "not a weights file|no tensors"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_one_line(tmp_path: Path, case: str) -> None:
    name, content, reason = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=reason) as caught:
        build_classifier(ClassifierConfig(arch="cnn", weights=str(tmp_path / name)), 4)
    assert "\n" not in str(caught.value) and name in str(caught.value) and caught.value.remedy


def test_truncated_safetensors_and_checkpoints_without_tensors(resnet18: State, tmp_path: Path) -> None:
    save_file(resnet18, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[: len(whole) // 2])
    torch.save({"epoch": 3, "best": 0.5}, tmp_path / "w.pth")
    for name, reason in (("w.safetensors", "corrupted"), ("w.pth", "no tensors"), ("none.pth", "no such weights")):
        with pytest.raises(ModelError, match=reason):
            build_classifier(ClassifierConfig(arch="resnet18", weights=str(tmp_path / name)), 4)


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_classifier(ClassifierConfig(arch="resnet18"), 4),
        lambda: build_classifier(ClassifierConfig(arch="timm:tf_efficientnet_lite0"), 4),
        lambda: build_detector(DetectorConfig(), 3),
        lambda: build_detector(DetectorConfig(arch="fasterrcnn_resnet50_fpn"), 3),
    ],
    ids=["torchvision", "timm", "lean detector", "stock detector"],
)
def test_offline_default_says_what_to_do(
    build: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A real refusal of the connection: nothing listens on port 9 here.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DetectclfError, match="cannot download the pretrained weights") as caught:
        build()
    assert "--weights PATH or --weights none" in str(caught.value) and "\n" not in str(caught.value)
    assert capsys.readouterr().out == "", "stdout is for results alone"


def test_architectures_without_pretrained_weights_start_anew() -> None:
    report = build_classifier(ClassifierConfig(arch="cnn"), 4).weights_report
    assert report.matched == () and "no pretrained weights" in report.summary()


def test_summary_names_what_is_new() -> None:
    model = nn.ModuleDict({"stem": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    given = {
        "stem.weight": torch.ones(3, 3),
        "stem.bias": torch.ones(3),
        "head.weight": torch.ones(5, 3),
        "x": torch.ones(1),
    }
    report = fill(model, given, source="f.pth", arch="toy", core="stem")
    assert report == WeightsReport("f.pth", ("stem.bias", "stem.weight"), ("head.bias",), ("x",), ("head.weight",))
    assert report.summary() == "weights: f.pth; 2 of 4 tensors loaded; new: head; 1 in the file not used"
    assert report.lines() == [
        *("matched: stem.bias", "matched: stem.weight", "mismatched: head.weight", "missing: head.bias"),
        "unexpected: x",
    ]


@pytest.mark.shared
def test_real_files_fill_both_stages(shared: Path) -> None:
    mobilenet, lite = (
        shared / "weights" / f"{name}.imagenet.safetensors" for name in ("mobilenet_v2", "tf_efficientnet_lite0")
    )
    cases = (("mobilenet_v2", "fasterrcnn_mobilenet_v2_fpn", mobilenet),)
    cases += (("timm:tf_efficientnet_lite0", "fasterrcnn_timm:tf_efficientnet_lite0", lite),)
    for arch, detector_arch, file in cases:
        given = load_file(file)
        classifier = build_classifier(ClassifierConfig(arch=arch, weights=str(file)), 4)
        assert not classifier.weights_report.missing
        own = classifier.network.state_dict()
        assert all(torch.equal(own[name], given[name]) for name in classifier.weights_report.matched)
        detector = build_detector(DetectorConfig(arch=detector_arch, weights=str(file)), 3)
        assert not any(name.startswith("backbone.body.") for name in detector.weights_report.missing)
