"""Every format is read as other tools write it, and what we write is read back the same."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from export_examples import box, coco, dataset, draw, image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectclf.errors import DataError
from detectclf.formats import FORMATS, detect_format, read, write
from detectclf.formats.convert import convert
from detectclf.formats.faults import Faults
from detectclf.formats.tf_example import WireError, parse_example, write_example
from detectclf.formats.tfrecord import masked_crc32c
from detectclf.imaging.images import read_image
from detectclf.types import Dataset, Sample

BOX_FORMATS = [name for name, row in FORMATS.items() if row.holds_boxes]
# Formats of whole pixels round by half a pixel; TFRecord holds float32 shares, YOLO eight decimals.
ROUNDING = {"voc": 0.5, "csv": 0.5, "tfrecord": 1e-4, "yolo": 1e-4, "createml": 1e-4, "coco": 1e-4, "webdataset": 1e-4}


def _read(folder: Path, format: str | None = None) -> tuple[Dataset, Faults]:
    faults = Faults(folder)
    return read(folder, faults, format), faults


@pytest.mark.shared
@pytest.mark.parametrize("format", [*(each for each in BOX_FORMATS[1:] if each != "webdataset"), "folder"])
def test_exports_of_other_tools_agree_with_truth(shared: Path, format: str) -> None:
    folder = shared / "data" / "formats" / format
    truth = json.loads((shared / "data" / "formats" / "truth.json").read_text())
    found, faults = _read(folder)
    assert detect_format(folder) == (format, None)
    assert not faults.problems
    assert len(found.samples) == sum(map(len, truth.values()))
    stated = {(split, name): (label, xywh) for split in truth for name, label, xywh in truth[split]}
    for sample in found.samples:
        label, (x, y, w, h) = stated[sample.split, sample.name.rsplit("/", 1)[-1]]
        if format == "folder":
            assert sample.label == label.lower().replace(" ", "_")
            assert not sample.boxed
            continue
        assert sample.box_labels == (label,)
        assert np.abs(sample.boxes_xyxy[0] - [x, y, x + w, y + h]).max() <= 1.0
        assert read_image(sample.path, span=sample.span).shape == (640, 640)


classes = st.sampled_from(["glioma", "meningioma", "no_tumor", "pituitary", 'Astro cytoma,"x"', "läsion", "=1+1"])
side = st.floats(0, 1, allow_nan=False, width=32)


@st.composite
def boxes(draw_from: st.DrawFn) -> list[tuple[str, list[float]]]:
    result = []
    for _ in range(draw_from(st.integers(0, 3))):
        x1, y1 = draw_from(side) * 58, draw_from(side) * 42
        x2 = min(x1 + 4.5 + draw_from(side) * 60, 64.0)
        y2 = min(y1 + 4.5 + draw_from(side) * 45, 48.0)
        result.append((draw_from(classes), [x1, y1, x2, y2]))
    return result


# Blanks, quotes, commas, line ends, emoji, leading dashes and bytes that are not UTF-8 occur in real folders.
NAMES = ["a.png", "-b.PNG", " c.png", "d, e.png", 'f"g.png', "h\ni.png", "😀.jpg", "j\udcff.png", "a.jpg", "k.rf.0.JPG"]
NAMES += ["=l.png", "'@m.png", "-\rn.png"]  # formulas to a spreadsheet


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(["train", "valid"]), boxes()), min_size=1, max_size=4), st.data())
@pytest.mark.parametrize("format", BOX_FORMATS)
def test_round_trip_loses_nothing(format: str, slices: list, data: st.DataObject) -> None:
    names = data.draw(st.permutations(NAMES))
    with tempfile.TemporaryDirectory() as scratch:
        source = dataset(Path(scratch) / "in", [(s, n, b) for (s, b), n in zip(slices, names, strict=False)])
        write(source, Path(scratch) / "out", format)
        found, faults = _read(Path(scratch) / "out", format)
        assert {p.code for p in faults.errors} <= {"negative_with_tumor_box"}
        want = {(s.split, _pixels(s)): s for s in source.samples}
        assert len(found.samples) == len(want)
        for sample in found.samples:
            _assert_same(sample, want[sample.split, _pixels(sample)], format)


def _pixels(sample: Sample) -> bytes:
    from detectclf.formats.files import encoded_image

    return encoded_image(sample)


def _assert_same(found: Sample, want: Sample, format: str) -> None:
    assert (found.boxed, found.width, found.height) == (True, 64, 48)
    unique = {(label, tuple(b)) for label, b in zip(want.box_labels, want.boxes_xyxy.tolist(), strict=True)}
    if format not in ("voc", "csv"):  # rounding to whole pixels may make two boxes one
        assert len(found.box_labels) == len(unique)
    for label, corners in zip(found.box_labels, found.boxes_xyxy, strict=True):
        near = [b for other, b in unique if other == label]
        assert np.abs(np.array(near) - corners).max(axis=1).min() <= ROUNDING[format] + 1e-4


@pytest.mark.parametrize("format", ["classes-csv", "folder"])
def test_formats_without_boxes_keep_classes(tmp_path: Path, format: str) -> None:
    source = dataset(
        tmp_path / "in",
        [("train", n, [("glioma", [1, 1, 9, 9])] if i % 2 else []) for i, n in enumerate(NAMES)],
    )
    with pytest.raises(DataError, match="--drop-boxes"):
        write(source, tmp_path / "refused", format)
    write(source, tmp_path / "out", format, drop_boxes=True)
    found, faults = _read(tmp_path / "out")
    assert not faults.problems
    assert {_pixels(s): s.label for s in found.samples} == {_pixels(s): s.label for s in source.samples}


@pytest.mark.parametrize("to", [each for each in BOX_FORMATS if not FORMATS[each].holds_classes])
def test_class_without_box_is_refused_by_box_formats(tmp_path: Path, to: str) -> None:
    draw(tmp_path / "in/train/glioma/a.png")
    with pytest.raises(DataError, match="boxes are not known"):
        convert(tmp_path / "in", tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


def test_conversion_through_all_formats_and_back(tmp_path: Path) -> None:
    source = dataset(tmp_path / "in", [("train", "a.png", [("glioma", [3, 4, 20, 30])]), ("valid", "b.png", [])])
    write(source, tmp_path / "0", "coco")
    for step, format in enumerate([*BOX_FORMATS[1:], "coco"]):
        convert(tmp_path / str(step), tmp_path / str(step + 1), format)
    last, faults = _read(tmp_path / str(len(BOX_FORMATS)))
    assert not faults.problems
    assert [s.name for s in last.samples] == ["a.png", "b.png"]
    assert last.samples[0].boxes_xyxy.tolist() == [[3, 4, 20, 30]]
    assert [_pixels(s) for s in last.samples] == [_pixels(s) for s in source.samples]


@pytest.mark.parametrize("format", list(FORMATS))
def test_what_is_written_stays_as_it_was(tmp_path: Path, format: str) -> None:
    """Golden annotation files: a change of what we write is a change that users see."""
    source = dataset(
        tmp_path / "in",
        [("train", "a.png", [("glioma", [3.25, 4.5, 20, 30])]), ("train", "b.png", []), ("valid", "c.png", [])],
    )
    write(source, tmp_path / "out", format, drop_boxes=True)
    files = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    lines = []
    for path in files:
        text = path.suffix in (".json", ".csv", ".xml", ".txt", ".yaml", ".pbtxt")
        lines.append(f"== {path.relative_to(tmp_path / 'out').as_posix()}")
        lines += [path.read_text()] if text else []
    golden = Path(__file__).parents[1] / "golden" / "formats" / f"{format}.txt"
    assert "\n".join(lines) == golden.read_text()


def test_roboflow_coco(tmp_path: Path) -> None:
    coco(tmp_path, [image(5), image(9)], [box(0, 5, [1, 2, 30, 40], 1)])
    found, faults = _read(tmp_path)
    assert not faults.problems
    assert found.classes == ("Glioma", "Meningioma", "No Tumor", "Pituitary")  # the dummy root is no class
    assert found.samples[0].boxes_xyxy.tolist() == [[1, 2, 31, 42]]
    assert (found.samples[1].label, found.samples[1].boxed) == ("No Tumor", True)  # a null image is a clean one


@pytest.mark.parametrize(
    ("json_name", "images"),
    [
        ("instances_train2017.json", "train2017"),
        ("instances_val2017.json", "images/val2017"),
        ("instances_train.json", "images/train"),
        ("valid.json", "valid"),
        ("test.json", "images"),
    ],
)
def test_plain_coco(tmp_path: Path, json_name: str, images: str) -> None:
    coco(tmp_path, [image(1)], [box(0, 1, [1, 2, 30, 40])], make=False)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train/_annotations.coco.json").rename(tmp_path / "annotations" / json_name)
    draw(tmp_path / images / "slice1.png")
    found, faults = _read(tmp_path)
    assert not faults.problems
    want = "train" if "train" in json_name else "test" if "test" in json_name else "valid"
    assert [s.split for s in found.samples] == [want]


@pytest.mark.parametrize(
    ("yaml_text", "names"),
    [
        ("names: [glioma, no tumor]", ["glioma", "no tumor"]),
        ("names: {0: glioma, 1: no tumor}", ["glioma", "no tumor"]),
        ("names:\n  1: b\n  0: a\nnc: 2", ["a", "b"]),
        ("names: [no, Yes]", ["Yes", "no"]),  # YAML 1.1 would make booleans of them
        ("names: ['1', 2.0]\ndownload: rm -rf /", ["1", "2.0"]),
    ],
)
@pytest.mark.parametrize("place", ["../train/images", "train/images", "./train/images/"])
def test_yolo_names_and_paths(tmp_path: Path, yaml_text: str, names: list[str], place: str) -> None:
    draw(tmp_path / "train/images/a.png")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/labels/a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (tmp_path / "data.yaml").write_text(f"train: {place}\n{yaml_text}\n")
    found, faults = _read(tmp_path)
    assert not faults.problems
    assert sorted(found.classes) == sorted(names)
    assert found.samples[0].boxes_xyxy.tolist() == [[24, 12, 40, 36]]


def test_yolo_polygons_and_missing_labels(tmp_path: Path) -> None:
    for name in ("polygon", "empty", "missing"):
        draw(tmp_path / f"images/train/{name}.png", seed=len(name))
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/polygon.txt").write_text("0 0.25 0.5 0.5 0.25 0.75 0.75\n")
    (tmp_path / "labels/train/empty.txt").write_text("")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/nowhere\nnames: [glioma]\n")
    found, faults = _read(tmp_path)
    by_name = {s.name: s for s in found.samples}
    assert by_name["polygon.png"].boxes_xyxy.tolist() == [[16, 12, 48, 36]]
    assert (by_name["empty.png"].label, by_name["empty.png"].boxed) == ("no_tumor", True)
    assert (by_name["missing.png"].label, by_name["missing.png"].boxed) == (None, False)
    assert {p.code for p in faults.problems} == {"missing_label_file", "missing_split"}


def test_classic_voc_counts_from_one(tmp_path: Path) -> None:
    draw(tmp_path / "JPEGImages/a.jpg")
    draw(tmp_path / "JPEGImages/b.jpg", seed=1)
    for name in "ab":
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / f"Annotations/{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>64</width><height>48</height></size><object>"
            "<name>glioma</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>64</xmax><ymax>48</ymax></bndbox></object>"
            "</annotation>"
        )
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("b\n")
    found, faults = _read(tmp_path)
    assert not faults.problems
    assert [(s.name, s.split) for s in found.samples] == [("a.jpg", "train"), ("b.jpg", "valid")]
    assert found.samples[0].boxes_xyxy.tolist() == [[0, 0, 64, 48]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_follow_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """A tool that annotates stored pixels and one that annotates the upright image both end on the bright patch."""
    from PIL import Image

    stored = np.zeros((48, 64), dtype=np.uint8)
    stored[6:16, 8:28] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "train").mkdir()
    Image.fromarray(stored).save(tmp_path / "train/slice1.png", exif=exif)
    pixels = read_image(tmp_path / "train/slice1.png")
    rows, columns = np.nonzero(pixels)
    upright = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    x1, y1, x2, y2 = map(int, upright)
    height, width = pixels.shape
    statements = [(width, height, [x1, y1, x2 - x1, y2 - y1])]
    if orientation >= 5:
        statements.append((64, 48, [8, 6, 20, 10]))
    for width, height, bbox in statements:
        coco(tmp_path, [image(1, None, width, height)], [box(0, 1, bbox)], make=False)
        found, faults = _read(tmp_path)
        assert not faults.errors
        assert found.samples[0].boxes_xyxy[0].tolist() == upright
        assert (found.samples[0].height, found.samples[0].width) == pixels.shape


def test_several_formats_say_which_was_taken(tmp_path: Path) -> None:
    coco(tmp_path, [image(1)], [])
    (tmp_path / "train/_classes.csv").write_text("filename, Glioma\nslice1.png, 1\n")
    name, note = detect_format(tmp_path)
    assert name == "coco"
    assert note is not None
    assert "--from" in note
    assert "classes-csv" in note
    assert _read(tmp_path, "classes-csv")[0].samples[0].label == "Glioma"


def _unmasked(masked: int) -> int:
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def test_crc32c_known_values() -> None:
    """RFC 3720, appendix B.4."""
    assert _unmasked(masked_crc32c(b"123456789")) == 0xE3069283
    assert _unmasked(masked_crc32c(bytes(32))) == 0x8A9136AA
    assert _unmasked(masked_crc32c(b"\xff" * 32)) == 0x62A8AB43
    assert _unmasked(masked_crc32c(bytes(range(32)))) == 0x46DD794E
    assert _unmasked(masked_crc32c(b"")) == 0


@given(st.binary(max_size=2000))
@settings(deadline=None)
def test_crc32c_agrees_with_the_bit_by_bit_definition(data: bytes) -> None:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert _unmasked(masked_crc32c(data)) == register ^ 0xFFFFFFFF


feature = (
    st.lists(st.binary(max_size=20))
    | st.lists(st.integers(-(2**63), 2**63 - 1))
    | st.lists(st.floats(width=32, allow_nan=False))
)


@given(st.dictionaries(st.text(max_size=8), feature, max_size=5))
def test_tf_example_round_trip(features: dict) -> None:
    record = write_example(features)
    found, offsets = parse_example(record)
    assert found == features
    for name, offset in offsets.items():
        value = features[name][0]
        assert record[offset : offset + len(value)] == value


@given(st.binary(max_size=300))
def test_tf_example_of_garbage_is_a_clean_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        parse_example(data)
