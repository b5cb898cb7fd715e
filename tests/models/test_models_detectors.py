"""Every row of the detector table learns, and boxes, labels and precision are what the contract says."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

from detectclf.config import DetectorConfig
from detectclf.errors import ModelError
from detectclf.models.box_loss import TumorRoIHeads
from detectclf.models.detector_parts import SliceTransform
from detectclf.models.detectors import DETECTORS, Detector, build_detector

LEAN = "fasterrcnn_mobilenet_v2_fpn"
ROWS = [*DETECTORS, "fasterrcnn_timm:tf_efficientnet_lite0"]


def tiny(arch: str = LEAN, classes: int = 3, **changes: Any) -> Detector:
    settings = {
        "arch": arch,
        "weights": "none",
        "image_size": 64,
        "proposals_train": 16,
        "proposals_test": 16,
        "roi_samples": 16,
        "rpn_samples": 16,
    }
    torch.manual_seed(0)
    return build_detector(DetectorConfig.model_validate({**settings, **changes}), classes)


def batch(label: int = 2) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """A slice with a box and a healthy one."""
    torch.manual_seed(1)
    images = [torch.rand(1, 64, 64), torch.rand(1, 64, 64)]
    shown = {"boxes": torch.tensor([[8.0, 10.0, 40.0, 44.0]]), "labels": torch.tensor([label])}
    healthy = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return images, [shown, healthy]


def moved_by_one_step(model: Detector) -> set[str]:
    """Names of the parameters and BatchNorm statistics that one optimiser step changes."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # No weight decay: it would move parameters that no gradient reaches.
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = model.train()(*batch())
    sum(losses.values()).backward()
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
    body = "network.backbone.body."
    names = {name for name, _ in model.named_parameters()}
    head = {name for name in names if not name.startswith(body)}
    assert len(model.backbone_parameters()) + len(model.head_parameters()) == len(names)

    model.freeze_backbone()
    moved = moved_by_one_step(model)
    assert moved & names == head
    assert not any(name.startswith(body) for name in moved), "statistics of a frozen norm moved"

    model.freeze_backbone(False)
    moved = moved_by_one_step(model)
    assert head <= moved
    backbone = names - head
    assert len(backbone & moved) > 0.9 * len(backbone)
    assert any(name.startswith(body) and name.endswith("running_mean") for name in moved)


def test_label_shift_is_undone_in_predictions() -> None:
    model = tiny(score_threshold=0.0).eval()
    with torch.no_grad():
        # torchvision's class 2 is our class 1: 0 is background there.
        model.network.roi_heads.box_predictor.cls_score.bias.copy_(torch.tensor([0.0, 0.0, 20.0, 0.0]))
        found = model([torch.rand(1, 64, 64)])[0]
    best = found["scores"] > 0.9
    assert best.any()
    assert set(found["labels"][best].tolist()) == {1}
    assert set(found["labels"].tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("classes", [1, 5])
def test_any_number_of_classes(classes: int) -> None:
    losses = tiny(classes=classes).train()(*batch(label=classes - 1))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_batch_without_any_box_has_finite_losses() -> None:
    images, targets = batch()
    losses = tiny().train()(images, [targets[1], targets[1]])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_box_reg"] == 0


def test_boxes_are_in_pixels_of_the_image_given() -> None:
    model = tiny(score_threshold=0.0).eval()
    with torch.inference_mode():
        found = model([torch.rand(1, 50, 200), torch.rand(1, 64, 64)])
    wide = found[0]["boxes"]
    assert len(wide) and wide.dtype == torch.float32
    assert wide[:, 2].max() <= 200 and wide[:, 3].max() <= 50 and wide.min() >= 0
    assert wide[:, 2].max() > 64, "boxes were left in the network's pixels"
    assert (found[0]["scores"].diff() <= 0).all()


def test_training_without_targets_is_refused() -> None:
    with pytest.raises(ModelError, match="needs boxes"):
        tiny().train()([torch.rand(1, 64, 64)])


class TestTransform:
    """Input sizes and the boxes that go with them."""

    transform = SliceTransform(64, (0.5, 0.25, 0.5), (0.5, 0.5, 0.25))

    def test_right_size_is_only_normalised(self) -> None:
        image = torch.rand(1, 64, 64)
        images, _ = self.transform([image])
        assert torch.allclose(images.tensors[0, 1], (image[0] - 0.25) / 0.5)
        assert torch.allclose(images.tensors[0, 2], (image[0] - 0.5) / 0.25)

    @pytest.mark.parametrize(
        ("height", "width", "expected"),
        [(128, 64, (64, 32)), (16, 32, (32, 64)), (1, 500, (1, 64)), (64, 63, (64, 63))],
        ids=["shrinks", "grows", "a strip keeps a pixel", "right size already"],
    )
    def test_longer_side_is_size(self, height: int, width: int, expected: tuple[int, int]) -> None:
        images, targets = self.transform(
            [torch.rand(1, height, width)], [{"boxes": torch.tensor([[0.0, 0.0, width, height]])}]
        )
        assert images.image_sizes == [expected]
        assert targets[0]["boxes"].tolist() == [[0, 0, expected[1], expected[0]]]


def test_anchors_scale_with_the_input() -> None:
    def sides(size: int) -> tuple[tuple[float, ...], ...]:
        sizes: tuple[tuple[float, ...], ...] = tiny(image_size=size).network.rpn.anchor_generator.sizes
        return sizes

    assert sides(320)[0] == (16, 24, 32)
    assert sides(640)[2] == (256, 384, 512)


def test_settings_reach_the_network() -> None:
    model = tiny(max_boxes=7, nms_iou=0.3, score_threshold=0.2, proposals_test=12, roi_samples=24, rpn_samples=40)
    heads, rpn = model.network.roi_heads, model.network.rpn
    assert (heads.detections_per_img, heads.nms_thresh, heads.score_thresh) == (7, 0.3, 0.2)
    assert (heads.fg_bg_sampler.batch_size_per_image, rpn.fg_bg_sampler.batch_size_per_image) == (24, 40)
    assert rpn._post_nms_top_n == {"training": 16, "testing": 12}
    own = tiny(anchor_sizes=((10,), (20,), (40,)), aspect_ratios=(1.0,))
    assert own.network.rpn.head.cls_logits.out_channels == 1


def test_mixed_precision_keeps_boxes_and_losses_in_float32() -> None:
    model = tiny(score_threshold=0.0).to(memory_format=torch.channels_last)
    images, targets = batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()(images, targets)
        found = model.eval()(images)
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())
    assert found[0]["boxes"].dtype == found[0]["scores"].dtype == torch.float32
    coordinates = found[0]["boxes"].flatten()
    # bfloat16 would leave eight bits: every coordinate a multiple of 1/4 above 32.
    assert (coordinates != coordinates.bfloat16().float()).any()
    assert model.network.rpn.anchor_generator.cell_anchors[0].dtype == torch.float32


