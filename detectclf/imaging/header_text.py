"""Whether the header of a picture holds what people wrote, or where it was taken: names of patients may be in it."""

from __future__ import annotations

from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

from detectclf.errors import DetectclfError
from detectclf.files import open_regular
from detectclf.imaging.images import MAX_FILE_BYTES
from detectclf.imaging.intensity import decoding
from detectclf.imaging.raster import open_raster

_TEXTS = {
    ExifTags.Base[name]
    for name in ("DocumentName", "ImageDescription", "PageName", "Artist", "HostComputer", "Copyright", "GPSInfo")
} | {ExifTags.Base[name] for name in ("XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject")}
_OF_EXIF = {ExifTags.Base[name] for name in ("UserComment", "CameraOwnerName", "ImageUniqueID")}
_HARMLESS = {"software", "creation time", "date:create", "date:modify", "date:timestamp"}
"""Keys of texts in PNG that programs write."""
_NIFTI_FIELDS = ((14, 18), (148, 80), (228, 24))  # db_name, descrip and aux_file of NIfTI 1: offset and length
_NIFTI_LENGTH = 348


def has_header_text(path: Path) -> bool:
    """Whether EXIF, comments, XMP or NIfTI's fields of text say anything in a file; ``False`` where it is unreadable.

    DICOM is not looked at: its headers always do.
    """
    try:
        with open_regular(path, limit_bytes=MAX_FILE_BYTES) as stream, decoding(path, "header"):
            if path.name.casefold().endswith((".nii", ".nii.gz")):
                return _nifti_says(stream)
            return _raster_says(open_raster(stream, path))
    except (DetectclfError, OSError):
        return False


def _raster_says(image: Image.Image) -> bool:
    said: set[str] = set()
    if image.format == "PNG":
        said = {key.casefold() for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}
    known = {key.casefold() for key in image.info if isinstance(key, str)} & {"comment", "xmp", "xml:com.adobe.xmp"}
    if said - _HARMLESS or known:
        return True  # even where the EXIF cannot be read
    # The getexif of the base class, because that of PNG decodes the whole image to find an EXIF chunk after it.
    exif = Image.Image.getexif(image)
    tags = {*exif} & _TEXTS | {*exif.get_ifd(ExifTags.IFD.Exif)} & _OF_EXIF
    return bool(tags)


def _nifti_says(stream: BinaryIO) -> bool:
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    head = (GzipFile(fileobj=stream) if packed else stream).read(_NIFTI_LENGTH)
    return any(head[start : start + length].strip(b"\0 ") for start, length in _NIFTI_FIELDS)


__all__ = ["has_header_text"]
