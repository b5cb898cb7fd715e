"""Test-time augmentation: detections on a slice and its mirror image are merged, and the boxes are refined."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import batched_nms, box_iou

from detectclf.config import DetectorConfig
from detectclf.inference.tta import merge_mirrored, weighted_boxes_fusion, with_mirrored
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.roi_features import Found, RoIFeatures

NMS_IOU = 0.5


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Found:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


NOTHING = found([], [], [])


def test_two_matching_boxes_become_their_mean_weighted_by_score() -> None:
    plain = found([[10, 20, 30, 40]], [1], [0.9])
    other = found([[12, 20, 32, 40]], [1], [0.3])
    merged = weighted_boxes_fusion(plain, other, NMS_IOU)
    assert torch.allclose(merged["boxes"], torch.tensor([[10.5, 20, 30.5, 40]]))
    assert merged["labels"].tolist() == [1] and torch.allclose(merged["scores"], torch.tensor([0.6]))


def test_a_box_without_a_match_keeps_half_its_score() -> None:
    plain = found([[10, 20, 30, 40]], [1], [0.5])
    other_class = found([[10, 20, 30, 40]], [2], [0.8])
    merged = weighted_boxes_fusion(plain, other_class, NMS_IOU)
    assert merged["labels"].tolist() == [2, 1] and torch.allclose(merged["scores"], torch.tensor([0.4, 0.25]))
    assert merged["boxes"].tolist() == [[10, 20, 30, 40]] * 2
    assert weighted_boxes_fusion(NOTHING, NOTHING, NMS_IOU)["boxes"].shape == (0, 4)
    assert weighted_boxes_fusion(NOTHING, plain, NMS_IOU)["boxes"].tolist() == [[10, 20, 30, 40]]


def test_each_box_is_matched_once_and_the_best_pair_first() -> None:
    plain = found([[10, 20, 30, 40], [12, 20, 32, 40]], [0, 0], [0.9, 0.2])
    other = found([[10, 20, 30, 40]], [0], [0.7])
    merged = weighted_boxes_fusion(plain, other, NMS_IOU)
    assert torch.allclose(merged["scores"], torch.tensor([0.8])), "the leftover box is a duplicate"


boxes = st.lists(
    st.tuples(st.floats(0, 80), st.floats(0, 80), st.floats(1, 20), st.floats(1, 20), st.integers(0, 2)), max_size=6
)


@given(boxes, boxes)
def test_the_order_of_the_two_sets_does_not_matter(one: list, other: list) -> None:
    def detections(rows: list, step: float) -> Found:
        scores = [0.9 - step * i for i in range(len(rows))]
        every = found([[x, y, x + w, y + h] for x, y, w, h, _ in rows], [row[4] for row in rows], scores)
        kept = batched_nms(every["boxes"], every["scores"], every["labels"], NMS_IOU)
        return {key: value[kept] for key, value in every.items()}

    first, second = detections(one, 0.013), detections(other, 0.0171)
    second["scores"] -= 0.005  # no ties, not even between means
    here, there = weighted_boxes_fusion(first, second, NMS_IOU), weighted_boxes_fusion(second, first, NMS_IOU)
    assert torch.allclose(here["scores"], there["scores"])
    assert torch.equal(here["labels"], there["labels"])
    assert torch.allclose(here["boxes"], there["boxes"], atol=1e-3)
    assert_distinct(here)
    assert len(here["scores"]) <= len(one) + len(other)


def assert_distinct(merged: Found) -> None:
    overlaps = box_iou(merged["boxes"], merged["boxes"])[merged["labels"][:, None] == merged["labels"][None]]
    assert int((overlaps > NMS_IOU).sum()) == len(merged["scores"]), "no duplicates are left"
    assert bool((merged["scores"].diff() <= 0).all())


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


def test_where_nothing_is_found_nothing_is_refined() -> None:
    detector = small(score_threshold=0.999)
    with torch.inference_mode():
        merged = merge_mirrored(RoIFeatures(detector, with_mirrored(torch.zeros(2, 1, 128, 128))), NMS_IOU)
    assert [each["boxes"].shape for each in merged] == [(0, 4)] * 2


class _Moving(RoIFeatures):
    """RoI features whose box head moves boxes by known amounts, by default by none.

    Args:
        detections: on the slices, then on their mirror images.
        plain: pixels down on the slices, times the class and the number of the shift.
        mirrored: pixels to the right on the mirror images.
        width: of the slices.
    """

    def __init__(self, detections: list[Found], plain: float = 0.0, mirrored: float = 0.0, *, width: int = 128) -> None:
        self.found, self.plain, self.mirrored, self.width = detections, plain, mirrored, width

    def regress(self, boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        count = len(boxes) // 2
        ends = []
        for k, (each, classes) in enumerate(zip(boxes, labels, strict=True)):
            start = torch.arange(4).repeat_interleave(len(each) // 4)
            down = self.plain * classes * start if k < count else torch.zeros(len(each))
            right = torch.full((len(each),), 0.0 if k < count else self.mirrored)
            ends.append(each + torch.stack([right, down, right, down], dim=1))
        return ends


def test_the_best_boxes_become_the_mean_over_shifts_and_images() -> None:
    boxes = [[30.0 * i + 10, 100, 30 * i + 30, 130 + i] for i in range(10)]
    labels = [0, 1, 2, 2, 0, 1, 2, 1, 0, 1]
    scores = [0.9 - 0.05 * i for i in range(10)]
    features = _Moving([found(boxes, labels, scores), NOTHING], plain=1, mirrored=3, width=320)
    (merged,) = merge_mirrored(features, NMS_IOU)
    assert merged["labels"].tolist() == labels and merged["scores"].tolist() == pytest.approx([s / 2 for s in scores])
    expected = torch.tensor(boxes)
    # Shifts 0 to 3 end 0 to 3 times the class lower; right on a mirror image is left on the slice.
    expected[:8, [1, 3]] += torch.tensor(labels[:8])[:, None] * 1.5 / 2
    expected[:8, [0, 2]] -= 3 / 2
    assert torch.allclose(merged["boxes"], expected, atol=1e-3), "the ninth and the tenth are not refined"


@given(st.integers(0, 118), st.integers(0, 118), st.integers(10, 60), st.integers(10, 60))
def test_boxes_are_mirrored_as_pixels_are(x: int, y: int, w: int, h: int) -> None:
    """The box of a bright block on the mirror image must come back to the block, at the borders too."""
    right, bottom = min(x + w, 128), min(y + h, 128)
    images = torch.zeros(1, 1, 128, 128)
    images[:, :, y:bottom, x:right] = 1
    both = with_mirrored(images)
    assert torch.equal(both[:1], images)
    rows, columns = torch.nonzero(both[1, 0], as_tuple=True)
    seen = found([[int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]], [1], [0.5])
    (merged,) = merge_mirrored(_Moving([found([[x, y, right, bottom]], [1], [0.9]), seen]), NMS_IOU)
    assert torch.allclose(merged["boxes"], torch.tensor([[x, y, right, bottom]]).float(), atol=1e-3)
    assert merged["scores"].tolist() == pytest.approx([0.7]), "the two boxes match"


def test_a_slice_without_boxes_beside_one_with_boxes() -> None:
    features = _Moving([NOTHING, found([[40, 40, 60, 70]], [0], [0.8]), NOTHING, NOTHING])
    nothing, one = merge_mirrored(features, NMS_IOU)
    assert nothing["boxes"].shape == (0, 4)
    assert torch.allclose(one["boxes"], torch.tensor([[40.0, 40, 60, 70]]), atol=1e-3)
    assert one["scores"].tolist() == pytest.approx([0.4])
