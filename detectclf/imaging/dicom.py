"""Reads grey slices from DICOM files with pydicom.

Only the tags that the image needs are parsed, and the patient's id for its pseudonym;
:mod:`detectclf.imaging.medical` explains why.
"""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from detectclf.errors import UnsafeError
from detectclf.imaging.dicom_blanks import fill_blanks, number
from detectclf.imaging.intensity import ImageError, Values, ask_for_frame, check_frame, check_pixels, decoding, to_grey
from detectclf.imaging.medical import MAX_UNPACKED_BYTES, import_medical, unpacks_too_far
from detectclf.pseudonyms import pseudonym
from detectclf.types import Pixels

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT_LITTLE = b"1.2.840.10008.1.2.1\0\0\0"
_HEAD_BYTES = 4096
# The value is shown in errors, so it has to be one of these and not any text of a header.
_FOREIGN = {
    "CT": "computed tomography",
    "CR": "radiograph",
    "DX": "radiograph",
    "MG": "mammogram",
    "NM": "nuclear medicine",
    "PT": "positron emission tomography",
    "RF": "fluoroscopy",
    "RTDOSE": "dose of radiotherapy",
    "SEG": "segmentation",
    "US": "ultrasound",
    "XA": "angiogram",
    "ES": "endoscopy",
    "OP": "eye photograph",
    "SM": "microscopy",
    "XC": "photograph",
}
_DEEP, _DARK = 10, 0.25
"""A window over all values of so many bits or more says nothing where the picture has only so small a share of them."""
_BRIGHT = 0.995
"""The share of values below the one that counts as the brightest: a vessel must not decide on the window."""
_PATIENT_ID = 0x00100020
_PICTURE_TAGS = [
    "Modality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
]


def dicom_size(content: bytes, file: str | Path) -> tuple[int, int]:
    """``(width, height)`` from the header."""
    with decoding(file, "DICOM file"):
        header = _read_dicom_file(content, file, pixels=False)
        return int(header.Columns), int(header.Rows)


def dicom_frames(content: bytes, file: str | Path) -> int:
    """Number of frames that the header declares."""
    with decoding(file, "DICOM file"):
        return _frames(_read_dicom_file(content, file, pixels=False))


def read_dicom(content: bytes, file: str | Path, frame: int | None = None) -> Pixels:
    """Reads one frame as grey levels: rescaled, then windowed or by VOI LUT, and inverted if MONOCHROME1.

    Raises:
        DataError: broken, without an image, encoded so that no plugin can decode it, or several frames and none chosen.
        UnsafeError: too large as declared or when unpacked.
    """
    return dicom_frame(parse_dicom(content, file), file, frame)


def parse_dicom(content: bytes, file: str | Path) -> Any:
    """The data set of a file, of which :func:`dicom_frame` reads any number of frames; raises as :func:`read_dicom`."""
    with decoding(file, "DICOM image"):
        data = _read_dicom_file(content, file, pixels=True)
        check_modality(str(data.get("Modality") or ""), file)
        return data


def dicom_frame(data: Any, file: str | Path, frame: int | None = None) -> Pixels:
    """One frame of a data set of :func:`parse_dicom`; as :func:`read_dicom`."""
    pixels = import_medical("pydicom.pixels", file)
    # All inside, because pydicom converts a value when it is first accessed, and may quote it in an exception.
    with decoding(file, "DICOM image"):
        frames = _frames(data)
        if frames > 1 and frame is None:
            raise ask_for_frame(frames, file, "multi-frame DICOM")
        index = frame or 0
        check_frame(index, frames, file)
        _check_encoded(data, index, frames, file)
        values: Values = pixels.pixel_array(data, index=index)
        return _dicom_grey(values, data, index, pixels)


def check_modality(modality: str, file: str | Path) -> None:
    """Raises an :class:`ImageError` where the header names a modality that is surely not MR; others pass.

    Pictures that a program has stored anew (``OT``, ``SC``), and files that name none, may well show an MR slice.
    """
    if modality.strip().upper() in _FOREIGN:
        raise ImageError(
            "unreadable",
            f"DICOM of modality {modality.strip().upper()} ({_FOREIGN[modality.strip().upper()]}), not MR",
            file=file,
            remedy="give MRI; the model knows nothing else",
        )


