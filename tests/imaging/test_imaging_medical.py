"""DICOM and NIfTI become the same slice as the picture they were made from; nothing of a header gets out."""

from __future__ import annotations

import importlib
import io
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.patients import independent_groups
from detectclf.errors import DataError, DetectclfError, MissingPackageError
from detectclf.imaging.images import dicom_patient, examine_image, image_size, is_dicom, read_image
from detectclf.pseudonyms import pseudonym
from detectclf.types import Sample

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")

NAME, PATIENT, BORN = "Geheim^Erika", "PID-4711", "19560102"


def slice_of() -> np.ndarray:
    """Full range, no symmetry."""
    y, x = np.mgrid[:48, :64]
    picture = (y * 2 + x).astype(np.float64)
    picture *= 180 / picture.max()
    picture[4:10, 40:52] = 255
    return picture.astype(np.uint8)


SLICE = slice_of()


def dicom(path: Path, values: np.ndarray, syntax: str = "ExplicitVRLittleEndian", **tags: Any) -> Path:
    """Writes ``values`` ((H, W), (N, H, W) or (H, W, 3)) as DICOM with a patient in the header."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
    data.PatientName, data.PatientID, data.PatientBirthDate = NAME, PATIENT, BORN
    colour = values.shape[-1] == 3
    data.Rows, data.Columns = values.shape[-3:-1] if colour else values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    elif values.ndim == 3:
        data.NumberOfFrames = len(values)
    bits = values.dtype.itemsize * 8
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    for tag, value in tags.items():
        setattr(data, tag, value)
    uid = getattr(pydicom.uid, syntax)
    if uid.is_compressed and not uid.is_deflated:
        data.compress(uid, generate_instance_uid=False)
    else:
        data.file_meta.TransferSyntaxUID = uid
    data.save_as(path, enforce_file_format=True)
    return path


TWELVE = np.rint(SLICE * (4095 / 255)).astype(np.uint16)

# what is stored, with which tags; largest difference from SLICE in grey levels
DICOMS: dict[str, tuple[np.ndarray, dict[str, Any], int]] = {
    "8 bit": (SLICE, {}, 0),
    "16 bit, full scale": (SLICE.astype(np.uint16) * 257, {}, 0),
    "12 bits stored, no window": (TWELVE, {"BitsStored": 12, "HighBit": 11}, 1),
    "window": (TWELVE + 1000, {"WindowCenter": 1000 + 2048, "WindowWidth": 4096}, 1),
    "first of several windows": (TWELVE + 9, {"WindowCenter": [9 + 2048, 40], "WindowWidth": [4096, 80]}, 1),
    "exact window": (
        TWELVE + 1000,
        {"WindowCenter": 3047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"},
        1,
    ),
    "rescale before window": (
        TWELVE,
        {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 4096 - 1024, "WindowWidth": 8191},
        1,
    ),
    "window of values far below 1": (
        TWELVE,
        {"RescaleSlope": "0.0006", "RescaleIntercept": 0, "WindowCenter": 1.2285, "WindowWidth": 2.457},
        1,
    ),
    "window over all bits, of which few are used": (TWELVE, {"WindowCenter": 32767.5, "WindowWidth": 65535}, 1),
    "signed": (TWELVE.astype(np.int16) - 2000, {"WindowCenter": 48, "WindowWidth": 4096}, 1),
    "dark is bright": (255 - SLICE, {"PhotometricInterpretation": "MONOCHROME1"}, 0),
    "dark is bright, window": (
        4095 - TWELVE,
        {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2048, "WindowWidth": 4096},
        1,
    ),
    "colour": (np.dstack([SLICE] * 3), {}, 1),
    "window of no use": (SLICE, {"WindowCenter": 100, "WindowWidth": 0}, 0),
}


@pytest.mark.parametrize("name", DICOMS)
def test_dicom_becomes_the_same_slice(name: str, tmp_path: Path) -> None:
    values, tags, slack = DICOMS[name]
    path = dicom(tmp_path / "a.dcm", values, **tags)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.shape == SLICE.shape and pixels.flags.writeable
    assert np.abs(pixels.astype(int) - SLICE).max() <= slack
    assert image_size(path) == (64, 48) and examine_image(path).faults == []


# what scanners and converters leave empty or write oddly; each means the slice as it is
BLANKS: dict[str, dict[str, Any]] = {
    "no rescale": {"RescaleSlope": None, "RescaleIntercept": None},
    "rescale of empty texts": {"RescaleSlope": "", "RescaleIntercept": ""},
    "slope without intercept": {"RescaleSlope": 1},
    "intercept without slope": {"RescaleIntercept": 0},
    "a slope of 0": {"RescaleSlope": 0, "RescaleIntercept": 0},
    "empty modality LUT": {"ModalityLUTSequence": []},
    "empty window": {"WindowCenter": None, "WindowWidth": None},
    "half a window": {"WindowCenter": 40, "WindowWidth": None},
    "windows of no value": {"WindowCenter": [], "WindowWidth": []},
    "empty VOI LUT": {"VOILUTSequence": []},
    "empty VOI function": {"VOILUTFunction": ""},
    "no number of frames": {"NumberOfFrames": None},
    "0 frames": {"NumberOfFrames": 0},
    "no samples": {"SamplesPerPixel": None},
    "no sign": {"PixelRepresentation": None},
    "no stored bits": {"BitsStored": None, "HighBit": None},
    "no photometric": {"PhotometricInterpretation": None},
    "empty modality": {"Modality": None},
    "0 stored bits": {"BitsStored": 0, "HighBit": 0},
    "more stored bits than allocated": {"BitsStored": 12, "HighBit": 11},
    "a high bit of another depth": {"HighBit": 11},
    "a window beside all values": {"WindowCenter": 1e6, "WindowWidth": 400},
    "a window of stored values": {
        "RescaleSlope": "0.001",
        "RescaleIntercept": 0,
        "WindowCenter": 900,
        "WindowWidth": 800,
    },
    "a window of negative width": {"WindowCenter": 100, "WindowWidth": -200},
    "three centres and one width": {"WindowCenter": [128, 40, 10], "WindowWidth": 256},
    "a window function of no name": {"WindowCenter": 128, "WindowWidth": 256, "VOILUTFunction": "LOG"},
    "tables without data": {"VOILUTSequence": [pydicom.Dataset()], "ModalityLUTSequence": [pydicom.Dataset()]},
    "a slope that is nearly 0": {"RescaleSlope": "1e-7", "RescaleIntercept": 0},
    "padding of background": {"PixelPaddingValue": 0},
    "planes of a grey picture": {"PlanarConfiguration": 0},
    "empty groups": {"SharedFunctionalGroupsSequence": [], "PerFrameFunctionalGroupsSequence": []},
}


@pytest.mark.parametrize("name", BLANKS)
def test_blanks_in_headers_mean_what_is_usual(name: str, tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", SLICE, **BLANKS[name])
    assert (read_image(path) == SLICE).all()
    assert image_size(path) == (64, 48) and examine_image(path).faults == []


@pytest.mark.parametrize("tail", [b"\0\0", b"\0" * 200, b"\xfc\xff\xfc\xff" + b"OB\0\0\x04\0\0\0" + b"\0" * 4])
def test_what_follows_the_pixels_does_not_count(tail: bytes, tmp_path: Path) -> None:
    """Excess padding (pydicom #801), and the standard's trailing padding."""
    path = dicom(tmp_path / "a.dcm", SLICE)
    path.write_bytes(path.read_bytes() + tail)
    assert (read_image(path) == SLICE).all()


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        (b"MONOCHROME2 ", b"monochrome2 "),
        (b"MONOCHROME2 ", b"MONOCHROME2\0"),
        (b"ISO_IR 192", b"ISO IR 192"),
        (b"ISO_IR 192", b"UTF-8     "),
        (b"1.2.3.4\0", b"1.a.3.4 "),
        (BORN.encode(), b"02.01.56"),
    ],
)
def test_texts_that_the_standard_does_not_allow(stated: bytes, written: bytes, tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", SLICE, SpecificCharacterSet="ISO_IR 192")
    content = path.read_bytes()
    assert stated in content
    path.write_bytes(content.replace(stated, written))
    assert (read_image(path) == SLICE).all()


def test_an_empty_rescale_of_a_frame(tmp_path: Path) -> None:
    transform, group = pydicom.Dataset(), pydicom.Dataset()
    transform.RescaleSlope, transform.RescaleIntercept = None, None
    group.PixelValueTransformationSequence = [transform]
    path = dicom(tmp_path / "a.dcm", SLICE, SharedFunctionalGroupsSequence=[group])
    assert (read_image(path) == SLICE).all()


@pytest.mark.parametrize("text", ["40,5", "n/a", "1e999", "-"])
def test_numbers_that_are_none_are_left_out(tmp_path: Path, text: str) -> None:
    """Written behind pydicom's back, which refuses them."""
    path = dicom(tmp_path / "a.dcm", SLICE, WindowCenter=111111, RescaleSlope=222222, RescaleIntercept=0)
    content = path.read_bytes()
    for stated in (b"111111", b"222222"):
        assert content.count(stated) == 1
        content = content.replace(stated, text.encode().ljust(6))
    path.write_bytes(content)
    assert (read_image(path) == SLICE).all()


@pytest.mark.parametrize(
    ("syntax", "values"),
    [
        ("ImplicitVRLittleEndian", TWELVE),
        ("DeflatedExplicitVRLittleEndian", TWELVE),
        ("RLELossless", TWELVE),
        ("RLELossless", SLICE),
        ("JPEG2000Lossless", TWELVE),
    ],
)
def test_transfer_syntaxes(syntax: str, values: np.ndarray, tmp_path: Path) -> None:
    try:
        path = dicom(tmp_path / "a.dcm", values, syntax)
    except RuntimeError:
        pytest.skip(f"no encoder for {syntax} here")
    assert np.abs(read_image(path).astype(int) - SLICE).max() <= 1
    assert image_size(path) == (64, 48)


@pytest.mark.parametrize("encoding", ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "expb"])
def test_one_slice_in_the_encodings_of_other_programs(encoding: str) -> None:
    # pydicom ships one real MR slice as several programs wrote it
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    if not (folder / "MR_small.dcm").is_file():
        pytest.skip("pydicom is installed without its test files")
    assert (read_image(folder / f"MR_small_{encoding}.dcm") == read_image(folder / "MR_small.dcm")).all()


