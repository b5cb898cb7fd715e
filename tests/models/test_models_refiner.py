"""The refining stage: it starts from the proposal, learns, keeps what it should keep, and is rebuilt from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detectclf.config import RefinerConfig
from detectclf.errors import ModelError
from detectclf.models.refiner import Refiner, build_refiner, paired_iou
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import load_stage, save_stage

ARCHS = ["mobilenet_v2", "timm:tf_efficientnet_lite0"]


def tiny(arch: str = "mobilenet_v2", **changes: Any) -> Refiner:
    torch.manual_seed(0)
    settings = {"arch": arch, "weights": "none", "image_size": 64, "pyramid_channels": 16, "head_width": 16}
    return build_refiner(RefinerConfig.model_validate({**settings, **changes}), 3)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three crops of a tumour and one of a healthy place."""
    torch.manual_seed(1)
    boxes = torch.tensor([[0.2, 0.3, 0.7, 0.8], [0.25, 0.25, 0.75, 0.75], [0.1, 0.2, 0.9, 0.7], [0.0, 0, 0, 0]])
    return torch.rand(4, 1, 64, 64), boxes, torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize("arch", ARCHS)
def test_one_step_moves_all_but_what_is_kept(arch: str) -> None:
    kept = "0" if arch == "mobilenet_v2" else "conv_stem"
    model = tiny(arch)
    model.freeze_parts([kept])
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = model.losses(*batch())
    assert set(losses) == {"loss_box", "loss_quality", "loss_class"}
    sum(losses.values()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    still = {n for n, t in model.state_dict().items() if torch.equal(t, before[n])}
    inside = {n for n in before if n.startswith(f"pyramid.body.{kept}.")}
    assert inside and inside <= still
    # Pyramid levels "1" and "2" feed the finest one only through their inner blocks.
    unused = {n for n in before if "layer_blocks.1" in n}
    assert {n for n in still - inside - unused if not n.endswith("num_batches_tracked")} == set()


def test_the_first_box_is_the_proposal() -> None:
    said = tiny().eval()(torch.rand(2, 1, 64, 64))
    assert torch.allclose(said.boxes, torch.tensor([0.25, 0.25, 0.75, 0.75]), atol=0.02)
    assert said.quality.shape == (2,) and said.logits.shape == (2, 4)


def test_it_learns_where_the_box_is() -> None:
    torch.manual_seed(0)
    model = tiny().train()
    crops, boxes = torch.zeros(16, 1, 64, 64), torch.zeros(16, 4)
    for i in range(16):
        x, y, w, h = 8 + i, 20 - i, 24 + i, 30
        crops[i, 0, y : y + h, x : x + w] = 1
        boxes[i] = torch.tensor([x, y, x + w, y + h]) / 64
    labels = torch.arange(16) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = float(model.losses(crops, boxes, labels)["loss_box"].detach())
    for _ in range(25):
        losses = model.losses(crops, boxes, labels)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert float(losses["loss_box"].detach()) < 0.6 * first


def test_a_batch_of_healthy_places_has_no_box_loss() -> None:
    losses = tiny().train().losses(torch.rand(2, 1, 64, 64), torch.zeros(2, 4), torch.tensor([3, 3]))
    assert float(losses["loss_box"].detach()) == 0 and torch.isfinite(losses["loss_quality"])


def test_paired_iou_by_hand() -> None:
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 0, 0]])
    second = torch.tensor([[1.0, 0, 3, 2], [2, 2, 3, 3], [0, 0, 0, 0]])
    assert paired_iou(first, second).tolist() == pytest.approx([1 / 3, 0, 0])


def test_saved_and_rebuilt_it_says_the_same(tmp_path: Path) -> None:
    model = tiny().eval()
    save_stage(tmp_path, new_stage(model, ("a", "b", "c"), negative="none"))
    stage = load_stage(tmp_path, "refiner")
    again, meta = stage.network, stage.meta
    crops = torch.rand(2, 1, 64, 64)
    assert meta.kind == "refiner" and meta.classes == ("a", "b", "c")
    assert torch.equal(again(crops).boxes, model(crops).boxes)
    with pytest.raises(ModelError, match="is a refiner, not a detector"):
        load_stage(tmp_path, "detector")


def test_training_goes_on_from_a_run(tmp_path: Path) -> None:
    model = tiny()
    save_stage(tmp_path, new_stage(model, ("a", "b", "c"), negative=None))
    again = build_refiner(model.config.model_copy(update={"weights": str(tmp_path)}), 3)
    assert not again.weights_report.missing and not again.weights_report.mismatched
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


WRONG = {
    "another network": (lambda: tiny("resnet18"), "no refiner"),
    "a part that is not there": (lambda: tiny(frozen=["nothing"]), "no part 'nothing'"),
    "crops of another size": (lambda: tiny()(torch.rand(1, 1, 32, 32)), "grey squares of 64 px"),
}


@pytest.mark.parametrize(("make", "reason"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_said(make: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        make()
