"""Text in the headers of pictures, with which names of patients would be copied."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from detectclf.imaging.header_text import has_header_text

NAME = "Doe^Jane"
GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))


def exif(tag: int, value: object) -> Image.Exif:
    found = Image.Exif()
    found[tag] = value
    return found


def png(key: str) -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    found.add_text(key, NAME)
    return found


def nifti(descrip: bytes) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        nibabel = pytest.importorskip("nibabel")
        volume = nibabel.Nifti1Image(np.zeros((4, 4, 1), np.int16), np.eye(4))
        volume.header["descrip"] = descrip
        nibabel.save(volume, path)

    return make


def user_comment() -> Image.Exif:
    found = Image.Exif()
    found.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + NAME.encode()
    return found


def damaged_gzip() -> bytes:
    packed = bytearray(gzip.compress(bytes(range(256)) * 20))
    packed[10:16] = b"\xff" * 6
    return bytes(packed)


CASES: list[tuple[str, Callable[[Path], object], bool, str]] = [
    ("a.jpg", lambda p: GREY.save(p, exif=exif(0x010E, NAME)), True, "EXIF's description"),
    ("a.jpg", lambda p: GREY.save(p, exif=exif(0x9C9B, NAME.encode("utf-16le"))), True, "the title that Windows shows"),
    ("a.jpg", lambda p: GREY.save(p, exif=exif(0x8825, {1: "N"})), True, "where it was taken"),
    ("a.jpg", lambda p: GREY.save(p, exif=user_comment()), True, "EXIF's comment"),
    ("a.jpg", lambda p: GREY.save(p, comment=NAME.encode()), True, "JPEG's comment"),
    ("a.jpg", lambda p: GREY.save(p, exif=exif(0x0112, 6)), False, "orientation only"),
    ("a.jpg", lambda p: GREY.save(p, dpi=(72, 72)), False, "nothing"),
    ("a.png", lambda p: GREY.save(p, pnginfo=png("PatientName")), True, "PNG's text"),
    ("a.png", lambda p: GREY.save(p, pnginfo=png("Software")), False, "what a program says of itself"),
    ("a.gif", lambda p: GREY.save(p, comment=NAME.encode()), True, "GIF's comment"),
    ("a.webp", lambda p: GREY.save(p, exif=exif(0x013B, NAME)), True, "EXIF's artist in WebP"),
    ("a.tif", lambda p: GREY.save(p, description=NAME), True, "TIFF's description"),
    ("a.tif", lambda p: GREY.save(p), False, "TIFF names its compression"),
    ("a.bmp", lambda p: GREY.save(p), False, "a format without text"),
    ("a.nii.gz", nifti(NAME.encode()), True, "NIfTI's description"),
    ("a.nii", nifti(b""), False, "NIfTI without one"),
    ("a.jpg", lambda p: p.write_bytes(b"no picture"), False, "unreadable"),
    ("a.nii.gz", lambda p: p.write_bytes(b"\x1f\x8bno"), False, "unreadable NIfTI"),
    ("a.nii.gz", lambda p: p.write_bytes(damaged_gzip()), False, "NIfTI of damaged compression"),
    ("a.png", lambda p: GREY.save(p, exif=b"garbage" * 3), False, "unreadable EXIF in PNG"),
    ("a.webp", lambda p: GREY.save(p, exif=b"garbage" * 3), False, "unreadable EXIF in WebP"),
    ("a.png", lambda p: GREY.save(p, exif=b"garbage" * 3, pnginfo=png("PatientName")), True, "text beside such EXIF"),
]


@pytest.mark.parametrize(("name", "make", "said", "reason"), CASES, ids=[f"{c[0]} {c[3]}" for c in CASES])
def test_what_people_wrote_is_found(
    tmp_path: Path, name: str, make: Callable[[Path], object], said: bool, reason: str
) -> None:
    make(tmp_path / name)
    assert has_header_text(tmp_path / name) is said, reason
