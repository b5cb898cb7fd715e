"""Rows of YOLO labels: each is read in the one way that it can be meant, or refused with its line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from export_examples import draw

from detectclf.errors import DataError
from detectclf.formats import read
from detectclf.formats.convert import convert
from detectclf.formats.faults import Faults
from detectclf.formats.yolo_rows import boxes_of_rows

BOX = (0.5, 0.5, 0.25, 0.5)
CORNERS = (0.375, 0.25, 0.625, 0.75)


def outline(points: int, centre: tuple[float, float] = (0.7, 0.6), radius: float = 0.08) -> list[float]:
    angles = np.linspace(0.3, 0.3 + 2 * math.pi, points, endpoint=False)
    return [float(v) for a in angles for v in (centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a))]


def tracks(count: int, *, score: bool = True) -> list[list[float]]:
    """Boxes with confidence and the number of a track, as `yolo track save_txt save_conf` writes them."""
    rng = np.random.default_rng(1)
    boxes = [[*rng.uniform(0.3, 0.7, 2), *rng.uniform(0.05, 0.3, 2)] for _ in range(count)]
    return [[*map(float, box), *([0.9 - 0.01 * i] if score else []), 1.0 + i % 2] for i, box in enumerate(boxes)]


def poses(count: int, points: int, columns: int) -> list[list[float]]:
    rng = np.random.default_rng(2)
    rows = []
    for _ in range(count):
        x, y = rng.uniform(0.4, 0.6, 2)
        marks = [[x + rng.uniform(-0.1, 0.1), y + rng.uniform(-0.1, 0.1), 2.0][:columns] for _ in range(points)]
        rows.append([float(v) for v in [x, y, 0.22, 0.22, *(v for mark in marks for v in mark)]])
    return rows


def rim(angle: float) -> list[float]:
    """Half a ring or more: there on the outside, back on the inside."""
    turns = [(0.2, a) for a in np.linspace(0, angle, 25)] + [(0.15, a) for a in np.linspace(angle, 0, 25)]
    return [float(v) for radius, a in turns for v in (0.5 + radius * math.cos(a), 0.5 + radius * math.sin(a))]


def stray(count: int, points: int) -> list[list[float]]:
    """Poses of a box whose keypoints may lie beside it."""
    rng = np.random.default_rng(4)
    boxes = [[*rng.uniform(0.4, 0.6, 2), *rng.uniform(0.1, 0.3, 2)] for _ in range(count)]
    return [[float(v) for v in (*b, *rng.uniform(0.3, 0.7, 2 * points))] for b in boxes]


def with_classes(count: int, classes: int, *, whole: bool) -> list[list[float]]:
    """Boxes with the probabilities of all classes (``whole``), or with a score of each class by itself."""
    rng = np.random.default_rng(5)
    scores = np.zeros((count, classes)) if whole else rng.uniform(0, 0.01, (count, classes)).round(4)
    scores[np.arange(count), rng.integers(classes, size=count)] = 1 if whole else 0.9
    boxes = [[*rng.uniform(0.3, 0.7, 2), *rng.uniform(0.05, 0.3, 2)] for _ in range(count)]
    return [[float(v) for v in (*box, *row)] for box, row in zip(boxes, scores, strict=True)]


def round_box(x: float, width: float) -> list[float]:
    """A box and 40 landmarks that follow its rim, each near to the one before."""
    return [x, 0.5, width, 0.2, *outline(40, (x, 0.5), width / 2)]


# Oriented boxes: 9 columns, in Ultralytics' and Roboflow's OBB exports.
OBB = [0.5, 0.3, 0.7, 0.4, 0.6, 0.6, 0.4, 0.5]
READ = {
    "a box": [[list(BOX)]],
    "polygons of different numbers of points": [[outline(n)] for n in (5, 8, 13)],
    "polygons of one number of points": [[outline(12, (0.2 + 0.1 * i, 0.6))] for i in range(6)],
    "polygons in the middle of the image, where the first two points may be a box too": [
        [outline(n, (0.5, 0.5), 0.1)] for n in (6, 8, 8, 10, 11, 20)
    ],
    "hand-drawn quadrangles": [[[0.2, 0.2, 0.4, 0.22, 0.41, 0.5, 0.19, 0.45]]],
    "oriented boxes": [[OBB], [[v + 0.05 for v in OBB]]],
    "oriented boxes in the middle": [[[0.45, 0.45, 0.55, 0.45, 0.55, 0.55, 0.45, 0.55]]] * 5,
    "a triangle": [[[0.25, 0.5, 0.5, 0.25, 0.75, 0.75]]],
    "boxes and polygons in one file": [[list(BOX), outline(9)], [list(BOX)]],
    "a polygon that ends a little outside": [[outline(9, (0.99, 0.5))]],
    # Ultralytics and JSON2YOLO join the parts of a COCO polygon by lines there and back.
    "a polygon of two parts, joined": [[[*outline(12, (0.15, 0.2), 0.05), *outline(12, (0.8, 0.7), 0.05)]]],
    "a rim": [[rim(0.8 * math.pi)], [rim(1.3 * math.pi)]],
    "a closed polygon, its first point again": [[[*outline(9), *outline(9)[:2]]]],
    "a rectangle of five points": [[[0.1, 0.2, 0.3, 0.2, 0.3, 0.4, 0.1, 0.4, 0.1, 0.2]]],
    "a polygon with points twice": [[[0.2, 0.2, 0.2, 0.2, 0.4, 0.2, 0.4, 0.5, 0.4, 0.5, 0.2, 0.5]]],
    "a polygon that ends at the foot of the image": [[[0.3, 0.8, 0.4, 0.7, 0.5, 0.8, 0.5, 0.9, 0.45, 0.95, 0.35, 1.0]]],
    "a dented polygon": [[[0.1, 0.1, 0.5, 0.1, 0.5, 0.5, 0.35, 0.2, 0.1, 0.5]]],
}


@pytest.mark.parametrize("files", READ.values(), ids=READ)
def test_what_can_be_meant_in_one_way_is_read(files: list[list[list[float]]]) -> None:
    for rows, found in zip(files, boxes_of_rows(files), strict=True):
        for row, corners in zip(rows, found, strict=True):
            if len(row) == 4:
                assert corners == CORNERS
            else:
                assert corners == (min(row[::2]), min(row[1::2]), max(row[::2]), max(row[1::2]))


REFUSED = {
    "confidence and track": [tracks(16)],
    "confidence and track, a file each": [[row] for row in tracks(16)],
    "one box with confidence and track": [tracks(1)],
    "a box with confidence and a track of 5": [[[*BOX, 0.9, 5.0]]],
    "track before confidence": [[[*BOX, 1.0, 0.9]]],
    "boxes with two scores": [[[*BOX, 0.8, 0.7]] for _ in range(4)],
    "a box with a track": [tracks(3, score=False)],
    "poses of 17 keypoints": [poses(4, 17, 3)],
    "poses of 2 keypoints": [poses(4, 2, 2)],
    "poses of 2 keypoints, one row": [poses(1, 2, 2)],
    "poses of 4 keypoints": [[row] for row in poses(5, 4, 2)],
    "poses of 2 keypoints with visibility": [poses(3, 2, 3)],
    "poses of 1 keypoint": [poses(2, 1, 2)],
    "a bow tie": [[[0.1, 0.1, 0.5, 0.5, 0.5, 0.1, 0.1, 0.5]]],
    "boxes in pixels of the image": [[[320.0, 240.0, 50.0, 40.0, 350.0, 260.0]]],
    "seven numbers": [[[*BOX, 0.1, 0.2, 0.3]]],
    "three numbers": [[[0.5, 0.5, 0.2]]],
    "nothing": [[[]]],
    "masks with confidence and track 1": [[[*outline(20, (0.5, 0.5), r), 0.9, 1.0]] for r in (0.05, 0.15, 0.2)],
    "masks with a confidence": [[[*outline(20), 0.9]]],
    "an oriented box with a confidence": [[[*OBB, 0.9]]],
    "an oriented box with confidence and track": [[[*OBB, 0.9, 4.0]]],
    "a row of a MOT challenge": [[[1.0, 100.0, 120.0, 40.0, 50.0, 0.9, -1.0, -1.0, -1.0]]],
    "track in front, corners and centre": [[[0.0, 0.649, 0.322, 0.659, 0.355, 0.654, 0.339]]],
    "a box with the probabilities of four classes": [[[*BOX, 0.7, 0.1, 0.15, 0.05]]],
    "a box with an angle": [[[*BOX, 0.3]]],
    "a box twice": [[tracks(1)[0][:4] * 2]],
    "a face without landmarks": [[[*BOX, *[-1.0] * 10]]],
    "a box, a percentage and a track": [[[*BOX, 87.0, 3.0]]],
    "boxes with the probabilities of 80 classes": [[row] for row in with_classes(20, 80, whole=True)],
    "one box with the probabilities of 80 classes": [with_classes(1, 80, whole=True)],
    "a box with the scores of 4 classes, a quadrangle too": [[[0.4, 0.6, 0.1, 0.3, 0.003, 0.008, 0.9, 0.001]]],
    "boxes with the scores of 40 classes": [[row] for row in with_classes(20, 40, whole=False)],
    "boxes with the scores of 80 classes": [[row] for row in with_classes(20, 80, whole=False)],
    "a box near 0, 0 with the scores of 80 classes": [
        [[0.05, 0.05, 0.04, 0.04, *with_classes(1, 80, whole=False)[0][4:]]]
    ],
    "boxes with 40 landmarks": [[round_box(0.3 + 0.02 * i, 0.2)] for i in range(20)],
    "one box with 40 landmarks": [[round_box(0.6, 0.2)]],
    "poses whose keypoints leave their boxes": [poses(8, 4, 2)[:5] + stray(5, 4)],
}


@pytest.mark.parametrize("files", REFUSED.values(), ids=REFUSED)
def test_what_can_be_meant_in_two_ways_is_refused(files: list[list[list[float]]]) -> None:
    for found in boxes_of_rows(files):
        assert all(isinstance(reason, str) and ("column" in reason) for reason in found)


def test_a_file_of_tracks_among_polygons_is_refused_whole() -> None:
    polygons = [[outline(n)] for n in range(4, 24)]
    found = boxes_of_rows([*polygons, tracks(16)])
    assert all(not isinstance(row, str) for rows in found[:-1] for row in rows)
    assert all(isinstance(row, str) for row in found[-1])


@pytest.mark.parametrize(("points", "columns"), [(17, 3), (2, 2), (1, 2), (1, 3)])
def test_a_pose_by_kpt_shape_has_the_box_of_its_first_columns(points: int, columns: int) -> None:
    rows = [*poses(3, points, columns), list(BOX)]
    found = boxes_of_rows([rows], points * columns)[0]
    for row, corners in zip(rows, found, strict=True):
        assert corners == (row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2)
    assert isinstance(boxes_of_rows([[outline(40)]], points * columns)[0][0], str)


def _export(folder: Path, rows: list[list[float]], more: str = "") -> Path:
    draw(folder / "train/images/a.png")
    (folder / "train/labels").mkdir()
    text = "".join("0 " + " ".join(f"{v:g}" for v in row) + "\n" for row in rows)
    (folder / "train/labels/a.txt").write_text(text)
    (folder / "data.yaml").write_text(f"train: train/images\nnames: [glioma]\n{more}")
    return folder


def test_refused_rows_stop_conversion_and_name_line_and_remedy(tmp_path: Path) -> None:
    folder = _export(tmp_path / "in", [list(BOX), *tracks(2)])
    faults = Faults(folder)
    assert read(folder, faults).samples[0].boxes_xyxy.tolist() == [[24, 12, 40, 36]]
    assert [(p.code, p.line) for p in faults.errors] == [("yolo_columns", 2), ("yolo_columns", 3)]
    assert "keep the first five columns" in faults.errors[0].detail
    with pytest.raises(DataError, match=r"a\.txt:2: .*columns"):
        convert(folder, tmp_path / "out", "coco")


def test_kpt_shape_of_data_yaml(tmp_path: Path) -> None:
    faults = Faults(tmp_path / "in")
    (sample,) = read(_export(tmp_path / "in", [[*BOX, *(0.5, 0.5) * 3]], "kpt_shape: [3, 2]\n"), faults).samples
    assert not faults.problems and sample.boxes_xyxy.tolist() == [[24, 12, 40, 36]]
    for number, wrong in enumerate(("17", "[17]", "[0, 3]", "[2, 4]", "[a, b]", "[1e99, 2]")):
        with pytest.raises(DataError, match="kpt_shape"):
            read(_export(tmp_path / f"wrong{number}", [], f"kpt_shape: {wrong}\n"), Faults(tmp_path))
