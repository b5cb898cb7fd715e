"""The second look: feature maps of the detector are kept, and its best boxes are regressed again on them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from detectclf.config import DetectorConfig
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.roi_features import Found, RoIFeatures
from detectclf.models.second_look import MOST_BOXES, second_look


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Found:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


NOTHING = found([], [], [])


def small(arch: str = "fasterrcnn_small_fpn", **changes: object) -> Detector:
    torch.manual_seed(0)
    settings = {
        "arch": arch,
        "weights": "none",
        "image_size": 128,
        "proposals_test": 40,
        "score_threshold": 0.0,
        "max_boxes": 200,
    }
    return build_detector(DetectorConfig.model_validate({**settings, **changes}), 3).eval()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({}, id="lean"),
        pytest.param({"box_loss": "giou"}, id="another class of heads"),
        pytest.param({"arch": "fasterrcnn_mobilenet_v3_large_320_fpn"}, id="a pyramid with a pooled level"),
        pytest.param({"image_size": 100}, id="padded to whole strides"),
    ],
)
def test_roi_features_find_what_the_detector_finds(model: dict[str, object]) -> None:
    detector = small(**model)  # type: ignore[arg-type]
    images = torch.rand(2, 1, detector.input_size, detector.input_size)
    with torch.inference_mode():
        for here, there in zip(RoIFeatures(detector, images).found, detector(list(images)), strict=True):
            assert len(here["scores"]) > 3
            for key in ("boxes", "labels", "scores"):
                assert torch.allclose(here[key], there[key])


def test_a_box_is_regressed_as_the_detector_regresses_its_proposals(detector: Detector) -> None:
    """The proposals of a slice, regressed as one class, are that class's boxes of torchvision's own box head."""
    images = torch.rand(1, 1, 128, 128)
    proposals: list[torch.Tensor] = []
    hook = detector.network.rpn.register_forward_hook(lambda module, inputs, output: proposals.extend(output[0]))
    with torch.inference_mode():
        features = RoIFeatures(detector, images)
        hook.remove()
        for label in range(3):
            (moved,) = features.regress(proposals, [torch.full((len(proposals[0]),), label)])
            own = features.found[0]["boxes"][features.found[0]["labels"] == label]
            nearest = (own[:, None] - moved[None]).abs().amax(dim=2).amin(dim=1)
            assert len(own) and float(nearest.max()) < 1e-3


def test_where_nothing_is_found_nothing_is_regressed() -> None:
    detector = small(score_threshold=0.999)
    with torch.inference_mode():
        seen = second_look(RoIFeatures(detector, torch.zeros(2, 1, 128, 128)))
    assert [each["boxes"].shape for each in seen] == [(0, 4)] * 2


class _Moving(RoIFeatures):
    """RoI features whose box head moves boxes down by ``pixels`` times the class and the number of the shift."""

    def __init__(self, detections: list[Found], pixels: float) -> None:
        self.found, self.pixels = detections, pixels

    def regress(self, boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        ends = []
        for each, classes in zip(boxes, labels, strict=True):
            down = self.pixels * classes * torch.arange(4).repeat_interleave(len(each) // 4)
            ends.append(each + torch.stack([torch.zeros(len(each)), down] * 2, dim=1))
        return ends


def test_the_best_boxes_become_the_mean_over_the_shifts() -> None:
    boxes = [[30.0 * i + 10, 100, 30 * i + 30, 130 + i] for i in range(10)]
    labels = [0, 1, 2, 2, 0, 1, 2, 1, 0, 1]
    detections = found(boxes, labels, [0.9 - 0.05 * i for i in range(10)])
    nothing, seen = second_look(_Moving([NOTHING, detections], pixels=1))
    assert nothing["boxes"].shape == (0, 4), "a slice without boxes beside one with boxes"
    assert torch.equal(seen["labels"], detections["labels"]) and torch.equal(seen["scores"], detections["scores"])
    expected = torch.tensor(boxes)
    # Shifts 0 to 3 end 0 to 3 times the class lower.
    expected[:MOST_BOXES, [1, 3]] += torch.tensor(labels[:MOST_BOXES])[:, None] * 1.5
    assert torch.allclose(seen["boxes"], expected, atol=1e-3), "the ninth and the tenth stay"
