"""Two views of one slice made one."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import batched_nms, box_iou

from detectclf.inference.mirror import Found, merge_mirrored

WIDTH, NMS_IOU = 100, 0.5


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Found:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


NOTHING = found([], [], [])


def test_a_box_seen_twice_is_the_mean_weighted_by_score() -> None:
    plain = found([[10, 20, 30, 40]], [1], [0.9])
    mirrored = found([[68, 20, 88, 40]], [1], [0.3])  # the mirror image of 12 to 32
    merged = merge_mirrored(plain, mirrored, WIDTH, NMS_IOU)
    assert torch.allclose(merged["boxes"], torch.tensor([[10.5, 20, 30.5, 40]]))
    assert merged["labels"].tolist() == [1] and torch.allclose(merged["scores"], torch.tensor([0.6]))


def test_what_one_view_alone_has_counts_half() -> None:
    plain = found([[10, 20, 30, 40]], [1], [0.5])
    other_class = found([[70, 20, 90, 40]], [2], [0.8])
    merged = merge_mirrored(plain, other_class, WIDTH, NMS_IOU)
    assert merged["labels"].tolist() == [2, 1] and torch.allclose(merged["scores"], torch.tensor([0.4, 0.25]))
    assert merged["boxes"].tolist() == [[10, 20, 30, 40]] * 2
    assert merge_mirrored(NOTHING, NOTHING, WIDTH, NMS_IOU)["boxes"].shape == (0, 4)
    assert merge_mirrored(NOTHING, plain, WIDTH, NMS_IOU)["boxes"].tolist() == [[70, 20, 90, 40]]


def test_each_box_is_used_once_and_the_surest_pair_first() -> None:
    plain = found([[10, 20, 30, 40], [12, 20, 32, 40]], [0, 0], [0.9, 0.2])
    mirrored = found([[70, 20, 90, 40]], [0], [0.7])
    merged = merge_mirrored(plain, mirrored, WIDTH, NMS_IOU)
    assert torch.allclose(merged["scores"], torch.tensor([0.8])), "what is left over of the same place is no second box"


boxes = st.lists(
    st.tuples(st.floats(0, 80), st.floats(0, 80), st.floats(1, 20), st.floats(1, 20), st.integers(0, 2)), max_size=6
)


@given(boxes, boxes)
def test_mirroring_the_slice_mirrors_what_is_found(one: list, other: list) -> None:
    def view(rows: list) -> Found:
        scores = [0.9 - 0.013 * i for i in range(len(rows))]
        view = found([[x, y, x + w, y + h] for x, y, w, h, _ in rows], [row[4] for row in rows], scores)
        kept = batched_nms(view["boxes"], view["scores"], view["labels"], NMS_IOU)
        return {key: value[kept] for key, value in view.items()}

    first, second = view(one), view(other)
    second["scores"] -= 0.005  # no ties
    here, there = merge_mirrored(first, second, WIDTH, NMS_IOU), merge_mirrored(second, first, WIDTH, NMS_IOU)
    assert torch.allclose(here["scores"], there["scores"])
    assert torch.equal(here["labels"], there["labels"])
    back = there["boxes"].clone()
    back[:, [0, 2]] = WIDTH - there["boxes"][:, [2, 0]]
    assert torch.allclose(here["boxes"], back, atol=1e-3)
    overlaps = box_iou(here["boxes"], here["boxes"])[here["labels"][:, None] == here["labels"][None]]
    assert int((overlaps > NMS_IOU).sum()) == len(here["scores"]), "boxes of one class about one place are one"
    assert len(here["scores"]) <= len(one) + len(other) and bool((here["scores"].diff() <= 0).all())