@pytest.mark.parametrize("kind", ["giou", "ciou"])
def test_overlap_loss(kind: str) -> None:
    model = tiny(box_loss=kind)
    assert model.state_dict().keys() == tiny().state_dict().keys()
    heads = model.network.roi_heads
    assert isinstance(heads, TumorRoIHeads)
    proposals = torch.tensor([[10.0, 10, 30, 30], [0.0, 0, 20, 20], [5.0, 5, 9, 9]])
    classes = torch.tensor([2, 1, 0])
    wanted = torch.tensor([[1.0, 0, 0.5, 0], [0.0, 0, 0, 0], [9.0, 9, 9, 9]])
    deltas = torch.zeros(3, 4, 4)
    deltas[0, 2], deltas[1, 1] = wanted[0], wanted[1]
    logits = torch.zeros(3, 4)

    def box_loss(deltas: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return heads.losses(logits, deltas.flatten(1), proposals, classes, wanted)["loss_box_reg"]

    perfect = box_loss(deltas, classes)
    assert perfect.item() == pytest.approx(0, abs=1e-5)
    shifted = deltas.clone().requires_grad_()
    loss = box_loss(shifted + 0.5, classes)
    loss.backward()
    assert loss > 0
    assert shifted.grad is not None and shifted.grad[2].abs().sum() == 0, "background has no box"
    assert box_loss(deltas, torch.zeros(3, dtype=torch.int64)) == 0
    assert "network.rpn.head.cls_logits.weight" in moved_by_one_step(model)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arch": "yolo"}, "no detector 'yolo'"),
        ({"arch": "fasterrcnn_timm:no_such_net"}, "timm has no network"),
        ({"arch": "fasterrcnn_timm:vit_tiny_patch16_224"}, "strides|feature maps"),
        ({"anchor_sizes": ((16,), (32,))}, "3 groups"),
        ({"anchor_sizes": ((16,), (32, 64), (128,))}, "3 groups"),
        ({"classes": 0}, "at least one class"),
    ],
)
def test_bad_settings_are_one_line(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        tiny(**changes)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_without_timm_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="timm is not installed; install detectclf again"):
        tiny("fasterrcnn_timm:tf_efficientnet_lite0")


def test_dropout_and_norms_of_other_parts_still_train_while_frozen() -> None:
    model = tiny("fasterrcnn_resnet50_fpn_v2")
    model.freeze_backbone()
    model.train()
    outside = [m for m in model.network.roi_heads.modules() if isinstance(m, nn.BatchNorm2d)]
    assert outside and all(m.training for m in outside)


def test_widths_make_a_smaller_model() -> None:
    plain, narrow = tiny(), tiny(pyramid_channels=32, head_width=64)
    assert sum(p.numel() for p in narrow.parameters()) < 0.5 * sum(p.numel() for p in plain.parameters())
    assert torch.isfinite(torch.stack(list(narrow.train()(*batch()).values()))).all()
    with pytest.raises(ModelError, match=r"the widths of .* are fixed"):
        tiny("fasterrcnn_mobilenet_v3_large_fpn", head_width=64)


def test_kept_parts_stand_still_also_after_thawing() -> None:
    model = tiny(frozen=["0", "1"])
    assert all(p.requires_grad for p in model.parameters()), "random weights are not worth keeping"
    model.freeze_parts(["0", "1"])
    model.freeze_backbone(True)
    model.freeze_backbone(False)
    moved = moved_by_one_step(model)
    kept = ("network.backbone.body.0.", "network.backbone.body.1.")
    assert not [name for name in moved if name.startswith(kept)], "weights and BatchNorm statistics are kept"
    assert any(name.startswith("network.backbone.body.4.") for name in moved)
    with pytest.raises(ModelError, match="no part 'layer9'"):
        tiny(frozen=["layer9"])
