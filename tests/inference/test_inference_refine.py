"""The refiner in prediction: which proposals it refines, where its boxes land, what fusion does with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detectclf.config import PredictConfig, RefinerConfig
from detectclf.inference.fusion import FusionClasses, default_fusion, fuse, refiner_evidence
from detectclf.inference.predictor import Predictor
from detectclf.inference.refine import MOST_PROPOSALS, ProposalRefiner, likely_proposals
from detectclf.models.bundle import Bundle, load_bundle, save_bundle
from detectclf.models.refiner import RefinerOutputs, build_refiner
from detectclf.models.stage import new_stage
from detectclf.types import RefinedProposals, StageOutputs

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
TUMORS = ("glioma", "meningioma", "pituitary")
NAMES = FusionClasses(CLASSES, "no_tumor", TUMORS)


def said(boxes: list[list[float]], labels: list[str], scores: list[float]) -> StageOutputs:
    return StageOutputs(
        np.zeros(4, np.float32), np.array(boxes, np.float32).reshape(-1, 4), tuple(labels), np.array(scores, np.float32)
    )


def test_proposals_are_few_apart_and_best_first() -> None:
    here, near = [10, 10, 50, 50], [12, 11, 51, 52]
    others = [[60.0 + 30 * i, 60, 80 + 30 * i, 80] for i in range(4)]
    out = said([here, near, *others], ["glioma", "pituitary", *["glioma"] * 4], [0.9, 0.8, 0.5, 0.4, 0.3, 0.2])
    assert likely_proposals(out, TUMORS).tolist() == [0, 2, 3] and MOST_PROPOSALS == 3
    assert likely_proposals(said([here], ["no_tumor"], [0.9]), TUMORS).tolist() == []


class Edges(torch.nn.Module):
    """A refiner with a known answer: the box of the bright pixels of its crop."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.input_size = RefinerConfig(image_size=64, slice_size=200), 64

    def forward(self, crops: torch.Tensor) -> RefinerOutputs:
        boxes = []
        for crop in crops[:, 0]:
            ys, xs = torch.where(crop > 0.5)
            if not len(xs):  # a crop of a strip that was thinned away
                ys = xs = torch.tensor([0, 63])
            boxes.append(torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / 64)
        return RefinerOutputs(torch.stack(boxes), torch.zeros(len(crops)), torch.zeros(len(crops), 4))


@pytest.mark.parametrize(("height", "width"), [(200, 200), (400, 300), (100, 160)])
def test_boxes_come_back_to_the_original_image(height: int, width: int) -> None:
    """A crop is cut from a resized slice and mirrored as well; its box must land on the bright block."""
    pixels = np.zeros((height, width), dtype=np.uint8)
    truth = np.array([0.3 * width, 0.4 * height, 0.55 * width, 0.7 * height])
    x1, y1, x2, y2 = truth.round().astype(int)
    pixels[y1:y2, x1:x2] = 255
    refiner = ProposalRefiner(Edges(), TUMORS, torch.device("cpu"))  # type: ignore[arg-type]
    guess = said([[x1 - 9.0, y1 + 4.0, x2 - 5.0, y2 + 6.0]], ["glioma"], [0.7])
    (refined,) = refiner.refine([refiner.prepare(pixels)], [guess])
    assert refined.refined is not None
    assert np.allclose(refined.refined.boxes_xyxy[0], [x1, y1, x2, y2], atol=0.03 * max(height, width))
    assert np.allclose(refined.refined.proposals_xyxy, guess.boxes_xyxy)


@pytest.mark.parametrize(("height", "width"), [(777, 1000), (630, 1001), (20, 1500), (3, 700)])
def test_refined_boxes_stay_inside_the_original_image(height: int, width: int) -> None:
    """The resized slice has whole pixels: 777 of 1000 become 398, which are 777.3 of the original."""
    refiner = ProposalRefiner(Edges(), TUMORS, torch.device("cpu"))  # type: ignore[arg-type]
    whole = said([[0.0, 0.0, width, height]], ["glioma"], [0.9])
    (refined,) = refiner.refine([refiner.prepare(np.full((height, width), 255, np.uint8))], [whole])
    assert refined.refined is not None and len(refined.refined.boxes_xyxy) == 1
    x1, y1, x2, y2 = refined.refined.boxes_xyxy[0]
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


