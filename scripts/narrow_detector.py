"""Makes a detector's pyramid narrower, as a start for a training: ``narrow_detector.py RUN SLICES CHANNELS OUT``.

The pyramid's maps are projected onto their principal directions on real slices, once before and once after the 3 x 3
convolutions, and the weights on both sides take the projection in. The proposal network keeps the hidden channels
that matter most, with the layer behind fitted by least squares. What is lost is for the training to make good.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from detectclf.duplicates.fingerprints import FINGERPRINTS_FILE
from detectclf.imaging.images import read_image, resize_pad
from detectclf.models.detectors import Detector, build_detector
from detectclf.models.stage import new_stage
from detectclf.models.stage_files import load_stage, save_stage

SLICES = 160
RIDGE = 1e-4
"""Share of the mean variance that keeps least squares well-posed."""


def batches(folder: Path, size: int) -> Iterator[list[Tensor]]:
    """``SLICES`` pictures of a folder, spread over it, as batches of ``(1, size, size)`` grey levels."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".png", ".jpg", ".jpeg"))
    chosen = files[:: max(1, len(files) // SLICES)][:SLICES]
    pictures = [torch.from_numpy(resize_pad(read_image(file), size)[0]).float().div(255)[None] for file in chosen]
    for start in range(0, len(pictures), 16):
        yield pictures[start : start + 16]


class Moments:
    """Sums of products of channels over all positions that a module's output was seen at."""

    def __init__(self, channels: int) -> None:
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, maps: Tensor) -> None:
        """Adds a map ``(B, C, H, W)``."""
        rows = maps.detach().movedim(1, -1).reshape(-1, maps.shape[1]).double()
        self.products += rows.T @ rows

    def directions(self, count: int) -> Tensor:
        """``(C, count)`` orthonormal columns that keep most of the energy. Zero stays zero, as padding needs it."""
        values, vectors = torch.linalg.eigh(self.products)
        kept = values[-count:].sum() / values.sum()
        print(f"{count} of {len(values)} directions keep {kept:.4f}")
        return vectors[:, -count:].float()


def narrow(network: Detector, slices: Path, count: int) -> dict[str, Tensor]:
    """The weights of ``network`` with a pyramid of ``count`` channels."""
    fpn, head, roi = network.network.backbone.fpn, network.network.rpn.head, network.network.roi_heads.box_head
    width = network.network.backbone.out_channels
    inside, outside, hidden = Moments(width), Moments(width), Moments(width)
    hooks = [block.register_forward_pre_hook(lambda _, args: inside.add(args[0])) for block in fpn.layer_blocks]
    hooks += [block.register_forward_hook(lambda _, __, out: outside.add(out)) for block in fpn.layer_blocks]
    hooks.append(head.conv.register_forward_hook(lambda _, __, out: hidden.add(out)))
    with torch.inference_mode():
        for images in batches(slices, network.input_size):
            network(images)
    for hook in hooks:
        hook.remove()
    before, after = inside.directions(count), outside.directions(count)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def put(module: nn.Module, weight: Tensor, bias: Tensor) -> None:
        name = next(n for n, each in network.named_modules() if each is module)
        state[f"{name}.weight"], state[f"{name}.bias"] = weight.contiguous(), bias.contiguous()

    for inner, (layer,) in zip(fpn.inner_blocks, fpn.layer_blocks, strict=True):
        put(inner[0], torch.einsum("ck,cihw->kihw", before, inner[0].weight), inner[0].bias @ before)
        put(layer, torch.einsum("ok,oihw,il->klhw", after, layer.weight, before), layer.bias @ after)
    convolution, last = head.conv[0][0], (head.cls_logits, head.bbox_pred)
    kept = important(hidden.products, torch.cat([layer.weight.flatten(1) for layer in last]), count)
    put(convolution, torch.einsum("oihw,il->olhw", convolution.weight, after)[kept], convolution.bias[kept])
    fit = least_squares(hidden.products, kept)
    for layer in last:
        put(layer, (layer.weight.flatten(1) @ fit)[:, :, None, None], layer.bias)
    first = roi.fc6.weight.unflatten(1, (width, -1))
    put(roi.fc6, torch.einsum("ocp,ck->okp", first, after).flatten(1), roi.fc6.bias)
    return state


def important(products: Tensor, weights: Tensor, count: int) -> Tensor:
    """Indices of the channels that move the outputs ``weights`` ``(O, C)`` most."""
    energy = products.diagonal() * weights.double().square().sum(0)
    return energy.topk(count).indices.sort().values


def least_squares(products: Tensor, kept: Tensor) -> Tensor:
    """``(C, kept)``: each channel as a combination of the kept ones."""
    inner = products[kept][:, kept]
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(kept), dtype=inner.dtype)
    return torch.linalg.solve(inner + ridge, products[kept]).T.float()


def main(run: Path, slices: Path, channels: int, out: Path) -> None:
    """Writes a folder that ``train-detector --weights`` takes, for ``model.pyramid_channels`` of ``channels``."""
    stage = load_stage(run, "detector")
    network: Detector = stage.network.eval()
    config = network.config.model_copy(update={"pyramid_channels": channels, "weights": "none"})
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
