"""The rule that maps pixel values of any type to 256 grey levels, and what all decoders share.

The first rule that applies decides:

1. **The file states a window** (DICOM window or VOI LUT, NIfTI ``cal_min``/``cal_max``): it maps linearly to 0..255.
2. **The content is 8-bit**, perhaps stored with more bits: integers 0..255, integers that are all multiples of 257, 256
   or 16 (as programs widen 8 bits to 16 and 12), or floats that are all ``v / 255``. It stays unchanged.
3. **The file format defines white**: 65535 in a 16-bit PNG or TIFF, unless no value exceeds 4095; such a file has the
   raw 12-bit values of a scanner, and rule 4 applies. With 1 to 7 bits stored, white is their full scale.
4. **Otherwise robust min-max**: black is 0, or the minimum if there are negative values; white is the maximum. Both are
   limited to twice the range of the percentiles 0.5 to 99.5, so that a hot pixel does not darken the slice. White
   within 10 % of a common full scale (1 for floats, ``2**b - 1`` for 8 to 16 bits) becomes that full scale.

Reason for these numbers: slices published with 8 bits (figshare 1512427 and the Roboflow set made from it) are min-max
scaled. Of 260 such slices, 99 % have a maximum of at least 236, and 98 % one of at most twice the 99.5th percentile.
Deep data mapped like this resembles the training data, and a slice and its 16-bit copy agree within 1 grey level.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.errors import DataError, DetectclfError, UnsafeError
from detectclf.types import Pixels

MAX_PIXELS = 64 * 2**20
"""Most pixels of one image; larger ones are refused before memory is allocated (8192 x 8192 is accepted)."""

MAX_DEEP_PIXELS = 16 * 2**20
"""Most pixels where each takes more than two bytes while it is read: floats, 32-bit integers, transparency, JPEG 2000,
DICOM, NIfTI. A small packed file of more would take gigabytes (4096 x 4096 is accepted)."""

_SAMPLE = 2**20
"""Most values from which percentiles are computed."""

UNSAFE = "unsafe"
"""Code of an image that is refused for safety: a decompression bomb, a device, or beyond the limits."""

Values = npt.NDArray[Any]


class ImageError(DataError):
    """An image that cannot be used.

    Attributes:
        code: stable identifier of the fault: ``unreadable``, ``truncated``, ``zero_byte`` or ``multi_frame``.
    """

    def __init__(self, code: str, reason: str, *, file: str | Path, remedy: str = "replace or remove it") -> None:
        super().__init__(reason, file=file, remedy=remedy)
        self.code = code


def check_pixels(width: int, height: int, file: str | Path, *, deep: bool = False) -> None:
    """Checks the declared size of an image before it is decoded.

    Raises:
        UnsafeError: it has more than ``MAX_PIXELS`` pixels, or, where they are ``deep``, ``MAX_DEEP_PIXELS``.
        ImageError: it has no pixels.
    """
    if width < 1 or height < 1:
        raise ImageError("unreadable", f"declares {width} x {height} pixels", file=file)
    most = MAX_DEEP_PIXELS if deep else MAX_PIXELS
    if width * height > most:
        raise UnsafeError(
            f"declares {width} x {height} pixels, more than {most // 2**20} Mi (decompression bomb?)",
            file=file,
            remedy="make it smaller if it is genuine",
        )


def check_frame(frame: int, frames: int, file: str | Path, kind: str = "frames") -> None:
    """Raises an :class:`ImageError` unless ``frame`` is in 0 to ``frames - 1``."""
    if not 0 <= frame < frames:
        reason = f"no frame {frame} among {frames} {kind}" if frames > 1 else f"no frame {frame}, it has one only"
        remedy = f"choose a frame from 0 to {frames - 1}" if frames > 1 else "choose frame 0, or none"
        raise ImageError("multi_frame", reason, file=file, remedy=remedy)


def ask_for_frame(frames: int, file: str | Path, what: str) -> ImageError:
    """The error for a file of several frames if none is chosen."""
    return ImageError(
        "multi_frame", f"{what} of {frames} frames", file=file, remedy=f"choose a frame from 0 to {frames - 1}"
    )


class _Quiet:
    """Silences the warnings of decoders while any thread decodes.

    ``warnings.catch_warnings`` is not thread-safe: a thread would restore the filters that another one has set. So the
    first thread to enter sets the filter, and the last one to leave restores the previous filters.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                # Only these modules, because the host program may warn meanwhile; ours, because pydicom's warnings
                # name its caller.
                warnings.filterwarnings(
                    "ignore", module=r"(PIL|pydicom|nibabel|pylibjpeg|openjpeg|libjpeg|detectclf\.imaging)\b"
                )

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def decoding(file: str | Path, what: str) -> Iterator[None]:
    """Turns any exception of a decoder into an :class:`ImageError`, and silences its warnings.

    Decoders raise exceptions of many types on broken bytes. Their messages may quote a header with the name of a
    patient, so neither the message nor the cause is passed on.
    """
    try:
        with _QUIET:
            yield
    except DetectclfError:
        raise
    except Exception as error:
        if isinstance(error, EOFError) or re.search(r"truncated|unexpected end|end of file", str(error), re.I):
            raise ImageError("truncated", f"{what} is cut short", file=file, remedy="copy it again") from None
        # Pillow refuses large declared sizes and (as "... data too large") comments that unpack to megabytes.
        if type(error).__name__ == "DecompressionBombError" or "data too large" in str(error):
            raise UnsafeError("decompression bomb", file=file, remedy="make it smaller if it is genuine") from None
        raise ImageError("unreadable", f"{what} cannot be decoded", file=file) from None


