"""Activation maps: which parts of a slice make the classifier predict its class.

LayerCAM (Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021) of
each resolution of the network, multiplied with one another: deep maps say what counts, and shallow ones where it is. A
mean over moved and mirrored copies of the slice evens out the coarse grid of the deep ones.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectclf.errors import ModelError
from detectclf.types import FloatArray, Pixels

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detectclf.models.classifiers import Classifier


class View(NamedTuple):
    """A copy of a slice: moved right and down by shares of its side, after mirroring where it is mirrored."""

    right: float = 0.0
    down: float = 0.0
    mirrored: bool = False


_STEP = 1 / 28  # a quarter of a cell of maps of 7 x 7, which most networks end with
_VIEWS = (
    View(),
    View(mirrored=True),
    View(right=_STEP),
    View(right=-_STEP),
    View(down=_STEP),
    View(down=-_STEP),
    View(_STEP, _STEP, mirrored=True),
    View(-_STEP, -_STEP, mirrored=True),
)
_FINEST = 4
"""Maps of at most this part of the input's side count; finer ones show edges."""
_SMOOTHING = 1 / 45
"""Standard deviation of the last smoothing, as a share of the input's side."""

_COMPUTING = threading.Lock()
"""Held while a map is computed: the hooks in the network would catch the slices of another thread as well."""


def _after_fork() -> None:
    global _COMPUTING
    _COMPUTING = threading.Lock()  # a thread that is gone may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def activation_maps(
    classifier: Classifier, slices: Pixels, class_indices: Sequence[int], negative: int | None = None
) -> FloatArray:
    """The activation maps ``(B, S, S)`` of a classifier, each scaled to a maximum of 1.

    A map is 0 everywhere where no part of the slice is evidence for the class.

    Args:
        classifier: in evaluation mode.
        slices: ``(B, S, S)`` uint8 at the classifier's input size.
        class_indices: the class to explain of each slice.
        negative: the class that means "no tumour", if any. The map of a tumour class then shows what speaks for a
            tumour of any class, not for this one rather than another.

    Raises:
        ModelError: the classifier has no convolutions.
    """
    import torch
    from torchvision.transforms.functional import gaussian_blur

    if classifier.last_map is None:
        raise ModelError(
            "an activation map needs convolutions, and this classifier has none",
            remedy="predict without --explain, or use another classifier",
        )
    device = next(classifier.parameters()).device
    images = torch.from_numpy(slices).to(device).unsqueeze(1).float().div(255)
    with _COMPUTING, torch.enable_grad():
        views = [_layer_maps(classifier, _moved(images, view), class_indices, negative) for view in _VIEWS]
    side = images.shape[-1]
    whole = torch.ones_like(images)
    for each in zip(*views, strict=True):  # one resolution, all views
        whole = whole * _scaled(sum(_moved_back(maps, view) for maps, view in zip(each, _VIEWS, strict=True)))
    sigma = side * _SMOOTHING
    smooth = gaussian_blur(whole, 2 * round(3 * sigma) + 1, sigma)
    found: FloatArray = _scaled(smooth)[:, 0].float().cpu().numpy()
    return found


def _layer_maps(
    classifier: Classifier, images: Tensor, class_indices: Sequence[int], negative: int | None
) -> list[Tensor]:
    """LayerCAMs of all resolutions, finest first, each ``(B, 1, S, S)``."""
    import torch
    from torch.nn import functional

    layer = classifier.last_map
    assert layer is not None
    with _outputs_by_side(classifier, layer) as outputs:
        logits = classifier(images.requires_grad_(True))
    last = min(outputs)
    kept = [maps for side, maps in sorted(outputs.items(), reverse=True) if last <= side <= images.shape[-1] // _FINEST]
    kept = kept or [outputs[last]]
    evidence = torch.stack([_log_odds(row, k, negative) for row, k in zip(logits, class_indices, strict=True)])
    gradients = torch.autograd.grad(evidence.sum(), kept)
    cams = [
        (gradient.relu() * maps.detach()).sum(dim=1, keepdim=True).relu()
        for maps, gradient in zip(kept, gradients, strict=True)
    ]
    return [functional.interpolate(cam, images.shape[-2:], mode="bilinear") for cam in cams]


def _log_odds(logits: Tensor, index: int, negative: int | None) -> Tensor:
    """The log-odds of the class, or of a tumour of any class where the class is one."""
    aim = index if negative is None or index == negative else negative
    others = [k for k in range(len(logits)) if k != aim]
    odds = logits[aim] - logits[others].logsumexp(0)
    return odds if aim == index else -odds


@contextmanager
def _outputs_by_side(network: nn.Module, last: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Side of a square map -> the last output of that size in a run, up to the layer ``last``."""
    found: dict[int, Tensor] = {}
    done = False

    def keep(module: nn.Module, _: Any, output: Any) -> Any:
        nonlocal done
        square = hasattr(output, "ndim") and output.ndim == 4 and output.shape[-1] == output.shape[-2]
        if done or not square or not output.requires_grad:
            return None
        found[output.shape[-1]] = output
        done = module is last
        return output.clone()  # the network goes on with a copy, since it may change it in place

    hooks = [module.register_forward_hook(keep) for module in network.modules() if module is not network]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _moved(images: Tensor, view: View) -> Tensor:
    side = images.shape[-1]
    seen = images.flip(-1) if view.mirrored else images
    return seen.roll((round(view.down * side), round(view.right * side)), (-2, -1)).detach()


def _moved_back(maps: Tensor, view: View) -> Tensor:
    side = maps.shape[-1]
    seen = maps.roll((-round(view.down * side), -round(view.right * side)), (-2, -1))
    return seen.flip(-1) if view.mirrored else seen


def _scaled(maps: Any) -> Any:
    """Maps ``(B, 1, h, w)`` with a maximum of 1; zeros stay zeros."""
    peak = maps.amax(dim=(-2, -1), keepdim=True)
    return (maps / peak.clamp_min(1e-30)).nan_to_num()


def heatmap(cam: FloatArray, inside: tuple[int, int], size: int, width: int, height: int) -> FloatArray:
    """One class-activation map ``(h, w)``, resized to the original image: ``(height, width)`` float32 in [0, 1].

    Args:
        cam: from :func:`activation_maps`.
        inside: ``(w, h)`` pixels of the network's input that the slice fills, from the top left; the rest is padding.
        size: side of the network's input, pixels.
        width, height: of the original image, pixels.
    """
    import cv2

    # First to the size of the input, where the padding ends at a whole pixel.
    full = cv2.resize(cam, (size, size), interpolation=cv2.INTER_LINEAR)
    cut = np.ascontiguousarray(full[: inside[1], : inside[0]])
    return np.clip(cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1).astype(np.float32)
