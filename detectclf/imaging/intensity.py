"""The one rule by which any pixel value becomes one of 256 grey levels, and what every decoder shares.

The rule, first match wins:

1. **A window that the file states** (DICOM window or VOI LUT, NIfTI ``cal_min``/``cal_max``) maps linearly to 0..255.
2. **8-bit content passes unchanged**, also when it comes widened in a deeper file: integers 0..255, all multiples
   of 257, 256 or 16 (how writers widen 8 bits to 16 and 12), or floats that are all ``v / 255``.
3. **A white that the file format states**: 65535 in a 16-bit PNG or TIFF, unless no value exceeds 4095: such a file
   holds the raw 12-bit numbers of a scanner and falls to rule 4. Bit masks (1 to 7 bits stored): their full scale.
4. **Otherwise min-max, robustly**: black is 0 (the least value where there are negative ones), white the greatest
   value, but neither further out than twice the 99.5th percentile says, so that a hot pixel does not darken the
   slice. White within 10 % of a usual full scale (1 for floats, ``2**b - 1`` for 8 to 16 bits) is that full scale.

Why these numbers: slices published as 8 bit (figshare 1512427 and the Roboflow set made from it) are min-max scaled:
in 260 of them the greatest value was at least 236 in 99 %, and at most twice the 99.5th percentile in 98 %. Deep
data so mapped looks like what the models learn from, and a slice and its 16-bit twin agree within 1 grey level.
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
"""Most pixels of one picture; larger ones are refused before memory is taken (an 8192 x 8192 scan passes)."""

_SAMPLE = 2**20
"""Most values that percentiles are taken from."""

UNSAFE = "unsafe"
"""Code of an image that is refused, not only faulty: a bomb, a device, more than the limits."""

Values = npt.NDArray[Any]


class ImageError(DataError):
    """An image that cannot be used as it is.

    Attributes:
        code: stable identifier for the audit: ``unreadable``, ``truncated``, ``zero_byte`` or ``multi_frame``.
    """

    def __init__(self, code: str, reason: str, *, file: str | Path, remedy: str = "replace or remove it") -> None:
        super().__init__(reason, file=file, remedy=remedy)
        self.code = code


def check_pixels(width: int, height: int, file: str | Path) -> None:
    """Refuses a picture by its declared size, before anything is decoded.

    Raises:
        UnsafeError: more than ``MAX_PIXELS``.
        ImageError: a side without pixels.
    """
    if width < 1 or height < 1:
        raise ImageError("unreadable", f"declares {width} x {height} pixels", file=file)
    if width * height > MAX_PIXELS:
        raise UnsafeError(
            f"declares {width} x {height} pixels, more than {MAX_PIXELS // 2**20} Mi (decompression bomb?)",
            file=file,
            remedy="make it smaller if it is genuine",
        )


def check_frame(frame: int, frames: int, file: str | Path, kind: str = "frames") -> None:
    """Raises an ImageError where ``frame`` is not one of ``frames``."""
    if not 0 <= frame < frames:
        raise ImageError("multi_frame", f"no frame {frame} among {frames} {kind}", file=file, remedy="choose another")


def ask_for_frame(frames: int, file: str | Path, what: str) -> ImageError:
    """The fault of a file with several pictures, none of them chosen."""
    return ImageError(
        "multi_frame", f"{what} of {frames} frames", file=file, remedy=f"choose a frame from 0 to {frames - 1}"
    )


class _Quiet:
    """Silences decoders' warnings while any thread decodes.

    ``warnings.catch_warnings`` alone is not for threads: the last to leave would put back what another had set. So
    the first thread in sets the filter and the last one out restores what was there.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                # By module, ours too as pydicom blames its caller; not all: the host program may warn meanwhile.
                warnings.filterwarnings(
                    "ignore", module=r"(PIL|pydicom|nibabel|pylibjpeg|openjpeg|libjpeg|detectclf\.data)\b"
                )

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def decoding(file: str | Path, what: str) -> Iterator[None]:
    """Turns whatever a decoder raises into an ImageError and keeps its warnings to itself.

    Decoders raise almost anything on broken bytes, and their words may quote a header with a patient's name, so
    neither the words nor the cause are passed on.
    """
    try:
        with _QUIET:
            yield
    except DetectclfError:
        raise
    except Exception as error:
        if isinstance(error, EOFError) or re.search(r"truncated|unexpected end|end of file", str(error), re.I):
            raise ImageError("truncated", f"{what} is cut short", file=file, remedy="copy it again") from None
        # Pillow's own refusals: by declared size, and ("... too large") of comments that unpack to megabytes.
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
    """Grey levels by the rule above.

    Args:
        values: ``(H, W)`` of any real dtype; NaN counts as black.
        window: values that the file wants to see black and white.
        format_white: what the file format calls white.
        bits: bits stored per value; only 1 to 7 matter.

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
    """Rule 2: the 8-bit content of ``values`` (none of them negative), or None where there is more in it."""
    if values.dtype.kind == "f":
        scale = 255.0 if most <= 1 else 1.0
        levels = values * scale
        if most * scale > 255.5 or np.abs(levels - np.rint(levels)).max() > 0.01:
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
    # A nearly empty slice has no spread to go by; its few bright pixels are all there is to see.
    white = min(most, high + (high - low)) if high > low else most
    scales = [float(2**bits - 1) for bits in range(8, 17)] + ([1.0] if values.dtype.kind == "f" else [])
    if black == 0:
        white = next((scale for scale in scales if 0.9 * scale <= white <= scale), white)
    return black, white


def _linear(values: Values, black: float, white: float) -> Pixels:
    if not white > black:
        return np.zeros(values.shape, dtype=np.uint8)
    if values.dtype == np.uint16:  # the common deep case, by table: no float copy of the picture
        table = (np.arange(2**16, dtype=np.float64) - black) * (255.0 / (white - black))
        grey: Pixels = np.rint(np.clip(table, 0, 255)).astype(np.uint8)[values]
        return grey
    with np.errstate(over="ignore"):
        scaled = np.clip((values.astype(np.float64) - black) / (white - black), 0, 1)
    return np.rint(scaled * 255).astype(np.uint8)


__all__ = ["MAX_PIXELS", "ImageError", "Values", "ask_for_frame", "check_frame", "check_pixels", "decoding", "to_grey"]
