"""Hostile files: each is refused with its exit code and one line with a remedy, within 5 s and 1 GiB."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile_process import ACCEPTED, GIB, Outcome, check_refusal, read_apart
from PIL import Image

from detectclf.errors import DataError, DetectclfError, UnsafeError
from detectclf.files import ByteSpan, atomic_folder, atomic_write, check_inside, read_bytes, resolve_inside
from detectclf.imaging.images import examine_image


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _zeros(compressor: zlib._Compress, mebibytes: int) -> bytes:
    """So much of nothing, packed at once: after a full flush the same bytes may stand again and again."""
    first, again = (compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (mebibytes - 1) + compressor.flush()


def png_bomb(path: Path) -> None:
    """40,000 x 40,000 grey pixels of nothing: 1.6 GB from 1.6 MB."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    data = _zeros(zlib.compressobj(9), 64)  # the refusal is by the header: no need for all of it
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", data))


def png_just_over(path: Path) -> None:
    """Over our limit and under Pillow's: 100 million pixels."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(10_000 * 1251))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", data) + _png_chunk(b"IEND", b"")
    )


def png_text_bomb(path: Path) -> None:
    """A small picture with a comment that unpacks to 1 GiB."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "png")
    comment = b"Comment\0\0" + _zeros(zlib.compressobj(9), 1024)
    content = stream.getvalue()
    path.write_bytes(content[:33] + _png_chunk(b"zTXt", comment) + content[33:])


def tiff_bomb(path: Path) -> None:
    """A header that claims 60,000 x 60,000 in one strip of 10 bytes."""
    tags = [(256, 4, 60_000), (257, 4, 60_000), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, 60_000), (279, 4, 10)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4))


def _packed(path: Path, mode: str, format: str, side: int = 8190) -> None:
    options = {"compression": "tiff_deflate"} if format == "tiff" else {}
    Image.new(mode, (side, side)).save(path, format, **options)


def float_tiff(path: Path) -> None:
    """67 million floats in 0.4 MB."""
    _packed(path, "F", "tiff")


def integer_tiff(path: Path) -> None:
    _packed(path, "I", "tiff")


def transparent_tiff(path: Path) -> None:
    _packed(path, "LA", "tiff")


def transparent_palette(path: Path) -> None:
    """One byte a pixel, until the transparent colour makes it four."""
    Image.new("P", (8190, 8190)).save(path, "gif", transparency=0)


def wide_jpeg_2000(path: Path) -> None:
    """A header of 8190 x 8190 before the data of a small picture; its decoder takes 32 bits per channel."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "jpeg2000", no_jp2=True)
    content = bytearray(stream.getvalue())
    for at in (8, 12, 24, 28):  # size of the picture, and of its one tile
        content[at : at + 4] = (8190).to_bytes(4, "big")
    path.write_bytes(bytes(content))


def _dicom_header(rows: int, columns: int, syntax: str) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def deflated_dicom_bomb(path: Path) -> None:
    """3 GiB of zeros, deflated to 3 MB, as the picture."""
    whole = _dicom_header(2**15, 2**15, "DeflatedExplicitVRLittleEndian")
    start = 144 + int.from_bytes(whole[140:144], "little")
    plain = zlib.decompress(whole[start:], -15) + b"\xe0\x7f\x10\0OB\0\0" + struct.pack("<I", 3 * 2**30)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    path.write_bytes(whole[:start] + packer.compress(plain) + _zeros(packer, 3072))


def large_dicom(path: Path) -> None:
    """Declares 65,535 x 65,535 pixels and has none."""
    path.write_bytes(_dicom_header(65_535, 65_535, "ExplicitVRLittleEndian") + b"\xe0\x7f\x10\0OB\0\0" + bytes(4))


def jpeg_in_dicom_bomb(path: Path) -> None:
    """A DICOM of 64 x 64 whose JPEG 2000 declares 60,000 x 60,000."""
    pydicom = pytest.importorskip("pydicom")
    siz = struct.pack(">HHIIIIIIIIH", 41, 0, 60_000, 60_000, 0, 0, 60_000, 60_000, 0, 0, 1) + b"\7\1\1"
    frame = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + siz + bytes(100)])
    path.write_bytes(
        _dicom_header(64, 64, "JPEG2000Lossless")
        + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff"
        + frame
        + b"\xfe\xff\xdd\xe0\0\0\0\0"
    )


def nested_dicom(path: Path) -> None:
    """Sequences in sequences, 20,000 deep."""
    content = _dicom_header(64, 64, "ExplicitVRLittleEndian")
    deep = (b"\x40\0\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * 20_000
    path.write_bytes(content + deep)


def _nifti_header(*shape: int) -> bytes:
    nibabel = pytest.importorskip("nibabel")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"][: len(shape) + 1] = [len(shape), *shape]
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header.binaryblock + bytes(4)


def nifti_72_gb(path: Path) -> None:
    path.write_bytes(_nifti_header(30_000, 30_000, 40) + bytes(100))


def nifti_gz_bomb(path: Path) -> None:
    """A modest header before 2 GiB of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path.write_bytes(packer.compress(_nifti_header(64, 64, 10)) + _zeros(packer, 2048))


