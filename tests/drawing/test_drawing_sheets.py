"""Contact sheets and the data figure: boxes are where they should be, in their class's colour, whatever the shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.drawing.palette import CLASS_COLORS, OTHER_COLORS, UNKNOWN_COLOR, color_of, text_color_on
from detectclf.drawing.sheets import (
    GAP,
    Row,
    Tile,
    contact_sheet,
    row_sheet,
    sample_tiles,
    side_by_side,
    spread,
    tile_of,
)
from detectclf.drawing.stats import stats_figure
from detectclf.types import CANONICAL_CLASSES, Dataset, Sample, empty_boxes


def tile(height: int = 64, width: int = 64, label: str | None = "glioma", box=(16, 16, 32, 40)) -> Tile:
    boxes = empty_boxes() if box is None else np.array([box], dtype=np.float32)
    names = () if box is None else (label or "glioma",)
    return Tile(np.full((height, width), 90, dtype=np.uint8), boxes, names, label, "train/slice.jpg")


def where(picture: Image.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The extent of ``color`` in the picture."""
    mask = (np.asarray(picture) == color).all(axis=2)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def only_tile(one: Tile, side: int = 128) -> Image.Image:
    """The tile's own square on a sheet of one, without caption and legend."""
    sheet = contact_sheet([one], CANONICAL_CLASSES, columns=1, tile_size=side)
    top = round(2.2 * max(11, side // 18))
    return sheet.crop((GAP, top, GAP + side, top + side))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (64, 64, (32, 32, 64, 80)),  # twice as large
        (32, 64, (32, 64, 64, 112)),  # wide: in the middle of the square, 32 pixels lower
        (64, 32, (64, 32, 96, 80)),  # high: 32 pixels further right
        (256, 256, (8, 8, 16, 20)),  # larger than its tile
    ],
)
def test_a_box_is_drawn_round_its_place(height: int, width: int, expected: tuple[int, ...]) -> None:
    found = where(only_tile(tile(height, width)), CLASS_COLORS["glioma"])
    # the line lies outside the box, 2 pixels wide
    np.testing.assert_allclose(found, np.add(expected, (-2, -2, 2, 2)), atol=1)


def test_the_inside_of_a_box_is_left_alone() -> None:
    picture = np.asarray(only_tile(tile()))
    assert (picture[36:76, 36:60] == 90).all()


@pytest.mark.parametrize("count", [0, 1, 5, 16])
def test_sheets_of_any_size(count: int) -> None:
    sheet = contact_sheet([tile(label=CANONICAL_CLASSES[i % 4]) for i in range(count)], CANONICAL_CLASSES)
    assert sheet.mode == "RGB" and sheet.width >= 240 and sheet.height >= 20
    colors = {tuple(c) for c in np.asarray(sheet).reshape(-1, 3).tolist()}
    assert {CLASS_COLORS[CANONICAL_CLASSES[i % 4]] for i in range(count)} <= colors


@pytest.mark.parametrize(
    "odd",
    [
        Tile(np.zeros((1, 1), np.uint8), empty_boxes(), (), None, ""),
        Tile(np.zeros((3, 400), np.uint8), empty_boxes(), (), "cyst", "x" * 500),
        tile(label=None, box=None),
        tile(box=(0, 0, 64, 64)),
        tile(box=(10, 10, 10, 10)),
        Tile(np.zeros((8, 8), np.uint8), empty_boxes(), (), "glioma", "line\nbreak \udcff"),
    ],
    ids=["one pixel", "flat, long caption", "no label", "box is the picture", "box without size", "name of bad bytes"],
)
def test_odd_tiles_are_drawn(odd: Tile) -> None:
    assert contact_sheet([odd], (*CANONICAL_CLASSES, "cyst")).width > 0


def test_rows_name_their_group_and_count_what_is_not_shown() -> None:
    rows = [Row("mirrored: train, valid", (tile(), tile()), alarm=True), Row("exact", tuple(tile() for _ in range(9)))]
    sheet = row_sheet(rows, CANONICAL_CLASSES, columns=4, tile_size=60, title="2 groups")
    assert sheet.width == 4 * (60 + GAP) + GAP
    without = row_sheet([Row("exact", rows[1].tiles[:4])], CANONICAL_CLASSES, columns=4, tile_size=60)
    assert sheet.height > without.height
    assert row_sheet([], CANONICAL_CLASSES).height > 0


def dataset(folder: Path, classes: tuple[str, ...] = CANONICAL_CLASSES, per_class: int = 3) -> Dataset:
    samples = []
    for name in classes:
        for i in range(per_class):
            path = folder / f"{name}{i}.png"
            Image.fromarray(np.full((60, 80), 50 + i, np.uint8)).save(path)
            healthy = name == "no_tumor"
            boxes = empty_boxes() if healthy else np.array([[10 + 8 * i, 10, 40 + 8 * i, 45]], dtype=np.float32)
            split = "train" if i else "valid"
            labels = () if healthy else (name,)
            samples.append(Sample(path, path.name, split, name, boxes, labels, True, 80, 60))
    return Dataset(tuple(samples), classes, "no_tumor" if "no_tumor" in classes else None)


