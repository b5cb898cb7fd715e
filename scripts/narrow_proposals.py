"""Gives a detector a narrower proposal network, in two steps with a training between them:

    narrow_proposals.py start WIDE SLICES CHANNELS OUT    # train on from OUT with model.proposal_channels CHANNELS
    narrow_proposals.py finish WIDE TRAINED OUT           # the run TRAINED, but with all else as it was in WIDE

At the start the hidden channels stay that move the outputs most on real slices; the layers behind are fitted again, by
least squares. The training makes good what is lost. All but the proposal network was trained for longer before.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE
from detectclf.imaging.images import read_image, resize_pad
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import MODEL_FILE, load_stage, save_stage

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


def start(wide: Path, slices: Path, channels: int, out: Path) -> None:
    """Writes a folder that ``train-detector --weights`` takes, with ``model.proposal_channels`` of ``channels``."""
    stage = load_stage(wide, "detector")
    network: Detector = stage.network.eval()
    config = network.config.model_copy(update={"proposal_channels": channels, "weights": "none"})
    narrower = build_detector(config, network.num_classes)
    narrower.load_state_dict(narrow(network, slices, channels))
    narrower.set_normalisation(*network.normalisation())
    save_stage(out, new_stage(narrower, stage.classes, negative=stage.meta.negative))
    if (wide / FINGERPRINTS_FILE).is_file():  # it was trained on the same slices
        shutil.copyfile(wide / FINGERPRINTS_FILE, out / FINGERPRINTS_FILE)


def finish(wide: Path, trained: Path, out: Path) -> None:
    """Copies the run ``trained`` with the proposal network that it learned, and all other weights of ``wide``."""
    old, new = load_file(wide / MODEL_FILE), load_file(trained / MODEL_FILE)
    shutil.copytree(trained, out, ignore=shutil.ignore_patterns("last", MODEL_FILE))
    state = {name: (new if name.startswith(HEAD) else old)[name].contiguous() for name in new}
    save_file(state, out / MODEL_FILE, metadata={"format": "pt"})


def main(words: list[str]) -> None:
    """Does one of the two steps."""
    match words:
        case ["start", wide, slices, channels, out]:
            start(Path(wide), Path(slices), int(channels), Path(out))
        case ["finish", wide, trained, out]:
            finish(Path(wide), Path(trained), Path(out))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
