"""Annotations from an enemy: each is a one-line error of the right exit code, in bounded time and memory."""

from __future__ import annotations

import json
import os
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from export_examples import box, coco, dataset, draw, image

from detectclf.audit.check import check
from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.errors import DetectclfError
from detectclf.formats import write
from detectclf.formats.tfrecord import masked_crc32c


def _coco_text(text: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        coco(folder, [image(1)], [box(1, 1, [2, 2, 20, 20])])
        (folder / "train/_annotations.coco.json").write_text(text)

    return make


def _coco_name(name: str) -> Callable[[Path], object]:
    return lambda folder: coco(folder, [image(1, name)], [], make=False)


def _whole(bbox: str, number: str = "1") -> Callable[[Path], object]:
    return _coco_text(
        '{"images": [{"id": 1, "file_name": "slice1.png", "width": 64, "height": 48}], "categories": '
        f'[{{"id": 1, "name": "Glioma"}}], "annotations": [{{"id": {number}, "image_id": 1, "category_id": 1, '
        f'"bbox": {bbox}}}]}}'
    )


def _many_values(folder: Path) -> None:
    coco(folder, [], [])
    (folder / "train/_annotations.coco.json").write_bytes(b"[" + b"{}," * 17_000_000 + b"{}]")


def _huge(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "train").mkdir(parents=True)
        with (folder / "train" / name).open("wb") as file:
            file.truncate(2 * 10**9)  # sparse: takes no disk

    return make


def _yaml(text: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        draw(folder / "train/images/a.png")
        (folder / "data.yaml").write_text(text)

    return make


def _bomb() -> str:
    lines = ["a0: &a0 [lol]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join([*lines, "names: *a9", "train: train/images"])


def _voc(text: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        draw(folder / "train/a.jpg")
        (folder / "train/a.xml").write_text(text)

    return make


LAUGHS = '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def _record(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        slices = [("train", "a.png", [("glioma", (2.0, 2.0, 9.0, 9.0))])]
        write(dataset(folder.parent / "source", slices), folder, "tfrecord")
        file = next(folder.rglob("*.tfrecord"))
        file.write_bytes(change(file.read_bytes()))

    return make


def _length(number: int) -> Callable[[bytes], bytes]:
    head = struct.pack("<Q", number)
    return lambda data: head + struct.pack("<I", masked_crc32c(head)) + data[12:]


def _symlink(folder: Path) -> None:
    coco(folder, [image(1)], [])
    (folder / "train/slice1.png").unlink()
    draw(folder.parent / "elsewhere.png")
    (folder / "train/slice1.png").symlink_to(folder.parent / "elsewhere.png")


def _linked_split(folder: Path) -> None:
    coco(folder, [image(1)], [])
    coco(folder.parent / "other", [image(1)], [])
    (folder / "valid").symlink_to(folder.parent / "other/train")


def _linked_annotations(folder: Path) -> None:
    coco(folder, [image(1)], [])
    (folder / "train/_annotations.coco.json").rename(folder.parent / "a.json")
    (folder / "train/_annotations.coco.json").symlink_to(folder.parent / "a.json")


def _plain_coco(stem: str, images: str | None = None) -> Callable[[Path], object]:
    """``annotations/STEM.json``, with the folder ``images`` linked to one outside that holds the image."""

    def make(folder: Path) -> None:
        coco(folder, [image(1)], [], make=False)
        (folder / "annotations").mkdir()
        (folder / "train/_annotations.coco.json").rename(folder / f"annotations/{stem}.json")
        draw(folder.parent / "slice1.png")
        if images is not None:
            (folder / images).symlink_to(folder.parent)

    return make


def _fifo(folder: Path) -> None:
    coco(folder, [image(1)], [])
    (folder / "train/slice1.png").unlink()
    os.mkfifo(folder / "train/slice1.png")


def _class_folder_link(target: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        draw(folder / "train/glioma/a.png")
        (folder / "train/glioma/b.png").symlink_to(target)

    return make


HOSTILE: list[tuple[str, int, str, Callable[[Path], object]]] = [
    ("parent-name", 3, "'..'", _coco_name("../../secret.png")),
    ("windows-parent-name", 3, "'..'", _coco_name("..\\secret.png")),
    ("absolute-name", 3, "absolute", _coco_name("/etc/passwd")),
    ("unc-name", 3, "absolute", _coco_name("\\\\server\\share\\a.png")),
    ("drive-name", 3, "absolute", _coco_name("C:\\a.png")),
    ("nul-name", 3, "NUL", _coco_name("a\0.png")),
    ("very-long-name", 2, "not there", _coco_name("a" * 5000 + ".png")),
    ("lone-surrogate-name", 2, "cannot be a file name", _coco_name("\ud800.png")),
    ("image-symlink-out", 3, "leads out", _symlink),
    ("split-symlink-out", 3, "leads out", _linked_split),
    ("images-symlink-out", 3, "leads out", _plain_coco("instances_train", "images")),
    ("split-called-parent", 2, "not there", _plain_coco("instances_..")),
    ("annotation-symlink-out", 3, "leads out", _linked_annotations),
    ("class-folder-symlink-out", 3, "leads out", _class_folder_link("/etc/hostname")),
    ("device", 3, "leads out", _class_folder_link("/dev/zero")),
    ("fifo", 3, "FIFO", _fifo),
    ("huge-coco", 3, "larger than", _huge("_annotations.coco.json")),
    ("huge-createml", 3, "larger than", _huge("_annotations.createml.json")),
    ("huge-csv", 3, "larger than", _huge("_annotations.csv")),
    ("huge-classes-csv", 3, "larger than", _huge("_classes.csv")),
    ("huge-xml", 3, "larger than", _huge("a.xml")),
    ("many-values", 3, "values", _many_values),
    ("nested-json", 2, "too deeply", _coco_text("[" * 200_000 + "]" * 200_000)),
    ("nested-json-objects", 2, "too deep", _coco_text('{"a":' * 200_000 + "1" + "}" * 200_000)),
    ("long-integer", 2, "digits", _whole("[1, 2, 3, 4]", "9" * 5000)),
    ("large-integer", 2, "not a finite number", _whole(f"[{'9' * 4000}, 2, 3, 4]")),
    ("nan", 2, "not a finite number", _whole("[NaN, 2, 3, 4]")),
    ("overflow", 2, "not a finite number", _whole("[1, 2, 1e999, 4]")),
    ("far-away", 2, "leaves the", _whole("[1, 2, 1e300, 1e300]")),
    ("not-json", 2, "not JSON", _coco_text("{'images': []}")),
    ("cut-json", 2, "not JSON", _coco_text('{"images": [')),
    ("json-of-something-else", 2, "no list", _coco_text("[1, 2]")),
    ("lists-that-are-none", 2, "no list", _coco_text('{"images": 5, "annotations": 7, "categories": "x"}')),
    ("yaml-bomb", 3, "alias", _yaml(_bomb())),
    ("yaml-python", 3, "Python", _yaml("train: train/images\nnames: !!python/object/apply:os.system ['touch pwned']")),
    ("yaml-absolute-path", 3, "absolute", _yaml("path: /etc\ntrain: /etc\nnames: [a]")),
    ("yaml-path-of-elsewhere", 2, "no usable slice", _yaml("path: /etc\ntrain: .\nnames: [a]")),
    ("yaml-split-out", 3, "'..'", _yaml("train: ../../x\nnames: [a]")),
    ("yaml-nested", 2, "too deep", _yaml("names: " + "[" * 50_000)),
    ("yaml-list", 2, "mapping", _yaml("- a\n- b")),
    ("yaml-names-nested", 2, "class names", _yaml("train: train/images\nnames: [[a]]")),
    ("billion-laughs", 3, "entities", _voc(LAUGHS + "]><annotation><filename>&i;</filename></annotation>")),
    (
        "external-entity",
        3,
        "entities",
        _voc('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'),
    ),
    ("xml-name-out", 3, "'..'", _voc("<annotation><filename>../../a.jpg</filename></annotation>")),
    ("xml-nested", 2, "VOC|XML", _voc("<a>" * 100_000 + "</a>" * 100_000)),
    ("xml-nested-object", 2, "too deep", _voc(f"<annotation><object>{'<a>' * 10**5}{'</a>' * 10**5}</object>")),
    ("many-empty-objects", 2, "no list", _coco_text("[" + "{}," * 1_500_000 + "{}]")),
    ("not-xml", 2, "not XML", _voc("{}")),
    ("record-of-2^63", 2, "declares", _record(_length(2**63))),
    ("record-of-2^62-without-crc", 2, "checksum", _record(lambda data: struct.pack("<Q", 2**62) + data[8:])),
    ("record-bad-crc", 2, "checksum", _record(lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:])),
    ("record-cut-short", 2, "cut short", _record(lambda data: data[:-50])),
    ("record-header-cut", 2, "cut short", _record(lambda data: data[:7])),
    ("record-of-text", 2, "checksum", _record(lambda data: b"not a record at all, only text")),
]


@pytest.mark.parametrize(("exit_code", "reason", "make"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
@pytest.mark.filterwarnings("error")
def test_hostile_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exit_code: int, reason: str, make: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    # Kilobytes on Linux: the peak of this whole process, which other tests may have raised already.
    allowed = max(2 * 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    start = time.monotonic()
    with pytest.raises(DetectclfError, match=reason) as caught:
        open_dataset(DataConfig(sources=(tmp_path / "data",)))
    assert time.monotonic() - start < 10
    assert caught.value.exit_code == exit_code
    assert str(caught.value).isprintable()
    assert sorted(tmp_path.rglob("*")) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss <= allowed


@pytest.mark.parametrize("name", ["a\nb.png", "😀.jpg", "--out.png", "-.PNG", "\udcff.JPG", "ä ö.png", "a'\".jpeg"])
def test_odd_names_work(tmp_path: Path, name: str) -> None:
    coco(tmp_path, [image(1, name)], [box(1, 1, [2, 2, 20, 20])])
    (sample,) = open_dataset(DataConfig(sources=(tmp_path,))).samples
    assert (sample.name, sample.width) == (name, 64)
    record = check([tmp_path]).to_record()
    assert json.loads(json.dumps(record)) == record