def read_patient(stream: BinaryIO, file: str | Path) -> str | None:
    """The pseudonym of PatientID, the id itself never leaves this function; ``None`` without one.

    Args:
        stream: the file, at its start; it is read as far as PatientID only, unless it is deflated.
        file: its path, for messages.

    Raises:
        DataError: the header cannot be read.
        UnsafeError: it unpacks too far.
        ConfigError: there is no key, see :mod:`detectclf.pseudonyms`.
    """
    reader = import_medical("pydicom.filereader", file)
    with decoding(file, "DICOM file"):
        head = stream.read(_HEAD_BYTES)
        stream.seek(0)
        if _DEFLATED in head:
            stream = io.BytesIO(undeflated(stream.read(), file))
        data = reader.read_partial(
            stream,
            stop_when=lambda tag, vr, length: tag > _PATIENT_ID,
            specific_tags=[_PATIENT_ID],
            force=head[128:132] != b"DICM",
        )
        identity = str(data.get("PatientID") or "")
    return pseudonym(identity)


def _read_dicom_file(content: bytes, file: str | Path, *, pixels: bool) -> Any:
    """Parses the tags that the image needs, and checks its declared size."""
    pydicom = import_medical("pydicom", file)
    stream = io.BytesIO(undeflated(content, file))
    bare = content[128:132] != b"DICM"  # the caller has recognised a data set without the preamble
    data = pydicom.dcmread(stream, specific_tags=_PICTURE_TAGS, stop_before_pixels=not pixels, force=bare)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, _ = data.original_encoding
        uids = pydicom.uid
        data.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian if implicit else uids.ExplicitVRLittleEndian
    if "Rows" not in data or "Columns" not in data:
        raise ImageError("unreadable", "DICOM without an image", file=file)
    fill_blanks(data)
    check_pixels(int(data.Columns), int(data.Rows) * int(data.SamplesPerPixel), file, deep=True)
    return data


def undeflated(content: bytes, file: str | Path) -> bytes:
    """Unpacks a deflated data set with a limit, because pydicom has none."""
    # PS3.10: 128 bytes, "DICM", then group 2, whose first element (12 bytes) gives the length of the rest of the group.
    start = 144 + int.from_bytes(content[140:144], "little")
    meta = content[:start]
    if content[132:138] != b"\x02\0\0\0UL" or _DEFLATED not in meta:
        if _DEFLATED in content[:_HEAD_BYTES]:
            raise ImageError("unreadable", "DICOM header without its length", file=file)
        return content
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    body = unpacker.decompress(content[start:], MAX_UNPACKED_BYTES + 1)
    if len(body) > MAX_UNPACKED_BYTES:
        raise unpacks_too_far(file)
    if not unpacker.eof:
        raise ImageError("truncated", "DICOM file is cut short", file=file, remedy="copy it again")
    return meta.replace(_DEFLATED, _EXPLICIT_LITTLE) + body


def _frames(data: Any) -> int:
    return int(data.get("NumberOfFrames", 1))


