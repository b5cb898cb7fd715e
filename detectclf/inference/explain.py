"""Grad-CAM: which parts of a slice make the classifier predict a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017; captum,
which PyTorch maintains, computes it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from detectclf.errors import ModelError
from detectclf.types import FloatArray, Pixels

if TYPE_CHECKING:
    from detectclf.models.classifiers import Classifier


_COMPUTING = threading.Lock()
"""Held while a map is computed: the hooks in the network would catch the slices of another thread as well."""


def _after_fork() -> None:
    global _COMPUTING
    _COMPUTING = threading.Lock()  # a thread that is gone may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def grad_cam(classifier: Classifier, slices: Pixels, class_indices: Sequence[int]) -> FloatArray:
    """The class-activation maps ``(B, h, w)`` of the classifier's last convolution, each scaled to a maximum of 1.

    A map has the resolution of that layer. It is 0 everywhere where no part of the slice is evidence for the class.

    Args:
        classifier: in evaluation mode.
        slices: ``(B, S, S)`` uint8 at the classifier's input size.
        class_indices: the class to explain of each slice.

    Raises:
        ModelError: the classifier has no convolutions.
    """
    import torch
    from captum.attr import LayerGradCam

    if classifier.gradcam_layer is None:
        raise ModelError(
            "Grad-CAM needs convolutions, and this classifier has none",
            remedy="predict without --explain, or use another classifier",
        )
    device = next(classifier.parameters()).device
    images = torch.from_numpy(slices).to(device).unsqueeze(1).float().div(255)
    target = torch.as_tensor(list(class_indices), device=device)
    with _COMPUTING, torch.enable_grad():
        explainer = LayerGradCam(classifier, classifier.gradcam_layer)
        maps = explainer.attribute(images.requires_grad_(True), target=target, relu_attributions=True)
    values = np.nan_to_num(maps.detach().float().cpu().numpy()[:, 0])
    peak = values.max(axis=(1, 2), keepdims=True)
    scaled: FloatArray = np.divide(values, peak, out=np.zeros_like(values), where=peak > 0)
    return scaled


def heatmap(cam: FloatArray, inside: tuple[int, int], size: int, width: int, height: int) -> FloatArray:
    """One class-activation map ``(h, w)``, resized to the original image: ``(height, width)`` float32 in [0, 1].

    Args:
        cam: from :func:`grad_cam`.
        inside: ``(w, h)`` pixels of the network's input that the slice fills, from the top left; the rest is padding.
        size: side of the network's input, pixels.
        width, height: of the original image, pixels.
    """
    import cv2

    # First to the size of the input, where the padding ends at a whole pixel.
    full = cv2.resize(cam, (size, size), interpolation=cv2.INTER_LINEAR)
    cut = np.ascontiguousarray(full[: inside[1], : inside[0]])
    return np.clip(cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1).astype(np.float32)
