"""The arrays of a bundle beside its weights: out-of-distribution statistics and out-of-fold predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from detectclf.errors import ModelError
from detectclf.imaging.upright import TURNS, UPRIGHT_SIZE
from detectclf.types import FloatArray, Pixels

OOD_FILE, OUT_OF_FOLD_FILE = "novelty.safetensors", "out_of_fold.safetensors"
_AGAIN = "bundle the runs again"


@dataclass(frozen=True, slots=True, eq=False)
class Orientation:
    """Tells upright heads from turned ones; see ``inference/orientation.py``.

    Attributes:
        layers: of a network with rectified hidden units, float32: ``(H, D + 1)`` and ``(TURNS, H + 1)``, the constants
            last; bundles of version 3.2 have a linear discriminant, ``(TURNS, D + 1)`` alone.
        threshold: a slice counts as turned from this difference of log-probabilities on.
    """

    layers: tuple[FloatArray, ...]
    threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class OODStatistics:
    """Statistics of brain-MRI slices, to recognise other pictures; see ``inference/ood.py``.

    Attributes:
        mean: ``(D,)`` float32, mean of the features.
        whitening: ``(D, D)`` float32; centred features times this matrix have unit covariance over the known slices.
        threshold: a picture counts as out-of-distribution from this length of its whitened features on.
        unusual: a brain MRI counts as unusual from this length on.
        noisy: the same of slices with noise, each of another kind; what lies within one of them is a brain MRI too.
        orientation: tells turned slices; ``None`` where it was not fitted.
    """

    mean: FloatArray
    whitening: FloatArray
    threshold: float
    unusual: float = float("inf")
    noisy: tuple[OODStatistics, ...] = ()
    orientation: Orientation | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFoldPredictions:
    """Predictions for training slices by models that were not trained on them, for the check of labels.

    Attributes:
        digests: ``(N, 16)`` uint8, BLAKE2b of each slice's pixels, as in fingerprints.
        probabilities: ``(N, K)`` float32, of the bundle's classes.
        boxes: ``(N, 5)`` float32, best tumour box ``xyxy`` in pixels and its score; zeros if there is no box.
    """

    digests: Pixels
    probabilities: FloatArray
    boxes: FloatArray


def array_files(ood: OODStatistics | None, out_of_fold: OutOfFoldPredictions | None) -> dict[str, bytes]:
    """File name -> content, for those of the two that are given."""
    arrays = {
        OOD_FILE: None if ood is None else _ood_arrays(ood),
        OUT_OF_FOLD_FILE: None if out_of_fold is None else _out_of_fold_arrays(out_of_fold),
    }
    # safetensors ignores strides: a transposed array would be read back wrongly.
    return {
        name: save_arrays({key: np.ascontiguousarray(array) for key, array in content.items()})
        for name, content in arrays.items()
        if content is not None
    }


def _ood_arrays(ood: OODStatistics) -> dict[str, Any]:
    threshold = np.array([ood.threshold], dtype=np.float64)
    arrays = {"mean": ood.mean, "whitening": ood.whitening, "threshold": threshold}
    if np.isfinite(ood.unusual):
        arrays["unusual"] = np.array([ood.unusual], dtype=np.float64)
    if ood.noisy:
        arrays["noisy_mean"] = np.stack([each.mean for each in ood.noisy])
        # The inverse of a triangular matrix is one: half of it is zeros.
        rows, columns = np.triu_indices(len(ood.mean))
        arrays["noisy_whitening"] = np.stack([each.whitening[rows, columns] for each in ood.noisy])
        arrays["noisy_threshold"] = np.array([each.threshold for each in ood.noisy], dtype=np.float64)
    if ood.orientation is not None:
        names = ("orientation_hidden", "orientation")[-len(ood.orientation.layers) :]
        arrays |= dict(zip(names, ood.orientation.layers, strict=True))
        arrays["orientation_threshold"] = np.array([ood.orientation.threshold], dtype=np.float64)
    return arrays


def _out_of_fold_arrays(out_of_fold: OutOfFoldPredictions) -> dict[str, Any]:
    return {
        "digests": out_of_fold.digests,
        "probabilities": out_of_fold.probabilities.astype(np.float16),
        "boxes": out_of_fold.boxes.astype(np.float32),
    }


def load_ood(file: Path) -> OODStatistics:
    """The statistics in a file.

    Raises:
        ModelError: the file is damaged.
    """
    arrays = _arrays(file, "mean", "whitening", "threshold")
    mean, whitening = (arrays[name].astype(np.float32) for name in ("mean", "whitening"))
    square = mean.ndim == 1 and whitening.shape == (len(mean), len(mean))
    # Bundles before 2026-12 call no slice unusual.
    unusual = arrays.get("unusual", np.array([np.inf]))
    _check_shapes(file, square and arrays["threshold"].shape == unusual.shape == (1,))
    return OODStatistics(
        mean,
        whitening,
        float(arrays["threshold"][0]),
        float(unusual[0]),
        _noisy(file, arrays, len(mean)),
        _orientation(file, arrays),
    )


def _noisy(file: Path, arrays: dict[str, Any], size: int) -> tuple[OODStatistics, ...]:
    """Bundles before 3.2 have none."""
    names = ("noisy_mean", "noisy_whitening", "noisy_threshold")
    if not any(name in arrays for name in names):
        return ()
    means, whitenings, thresholds = (arrays.get(name, np.zeros(0)) for name in names)
    count, upper = len(thresholds), np.triu_indices(size)
    if whitenings.shape == (count, len(upper[0])):  # bundles of version 3.2 hold the zeros below the diagonal, too
        whole = np.zeros((count, size, size), dtype=np.float32)
        whole[:, upper[0], upper[1]] = whitenings
        whitenings = whole
    _check_shapes(
        file, (means.shape, whitenings.shape) == ((count, size), (count, size, size)) and thresholds.ndim == 1
    )
    rows = zip(means.astype(np.float32), whitenings.astype(np.float32), thresholds.tolist(), strict=True)
    return tuple(OODStatistics(*row) for row in rows)


def _orientation(file: Path, arrays: dict[str, Any]) -> Orientation | None:
    """Bundles before 3.2 have none."""
    if "orientation" not in arrays:
        return None
    last, threshold = arrays["orientation"], arrays.get("orientation_threshold", np.zeros(0))
    layers = (arrays["orientation_hidden"], last) if "orientation_hidden" in arrays else (last,)
    width, fits = UPRIGHT_SIZE, threshold.shape == (1,)
    for layer in layers:
        fits = fits and layer.ndim == 2 and layer.shape[1] == width + 1
        width = len(layer)
    _check_shapes(file, fits and width == TURNS)
    return Orientation(tuple(layer.astype(np.float32) for layer in layers), float(threshold[0]))


def load_out_of_fold(file: Path, classes: int) -> OutOfFoldPredictions:
    """The predictions in a file.

    Raises:
        ModelError: the file is damaged, or holds another number of classes.
    """
    arrays = _arrays(file, "digests", "probabilities", "boxes")
    count = len(arrays["digests"])
    wanted = {"digests": (count, 16), "probabilities": (count, classes), "boxes": (count, 5)}
    _check_shapes(file, all(arrays[name].shape == shape for name, shape in wanted.items()))
    return OutOfFoldPredictions(
        arrays["digests"].astype(np.uint8),
        arrays["probabilities"].astype(np.float32),
        arrays["boxes"].astype(np.float32),
    )


def _arrays(file: Path, *names: str) -> dict[str, Any]:
    try:
        arrays = load_arrays(file.read_bytes())
    except (SafetensorError, ValueError) as error:
        raise ModelError("corrupted: not safetensors", file=file, remedy=_AGAIN) from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ModelError(f"{', '.join(missing)} missing", file=file, remedy=_AGAIN)
    turns = ("orientation", "orientation_hidden", "orientation_threshold")
    optional = ("noisy_mean", "noisy_whitening", "noisy_threshold", *turns)
    if not all(np.isfinite(arrays[name]).all() for name in (*names, *optional) if name in arrays):
        raise ModelError("holds values that are not finite", file=file, remedy=_AGAIN)
    return dict(arrays)


def _check_shapes(file: Path, right: bool) -> None:
    if not right:
        raise ModelError("holds arrays of the wrong shape", file=file, remedy=_AGAIN)
