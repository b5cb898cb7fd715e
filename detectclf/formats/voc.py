"""Pascal VOC: one XML file per image, beside it (Roboflow), or in ``Annotations/`` with ``JPEGImages/`` (VOC itself).

VOC counts pixels from 1 and includes the last one: its pixels ``xmin`` to ``xmax`` are ``[xmin - 1, xmax)`` here. So
reading subtracts 1 from ``xmin`` and ``ymin``, and writing adds it again; ``xmax`` and ``ymax`` stay. The boxes of a
tool that counts from 0 are then off by one pixel; outside the image, that is clipped as rounding.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Tree  # for writing only; untrusted XML is parsed by defusedxml

from detectclf.errors import UnsafeError
from detectclf.files import check_inside, read_bytes
from detectclf.formats.assemble import assemble
from detectclf.formats.faults import Faults
from detectclf.formats.files import (
    by_split,
    copy_images,
    files_with,
    image_files,
    is_split_name,
    is_there,
    read_text,
    split_folders,
    split_name,
    subfolders,
    write_bytes,
)
from detectclf.formats.image_names import ImageFinder, alike
from detectclf.formats.raw import RawBox, RawSlice, parse_number, stated_size, unusable_box
from detectclf.formats.whole_pixels import whole_pixels
from detectclf.types import Dataset, Sample

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from defusedxml.ElementTree import DefusedXMLParser

_IMAGES = ("jpegimages", "images", "image", "imgs", "img")
_LIMIT_BYTES = 8 * 2**20
_LIMIT_DEPTH = 50
_NOT_XML = re.compile("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Element(Tree.Element):
    """An element with the line in which it starts."""

    line: int | None = None


class _TooDeepError(Exception):
    """Elements are nested more deeply than in any annotation."""


class _Builder(Tree.TreeBuilder):
    """Builds the elements that ``parser`` reads."""

    parser: DefusedXMLParser

    def __init__(self) -> None:
        super().__init__(element_factory=_Element)
        self._depth = 0

    def end(self, tag: str, /) -> Tree.Element:
        self._depth -= 1
        return super().end(tag)

    def start(self, tag: str, attributes: dict[str, str], /) -> Tree.Element:
        self._depth += 1
        if self._depth > _LIMIT_DEPTH:
            raise _TooDeepError
        element = super().start(tag, attributes)
        assert isinstance(element, _Element)
        element.line = self.parser.parser.CurrentLineNumber
        return element


def looks_like(folder: Path) -> bool:
    """Whether the folder is a VOC export."""
    return bool(_sources(folder))


def _sources(folder: Path) -> list[tuple[str, Path, Path]]:
    """``(split, folder of XML files, folder of their images)``: of VOC's own layout, or of that of most other tools."""
    pairs = {
        where: _apart(where) for where in (folder, *subfolders(folder)) if where == folder or is_split_name(where.name)
    }
    apart = [(where, found) for where, found in pairs.items() if found is not None]
    if apart:
        return [("train" if where == folder else split_name(where.name), *found) for where, found in apart]
    return [(split, sub, sub) for split, sub in split_folders(folder, lambda sub: bool(files_with(sub, ".xml")))]


def _apart(where: Path) -> tuple[Path, Path] | None:
    """``Annotations/`` and ``JPEGImages/`` in ``where``, or ``annotations/`` and ``images/``."""
    below = {alike(sub.name): check_inside(where, sub) for sub in subfolders(where)}
    annotations = below.get("annotations")
    if annotations is None or not files_with(annotations, ".xml"):
        return None
    images = next((below[name] for name in _IMAGES if name in below and image_files(below[name])), where)
    return annotations, images


def read(folder: Path, faults: Faults) -> Dataset:
    """Reads a VOC export; see :mod:`detectclf.formats`."""
    slices: list[RawSlice] = []
    listed = _listed_splits(folder)
    for split, files, images in _sources(folder):
        slices += _read_folder(files, images, listed, split, folder, faults)
    return assemble(slices, [], folder, faults)


def _listed_splits(folder: Path) -> dict[str, str]:
    """Stem -> split, from ``ImageSets/Main/train.txt`` and so on; lists of one class (``cat_train``) are ignored."""
    splits: dict[str, str] = {}
    for file in files_with(folder / "ImageSets" / "Main", "train.txt", "val.txt", "valid.txt", "test.txt"):
        if "_" not in file.stem and file.stem != "trainval":
            splits.update(dict.fromkeys(read_text(file, folder).split(), split_name(file.stem)))
    return splits


