"""The number of parameters from the header of the weights is the number that torch counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import save_file

from detectclf.config import ClassifierConfig, DetectorConfig
from detectclf.models.classifiers import build_classifier
from detectclf.models.detectors import build_detector
from detectclf.models.parameter_count import count_parameters
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import load_stage, save_stage

# Networks whose weights hold more than parameters, and what.
NETWORKS = {
    "cnn": "running statistics",
    "timm:tf_efficientnet_lite0": "running statistics, in other names",
    "swin_t": "a table of whole numbers",
    "alexnet": "nothing else",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "statistics of a backbone",
}


@pytest.mark.parametrize("arch", NETWORKS)
def test_it_is_what_torch_counts(arch: str, tmp_path: Path) -> None:
    kind = "detector" if arch.startswith("fasterrcnn") else "classifier"
    if kind == "detector":
        network = build_detector(DetectorConfig(arch=arch, weights="none"), 3)
    else:
        network = build_classifier(ClassifierConfig(arch=arch, weights="none", image_size=64), 3)
    stage = new_stage(network, ("glioma", "meningioma", "pituitary"), negative=None)
    save_stage(tmp_path, stage, half=True)
    wanted = sum(each.numel() for each in network.parameters())
    assert load_stage(tmp_path, kind).parameters == stage.parameters == wanted


def test_a_frozen_batch_norm_has_no_parameters(tmp_path: Path) -> None:
    import torch
    from torchvision.ops import FrozenBatchNorm2d

    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), FrozenBatchNorm2d(4), torch.nn.BatchNorm2d(4))
    save_file({name: value.numpy() for name, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    assert count_parameters(tmp_path / "w.safetensors") == sum(each.numel() for each in network.parameters()) == 48