def nifti_far_gz_bomb(path: Path) -> None:
    """A header that puts the voxels at 3 GB, so that all zeros before them would be unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    header = bytearray(_nifti_header(64, 64, 10))
    header[108:112] = struct.pack("<f", 3e9)
    path.write_bytes(packer.compress(bytes(header)) + _zeros(packer, 2048))


def nifti_negative(path: Path) -> None:
    path.write_bytes(_nifti_header(-5, 64, 10) + bytes(100))


def gz_of_nothing(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(5 * 2**20)))


def oversize(path: Path) -> None:
    """3 GB, sparse: refused by its size."""
    with path.open("wb") as file:
        file.truncate(3 * 10**9)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 108 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


def link_out(path: Path) -> None:
    outside = path.parent.parent / "outside.png"
    Image.new("L", (8, 8), 9).save(outside)
    path.symlink_to(outside)


def link_loop(path: Path) -> None:
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.mkdir()


def eps_program(path: Path) -> None:
    """EPS is a program; its decoder must not be started."""
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) run\n%%EOF\n")


# what is made, exit code of the refusal
HOSTILE: list[tuple[Callable[[Path], None], int]] = [
    (png_bomb, 3),
    (png_just_over, 3),
    (png_text_bomb, 3),
    (tiff_bomb, 3),
    (float_tiff, 3),
    (integer_tiff, 3),
    (transparent_tiff, 3),
    (transparent_palette, 3),
    (wide_jpeg_2000, 3),
    (deflated_dicom_bomb, 3),
    (large_dicom, 3),
    (jpeg_in_dicom_bomb, 3),
    (nested_dicom, 2),
    (nifti_72_gb, 3),
    (nifti_gz_bomb, 3),
    (nifti_far_gz_bomb, 3),
    (nifti_negative, 2),
    (gz_of_nothing, 2),
    (oversize, 3),
    (fifo, 3),
    (device, 3),
    (a_socket, 3),
    (link_out, 3),
    (link_loop, 2),
    (folder, 2),
    (eps_program, 2),
]

READ = """
import cv2, nibabel, numpy, pydicom.pixels
from detectclf.imaging.images import read_image

def read(path):
    read_image(path, root=path.parent)
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What reading each file of the table came to, by the name of its maker."""
    pytest.importorskip("pydicom")
    pytest.importorskip("nibabel")
    paths = []
    for write, _ in HOSTILE:
        folder = tmp_path_factory.mktemp(write.__name__) / "data"
        folder.mkdir()
        paths.append(folder / f"{write.__name__}.png")
        write(paths[-1])
    results = read_apart(READ, paths)
    for path in paths:
        assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing is left behind"
        if path.is_file():
            path.unlink()
    return {write.__name__: result for (write, _), result in zip(HOSTILE, results, strict=True)}


@pytest.mark.parametrize(("name", "code"), [(write.__name__, code) for write, code in HOSTILE])
def test_refused_with_its_code_in_time_and_memory(name: str, code: int, refusals: dict[str, Outcome]) -> None:
    check_refusal(refusals[name], code, name)
    assert refusals[name].memory < GIB


def test_libtiff_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It would write lines of its own to stderr."""
    stream = io.BytesIO()
    Image.new("L", (64, 64), 7).save(stream, "tiff", compression="tiff_lzw")
    content = bytearray(stream.getvalue())
    content[20:60] = bytes(40)
    (tmp_path / "a.tif").write_bytes(bytes(content))
    assert [code for code, _ in examine_image(tmp_path / "a.tif").faults] == ["unreadable"]
    assert capfd.readouterr().err == ""


def test_inspection_goes_on_after_an_unsafe_file(tmp_path: Path) -> None:
    png_bomb(tmp_path / "a.png")
    assert [code for code, _ in examine_image(tmp_path / "a.png").faults] == ["unsafe"]


