"""Makes a detector's proposal network narrower, to train on from: ``narrow_proposals.py RUN SLICES CHANNELS OUT``.

The hidden channels that move its outputs most on real slices stay; the layers behind are fitted again, by least
squares. What is lost is for a training with ``model.proposal_channels`` to make good.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE
from detectclf.imaging.images import read_image, resize_pad
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import load_stage, save_stage

SLICES = 160
RIDGE = 1e-4
"""Share of the mean energy that keeps least squares well-posed."""

HEAD = "network.rpn.head"


def batches(folder: Path, size: int) -> Iterator[list[Tensor]]:
    """``SLICES`` pictures of a folder, spread over it, as batches of ``(1, size, size)`` grey levels."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".png", ".jpg", ".jpeg"))
    chosen = files[:: max(1, len(files) // SLICES)][:SLICES]
    pictures = [torch.from_numpy(resize_pad(read_image(file), size)[0]).float().div(255)[None] for file in chosen]
    for start in range(0, len(pictures), 16):
        yield pictures[start : start + 16]


def energies(network: Detector, slices: Path) -> Tensor:
    """``(C, C)`` sums of products of the proposal network's hidden channels over all places."""
    convolutions = network.network.rpn.head.conv
    channels = convolutions[-1][0].out_channels
    products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(_: object, __: object, maps: Tensor) -> None:
        rows = maps.movedim(1, -1).reshape(-1, channels).double()
        products.add_(rows.T @ rows)

    hook = convolutions.register_forward_hook(add)
    with torch.inference_mode():
        for images in batches(slices, network.input_size):
            network(images)
    hook.remove()
    return products


def narrow(network: Detector, slices: Path, count: int) -> dict[str, Tensor]:
    """The weights of ``network`` with a proposal network of ``count`` channels, one convolution deep."""
    head, products = network.network.rpn.head, energies(network, slices)
    if len(head.conv) != 1:
        raise SystemExit("the proposal network has more than one convolution")
    last = {"cls_logits": head.cls_logits, "bbox_pred": head.bbox_pred}
    moved = torch.cat([layer.weight.flatten(1) for layer in last.values()]).double().square().sum(0)
    kept = (products.diagonal() * moved).topk(count).indices.sort().values
    inner = products[kept][:, kept]
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(count, dtype=inner.dtype)
    fit = torch.linalg.solve(inner + ridge, products[kept]).T.float()  # each channel by the kept ones
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name in (f"{HEAD}.conv.0.0.weight", f"{HEAD}.conv.0.0.bias"):
        state[name] = state[name][kept]
    for name, layer in last.items():
        state[f"{HEAD}.{name}.weight"] = (layer.weight.flatten(1) @ fit)[:, :, None, None].contiguous()
    return state


def main(run: Path, slices: Path, channels: int, out: Path) -> None:
    """Writes a folder that ``train-detector --weights`` takes, with ``model.proposal_channels`` of ``channels``."""
    stage = load_stage(run, "detector")
    network: Detector = stage.network.eval()
    config = network.config.model_copy(update={"proposal_channels": channels, "weights": "none"})
    narrower = build_detector(config, network.num_classes)
    narrower.load_state_dict(narrow(network, slices, channels))
    narrower.set_normalisation(*network.normalisation())
    save_stage(out, new_stage(narrower, stage.classes, negative=stage.meta.negative))
    if (run / FINGERPRINTS_FILE).is_file():  # it was trained on the same slices
        shutil.copyfile(run / FINGERPRINTS_FILE, out / FINGERPRINTS_FILE)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
