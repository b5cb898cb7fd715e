"""Every row of the classifier table learns, and features, sizes and dropout are what the contract says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from detectclf.config import ClassifierConfig
from detectclf.errors import ModelError
from detectclf.models.classifiers import AUXILIARY_WEIGHT, CLASSIFIERS, Classifier, build_classifier, classifier_row
from detectclf.models.listing import describe_models

ROWS = [*CLASSIFIERS, "timm:tf_efficientnet_lite0"]


def tiny(arch: str = "cnn", classes: int = 4, **changes: Any) -> Classifier:
    torch.manual_seed(0)
    size = {"image_size": classifier_row(arch).min_size} | changes
    return build_classifier(ClassifierConfig(arch=arch, weights="none", **size), classes)


def batch(model: Classifier, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.rand(count, 1, model.input_size, model.input_size), torch.arange(count) % model.num_classes


def moved_by_one_step(model: Classifier) -> set[str]:
    """Names of the parameters and BatchNorm statistics that one optimiser step changes."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    sum(model.train().losses(*batch(model)).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    for parameter in model.parameters():
        if parameter.grad is not None:
            # To length 1, so that rounding hides no small gradient; none at all stays none.
            parameter.grad /= parameter.grad.norm().clamp_min(1e-30)
    optimizer.step()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("arch", ROWS)
def test_row_learns_and_its_frozen_backbone_stands_still(arch: str) -> None:
    model = tiny(arch)
    names = {name for name, _ in model.named_parameters()}
    head = {"head.weight", "head.bias"}
    assert len(model.backbone_parameters()) + len(model.head_parameters()) == len(names)

    model.freeze_backbone()
    assert moved_by_one_step(model) == head, "parameters or statistics of a frozen backbone moved"

    model.eval()
    images, _ = batch(model)
    seen: list[torch.Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        logits = model(images)
        assert torch.equal(model(images), logits) and logits.shape == (3, 4)
        features = seen[0]
        assert features.shape == (3, model.head.in_features)
        assert torch.allclose(functional.linear(features, model.head.weight, model.head.bias), logits, atol=1e-5)
    hook.remove()
    assert_map_of_last_layer(model, images)

    model.freeze_backbone(False)
    moved = moved_by_one_step(model)
    assert head <= moved
    assert len(names & moved) > 0.9 * len(names)


def assert_map_of_last_layer(model: Classifier, images: torch.Tensor) -> None:
    layer = model.last_map
    if layer is None:
        assert model.arch == "mlp"
        return
    maps: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.inference_mode():
        model(images)
    handle.remove()
    assert maps[0].dim() == 4 and maps[0].shape[0] == len(images) and maps[0].shape[1] > maps[0].shape[2]


def test_inception_at_its_own_size_has_an_auxiliary_loss_with_a_new_head() -> None:
    model = tiny("inception_v3", image_size=299)
    assert any(p is model.network.AuxLogits.fc.weight for p in model.head_parameters())
    losses = model.train().losses(*batch(model, 1))
    # A slice twice in a batch is all mean to the last BatchNorm: logits are the new layer's biases, both losses log 4.
    assert losses["loss_auxiliary"].item() == pytest.approx(AUXILIARY_WEIGHT * 1.39, rel=0.3)
    assert set(model.eval().losses(*batch(model, 1))) == {"loss_class"}


@pytest.fixture(scope="module")
def records() -> dict[str, dict[str, Any]]:
    """The list of models by architecture."""
    return {record["arch"]: record for record in describe_models()}


def test_default_input_sizes(records: dict[str, dict[str, Any]]) -> None:
    sizes = {arch: record["input_size"] for arch, record in records.items()}
    assert sizes["inception_v3"] == 299
    assert sizes["resnet50"] == sizes["mobilenet_v2"] == sizes["timm:tf_efficientnet_lite0"] == 224
    assert build_classifier(ClassifierConfig(arch="mlp"), 4).input_size == sizes["mlp"] == 64


def test_list_counts_parameters_and_names_weights(records: dict[str, dict[str, Any]]) -> None:
    # torchvision's own count, less the 1000-class layer, plus ours of four classes.
    assert records["mobilenet_v2"]["parameters"] == 3504872 - 1281 * 1000 + 1281 * 4
    assert records["mobilenet_v2"]["weights"] == "mobilenet_v2" and records["mlp"]["weights"] == "none"
    assert records["fasterrcnn_mobilenet_v2_fpn"]["stage"] == "detector"
    assert sum(p.numel() for p in tiny("cnn").parameters()) == records["cnn"]["parameters"]


def test_grey_is_repeated_and_normalised_per_network() -> None:
    model = tiny("resnet18").eval()
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images, _ = batch(model)
    model(images)
    expected = torch.cat(
        [(images - m) / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)], 1
    )
    assert torch.allclose(seen[0], expected, atol=1e-6)


def test_one_slice_alone_trains() -> None:
    # BatchNorm refuses a single value per channel; the maps of a 32 px slice are 1 x 1 at the end.
    losses = tiny("resnet18").train().losses(*batch(tiny("resnet18"), 1))
    assert torch.isfinite(losses["loss_class"])


def test_smoothing_and_class_weights_enter_the_loss() -> None:
    model = tiny("cnn").eval()
    images, labels = batch(model)
    weights = torch.tensor([1.0, 5.0, 0.5, 1.0])
    expected = functional.cross_entropy(model(images), labels, weight=weights, label_smoothing=0.1)
    loss = model.losses(images, labels, label_smoothing=0.1, class_weights=weights)["loss_class"]
    assert loss.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("arch", ["cnn", "vgg16", "resnet18", "mobilenet_v2"])
def test_dropout_setting_is_the_one_before_the_last_layer(arch: str) -> None:
    with torch.device("meta"):
        model = Classifier(classifier_row(arch), ClassifierConfig(arch=arch, weights="none", dropout=0.37), 4)
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert rates.count(0.37) == 1


@pytest.mark.parametrize(
    ("arch", "size", "classes", "reason"),
    [
        ("lenet", None, 4, "no classifier 'lenet'"),
        ("inception_v3", 64, 4, "at least 75"),
        ("alexnet", 32, 4, "at least 63"),
        ("timm:no_such_net", None, 4, "timm has no network"),
        ("timm:resnet18.no_tag", None, 4, "timm has no weights 'no_tag' of resnet18; leave out .no_tag"),
        ("timm:../../etc/passwd", None, 4, "timm has no network"),
        ("cnn", None, 0, "at least one class"),
    ],
)
def test_bad_settings_are_one_line(arch: str, size: int | None, classes: int, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        build_classifier(ClassifierConfig(arch=arch, weights="none", image_size=size), classes)
    assert "\n" not in str(caught.value) and caught.value.remedy


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ModelError, match="grey squares of 32 px"):
        tiny("cnn")(torch.rand(1, 1, 33, 33))