def _check_encoded(data: Any, index: int, frames: int, file: str | Path) -> None:
    """Refuses a frame whose JPEG header, or length in RLE, does not match the size that DICOM declares."""
    if not any(tag in data for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError("unreadable", "DICOM without an image", file=file)
    syntax = data.file_meta.TransferSyntaxUID
    raw = int(data.Rows) * int(data.Columns) * int(data.get("SamplesPerPixel", 1)) * int(data.BitsAllocated) // 8
    if not syntax.is_compressed or syntax.is_deflated:
        if data.get("PhotometricInterpretation") == "YBR_FULL_422":
            raw = raw * 2 // 3  # two pixels share one colour
        if "PixelData" in data and len(data.PixelData) < raw * frames:
            raise ImageError("truncated", "DICOM image is cut short", file=file, remedy="copy it again")
        return
    if not import_medical("pydicom.pixels", file).get_decoder(syntax).is_available:
        remedy = "install the extra 'medical' if it is missing, or store it uncompressed (gdcmconv --raw, dcmdjpeg)"
        raise ImageError("unreadable", f"no decoder for DICOM of {syntax.name}", file=file, remedy=remedy)
    encaps = import_medical("pydicom.encaps", file)
    encoded = encaps.get_frame(data.PixelData, index, number_of_frames=frames)
    size = _codestream_size(encoded)
    if size not in (None, (int(data.Columns), int(data.Rows))):
        raise UnsafeError("the compressed image has another size than its DICOM header", file=file, remedy="replace it")
    # No encoder doubles the raw size, but an RLE decoder can make 64 times the bytes that it gets.
    if len(encoded) > 2 * raw + 2**16:
        raise UnsafeError("the compressed image is larger than the raw one", file=file, remedy="replace it")


def _codestream_size(encoded: bytes) -> tuple[int, int] | None:
    """``(width, height)`` in the header of a JPEG, JPEG-LS or JPEG 2000 codestream; ``None`` for other data."""
    if encoded[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: SOC, then SIZ
        x1, y1, x0, y0 = (int.from_bytes(encoded[at : at + 4], "big") for at in (8, 12, 16, 20))
        return x1 - x0, y1 - y0
    if encoded[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(encoded) and encoded[at] == 0xFF:
        marker, length = encoded[at + 1], int.from_bytes(encoded[at + 2 : at + 4], "big")
        # Start of frame: C0 to CF without the tables C4, C8, CC; F7 in JPEG-LS.
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return int.from_bytes(encoded[at + 7 : at + 9], "big"), int.from_bytes(encoded[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + length
    return None


def _dicom_grey(values: Values, data: Any, index: int, pixels: ModuleType) -> Pixels:
    photometric = str(data.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        values = pixels.apply_color_lut(values, data)
        values = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
    if values.ndim == 3:  # pydicom has converted YBR to RGB
        luma: Pixels = np.rint(to_grey(values) @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
        return luma
    transform = _frame_item(data, index, "PixelValueTransformationSequence")
    values = pixels.apply_modality_lut(values, transform)
    step = min(1.0, abs(number(transform, "RescaleSlope") or 1.0))
    grey = _windowed(values, _frame_item(data, index, "FrameVOILUTSequence"), int(data.BitsStored), step, pixels)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _windowed(values: Values, item: Any, bits: int, step: float, pixels: ModuleType) -> Pixels:
    """PS3.3 C.11.2: applies the VOI LUT, else the first window, else the rule for values without a window.

    That rule stands in for windows that show nothing: beside all values, which happens where a window was meant for
    others than the rescaled ones, or over all that the bits could hold, which writers state where none was chosen.

    Args:
        values: after the rescale.
        item: holds the window or LUT.
        bits: stored.
        step: difference of neighbouring values, at most 1.
        pixels: ``pydicom.pixels``.
    """
    if item.get("VOILUTSequence"):
        looked_up = pixels.apply_voi(values.astype(np.int64), item)
        return to_grey(looked_up, window=(0, 2 ** int(item.VOILUTSequence[0].LUTDescriptor[2]) - 1))
    center, width = number(item, "WindowCenter"), number(item, "WindowWidth")
    if center is None or width is None or width <= 0 or _shows_nothing(values, center - width / 2, width):
        return to_grey(values, bits=bits)
    function = str(item.get("VOILUTFunction") or "LINEAR")
    if function == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))
        return to_grey(share, window=(0, 1))
    if function == "LINEAR_EXACT":
        return to_grey(values, window=(center - width / 2, center + width / 2))
    # In LINEAR, both ends belong to the window; a window of one step is a threshold.
    low = center - width / 2
    return to_grey(values, window=(low, low + max(width - step, 1e-6 * step)))


def _shows_nothing(values: Values, low: float, width: float) -> bool:
    least, most = float(values.min()), float(values.max())
    if most > least and (most <= low or least >= low + width):
        return True
    whole = (
        abs(low) <= 1
        and width >= 2**_DEEP - 1
        and min(abs(width + i - 2 ** round(math.log2(width))) for i in (0, 1)) < 1
    )
    return bool(whole and np.quantile(values, _BRIGHT, method="lower") < width * _DARK)


def _frame_item(data: Any, index: int, sequence: str) -> Any:
    """The item with the transform of one frame: in its own or the shared functional group, else the data set itself."""
    per_frame = data.get("PerFrameFunctionalGroupsSequence") or []
    for group in [*per_frame[index : index + 1], *(data.get("SharedFunctionalGroupsSequence") or [])]:
        if group.get(sequence):
            return group[sequence][0]
    return data


__all__ = [
    "check_modality",
    "dicom_frame",
    "dicom_frames",
    "dicom_size",
    "parse_dicom",
    "read_dicom",
    "read_patient",
    "undeflated",
]
