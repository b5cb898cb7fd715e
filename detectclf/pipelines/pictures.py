"""Writing pictures in the format that a file's suffix names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.errors import ConfigError
from detectclf.files import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image


_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def check_picture(out: Path) -> None:
    """Makes sure that ``out`` is a name of a picture, before it is drawn.

    Raises:
        ConfigError: the suffix is not .png, .jpg, .jpeg or .webp.
    """
    if out.suffix.lower() not in _FORMATS:
        raise ConfigError(f"{out.name}: a picture is .png, .jpg or .webp", remedy="choose another name for it")


def write_picture(picture: Image, out: Path) -> None:
    """Writes ``picture`` to ``out``, whose folder is made if needed.

    Raises:
        ConfigError: the suffix is not .png, .jpg, .jpeg or .webp.
        DataError: the file cannot be written.
    """
    check_picture(out)
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format=_FORMATS[out.suffix.lower()])
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, buffer.getvalue())
