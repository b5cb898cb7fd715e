"""Pictures in memory: arrays, tensors and PIL images, as grey levels by the rule of files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from detectclf.errors import DataError, one_line
from detectclf.types import Pixels


def is_tensor(source: Any) -> bool:
    """Whether ``source`` is a torch tensor."""
    # By name, since torch takes seconds to import; a class made from Tensor counts as well.
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(source).__mro__)


def array_of(tensor: Any) -> Pixels:
    """A torch tensor as an array ``(H, W)`` or ``(H, W, C)``.

    Raises:
        DataError: another shape, or without values that can be read.
    """
    shape = tuple(tensor.shape)
    if not (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))):
        raise DataError(
            f"a tensor of type {tensor.dtype} and shape {shape} is not a slice",
            remedy="give one of shape (H, W), (1, H, W) or (3, H, W)",
        )
    try:
        # NumPy has no bfloat16.
        values = tensor.float() if tensor.dtype.is_floating_point else tensor
        array: Pixels = np.asarray(values.detach().cpu().numpy())
    except (NotImplementedError, RuntimeError, TypeError) as error:  # such as of a sparse one
        raise DataError(f"the tensor cannot be read ({one_line(error)})", remedy="give a dense one") from error
    return array if array.ndim == 2 else np.moveaxis(array, 0, -1)


def _eight_bit(source: Any) -> Pixels:
    """An array as uint8 ``(H, W)`` or ``(H, W, 3 or 4)``, deeper values by the rule of files.

    Raises:
        DataError: another shape, no real numbers, or no pixels.
    """
    from detectclf.imaging.intensity import to_grey

    array = source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source
    colours = (3, 4) if array.dtype == np.uint8 else (3,)  # the scale of deeper transparency is not known
    if array.dtype.kind not in "buif" or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in colours)):
        raise DataError(
            f"an array of type {source.dtype} and shape {source.shape} is not a slice",
            remedy="give numbers of shape (H, W) or (H, W, 3)",
        )
    if not array.size:
        raise DataError("the array has no pixels", remedy="give a slice")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.dtype == np.float16:
        native = native.astype(np.float32)  # whose sums do not overflow
    # As a PNG or TIFF of these values would be read.
    return to_grey(native, format_white=65535 if native.dtype == np.uint16 else None)


def from_memory(source: Any) -> Pixels:
    """The grey levels of an array or PIL image. As TIFF in memory it is decoded by the same rule as a file.

    Raises:
        DataError: not ``(H, W)`` or ``(H, W, 1, 3 or 4)`` real numbers, empty, or of a mode that cannot be stored.
    """
    from PIL import Image

    from detectclf.imaging.raster import open_raster, read_raster

    if isinstance(source, np.ndarray):
        array = _eight_bit(source)
        if array.ndim == 2:
            return np.ascontiguousarray(array)
        picture = Image.fromarray(np.ascontiguousarray(array))
    elif isinstance(source, Image.Image):
        picture = source
    else:
        several = isinstance(source, list | tuple)
        raise DataError(
            f"cannot predict on {type(source).__name__}",
            remedy="predict_many takes several pictures"
            if several
            else "give a path, bytes, a binary file, an array or tensor, a PIL image, a FileSlice or a Sample",
        )
    content = io.BytesIO()
    try:
        picture.save(content, "TIFF")
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"PIL images of mode {picture.mode} are not supported", remedy="convert it to L") from error
    content.seek(0)
    with open_raster(content, "image") as opened:
        return read_raster(opened, "image", None)


__all__ = ["array_of", "from_memory", "is_tensor"]