def test_the_largest_pictures_allowed_are_read_in_memory(tmp_path: Path) -> None:
    # Each of two values, so that no short cut for 8 bits is taken: 64 Mi pixels of 16 bits, 16 Mi of floats.
    deep, floats = np.zeros((8192, 8192), dtype=np.uint16), np.zeros((4096, 4096), dtype=np.float32)
    deep[::2], floats[::2] = 40_001, 1e6
    Image.fromarray(deep).save(tmp_path / "deep.png", compress_level=1)
    Image.fromarray(floats).save(tmp_path / "floats.tif", compression="tiff_deflate")
    for outcome in read_apart(READ, [tmp_path / "deep.png", tmp_path / "floats.tif"]):
        assert outcome.code == ACCEPTED, outcome.words
        assert outcome.memory < GIB


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../a.png", UnsafeError),
        ("a/../../b.png", UnsafeError),
        ("a\\..\\b.png", UnsafeError),
        ("/etc/passwd", UnsafeError),
        ("\\\\server\\share\\a.png", UnsafeError),
        ("\\a.png", UnsafeError),
        ("C:\\a.png", UnsafeError),
        ("c:a.png", UnsafeError),
        ("//server/share/a.png", UnsafeError),
        ("a\0.png", UnsafeError),
        ("out/passwd", UnsafeError),  # out is a symlink to /etc
        ("", DataError),
        (" ", DataError),
        ("ok/a.png", None),
        ("-a.png", None),
        ("..a.png", None),
        ("a..b/c.png", None),
        ("two\nlines.png", None),
        ("caf\udce9.png", None),
    ],
)
def test_names_from_annotations(name: str, kind: type[DetectclfError] | None, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    if kind is None:
        assert resolve_inside(tmp_path, name) == tmp_path / name
        return
    with pytest.raises(kind) as caught:
        resolve_inside(tmp_path, name)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value)


def test_a_data_folder_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "realer").mkdir()
    assert read_bytes(tmp_path / "link" / "a", limit_bytes=1, root=tmp_path / "link") == b"x"
    assert check_inside(tmp_path / "link", tmp_path / "real" / "a")
    with pytest.raises(UnsafeError, match="leads out"):  # a common beginning is no common folder
        check_inside(tmp_path / "real", tmp_path / "realer")


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    assert read_bytes(path, limit_bytes=10) == b"0123456789"
    assert read_bytes(path, limit_bytes=3, span=ByteSpan(4, 3)) == b"456"
    for wrong in (ByteSpan(0, 4), ByteSpan(0, -1)):
        with pytest.raises(UnsafeError):
            read_bytes(path, limit_bytes=3, span=wrong)
    for wrong in (ByteSpan(9, 3), ByteSpan(-5, 3), ByteSpan(2**62, 3), ByteSpan(2**70, 3)):
        with pytest.raises(DataError):
            read_bytes(path, limit_bytes=3, span=wrong)
    with pytest.raises(UnsafeError, match="limit of 9 bytes"):
        read_bytes(path, limit_bytes=9)
    if Path("/dev/zero").exists():
        with pytest.raises(UnsafeError, match="is a device"):
            read_bytes("/dev/zero", limit_bytes=9)
    if Path("/proc/self/maps").exists():  # claims size 0 and has more
        with pytest.raises(UnsafeError, match="limit of 10 bytes"):
            read_bytes("/proc/self/maps", limit_bytes=10)


def test_atomic_write(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, "täxt\r\n")
    assert path.read_bytes() == "täxt\r\n".encode()
    atomic_write(path, b"\0\1")
    assert path.read_bytes() == b"\0\1" and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(DataError, match="cannot be written"):
        atomic_write(tmp_path / "no" / "a", b"")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    # the limit on file size stands in for a disk that is full half way through
    path = tmp_path / "a"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from detectclf.files import atomic_write\n"
        "atomic_write(sys.argv[1], bytes(5000))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert "DataError" in done.stderr and "cannot be written (File too large)" in done.stderr
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_atomic_folder_is_whole_or_absent(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with atomic_folder(out) as partial:
        (partial / "a").write_text("x")
        assert not out.exists()
    assert [p.name for p in out.iterdir()] == ["a"] and [p.name for p in out.parent.iterdir()] == ["out"]
    with pytest.raises(DataError, match="not an empty folder"), atomic_folder(out):
        pytest.fail("must not start")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="not an empty folder"), atomic_folder(tmp_path / "file"):
        pytest.fail("must not start")
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as partial:
        (partial / "b").write_text("x")
    assert (tmp_path / "empty" / "b").exists()
    for stop in (KeyboardInterrupt, OSError):
        with pytest.raises(stop), atomic_folder(tmp_path / "failed") as partial:
            (partial / "a").write_text("x")
            raise stop
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "new"]
