"""Losses for tumours of unknown type: closed forms, torchvision where all types are known, and trainings that learn."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch.nn import functional
from torchvision.models.detection.roi_heads import fastrcnn_loss

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.models.box_loss import TumorRoIHeads
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.marginal_loss import marginal_cross_entropy
from detectclf.types import ANY_TUMOR_INDEX

ANY = ANY_TUMOR_INDEX


def tiny(classes: int = 3, box_loss: Literal["smooth_l1", "giou", "ciou"] = "smooth_l1") -> Detector:
    torch.manual_seed(0)
    small = {"image_size": 64, "proposals_train": 16, "proposals_test": 16, "roi_samples": 16, "rpn_samples": 16}
    settings = {"arch": "fasterrcnn_small_fpn", "weights": "none", "box_loss": box_loss, **small}
    return build_detector(DetectorConfig.model_validate(settings), classes)


def heads_of(model: Detector) -> TumorRoIHeads:
    heads = model.network.roi_heads
    assert isinstance(heads, TumorRoIHeads)
    return heads


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 3.0]])
def test_known_types_alone_give_plain_cross_entropy(smoothing: float, weights: list[float] | None) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(9, 4, requires_grad=True), torch.randint(0, 4, (9,))
    of_class = None if weights is None else torch.tensor(weights)
    ours = marginal_cross_entropy(logits, labels, (0, 1, 3), class_weights=of_class, label_smoothing=smoothing)
    plain = functional.cross_entropy(logits, labels, weight=of_class, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(plain.item(), abs=1e-6)
    (got,) = torch.autograd.grad(ours, logits)
    (wanted,) = torch.autograd.grad(plain, logits)
    torch.testing.assert_close(got, wanted, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "weights", "smoothing", "wanted"),
    [
        # Probabilities are 0.1, 0.2, 0.3, 0.4; class 2 is no tumour, so a tumour has 0.7.
        ([ANY], None, 0.0, -math.log(0.7)),
        ([ANY], None, 0.2, -math.log(0.7)),  # no smoothing of unknown types
        ([ANY, 3], None, 0.0, -(math.log(0.7) + math.log(0.4)) / 2),
        ([ANY, 3], [1.0, 1.0, 1.0, 3.0], 0.0, -(math.log(0.7) + 3 * math.log(0.4)) / 4),  # an unknown type weighs 1
    ],
)
def test_closed_forms(labels: list[int], weights: list[float] | None, smoothing: float, wanted: float) -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(len(labels), 1) + 5  # a shift changes nothing
    of_class = None if weights is None else torch.tensor(weights)
    loss = marginal_cross_entropy(
        logits, torch.tensor(labels), (0, 1, 3), class_weights=of_class, label_smoothing=smoothing
    )
    assert loss.item() == pytest.approx(wanted, abs=1e-5)


def test_gradients_by_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([ANY, 0, 2, ANY, 3])
    assert torch.autograd.gradcheck(lambda x: marginal_cross_entropy(x, labels, (0, 1, 3)), (logits,))


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[-200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    loss = marginal_cross_entropy(logits, torch.tensor([ANY]), (0, 1, 3))
    loss.backward()
    assert loss.item() == pytest.approx(400 - math.log(3))
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def samples(count: int, classes: int) -> tuple[torch.Tensor, ...]:
    """Logits, deltas, proposals, labels and encoded true boxes of random samples of a box head."""
    torch.manual_seed(3)
    corners = torch.rand(count, 2) * 30
    proposals = torch.cat([corners, corners + 5 + torch.rand(count, 2) * 20], dim=1)
    logits = torch.randn(count, classes + 1, requires_grad=True)
    deltas = torch.randn(count, 4 * (classes + 1), requires_grad=True)
    return logits, deltas, proposals, torch.randint(0, classes + 1, (count,)), torch.randn(count, 4) * 0.3


def test_without_unknown_types_the_losses_are_torchvisions() -> None:
    logits, deltas, proposals, classes, wanted = samples(40, 3)
    ours = heads_of(tiny()).losses(logits, deltas, proposals, classes, wanted)
    theirs = fastrcnn_loss(logits, deltas, [classes], [wanted])
    for got, expected in zip(ours.values(), theirs, strict=True):
        assert got.item() == pytest.approx(expected.item(), abs=1e-6)
        for mine, other in zip(
            torch.autograd.grad(got, (logits, deltas), allow_unused=True, retain_graph=True),
            torch.autograd.grad(expected, (logits, deltas), allow_unused=True, retain_graph=True),
            strict=True,
        ):
            assert (mine is None) == (other is None)
            if mine is not None:
                torch.testing.assert_close(mine, other, atol=1e-7, rtol=1e-5)


def test_background_alone_has_no_box_loss() -> None:
    logits, deltas, proposals, classes, wanted = samples(8, 3)
    losses = heads_of(tiny()).losses(logits, deltas, proposals, torch.zeros_like(classes), wanted)
    assert losses["loss_box_reg"] == 0
    losses["loss_box_reg"].backward()  # no parameter is without a gradient, as other processes may have boxes


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "ciou"])
def test_box_of_unknown_type_is_the_expected_loss_over_its_classes(kind: Literal["smooth_l1", "giou", "ciou"]) -> None:
    heads = heads_of(tiny(box_loss=kind))
    logits, deltas, proposals, _, wanted = (part[:1] for part in samples(1, 3))
    heads.tumors = (1, 3)  # class 2 is the negative one
    belief = logits.detach()[0, [1, 3]].softmax(dim=0)

    def as_class(label: int) -> torch.Tensor:
        return heads.losses(logits, deltas, proposals, torch.tensor([label]), wanted)["loss_box_reg"]

    losses = heads.losses(logits, deltas, proposals, torch.tensor([4]), wanted)
    mixed = belief[0] * as_class(1) + belief[1] * as_class(3)
    assert losses["loss_box_reg"].item() == pytest.approx(mixed.item(), rel=1e-5)
    p = logits.detach()[0].softmax(dim=0)
    assert losses["loss_classifier"].item() == pytest.approx(-math.log(p[1] + p[3]), abs=1e-5)
    of_logits, of_deltas = torch.autograd.grad(losses["loss_box_reg"], (logits, deltas), allow_unused=True)
    assert of_logits is None, "boxes that fit badly must not change the class"
    moved = of_deltas.reshape(4, 4).abs().sum(dim=1) > 0
    assert moved.tolist() == [False, True, False, True]


def test_detector_shifts_unknown_types_past_its_classes() -> None:
    model = tiny(classes=3)
    assert model._shifted(torch.tensor([0, 2, ANY])).tolist() == [1, 3, 4]
    model.set_tumors((0, 1))
    assert heads_of(model).tumors == (1, 2)


def test_training_on_unknown_types_learns_where_tumours_are() -> None:
    """Bright squares of unknown type on noise: the boxes are found, and no class is learned."""
    model = tiny(classes=2).train()
    torch.manual_seed(1)
    images, targets = [], []
    for corner in (6.0, 30.0):
        image = torch.rand(1, 64, 64) * 0.2
        start, stop = int(corner), int(corner) + 24
        image[0, start:stop, start:stop] += 0.7
        images.append(image)
        box = torch.tensor([[corner, corner, corner + 24, corner + 24]])
        targets.append({"boxes": box, "labels": torch.tensor([ANY])})
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(60):
        loss = sum(model(images, targets).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    heads = heads_of(model)
    sample = targets[0]["boxes"]
    maps = model.network.backbone(model.network.transform([images[0]])[0].tensors)
    logits, _ = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, [sample], [(64, 64)])))
    background, first, second = logits[0].softmax(dim=0).tolist()
    assert background < 0.2
    assert min(first, second) > 0.02, "nothing says which class"


def test_a_classifier_takes_unknown_types() -> None:
    torch.manual_seed(0)
    classifier = build_classifier(ClassifierConfig(arch="cnn", weights="none", image_size=32), 4).eval()
    images, labels = torch.rand(3, 1, 32, 32), torch.tensor([ANY, 2, ANY])
    losses = classifier.losses(images, labels, tumors=(0, 1, 3))
    p = classifier(images).softmax(dim=1).detach()
    wanted = -(math.log(1 - p[0, 2]) + math.log(p[1, 2]) + math.log(1 - p[2, 2])) / 3
    assert losses["loss_class"].item() == pytest.approx(wanted, abs=1e-5)


def test_inceptions_auxiliary_classifier_sums_types_out_as_well() -> None:
    torch.manual_seed(0)
    model = build_classifier(ClassifierConfig(arch="inception_v3", weights="none"), 3).train()
    losses = model.losses(torch.rand(2, 1, 299, 299), torch.tensor([ANY, ANY]), tumors=(0, 1))
    assert losses.keys() == {"loss_class", "loss_auxiliary"}
    sum(losses.values(), torch.zeros(())).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
