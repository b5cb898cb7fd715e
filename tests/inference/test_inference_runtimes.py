"""Every runtime gives the same boxes and probabilities; what cannot be run is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from compare_runtimes import difference

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.inference.loading import default_bundle, load
from detectclf.models.bundle import Bundle, load_bundle, save_bundle
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import DETECTORS, build_detector
from detectclf.models.stage import Stage, new_stage
from detectclf.prediction import Prediction
from detectclf.sample_data.slices import sample_slice

ENGINES: tuple[Literal["openvino", "onnx"], ...] = ("openvino", "onnx")


def sample_pixels(count: int) -> list[np.ndarray]:
    """Slices of the sample data, of all kinds and planes."""
    kinds = ("glioma", "meningioma", "no_tumor", "pituitary")
    return [sample_slice(n, kinds[n % 4], ("axial", "coronal", "sagittal")[n % 3]).pixels for n in range(count)]


def assert_same(found: Sequence[Prediction], wanted: Sequence[Prediction]) -> None:
    """Same classes and flags; probabilities and scores to 1e-3; each box has its like at IoU 0.999."""
    apart = difference(found, wanted)
    assert apart.classes == 0 and max(apart[1:]) <= 1e-3, apart


@pytest.fixture(scope="module")
def reference() -> list[Prediction]:
    return list(load(runtime="torch", device="cpu").predict_many(sample_pixels(12)))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_packaged_model_predicts_the_same_without_torch(engine: Any, reference: list[Prediction]) -> None:
    model = load(runtime=engine)
    assert (model.runtime.name, model.device) == (engine, "cpu")
    assert_same(list(model.predict_many(sample_pixels(12), batch_size=5)), reference)


CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
TUMORS = ("glioma", "meningioma", "pituitary")


def detector_stage(arch: str, size: int = 96) -> Stage:
    """An untrained detector whose scores and boxes differ clearly and reach no limit, as those of a trained one do."""
    import torch

    torch.manual_seed(0)
    config = DetectorConfig(arch=arch, weights="none", image_size=size, proposals_test=15, max_boxes=8)
    model = build_detector(config, len(TUMORS)).eval()
    pictures = [torch.from_numpy(pixels)[None].float() / 255 for pixels in sample_pixels(4)]
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:  # or what the pictures make would fade in a deep network
        norm.train().momentum = 1.0
    with torch.no_grad():
        model(pictures)
    model.eval()
    heads = model.network.roi_heads.box_predictor
    for layer, largest in (
        (model.network.rpn.head.cls_logits, 4.0),
        (model.network.rpn.head.bbox_pred, 0.5),
        (heads.cls_score, 4.0),
        (heads.bbox_pred, 2.0),
    ):
        outputs: list[torch.Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, output, outputs=outputs: outputs.append(output))
        with torch.no_grad():
            model(pictures)
            layer.weight.mul_(largest / torch.cat([each.flatten() for each in outputs]).abs().max())
        hook.remove()
    return new_stage(model, TUMORS, negative=None)


def classifier_stage(arch: str, size: int | None = None) -> Stage:
    import torch

    torch.manual_seed(0)
    network = build_classifier(ClassifierConfig(arch=arch, weights="none", image_size=size), len(CLASSES)).eval()
    return new_stage(network, CLASSES, negative="no_tumor")


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    """An untrained bundle of our own small networks."""
    stages = {"detector": detector_stage("fasterrcnn_small_fpn"), "classifier": classifier_stage("cnn", 64)}
    packaged = load_bundle(default_bundle())
    return replace(packaged, name="tiny", stages=stages, ood=None, out_of_fold=None, graphs={})


@pytest.fixture(scope="module")
def saved(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(folder, tiny, graphs=True)
    return folder


NETWORKS: dict[str, tuple[Callable[[], Stage], Callable[[], Stage]]] = {
    "fasterrcnn_resnet50_fpn": (
        lambda: detector_stage("fasterrcnn_resnet50_fpn"),
        lambda: classifier_stage("mlp", 64),
    ),
    "fasterrcnn_resnet50_fpn_v2": (
        lambda: detector_stage("fasterrcnn_resnet50_fpn_v2"),
        lambda: classifier_stage("alexnet", 64),
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": (
        lambda: detector_stage("fasterrcnn_mobilenet_v3_large_fpn"),
        lambda: classifier_stage("resnet18", 64),
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (
        lambda: detector_stage("fasterrcnn_mobilenet_v3_large_320_fpn"),
        lambda: classifier_stage("mobilenet_v2", 64),
    ),
    "fasterrcnn_mobilenet_v2_fpn": (
        lambda: detector_stage("fasterrcnn_mobilenet_v2_fpn"),
        lambda: classifier_stage("convnext_tiny", 64),
    ),
    # A size that is no multiple of the coarsest stride is padded inside the network.
    "fasterrcnn_small_fpn, padded": (
        lambda: detector_stage("fasterrcnn_small_fpn", 100),
        lambda: classifier_stage("cnn", 64),
    ),
    "timm": (
        lambda: detector_stage("fasterrcnn_timm:tf_efficientnet_lite0"),
        lambda: classifier_stage("timm:tf_efficientnet_lite0", 64),
    ),
}
"""A detector of every row of the table, each with another classifier."""


def test_every_row_of_detectors_is_tested() -> None:
    assert set(DETECTORS) == {name.split(",")[0] for name in NETWORKS} - {"timm"}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_predicts_the_same_without_torch(name: str, tiny: Bundle, tmp_path: Path) -> None:
    stages = {stage.kind: stage for stage in (make() for make in NETWORKS[name])}
    # In float32, since some weights of these untrained networks are too large for float16.
    save_bundle(tmp_path, replace(tiny, stages=stages), half=False, graphs=True)
    wanted = list(load(tmp_path, runtime="torch", device="cpu").predict_many(sample_pixels(4)))
    assert sum(len(p.scores) for p in wanted) >= 4
    for engine in ENGINES:
        assert_same(list(load(tmp_path, runtime=engine).predict_many(sample_pixels(4), batch_size=3)), wanted)
