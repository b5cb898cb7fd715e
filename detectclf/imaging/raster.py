"""Reads image files (JPEG, PNG, BMP, TIFF, GIF, WebP, PNM, JPEG 2000) with Pillow, up to a declared size.

Why Pillow and not OpenCV: it raises on truncated files, where OpenCV returns a half-grey image; it tells the number of
frames and the bit depth; and with libjpeg's own grey output (``draft``) it decodes JPEG faster (0.9 ms against 1.4 ms
at 640 x 640).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile

from detectclf.imaging.intensity import ask_for_frame, check_frame, check_pixels, decoding, to_grey
from detectclf.imaging.libtiff import silence_libtiff
from detectclf.types import Pixels

# Only these decoders are used: others in Pillow start programs (EPS) or are not made for untrusted files.
# MPO is a JPEG followed by further images, as cameras write it; Pillow's JPEG decoder recognises it.
SUFFIXES_BY_FORMAT: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE_IS_ZERO = 0
_PHOTOMETRIC = 262


def open_raster(stream: BinaryIO, file: str | Path) -> ImageFile.ImageFile:
    """Opens an image and reads only its header.

    Raises:
        ImageError: not an image of a known format.
        UnsafeError: the image declares too many pixels.
    """
    with decoding(file, "image"):
        image = Image.open(stream, formats=[name for name in SUFFIXES_BY_FORMAT if name != "MPO"])
    check_pixels(*image.size, file, deep=_deep(image))
    if image.format == "TIFF":
        silence_libtiff()
    return image


def raster_size(image: ImageFile.ImageFile, file: str | Path) -> tuple[int, int]:
    """``(width, height)`` after EXIF orientation."""
    with decoding(file, "image"):
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def raster_frames(image: ImageFile.ImageFile, file: str | Path) -> int:
    """Number of frames or pages, without the extra images that cameras add to a JPEG."""
    with decoding(file, f"{image.format} image"):
        return 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))


def read_raster(image: ImageFile.ImageFile, file: str | Path, frame: int | None) -> Pixels:
    """Decodes an opened image to ``(H, W)`` uint8, upright.

    Colour becomes luma (ITU-R BT.601), transparent pixels become black, and deeper values are mapped by
    :mod:`detectclf.imaging.intensity`.

    Raises:
        ImageError: truncated or broken, or several frames and none chosen.
        UnsafeError: the chosen frame is too large.
    """
    frames = raster_frames(image, file)
    if frames > 1 and frame is None:
        raise ask_for_frame(frames, file, f"animated or multi-page {image.format}")
    check_frame(frame or 0, frames, file)
    with decoding(file, f"{image.format} image"):
        if frame:
            image.seek(frame)
            check_pixels(*image.size, file, deep=_deep(image))
        turn = _TRANSPOSE.get(_orientation(image))
        inverted = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        deep = image.mode.startswith("I;16")
        if image.format in ("JPEG", "MPO"):
            image.draft("L", image.size)
        if image.has_transparency_data:
            check_pixels(*image.size, file, deep=True)
        image.load()
        upright = image.transpose(turn) if turn is not None else image
        if deep or upright.mode in ("I", "F"):
            grey = to_grey(_native(np.asarray(upright)), format_white=65535 if _unsigned_16(upright) else None)
            # Pillow inverts WhiteIsZero only at 1 and 8 bits.
            return 255 - grey if inverted and deep else grey
        return np.array(_luma(upright))


def _deep(image: Image.Image) -> bool:
    # JPEG 2000 is decoded to 32 bits per channel.
    return image.mode in ("I", "F", "LA", "La", "PA", "RGBA", "RGBa") or image.format == "JPEG2000"


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _unsigned_16(image: Image.Image) -> bool:
    # Pillow reads some 16-bit PNG and PGM files as 32-bit integers.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _luma(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("L")
    if image.mode == "LAB":
        return image.getchannel(0)
    return image.convert("L") if image.mode in ("1", "L", "P", "RGB") else image.convert("RGB").convert("L")


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 to 8, that remains to be applied; Pillow applies that of TIFF itself."""
    if image.format == "TIFF":
        return 1
    # The getexif of the base class, because that of PNG decodes the whole image to find an EXIF chunk after it.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


__all__ = ["SUFFIXES_BY_FORMAT", "open_raster", "raster_frames", "raster_size", "read_raster"]
