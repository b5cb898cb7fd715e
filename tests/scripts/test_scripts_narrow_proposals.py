"""A narrower proposal network as a start: the same where nothing is cut off, one that loads where much is."""

from __future__ import annotations

from pathlib import Path

import narrow_proposals
import pytest
import torch

from detectclf.config import DetectorConfig
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import load_stage, save_stage
from detectclf.sample_data.export import write_sample_data

TUMORS = ("glioma", "meningioma", "pituitary")
WIDTH = 64
"""Channels of the small detector's pyramid, and of its proposal network."""


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_data(tmp_path_factory.mktemp("slices") / "data", 12) / "train"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = DetectorConfig(arch="fasterrcnn_small_fpn", weights="none", image_size=128)
    folder = tmp_path_factory.mktemp("run") / "detector"
    save_stage(folder, new_stage(build_detector(config, 3), TUMORS, negative="no_tumor"))
    return folder


def heads(network: Detector, image: torch.Tensor) -> list[torch.Tensor]:
    """What follows from the pyramid: the proposal network's outputs and the box head's on fixed boxes."""
    inner = network.eval().network
    images, _ = inner.transform([image])
    maps = inner.backbone(images.tensors)
    scores, deltas = inner.rpn.head(list(maps.values()))
    boxes = [torch.tensor([[10.0, 10.0, 60.0, 70.0], [40.0, 20.0, 100.0, 90.0]])]
    pooled = inner.roi_heads.box_roi_pool(maps, boxes, images.image_sizes)
    return [*scores, *deltas, *inner.roi_heads.box_predictor(inner.roi_heads.box_head(pooled))]


def test_nothing_changes_where_no_channel_is_cut_off(run: Path, slices: Path, tmp_path: Path) -> None:
    narrow_proposals.start(run, slices, WIDTH, tmp_path / "same")
    image = torch.rand(1, 128, 128)
    with torch.inference_mode():
        before, after = (heads(load_stage(folder, "detector").network, image) for folder in (run, tmp_path / "same"))
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_narrower_one_is_a_start_for_training(run: Path, slices: Path, tmp_path: Path) -> None:
    narrow_proposals.start(run, slices, 24, tmp_path / "narrow")
    config = DetectorConfig(
        arch="fasterrcnn_small_fpn", weights=str(tmp_path / "narrow"), image_size=128, proposal_channels=24
    )
    network, narrow = build_detector(config, 3), load_stage(tmp_path / "narrow", "detector")
    assert narrow.classes == TUMORS and narrow.meta.negative == "no_tumor"
    assert network.network.rpn.head.cls_logits.in_channels == 24
    assert network.network.backbone.out_channels == WIDTH
    for name, tensor in narrow.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name


def test_all_but_the_proposal_network_is_as_it_was(run: Path, slices: Path, tmp_path: Path) -> None:
    trained, out = tmp_path / "trained", tmp_path / "out"
    narrow_proposals.main(["start", str(run), str(slices), "24", str(trained)])
    stage = load_stage(trained, "detector")
    with torch.no_grad():
        for weights in stage.network.parameters():
            weights.add_(1)  # as a training would
    save_stage(trained, stage)
    narrow_proposals.main(["finish", str(run), str(trained), str(out)])
    wide, new, found = (load_stage(folder, "detector").network.state_dict() for folder in (run, trained, out))
    for name, tensor in found.items():
        assert torch.equal(tensor, (new if "rpn.head" in name else wide)[name]), name