def _read_folder(
    annotations: Path, images: Path, splits: dict[str, str], split: str, folder: Path, faults: Faults
) -> list[RawSlice]:
    pictures = {path.stem: path for path in image_files(images)}
    folded = {alike(stem): path for stem, path in pictures.items()}
    finder = ImageFinder([images], annotations, faults)
    left = set(pictures.values())
    slices = []
    for file in files_with(annotations, ".xml"):
        root = _parse(file, folder, faults)
        picture = pictures.get(file.stem) or folded.get(alike(file.stem)) or images / f"{file.stem}.jpg"
        if root is not None:
            name = (root.findtext("filename") or "").strip()
            stated = finder.find(name) if name else picture
            picture = stated if is_there(stated) else picture
            boxes = [_box(item, file, faults) for item in root.iter("object")]
            where = splits.get(file.stem, split)
            check_inside(folder, picture)
            slices.append(RawSlice(picture, picture.name, where, file, boxes, stated_size=_size(root)))
        left.discard(picture)
    finder.note()
    for picture in sorted(left):
        faults.warning("missing_label_file", picture, "has no XML file, so its boxes are not known")
        check_inside(folder, picture)
        slices.append(RawSlice(picture, picture.name, splits.get(picture.stem, split), picture))
    return slices


def _size(root: Element) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    return stated_size(parse_number(size.findtext("width")), parse_number(size.findtext("height")))


def _parse(file: Path, folder: Path, faults: Faults) -> Element | None:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser, ParseError

    builder = _Builder()
    builder.parser = DefusedXMLParser(target=builder, forbid_dtd=True)
    try:
        builder.parser.feed(read_bytes(file, limit_bytes=_LIMIT_BYTES, root=folder))
        root: Element = builder.parser.close()
    except DefusedXmlException:
        remedy = "remove the declarations at its top"
        raise UnsafeError("XML declares a document type or entities", file=file, remedy=remedy) from None
    except ParseError as error:
        faults.error("unreadable_annotation", file, "not XML", error.position[0])
        return None
    except _TooDeepError:
        faults.error("unreadable_annotation", file, "XML nested too deeply", builder.parser.parser.CurrentLineNumber)
        return None
    except (ValueError, LookupError):
        faults.error("unreadable_annotation", file, "XML in an unknown encoding")
        return None
    if root.tag != "annotation":
        cvat = root.tag == "annotations"
        detail = "CVAT's own XML, not VOC: export from CVAT as COCO 1.0" if cvat else "not a VOC annotation"
        faults.error("unreadable_annotation", file, detail)
        return None
    return root


def _box(item: Element, file: Path, faults: Faults) -> RawBox:
    label = (item.findtext("name") or "").strip() or None
    box, line = item.find("bndbox"), item.line if isinstance(item, _Element) else None
    if label is None or box is None:
        text = Tree.tostring(item, encoding="unicode")
        faults.reject("bad_record", file, "an object without a name or bndbox", text, line)
        return unusable_box(line)
    x1, y1, x2, y2 = (parse_number(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
    return RawBox((x1 - 1, y1 - 1, x2, y2), label, line)


def write(dataset: Dataset, out: Path) -> None:
    """Writes images, each with an XML file, in one folder per split; boxes are rounded to whole pixels."""
    for split, samples in by_split(dataset):
        for sample, name in copy_images(samples, out / split, unique_stems=True):
            if sample.boxed:
                write_bytes(out / split / f"{Path(name).stem}.xml", _document(sample, name))


def _document(sample: Sample, name: str) -> bytes:
    root = Tree.Element("annotation")
    _add(root, "filename", name)
    size = Tree.SubElement(root, "size")
    for key, value in (("width", sample.width), ("height", sample.height), ("depth", 1)):
        _add(size, key, str(value))
    for box, label in zip(sample.boxes_xyxy, sample.box_labels, strict=True):
        item = Tree.SubElement(root, "object")
        _add(item, "name", label)
        corners = Tree.SubElement(item, "bndbox")
        x1, y1, x2, y2 = whole_pixels(box, sample.width, sample.height)
        for key, number in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            _add(corners, key, str(number))
    Tree.indent(root)
    document: bytes = Tree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _add(parent: Element, tag: str, text: str) -> None:
    # XML does not allow some characters of file names; the reader then finds the image by the XML file's own name.
    Tree.SubElement(parent, tag).text = _NOT_XML.sub("?", text)


__all__ = ["looks_like", "read", "write"]