def test_baseline_jpeg_in_dicom(tmp_path: Path) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(SLICE).save(stream, "jpeg", quality=98)
    path = dicom(tmp_path / "a.dcm", SLICE)
    data = pydicom.dcmread(path)
    data.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    data.save_as(path)
    assert np.abs(read_image(path).astype(int) - SLICE).max() <= 6


def test_a_compression_without_decoder_is_named(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", SLICE)
    data = pydicom.dcmread(path)
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    if pydicom.pixels.get_decoder(pydicom.uid.JPEGLosslessSV1).is_available:
        pytest.skip("another decoder is installed")
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    data.save_as(path)
    with pytest.raises(DataError, match="no decoder for DICOM of JPEG Lossless"):
        read_image(path)


def test_voi_lut(tmp_path: Path) -> None:
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.LUTData = [256, 0, 12], [4095 - round(v * 4095 / 255) for v in range(256)]
    lut["LUTDescriptor"].VR = lut["LUTData"].VR = "US"
    path = dicom(tmp_path / "a.dcm", 255 - SLICE, VOILUTSequence=pydicom.Sequence([lut]))
    assert np.abs(read_image(path).astype(int) - SLICE).max() <= 1


def table(entries: Any, vr: str = "US") -> Any:
    found = pydicom.Dataset()
    found.LUTDescriptor = [256, 0, 8]
    found["LUTDescriptor"].VR = "US"
    if entries is not None:
        found.add_new("LUTData", vr, entries)
    return found


FULL = [255 - v for v in range(256)]


@pytest.mark.parametrize(
    ("tables", "inverted", "reason"),
    [
        ([table(None)], False, "no data"),
        ([table(b"", "OW")], False, "empty data"),
        ([table(5)], False, "one entry, which pydicom gives as a number"),
        ([table(b"\x05\0", "OW")], False, "one entry in bytes"),
        ([table(b"", "OW"), table(FULL)], True, "an empty table before a full one"),
        ([table(5), table(FULL)], True, "one entry before a full one"),
        ([table(FULL), table(None)], True, "an empty table after a full one"),
    ],
)
@pytest.mark.parametrize("place", ["root", "shared", "frame"])
def test_tables_without_entries_are_left_out(
    tables: list[Any], inverted: bool, reason: str, place: str, tmp_path: Path
) -> None:
    voi, group = pydicom.Dataset(), pydicom.Dataset()
    voi.VOILUTSequence = tables
    group.FrameVOILUTSequence = [voi]
    tags: dict[str, Any] = {
        "root": {"VOILUTSequence": tables},
        "shared": {"SharedFunctionalGroupsSequence": [group]},
        "frame": {"PerFrameFunctionalGroupsSequence": [group]},
    }
    path = dicom(tmp_path / "a.dcm", SLICE, **tags[place])
    assert (read_image(path) == (255 - SLICE if inverted else SLICE)).all(), reason


@pytest.mark.parametrize(
    ("side", "value", "bright", "reason"),
    [
        (0, 0, True, "few of the values are used"),
        (4, 1000, True, "a vessel below a quarter of the window"),
        (4, 1030, True, "the same vessel above it"),
        (4, 4095, True, "the same vessel at the end of the window"),
        (16, 4095, False, "a region that is more than a vessel"),
    ],
)
def test_a_vessel_does_not_decide_on_the_window(
    side: int, value: int, bright: bool, reason: str, tmp_path: Path
) -> None:
    y, x = np.mgrid[:128, :128]
    head = (x - 64) ** 2 + (y - 64) ** 2 < 45**2
    values = (head * 500 + x % 20).astype(np.uint16)
    values[60 : 60 + side, 60 : 60 + side] = value
    path = dicom(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    # The window leaves the 500 of the head at 32.
    assert bool(np.median(read_image(path)[head]) > 100) is bright, reason


def test_multi_frame_asks_and_uses_the_window_of_its_frame(tmp_path: Path) -> None:
    def group(center: float) -> Any:
        window = pydicom.Dataset()
        window.WindowCenter, window.WindowWidth = center, 4096
        item = pydicom.Dataset()
        item.FrameVOILUTSequence = pydicom.Sequence([window])
        return item

    frames = np.stack([TWELVE, TWELVE[::-1] + 500, TWELVE[:, ::-1]])
    groups = pydicom.Sequence([group(2048), group(2548), group(2048)])
    path = dicom(tmp_path / "a.dcm", frames, PerFrameFunctionalGroupsSequence=groups)
    with pytest.raises(DataError, match="of 3 frames; choose a frame from 0 to 2"):
        read_image(path)
    assert np.abs(read_image(path, frame=1).astype(int) - SLICE[::-1]).max() <= 1
    assert np.abs(read_image(path, frame=2).astype(int) - SLICE[:, ::-1]).max() <= 1
    examined = examine_image(path)
    pixels, faults = examined.pixels, examined.faults
    assert pixels is not None and [code for code, _ in faults] == ["multi_frame"]


def _broken_dicoms() -> dict[str, Any]:
    def cut(path: Path) -> None:
        path.write_bytes(dicom(path, TWELVE).read_bytes()[:-500])

    def no_picture(path: Path) -> None:
        dicom(path, TWELVE)
        data = pydicom.dcmread(path)
        del data.PixelData
        data.save_as(path)

    def garbage(path: Path) -> None:
        path.write_bytes(b"\0" * 128 + b"DICM" + np.random.default_rng(3).bytes(3000))

    def cut_jpeg2000(path: Path) -> None:
        dicom(path, TWELVE, "JPEG2000Lossless")
        path.write_bytes(path.read_bytes()[:-800])

    def cut_deflated(path: Path) -> None:
        dicom(path, TWELVE, "DeflatedExplicitVRLittleEndian")
        path.write_bytes(path.read_bytes()[:-60])

    def name_for_rows(path: Path) -> None:
        dicom(path, TWELVE)
        content = path.read_bytes()
        assert NAME.encode() in content
        path.write_bytes(content.replace(b"\x28\0\x10\0US", b"\x28\0\x10\0PN"))  # Rows as a person's name

    def name_for_a_number(path: Path) -> None:
        dicom(path, TWELVE, NumberOfFrames=1, ImageComments="x")
        content = path.read_bytes()
        frames = b"\x28\0\x08\0IS\x02\0001 "
        assert frames in content
        path.write_bytes(content.replace(frames, b"\x28\0\x08\0IS\x06\0Geheim"))

    return {
        f.__name__: f for f in (cut, no_picture, garbage, cut_jpeg2000, cut_deflated, name_for_rows, name_for_a_number)
    }


BROKEN = _broken_dicoms()


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_dicom_is_one_line_without_the_patient(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.dcm"
    BROKEN[kind](path)
    with caplog.at_level(logging.DEBUG), pytest.raises(DetectclfError) as caught:
        read_image(path)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    # --verbose prints the causes too
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    faults = examine_image(path).faults
    assert len(faults) == 1 and faults[0][0] in ("unreadable", "truncated")
    said = str(caught.value) + faults[0][1] + caplog.text + "".join(capfd.readouterr())
    assert not any(secret in said for secret in (NAME, PATIENT, BORN, "Geheim", "Erika"))


@pytest.mark.parametrize("module", ["pydicom", "nibabel"])
def test_without_the_extra_one_line_names_it(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicom(tmp_path / "pydicom", SLICE)
    nibabel.Nifti1Image(SLICE[..., None], np.eye(4)).to_filename(tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "nibabel")
    monkeypatch.setitem(sys.modules, module, None)
    importlib.invalidate_caches()
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r'needs (pydicom|nibabel).*pip install "detectclf\[medical\]"'):
            read(tmp_path / module)
    with pytest.raises(MissingPackageError):
        examine_image(tmp_path / module)  # no fault of the image, for which a fixed copy would leave it out


@pytest.mark.parametrize("kind", ["without the preamble", "explicit", "implicit"])
def test_dicom_of_older_archives_begins_with_its_first_element(kind: str, tmp_path: Path) -> None:
    whole = dicom(tmp_path / "whole.dcm", SLICE)
    bare = tmp_path / "IM0001"
    if kind == "without the preamble":
        bare.write_bytes(whole.read_bytes()[132:])
    else:
        data = pydicom.dcmread(whole)
        data.preamble = None
        del data.file_meta
        data.save_as(bare, implicit_vr=kind == "implicit", little_endian=True, enforce_file_format=False)
    assert is_dicom(bare)
    np.testing.assert_array_equal(read_image(bare), read_image(whole))
    assert image_size(bare) == image_size(whole)


@pytest.mark.parametrize("head", [b"", b"\x08", b"\x02\0\0\0", b"\x08\0\x05\0\xff\xff\xff\xff", b"\x02\0\0\0ul"])
def test_other_files_are_not_taken_for_dicom(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(head)
    assert not is_dicom(tmp_path / "a")


# ---------------------------------------------------------------------------------------------------------- NIfTI

CANONICAL = np.zeros((5, 6, 7), dtype=np.int16)  # right, front, head
CANONICAL[...] = np.arange(5 * 6 * 7).reshape(5, 6, 7) % 251
CANONICAL[0, 0] = 255  # every axial slice has white in it


def shown(axis: str, index: int) -> np.ndarray:
    """The slice as a radiologist sees it, from the canonical volume, written out by hand."""
    if axis == "axial":  # up: front; left: the patient's right
        return np.array([[CANONICAL[x, y, index] for x in range(4, -1, -1)] for y in range(5, -1, -1)])
    if axis == "coronal":  # up: head
        return np.array([[CANONICAL[x, index, z] for x in range(4, -1, -1)] for z in range(6, -1, -1)])
    return np.array([[CANONICAL[index, y, z] for y in range(5, -1, -1)] for z in range(6, -1, -1)])


def oriented(codes: str) -> Any:
    """CANONICAL stored with its axes in the order and directions of ``codes``."""
    image = nibabel.Nifti1Image(CANONICAL, np.eye(4))
    turn = nibabel.orientations.axcodes2ornt(tuple(codes))
    return image.as_reoriented(turn_from_canonical(turn))


def turn_from_canonical(target: np.ndarray) -> np.ndarray:
    start = nibabel.orientations.axcodes2ornt(("R", "A", "S"))
    return nibabel.orientations.ornt_transform(start, target)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PSR", "SAL", "ILA"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_is_shown_the_same_whatever_its_orientation(axis: str, codes: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    oriented(codes).to_filename(path)
    for index in (0, 3):
        assert (read_image(path, frame=index, axis=axis) == shown(axis, index)).all()
    assert image_size(path, axis=axis) == shown(axis, 0).shape[::-1]


def test_nifti_default_is_the_middle_axial_slice_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectclf.imaging.nifti._SAID", set())
    oriented("LPS").to_filename(tmp_path / "a.nii.gz")
    assert (read_image(tmp_path / "a.nii.gz") == shown("axial", 3)).all()
    assert "only axial slice 3 of 7 is read" in caplog.text
    read_image(tmp_path / "a.nii.gz")
    assert len(caplog.messages) == 1, "not for each of a thousand files"
    assert [code for code, _ in examine_image(tmp_path / "a.nii.gz").faults] == ["multi_frame"]


@pytest.mark.parametrize(
    ("values", "slack"),
    [
        (SLICE, 0),
        (SLICE.astype(np.int16), 0),
        (SLICE.astype(np.float32) / 255, 0),
        (SLICE.astype(np.float64) * 7.1, 0),
        (SLICE.astype(np.uint16) * 257, 0),
        (TWELVE.astype(np.int16), 1),
    ],
)
def test_nifti_follows_the_same_intensity_rule(values: np.ndarray, slack: int, tmp_path: Path) -> None:
    # columns of a NIfTI run to the patient's right and front: store so that the slice comes out as it is
    nibabel.Nifti1Image(values[::-1, ::-1].T[..., None], np.eye(4)).to_filename(tmp_path / "a.nii")
    assert np.abs(read_image(tmp_path / "a.nii").astype(int) - SLICE).max() <= slack
    assert examine_image(tmp_path / "a.nii").faults == []


def test_nifti_window_scaling_and_further_volumes(tmp_path: Path) -> None:
    volume = np.stack([CANONICAL, CANONICAL // 2], axis=-1)
    image = nibabel.Nifti1Image(volume, np.eye(4))
    image.header.set_slope_inter(2, 100)
    image.header["cal_min"], image.header["cal_max"] = 100, 610
    image.to_filename(tmp_path / "a.nii")
    assert (read_image(tmp_path / "a.nii", frame=2) == shown("axial", 2)).all()
    assert np.abs(read_image(tmp_path / "a.nii", frame=7 + 2).astype(int) - shown("axial", 2) // 2).max() <= 1
    with pytest.raises(DataError, match="no frame 14"):
        read_image(tmp_path / "a.nii", frame=14)


def test_nifti_second_version_and_flat_images(tmp_path: Path) -> None:
    nibabel.Nifti2Image(CANONICAL, np.eye(4)).to_filename(tmp_path / "a.nii")
    assert (read_image(tmp_path / "a.nii", frame=1) == shown("axial", 1)).all()
    nibabel.Nifti1Image(CANONICAL[..., 1], np.eye(4)).to_filename(tmp_path / "b.nii")
    assert (read_image(tmp_path / "b.nii") == shown("axial", 1)).all()


def test_nifti_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    oriented("RAS").to_filename(path)
    whole = path.read_bytes()
    with pytest.raises(DataError, match="no axis 'oblique'; choose one of sagittal, coronal, axial"):
        read_image(path, axis="oblique")
    oriented("RAS").to_filename(tmp_path / "b.nii.gz")
    packed = (tmp_path / "b.nii.gz").read_bytes()
    for content, code in ((whole[:-9], "truncated"), (whole[:100], "truncated"), (packed[:-40], "truncated")):
        path.write_bytes(content)
        assert examine_image(path).faults[-1][0] == code
        with pytest.raises(DataError, match="cut short"):
            read_image(path)


def sample_of(path: Path) -> Sample:
    return Sample(path, path.name, "train", None, source=str(path.parent))


@pytest.mark.parametrize(
    ("syntax", "tags", "identity"),
    [
        ("ExplicitVRLittleEndian", {}, PATIENT),
        ("ImplicitVRLittleEndian", {}, PATIENT),
        ("DeflatedExplicitVRLittleEndian", {}, PATIENT),
        ("RLELossless", {}, PATIENT),
        ("ExplicitVRLittleEndian", {"PatientID": f"{PATIENT} "}, PATIENT),  # padded to an even length
        ("ExplicitVRLittleEndian", {"PatientID": ""}, None),
        ("ExplicitVRLittleEndian", {"PatientID": "ANONYMOUS"}, None),
    ],
)
@pytest.mark.parametrize("name", ["a.dcm", "a", "a.jpg"])
def test_the_patient_of_a_dicom_slice_is_a_pseudonym(
    syntax: str, tags: dict[str, str], identity: str | None, name: str, tmp_path: Path
) -> None:
    path = dicom(tmp_path / name, SLICE, syntax, **tags)
    found = dicom_patient(sample_of(path))
    # A name of another type is a fault of the data, and costs a hundred thousand real JPEGs nothing here.
    assert found == (None if identity is None or name == "a.jpg" else pseudonym(identity))
    assert found is None or PATIENT not in found


def test_what_is_no_dicom_slice_has_no_patient(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", SLICE)
    content = path.read_bytes()
    for name, changed in (("cut.dcm", content[:140]), ("text.dcm", b"PatientID=1" * 40), ("empty.dcm", b"")):
        (tmp_path / name).write_bytes(changed)
        assert dicom_patient(sample_of(tmp_path / name)) is None
    del_id = pydicom.dcmread(path)
    del del_id.PatientID
    del_id.save_as(tmp_path / "none.dcm")
    assert dicom_patient(sample_of(tmp_path / "none.dcm")) is None
    assert dicom_patient(sample_of(tmp_path / "missing.dcm")) is None


def test_a_folder_of_dicom_slices_is_split_by_its_patients(tmp_path: Path) -> None:
    for number in range(6):
        place = tmp_path / "data" / "train" / ("glioma" if number % 2 else "no_tumor")
        place.mkdir(parents=True, exist_ok=True)
        dicom(place / f"{number}.dcm", np.roll(SLICE, number * 5, axis=1), PatientID=f"P{number % 3}")
    opened = open_dataset(DataConfig(sources=(tmp_path / "data",)))
    groups = independent_groups(opened.samples, ())
    assert sorted(sorted(opened.samples[i].name for i in group) for group in groups) == [
        ["glioma/1.dcm", "no_tumor/4.dcm"],
        ["glioma/3.dcm", "no_tumor/0.dcm"],
        ["glioma/5.dcm", "no_tumor/2.dcm"],
    ]
