"""Activation maps: against a map worked out by hand, and through the predictor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detectclf.config import ClassifierConfig, PredictConfig
from detectclf.errors import ModelError
from detectclf.inference.explain import activation_maps, heatmap
from detectclf.inference.predictor import Predictor
from detectclf.models.bundle import Bundle
from detectclf.models.classifiers import build_classifier
from detectclf.models.map_fit import NOT_MEASURED, measured_fit
from detectclf.models.stage import new_stage


class TwoChannels(nn.Module):
    """Layer with two equal maps; the first class gains by 3 times the mean of map 0 and loses by that of map 1."""

    def __init__(self) -> None:
        super().__init__()
        self.last_map = nn.Conv2d(1, 2, 1, bias=False)
        with torch.no_grad():
            self.last_map.weight.copy_(torch.tensor([1.0, 1.0]).view(2, 1, 1, 1))
        self.act = nn.ReLU(inplace=True)  # changes the layer's output after the hook, as torchvision's networks do

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.last_map(images)).mean(dim=(2, 3))
        return torch.stack([3 * maps[:, 0] - maps[:, 1], 0 * maps[:, 0]], dim=1)


def test_the_map_is_that_of_the_paper_smoothed() -> None:
    """Gradients are 3/n and -1/n, of which the first counts: the map is the image, whose copies are moved back."""
    slices = np.zeros((2, 56, 56), np.uint8)
    slices[0, 20:30, 10:20] = 200
    slices[1, 40, 40] = 10
    maps = activation_maps(TwoChannels(), slices, [0, 0])  # type: ignore[arg-type]
    assert maps.shape == slices.shape and maps.max(axis=(1, 2)) == pytest.approx([1, 1])
    for found, picture in zip(maps, slices, strict=True):
        expected = cv2.GaussianBlur(picture.astype(np.float32), (9, 9), 56 / 45, borderType=cv2.BORDER_REFLECT)
        np.testing.assert_allclose(found, expected / expected.max(), atol=1e-3)


class OneSided(TwoChannels):
    """Whatever is bright speaks for the first class and against the second."""

    def forward(self, images: Tensor) -> Tensor:
        first = self.act(self.last_map(images)).mean(dim=(2, 3))[:, :1]
        return torch.cat([first, 0 * first], dim=1)


@pytest.mark.parametrize(
    ("index", "negative", "evidence", "reason"),
    [
        (0, None, True, "bright pixels speak for the first class"),
        (1, None, False, "nothing speaks for the second"),
        (0, 0, True, "no tumour is explained as it is"),
        (1, 0, False, "a tumour is explained against no tumour, for which everything speaks"),
    ],
)
def test_a_map_without_evidence_for_the_class_is_zero(
    index: int, negative: int | None, evidence: bool, reason: str
) -> None:
    maps = activation_maps(OneSided(), np.full((1, 56, 56), 99, np.uint8), [index], negative)  # type: ignore[arg-type]
    assert maps.any() == evidence, reason


def test_a_tumour_of_any_class_counts_for_the_map_of_one() -> None:
    """Two tumour classes are equally likely whatever the slice, so nothing speaks for one rather than another."""

    class TwoTumours(TwoChannels):
        def forward(self, images: Tensor) -> Tensor:
            evidence = super().forward(images)[:, :1]
            return torch.cat([evidence, evidence, 0 * evidence], dim=1)

    slices = np.zeros((1, 56, 56), np.uint8)
    slices[0, 20:30, 10:20] = 200
    of_any, other = (activation_maps(TwoTumours(), slices, [0], n)[0] for n in (2, None))  # type: ignore[arg-type]
    assert of_any[25, 15] == pytest.approx(1) and other[25, 15] == pytest.approx(1)


@pytest.mark.parametrize(
    "arch", ["cnn", "alexnet", "vgg16", "mobilenet_v2", "resnet18", "inception_v3", "swin_t", "convnext_tiny"]
)
def test_every_kind_of_network_has_maps(arch: str) -> None:
    network = build_classifier(ClassifierConfig(arch=arch, weights="none"), 3).eval()
    side = network.input_size
    slices = np.random.default_rng(0).integers(0, 256, (1, side, side), dtype=np.uint8)
    with torch.no_grad():
        before = network(torch.from_numpy(slices)[:, None].float() / 255)
    maps = activation_maps(network, slices, [0], 2)
    assert maps.shape == (1, side, side) and np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1
    with torch.no_grad():
        assert torch.equal(network(torch.from_numpy(slices)[:, None].float() / 255), before), "no hook stays behind"


def test_heatmap_leaves_the_padding_out() -> None:
    cam = np.zeros((8, 8), np.float32)
    cam[:4, 0] = 1  # left edge of the upper half, which is where a wide slice lies
    cam[4:] = 1  # padding
    heat = heatmap(cam, inside=(64, 32), size=64, width=200, height=100)
    assert heat.shape == (100, 200) and heat.dtype == np.float32
    assert heat[10, 2] > 0.9 and heat[:80, 120:].max() < 0.1


MEASURED_FITS = [
    ({"peak_inside_box": 0.809, "mass_inside_box": 0.384, "slices": 162}, True, "as recorded"),
    ({"peak_inside_box": 1, "mass_inside_box": 0, "slices": 1}, True, "whole numbers, as JSON may have them"),
    ({"peak_inside_box": 0.8, "mass_inside_box": 0.4}, False, "of how many slices is not known"),
    ({"peak_inside_box": "0.8", "mass_inside_box": 0.4, "slices": 9}, False, "no number"),
    ({"peak_inside_box": 81, "mass_inside_box": 0.4, "slices": 9}, False, "no share"),
    ([0.8, 0.4, 9], False, "something else"),
    (None, False, "any other model"),
]


@pytest.mark.parametrize(("recorded", "known", "why"), MEASURED_FITS)
def test_the_caption_of_a_map_is_what_was_measured(recorded: object, known: bool, why: str) -> None:
    said = measured_fit({"activation_map": recorded})
    assert (said != NOT_MEASURED) == known, why
    assert not why.startswith("as ") or ("81 %" in said and "38 %" in said and "162 tumour slices" in said)


def test_explained_predictions(predictor: Predictor, slices: list[Path]) -> None:
    inputs = [slices[0], slices[0].with_name("none.png"), *slices[1:]]
    done = list(predictor.predict_many(inputs, explain=True))
    assert done[1].error is not None and done[1].heatmap is None
    for prediction in done[:1] + done[2:]:
        assert prediction.heatmap is not None and prediction.heatmap_fit == NOT_MEASURED
        assert prediction.heatmap.shape == (prediction.height, prediction.width)
        assert prediction.heatmap.min() >= 0 and prediction.heatmap.max() <= 1
    plain = predictor.predict(slices[0])
    assert plain.heatmap is None and plain.probabilities == pytest.approx(done[0].probabilities, abs=1e-5)


def test_a_network_without_convolutions_is_refused(bundle: Bundle, slices: list[Path]) -> None:
    mlp = build_classifier(ClassifierConfig(arch="mlp", weights="none"), len(bundle.classes)).eval()
    stages = bundle.stages | {"classifier": new_stage(mlp, bundle.classes, negative="no_tumor")}
    model = Predictor(replace(bundle, stages=stages), PredictConfig(device="cpu"))
    assert model.predict(slices[0]).error is None
    with pytest.raises(ModelError, match="needs convolutions"):
        model.predict(slices[0], explain=True)
