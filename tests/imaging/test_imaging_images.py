"""Every kind of picture file becomes the same slice; faults get the code that the audit reports."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detectclf.errors import DataError
from detectclf.files import ByteSpan
from detectclf.imaging.images import (
    IMAGE_SUFFIXES,
    ImageError,
    examine_image,
    image_size,
    image_suffix,
    read_image,
    resize_pad,
)
from detectclf.imaging.intensity import to_grey


def slice_of(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth slice with a bright square off the middle: no symmetry, full range, never the same in two corners."""
    y, x = np.mgrid[:height, :width]
    picture = (y * 2 + x).astype(np.float64)
    picture *= 180 / picture.max()
    picture[4:10, 40:52] = 255
    return picture.astype(np.uint8)


SLICE = slice_of()
WIDE = SLICE.astype(np.uint16)


def _palette() -> Image.Image:
    image = Image.fromarray(255 - SLICE).convert("P")
    image.putpalette([255 - v // 3 for v in range(768)])  # index 255 - v shows grey v
    return image


def _rgba() -> Image.Image:
    alpha = np.full_like(SLICE, 255)
    alpha[:, :8] = 0
    return Image.fromarray(np.dstack([SLICE, SLICE, SLICE, alpha]), "RGBA")


HALF = SLICE.copy()
HALF[:, :8] = 0

# name: what is written, with which options; what comes back; largest difference in grey levels
PICTURES: dict[str, tuple[Image.Image, str, dict[str, object], np.ndarray, int]] = {
    "8-bit grey": (Image.fromarray(SLICE), "png", {}, SLICE, 0),
    "8-bit grey BMP": (Image.fromarray(SLICE), "bmp", {}, SLICE, 0),
    "8-bit grey WebP": (Image.fromarray(SLICE).convert("RGB"), "webp", {"lossless": True}, SLICE, 0),
    "RGB of grey": (Image.fromarray(SLICE).convert("RGB"), "png", {}, SLICE, 0),
    "RGB JPEG": (Image.fromarray(SLICE).convert("RGB"), "jpeg", {"quality": 98}, SLICE, 6),
    "palette whose indices are not grey levels": (_palette(), "png", {}, SLICE, 0),
    "GIF": (Image.fromarray(SLICE), "gif", {}, SLICE, 0),
    "RGBA on black": (_rgba(), "png", {}, HALF, 0),
    "grey with alpha": (_rgba().convert("LA"), "png", {}, HALF, 0),
    # CMYK as Pillow makes it has no black plate; ink is rounded to 8 bits
    "CMYK TIFF": (Image.fromarray(SLICE).convert("RGB").convert("CMYK"), "tiff", {}, SLICE, 1),
    "CMYK JPEG": (Image.fromarray(SLICE).convert("RGB").convert("CMYK"), "jpeg", {"quality": 98}, SLICE, 8),
    "1 bit": (Image.fromarray(SLICE > 90), "png", {}, ((SLICE > 90) * 255).astype(np.uint8), 0),
    "1 bit TIFF": (Image.fromarray(SLICE > 90), "tiff", {}, ((SLICE > 90) * 255).astype(np.uint8), 0),
    "16 bit, times 257": (Image.fromarray(WIDE * 257), "png", {}, SLICE, 0),
    "16 bit, times 256": (Image.fromarray(WIDE * 256), "png", {}, SLICE, 0),
    "16 bit, not widened": (Image.fromarray(WIDE), "png", {}, SLICE, 0),
    "12 bit, times 16": (Image.fromarray(WIDE * 16), "png", {}, SLICE, 0),
    "12 bit, scaled": (Image.fromarray(np.rint(WIDE * (4095 / 255)).astype(np.uint16)), "png", {}, SLICE, 1),
    "true 16 bit": (Image.fromarray(WIDE * 256 + WIDE[::-1] % 256), "png", {}, SLICE, 1),
    "dim 16 bit": (Image.fromarray((WIDE // 3) * 257), "png", {}, SLICE // 3, 0),
    "dim true 16 bit": (Image.fromarray((WIDE // 3) * 257 + WIDE[::-1] % 100), "png", {}, SLICE // 3, 1),
    "16-bit TIFF": (Image.fromarray(WIDE * 257), "tiff", {}, SLICE, 0),
    "16-bit TIFF, packed": (Image.fromarray(WIDE * 257), "tiff", {"compression": "tiff_lzw"}, SLICE, 0),
    "float TIFF 0..1": (Image.fromarray(SLICE.astype(np.float32) / 255), "tiff", {}, SLICE, 0),
    "float TIFF 0..255": (Image.fromarray(SLICE.astype(np.float32)), "tiff", {}, SLICE, 0),
    "float TIFF of any range": (Image.fromarray(SLICE.astype(np.float32) * 3.217), "tiff", {}, SLICE, 0),
    "32-bit integer TIFF": (Image.fromarray(SLICE.astype(np.int32) * 1000), "tiff", {}, SLICE, 0),
    "JPEG 2000": (Image.fromarray(SLICE), "jpeg2000", {"irreversible": False}, SLICE, 0),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_becomes_the_same_slice(name: str, tmp_path: Path) -> None:
    image, kind, options, expected, slack = PICTURES[name]
    path = tmp_path / "slice.img"  # the name says nothing: content decides
    image.save(path, format=kind, **options)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.flags.writeable and pixels.flags.c_contiguous
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= slack
    assert image_size(path) == (expected.shape[1], expected.shape[0])


def test_white_is_zero_16_bit_tiff_is_turned_round(tmp_path: Path) -> None:
    # Pillow writes no such file, so the tag (262, SHORT, 1 value) of an ordinary one is patched from 1 to 0
    stream = io.BytesIO()
    Image.fromarray(WIDE * 257).save(stream, "tiff")
    tag = bytes([6, 1, 3, 0, 1, 0, 0, 0])
    content = stream.getvalue().replace(tag + b"\1", tag + b"\0")
    assert content != stream.getvalue()
    (tmp_path / "a.tif").write_bytes(content)
    assert (read_image(tmp_path / "a.tif") == 255 - SLICE).all()


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int, tmp_path: Path) -> None:
    stored = Image.fromarray(SLICE)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    stored.save(path, format=kind, exif=exif, **({"lossless": True} if kind == "webp" else {}))
    # EXIF: the visual top and left of the picture are these sides of the stored rows and columns
    upright = {
        1: SLICE,
        2: SLICE[:, ::-1],
        3: SLICE[::-1, ::-1],
        4: SLICE[::-1],
        5: SLICE.T,
        6: np.rot90(SLICE, -1),
        7: SLICE[::-1, ::-1].T,
        8: np.rot90(SLICE),
    }[orientation]
    pixels = read_image(path)
    assert pixels.shape == upright.shape and image_size(path) == upright.shape[::-1]
    assert np.abs(pixels.astype(int) - upright).max() <= (30 if kind == "jpeg" else 0)


@pytest.mark.parametrize("kind", ["gif", "tiff", "webp", "png"])
def test_several_frames_ask_for_one(kind: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(a).convert("RGB") for a in (SLICE, SLICE[::-1], 255 - SLICE)]
    path = tmp_path / f"a.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "webp" else {}))
    with pytest.raises(DataError, match="of 3 frames; choose a frame from 0 to 2"):
        read_image(path)
    assert np.abs(read_image(path, frame=1).astype(int) - SLICE[::-1]).max() <= 2
    with pytest.raises(DataError, match="no frame 3"):
        read_image(path, frame=3)
    assert [code for code, _ in examine_image(path).faults] == ["multi_frame"]


def test_a_single_picture_has_frame_0_only(tmp_path: Path) -> None:
    Image.fromarray(SLICE).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", frame=0) == SLICE).all()
    for frame in (1, -1):
        with pytest.raises(DataError, match="no frame"):
            read_image(tmp_path / "a.png", frame=frame)


def test_an_image_inside_a_container_is_read_by_its_span(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(SLICE).save(stream, "png")
    picture = stream.getvalue()
    path = tmp_path / "records"
    path.write_bytes(b"x" * 77 + picture + b"y" * 9)
    span = ByteSpan(77, len(picture))
    assert (read_image(path, span=span) == SLICE).all() and image_size(path, span=span) == (64, 48)
    with pytest.raises(DataError, match="beyond the end"):
        read_image(path, span=ByteSpan(77, len(picture) + 10))


def _png(pixels: np.ndarray) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(pixels).save(path, "png")


NOISE = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)


def _cut(kind: str, share: float, **options: object) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        stream = io.BytesIO()
        Image.fromarray(NOISE).save(stream, kind, **options)
        path.write_bytes(stream.getvalue()[: int(len(stream.getvalue()) * share)])

    return write


FAULTS: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("good.png", _png(SLICE), []),
    ("GOOD.PNG", _png(SLICE), []),  # upper-case suffix
    ("noname", _png(SLICE), []),  # no suffix claims nothing
    ("zero.jpg", lambda p: p.write_bytes(b""), ["zero_byte"]),
    ("text.jpg", lambda p: p.write_text("hello, I am no picture\n" * 20), ["unreadable"]),
    ("html.png", lambda p: p.write_text("<!DOCTYPE html><html></html>"), ["unreadable"]),
    ("half.jpg", _cut("jpeg", 0.5), ["truncated"]),
    ("nearly.jpg", _cut("jpeg", 0.98), ["truncated"]),
    ("progressive.jpg", _cut("jpeg", 0.6, progressive=True), ["truncated"]),
    ("half.png", _cut("png", 0.5), ["truncated"]),
    ("half.bmp", _cut("bmp", 0.5), ["truncated"]),
    ("half.tif", _cut("tiff", 0.9), ["truncated"]),
    ("head.jpg", lambda p: p.write_bytes(b"\xff\xd8\xff\xe0"), ["unreadable"]),
    ("jpeg.jpg", _png(SLICE), ["wrong_extension"]),
    ("dot.jpg", _png(SLICE[:1, :1]), ["wrong_extension", "one_pixel"]),
    ("black.png", _png(np.zeros_like(SLICE)), ["all_black"]),
    ("grey.png", _png(np.full_like(SLICE, 90)), ["constant"]),
    ("bw.png", _png(SLICE > 300), ["all_black"]),
]


@pytest.mark.parametrize(("name", "write", "codes"), FAULTS, ids=[name for name, _, _ in FAULTS])
def test_faults_have_their_codes(name: str, write: Callable[[Path], object], codes: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    write(path)
    examined = examine_image(path)
    pixels, faults = examined.pixels, examined.faults
    assert [code for code, _ in faults] == codes
    assert all("\n" not in detail and detail for _, detail in faults)
    fatal = {"zero_byte", "unreadable", "truncated"} & set(codes)
    assert (pixels is None) == bool(fatal)
    if fatal:
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert caught.value.code in fatal and caught.value.exit_code == 2 and name in str(caught.value)
        assert "; " in str(caught.value), "an error says what to do"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.JPG", ".jpg"), ("a.b.nii.GZ", ".nii.gz"), ("a.gz", None), ("-.png", ".png"), ("jpg", None), ("a.txt", None)],
)
def test_image_suffix(name: str, suffix: str | None) -> None:
    assert image_suffix(name) == suffix
    assert suffix is None or suffix in IMAGE_SUFFIXES


@pytest.mark.parametrize(
    "name",
    [b"two\nlines.png", "\U0001f9e0 brain.png".encode(), b"-rf.png", b"caf\xe9.png", b"UPPER.PNG", b"a'b\"c;$x.png"],
)
def test_odd_names_work_and_stay_on_one_line_in_errors(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    _png(SLICE)(path)
    assert (read_image(path, root=tmp_path) == SLICE).all() and examine_image(path).faults == []
    path.write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        read_image(path)
    str(caught.value).encode("utf-8")  # no lone surrogate is left
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([8, 33, 64]))
def test_resize_pad_keeps_aspect_and_pads_bottom_right(height: int, width: int, size: int) -> None:
    padded, scale, (w, h) = resize_pad(np.full((height, width), 200, dtype=np.uint8), size)
    assert padded.shape == (size, size) and padded.dtype == np.uint8 and max(w, h) == size
    assert scale == size / max(height, width)
    assert abs(w - width * scale) <= 1 and abs(h - height * scale) <= 1
    assert (padded[:h, :w] == 200).all() and not padded[h:].any() and not padded[:, w:].any()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([257, 256, 16, 1]), st.integers(8, 127))
def test_a_widened_slice_and_its_8_bit_twin_agree(seed: int, factor: int, half: int) -> None:
    twin = np.random.default_rng(seed).integers(0, 2 * half + 2, (9, 7), dtype=np.uint16)
    twin[0, 0] = 2 * half + 1  # odd and at least 17: a slice of fewer levels could be widened by either 16 or 256
    assert (to_grey(twin * np.uint16(factor), format_white=65535) == twin).all()


@pytest.mark.parametrize(
    ("values", "darkest", "brightest", "why"),
    [
        (np.linspace(0, 1800, 4000), 0, 255, "a raw scanner range fills the grey levels"),
        (np.linspace(-3, 3, 4000), 0, 255, "z-scores: least is black, greatest white"),
        (np.full(4000, np.nan), 0, 0, "nothing but NaN is black"),
        (np.r_[np.linspace(0, 900, 3999), np.inf], 0, 255, "infinity is the greatest finite value"),
        (np.full(4000, 1234.5), 255, 255, "constant and bright stays bright"),
        (np.full(4000, -5.0), 0, 0, "constant and negative"),
        (np.r_[np.zeros(3999), 30000.0], 0, 233, "one bright pixel on nothing is seen, as 15 bits"),
        (np.r_[np.linspace(0, 3e38, 3999), -3e38], 0, 255, "range beyond float32"),
    ],
)
def test_values_without_a_stated_white(values: np.ndarray, darkest: int, brightest: int, why: str) -> None:
    grey = to_grey(values.reshape(40, 100))
    assert (int(grey.min()), int(grey.max())) == (darkest, brightest), why


def test_a_hot_pixel_does_not_darken_the_slice() -> None:
    tissue = np.tile(np.linspace(0, 1000, 400), (50, 1))
    hot = tissue.copy()
    hot[0, 0] = 60000
    assert to_grey(hot)[1:].max() >= 120, "white is at most twice the 99.5th percentile"
    assert (to_grey(hot)[0, 0], to_grey(tissue).max()) == (255, 249), "1000 lies within 10 % of 1023"


@pytest.mark.shared
def test_real_slices_read_fast_and_as_pillow_reads_them(shared: Path) -> None:
    files = sorted((shared / "data" / "boxed" / "train").glob("*.jpg"))[:40]
    read_image(files[0])
    started = time.process_time()
    slices = [read_image(file) for file in files]
    each = (time.process_time() - started) / len(files)
    assert each < 0.006, f"{each * 1e3:.1f} ms per 640 x 640 JPEG"
    for file, pixels in zip(files, slices, strict=True):
        with Image.open(file) as image:
            assert np.abs(np.asarray(image.convert("L")).astype(int) - pixels).max() <= 1
        assert image_size(file) == (640, 640) and examine_image(file).faults == []