@pytest.mark.parametrize("claim", ["glioma", "meningioma"])
@pytest.mark.parametrize("refined", [[0.3, 0.68, 0.01, 0.01], [0.05, 0.9, 0.02, 0.03]])
@pytest.mark.parametrize("gamma", [0.0, 0.25])
def test_what_is_drawn_agrees_with_the_class_of_the_slice(claim: str, refined: list[float], gamma: float) -> None:
    """Whatever class detector and refiner give the box."""
    weights = (0.25, 0.25, 0.5)
    parameters = replace(default_fusion(CLASSES), refined_score_weights=weights, box_gamma=gamma, box_weight=0.0)
    out = replace(
        said([[10, 10, 50, 50]], [claim], [0.9]),
        refined=refined_proposals([refined], [0.5]),
        classifier_logits=np.array([6, 0, 0, 0], np.float32),
    )
    fused = fuse(out, parameters, NAMES)
    drawn = [name for name, score in zip(fused.box_labels, fused.scores, strict=True) if score >= 0.5]
    sure = refined[0] > 0.1 or claim != "glioma"  # else the refiner outvotes the detector, and a flag is raised
    assert fused.label == "glioma" and drawn == ["glioma"] * sure
    assert ("tumor_without_box" in fused.flags) == (not sure)


def test_a_box_that_no_proposal_matches_does_not_rank_above_rejected_ones() -> None:
    """The refiner refines three proposals at most; that does not make the fourth box better."""
    boxes = [[10.0 + 100 * i, 10, 50 + 100 * i, 50] for i in range(4)]
    parameters = replace(default_fusion(CLASSES), box_gamma=0.0, box_weight=0.0)
    out = replace(
        said(boxes, ["glioma"] * 4, [0.6, 0.5, 0.45, 0.44]),
        refined=refined_proposals([[0.02, 0.02, 0.01, 0.95]] * 3, [0.1] * 3),
        classifier_logits=np.array([6, 0, 0, 0], np.float32),
    )
    fused = fuse(out, parameters, NAMES)
    assert fused.boxes_xyxy[:, 0].round(-1).tolist() == [10, 110, 210, 310]


@pytest.mark.parametrize(
    ("score", "label", "drawn"),
    [
        (0.3, "glioma", ["glioma"]),  # under the threshold, but the slice is a glioma and this is its best box
        (0.15, "glioma", []),  # a guess
        (0.3, "no_tumor", []),  # a healthy slice shows none
    ],
)
def test_a_tumour_slice_shows_a_box(score: float, label: str, drawn: list[str]) -> None:
    parameters = replace(default_fusion(CLASSES), box_gamma=0.0, box_weight=0.0)
    out = said([[10, 10, 50, 50], [60, 60, 90, 90]], ["glioma"] * 2, [score, score / 2])
    logits = np.array([6.0 * (name == label) for name in CLASSES], np.float32)
    fused = fuse(replace(out, classifier_logits=logits), parameters, NAMES)
    assert fused.label == label
    shown = [name for name, s in zip(fused.box_labels, fused.scores, strict=True) if s >= fused.box_threshold]
    assert shown == drawn and ("tumor_without_box" in fused.flags) == (label == "glioma" and not drawn)


def test_out_of_distribution_no_tumour_is_predicted_whatever_the_classes() -> None:
    out = said([[10, 10, 50, 50]], ["glioma"], [0.97])
    names = FusionClasses(("glioma", "meningioma"), None, ("glioma", "meningioma"))
    out = replace(out, classifier_logits=np.array([6, 0], np.float32))
    fused = fuse(out, default_fusion(names.classes), names, novelty="outside")
    assert fused.flags == ("not_a_brain_mri",) and (fused.scores < 0.5).all()


def test_no_box_no_proposal() -> None:
    refiner = ProposalRefiner(Edges(), TUMORS, torch.device("cpu"))  # type: ignore[arg-type]
    (refined,) = refiner.refine([refiner.prepare(np.zeros((50, 50), np.uint8))], [said([], [], [])])
    assert refined.refined is not None and refined.refined.class_probabilities.shape == (0, 4)
    fused = fuse(refined, default_fusion(CLASSES), NAMES)
    assert len(fused.boxes_xyxy) == 0 and sum(fused.probabilities.values()) == pytest.approx(1)