def test_samples_are_spread_over_the_classes(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    chosen = spread(data, 6, seed=1)
    assert [s.label for s in chosen] == ["glioma", "glioma", "meningioma", "meningioma", "no_tumor", "pituitary"]
    assert chosen == spread(data, 6, seed=1)
    assert len(spread(data, 100)) == 12


def test_a_slice_whose_boxes_are_not_known_says_so() -> None:
    sample = Sample(Path("a.jpg"), "a.jpg", "train", "glioma")
    assert "unknown" in tile_of(sample, np.zeros((4, 4), np.uint8)).caption


@pytest.mark.parametrize(
    ("classes", "why"),
    [(CANONICAL_CLASSES, "the main set"), (("cyst",), "one class of its own"), ((), "no samples at all")],
)
def test_the_data_figure(tmp_path: Path, classes: tuple[str, ...], why: str) -> None:
    figure = stats_figure(dataset(tmp_path, classes))
    figure.savefig(tmp_path / "stats.png", dpi=50)
    with Image.open(tmp_path / "stats.png") as picture:
        assert picture.width > 300, why
    titles = {axes.get_title() for axes in _all_axes(figure)}
    boxed = [name for name in classes if name != "no_tumor"]
    assert {f"{name} (3 boxes)" for name in boxed} <= titles, why


def _all_axes(figure) -> list:
    return [axes for part in figure.subfigs for axes in part.axes]


def test_the_data_figure_counts_slices_without_label_or_known_boxes(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    unknown = Sample(tmp_path / "x.jpg", "x.jpg", "train", None)
    figure = stats_figure(Dataset((*data.samples, unknown), data.classes, data.negative))
    assert "1 slices whose boxes are not known" in figure.get_suptitle()
    counts = _all_axes(figure)[0]
    assert "(no label)" in [text.get_text() for text in counts.get_legend().get_texts()]
    assert sum(bar.get_width() for bar in counts.patches) == len(data.samples) + 1


def test_a_heatmap_is_high_where_the_boxes_are(tmp_path: Path) -> None:
    figure = stats_figure(dataset(tmp_path))
    glioma = next(axes for axes in _all_axes(figure) if axes.get_title().startswith("glioma"))
    heat = glioma.images[0].get_array()
    # boxes reach from x 10..56 of 80 and y 10..45 of 60; all three cover x 26..40
    assert heat[24, 20] == pytest.approx(100) and heat[24, 44] == 0 and heat[2, 20] == 0


def test_colours_are_one_per_class_and_distinct() -> None:
    assert set(CLASS_COLORS) == set(CANONICAL_CLASSES)
    assert len({*CLASS_COLORS.values(), *OTHER_COLORS}) == len(CLASS_COLORS) + len(OTHER_COLORS)
    own = ("abscess", "cyst", "glioma", "lymphoma")
    assert color_of("glioma", own) == CLASS_COLORS["glioma"], "canonical classes keep theirs in any set"
    assert [color_of(n, own) for n in ("abscess", "cyst", "lymphoma")] == list(OTHER_COLORS[:3])
    assert color_of(None, own) == color_of("never heard of", own) == UNKNOWN_COLOR
    many = [f"c{i}" for i in range(20)]
    assert {color_of(n, many) for n in many} == set(OTHER_COLORS), "a cycle, not an error"


def test_side_by_side_keeps_every_pixel() -> None:
    red, blue = Image.new("RGB", (4, 9), (255, 0, 0)), Image.new("RGB", (7, 5), (0, 0, 255))
    whole = side_by_side([red, blue])
    assert whole.size == (11, 9)
    assert whole.getpixel((3, 8)) == (255, 0, 0) and whole.getpixel((4, 0)) == (0, 0, 255)


@pytest.mark.parametrize(("ground", "ink"), [((255, 255, 0), (0, 0, 0)), ((0, 0, 90), (255, 255, 255))])
def test_text_is_legible_on_its_ground(ground: tuple[int, int, int], ink: tuple[int, int, int]) -> None:
    assert text_color_on(ground) == ink


@pytest.mark.shared
def test_real_slices_make_a_sheet(shared: Path) -> None:
    from detectclf.config import DataConfig
    from detectclf.datasets.dataset import open_dataset

    data = open_dataset(DataConfig(sources=(shared / "data" / "boxed",), limit=8))
    sheet = contact_sheet(sample_tiles(spread(data, 8)), data.classes)
    colors = {tuple(c) for c in np.asarray(sheet).reshape(-1, 3).tolist()}
    assert set(CLASS_COLORS.values()) <= colors
