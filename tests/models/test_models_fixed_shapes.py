"""Faster R-CNN in fixed shapes computes what torchvision computes; here on the CPU, see scripts/test_xla for XLA."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from detectclf.config import DetectorConfig
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.fixed_shapes import fixed_detections, fixed_losses
from detectclf.models.level_pool import LevelPool, align_by_products

SIZE = 64


def detector(**changes: object) -> Detector:
    """Small, of three classes."""
    settings = {"arch": "fasterrcnn_small_fpn", "weights": "none", "image_size": SIZE, "proposals_train": 40}
    torch.manual_seed(0)
    return build_detector(DetectorConfig.model_validate(settings | changes), 3)


def targets(*images: list[tuple[list[float], int]]) -> list[dict[str, Tensor]]:
    """Boxes with labels as the box head counts them, of each image."""
    return [
        {
            "boxes": torch.tensor([box for box, _ in image], dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([label for _, label in image], dtype=torch.int64),
        }
        for image in images
    ]


CASES = {
    "known classes": targets([([5, 5, 30, 40], 1), ([20, 8, 50, 30], 3)], [([8, 8, 60, 60], 2)]),
    "a slice without a tumour": targets([([5, 5, 30, 40], 1)], []),
    "no tumour at all": targets([], []),
    "a tumour of unknown type": targets([([5, 5, 30, 40], 4)], [([9, 5, 30, 40], 1)]),
}


@pytest.mark.parametrize("loss", ["smooth_l1", "giou", "ciou"])
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_torchvision(case: str, loss: str) -> None:
    # Fewer proposals than samples in one slice, so that rows are filled up.
    model = detector(box_loss=loss, roi_samples=64)
    images = list(torch.rand(2, 1, SIZE, SIZE))
    found = []
    for fixed in (False, True):
        torch.manual_seed(1)
        model.zero_grad()
        losses = fixed_losses(model.network, images, CASES[case]) if fixed else model.network(images, CASES[case])
        sum(losses.values()).backward()
        found.append((losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}))
    (plain, plain_grads), (filled, filled_grads) = found
    assert plain.keys() == filled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(filled[name], value, rtol=1e-5, atol=1e-6, msg=name)
    for name, value in plain_grads.items():
        torch.testing.assert_close(filled_grads[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_detections_are_those_of_torchvision() -> None:
    model = detector(proposals_test=30).eval()
    images = list(torch.rand(3, 1, SIZE, SIZE))
    with torch.no_grad():
        plain, fixed = model.network(images), fixed_detections(model.network, images)
    assert sum(len(each["boxes"]) for each in plain)
    for ours, theirs in zip(fixed, plain, strict=True):
        torch.testing.assert_close(ours["boxes"], theirs["boxes"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(ours["scores"], theirs["scores"], rtol=1e-4, atol=1e-5)
        assert torch.equal(ours["labels"], theirs["labels"])


BOXES = {
    "inside": [4.0, 6.0, 30.0, 25.0],
    "smaller than a pixel of the map": [10.0, 10.0, 10.5, 10.2],
    "over the edge": [50.0, -20.0, 90.0, 20.0],
    "far outside": [200.0, 200.0, 300.0, 260.0],
    "of no size, as the filling": [0.0, 0.0, 0.0, 0.0],
    "whole": [0.0, 0.0, 64.0, 64.0],
}


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("samples", [1, 2])
def test_products_of_matrices_are_roi_align(box: str, samples: int) -> None:
    features = torch.rand(2, 3, 8, 10)
    others = [1.0, 2.0, 33.0, 44.0], [3.0, 3.0, 9.0, 60.0]
    rois = torch.tensor([[n, *each] for n, other in enumerate(others) for each in (BOXES[box], other)])
    theirs = roi_align(features, rois, (7, 5), 1 / 8, samples)
    torch.testing.assert_close(align_by_products(features, rois, (7, 5), 1 / 8, samples), theirs, rtol=1e-5, atol=1e-6)


def test_each_box_is_pooled_on_the_level_that_torchvision_takes() -> None:
    levels = OrderedDict((str(n), torch.rand(1, 4, side, side)) for n, side in enumerate((28, 14, 7)))
    sides = torch.tensor([3.0, 20, 60, 111, 112, 113, 150, 200, 223, 224])
    boxes = torch.stack([torch.zeros(10), torch.zeros(10), sides, sides], dim=1)
    pool = MultiScaleRoIAlign(["0", "1", "2"], 7, 2)
    theirs = pool(levels, [boxes], [(224, 224)])
    ours = LevelPool(pool, levels, 224, align_by_products)(levels, boxes[None])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