def to_grey(
    values: Values,
    *,
    window: tuple[float, float] | None = None,
    format_white: int | None = None,
    bits: int = 16,
) -> Pixels:
    """Maps values to grey levels by the rule of this module.

    Args:
        values: ``(H, W)`` of any real dtype; NaN becomes black.
        window: the values that the file maps to black and white.
        format_white: the value that the file format defines as white.
        bits: bits stored per value; only 1 to 7 make a difference.

    Returns:
        ``(H, W)`` uint8, writable.
    """
    if values.dtype.kind == "b":
        values, bits = values.astype(np.uint8), 1
    if window is not None and window[1] > window[0]:
        return _linear(values, *window)
    if bits < 8:
        return _linear(values, 0, 2**bits - 1)
    if values.dtype == np.uint8:
        return np.array(values)
    if values.dtype.kind == "f":
        values = _finite(values)
    least, most = float(values.min()), float(values.max())
    if least >= 0:
        narrow = _eight_bit(values, most)
        if narrow is not None:
            return narrow
        if format_white is not None and most > 4095:
            return _linear(values, 0, format_white)
    return _linear(values, *_robust_range(values, least, most))


def _finite(values: Values) -> Values:
    finite = np.isfinite(values)
    if finite.all():
        return values
    kept = values[finite]
    if kept.size == 0:
        return np.zeros(values.shape, dtype=np.float32)
    return np.nan_to_num(values, nan=float(kept.min()), posinf=float(kept.max()), neginf=float(kept.min()))


def _eight_bit(values: Values, most: float) -> Pixels | None:
    """Rule 2: the 8-bit content of ``values`` (none negative), or ``None`` if they have more levels."""
    if values.dtype.kind == "f":
        scale = 255.0 if most <= 1 else 1.0
        levels = values * scale
        if not 0.5 <= most * scale <= 255.5 or np.abs(levels - np.rint(levels)).max() > 0.01:
            return None
        return np.rint(levels).astype(np.uint8)
    if most <= 255:
        return values.astype(np.uint8)
    for factor in (257, 256, 16):
        if most <= 255 * factor and not (values % factor).any():
            return (values // factor).astype(np.uint8)
    return None


def _robust_range(values: Values, least: float, most: float) -> tuple[float, float]:
    """Rule 4: the values that become black and white."""
    flat = values.reshape(-1)
    low, high = (float(v) for v in np.percentile(flat[:: -(-flat.size // _SAMPLE)], (0.5, 99.5)))
    if least >= 0:
        low = black = 0.0
    else:
        black = max(least, low - (high - low))
    # In a nearly empty slice both percentiles are equal; its few bright pixels then set the range.
    white = min(most, high + (high - low)) if high > low else most
    scales = [float(2**bits - 1) for bits in range(8, 17)] + ([1.0] if values.dtype.kind == "f" else [])
    if black == 0:
        white = next((scale for scale in scales if 0.9 * scale <= white <= scale), white)
    return black, white


def _linear(values: Values, black: float, white: float) -> Pixels:
    if not white > black:
        return np.zeros(values.shape, dtype=np.uint8)
    if values.dtype == np.uint16:  # the usual deep data: a table avoids a float copy of the image
        table = (np.arange(2**16, dtype=np.float64) - black) * (255.0 / (white - black))
        grey: Pixels = np.rint(np.clip(table, 0, 255)).astype(np.uint8)[values]
        return grey
    with np.errstate(over="ignore"):
        scaled = np.clip((values.astype(np.float64) - black) / (white - black), 0, 1)
    return np.rint(scaled * 255).astype(np.uint8)


__all__ = ["MAX_PIXELS", "ImageError", "Values", "ask_for_frame", "check_frame", "check_pixels", "decoding", "to_grey"]