def refined_proposals(class_probabilities: list[list[float]], quality: list[float]) -> RefinedProposals:
    count = len(class_probabilities)
    boxes = np.array([[10.0 + 100 * i, 10, 50 + 100 * i, 50] for i in range(count)], np.float32)
    return RefinedProposals(
        boxes + 2,
        boxes,
        np.array(quality, np.float32),
        np.array(class_probabilities, np.float32),
        TUMORS,
    )


def test_scores_are_the_weighted_geometric_mean_by_hand() -> None:
    parameters = replace(
        default_fusion(CLASSES),
        refined_score_weights=(0.5, 0.25, 0.25),
        box_gamma=0.0,
        refined_box_weight=0.25,
        box_weight=0.0,
    )
    out = replace(
        said([[10, 10, 50, 50]], ["glioma"], [0.64]),
        refined=refined_proposals([[0.81, 0.09, 0.05, 0.05]], [0.5]),
        classifier_logits=np.array([5, 0, 0, 0], np.float32),
    )
    fused = fuse(out, parameters, NAMES)
    assert fused.box_labels[0] == "glioma"
    assert fused.scores[0] == pytest.approx(0.64**0.5 * 0.5**0.25 * 0.81**0.25, rel=1e-5)
    assert fused.boxes_xyxy[0].tolist() == [10.5, 10.5, 50.5, 50.5]


@pytest.mark.parametrize(
    ("box", "moved"),
    [
        ([10.0, 10, 50, 65.5], [10.5, 10.5, 50.5, 62.125]),  # IoU 0.72: the refined box is of this extent
        ([10.0, 10, 50, 68.5], [10.0, 10, 50, 68.5]),  # IoU 0.68: another extent, which is kept
    ],
)
def test_a_box_of_another_extent_than_the_proposal_is_not_moved(box: list[float], moved: list[float]) -> None:
    parameters = replace(
        default_fusion(CLASSES),
        refined_score_weights=(0.5, 0.5, 0.0),
        box_gamma=0.0,
        refined_box_weight=0.25,
        box_weight=0.0,
    )
    out = replace(
        said([box], ["glioma"], [0.64]),
        refined=refined_proposals([[0.81, 0.09, 0.05, 0.05]], [0.25]),
        classifier_logits=np.array([5, 0, 0, 0], np.float32),
    )
    fused = fuse(out, parameters, NAMES)
    assert fused.boxes_xyxy[0].tolist() == pytest.approx(moved)
    assert fused.scores[0] == pytest.approx(np.nextafter(np.float32(0.5), np.float32(1))), "0.4, and the slice's best"


def test_evidence_of_the_refiner() -> None:
    evidence = refiner_evidence(refined_proposals([[0.9, 0.02, 0.03, 0.05], [0.1, 0.2, 0.1, 0.6]], [0.5, 0.5]), NAMES)
    assert evidence[0] == pytest.approx(np.log(9)) and evidence[2] == pytest.approx(np.log(0.05 / 0.95))


def test_a_saved_bundle_with_a_refiner_predicts_the_same(bundle: Bundle, slices: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = RefinerConfig(weights="none", image_size=64, slice_size=96, pyramid_channels=16, head_width=16)
    refiner = build_refiner(config, 3).eval()
    bundle = replace(bundle, stages=bundle.stages | {"refiner": new_stage(refiner, TUMORS, negative="no_tumor")})
    save_bundle(tmp_path / "bundle", bundle, half=False)
    first = Predictor(bundle, PredictConfig(device="cpu"))
    again = Predictor(load_bundle(tmp_path / "bundle"), PredictConfig(device="cpu"))
    for path in slices:
        one, two = first.predict(path), again.predict(path)
        assert one.stages is not None and one.stages.refined is not None
        assert np.allclose(one.boxes_xyxy, two.boxes_xyxy, atol=1e-3)
        inside = (one.boxes_xyxy >= 0).all() and (one.boxes_xyxy[:, 2] <= (one.width or 0)).all()
        assert inside and sum(one.probabilities.values()) == pytest.approx(1)
