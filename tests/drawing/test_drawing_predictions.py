"""Pictures of predictions: all that must be seen is there, nothing covers the slice, any size is legible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detectclf.drawing.palette import color_of
from detectclf.drawing.panel import BACKGROUND, FLAG_TEXTS, font, percent, shorten
from detectclf.drawing.predictions import draw_prediction, shown_boxes
from detectclf.errors import DataError
from detectclf.prediction import Origin, Prediction
from detectclf.types import Pixels, Sample

CLASSES = {"glioma": 0.7, "meningioma": 0.2, "no_tumor": 0.04, "pituitary": 0.06}


def prediction(pixels: Pixels, boxes: list[tuple[list[float], str, float]] | None = None) -> Prediction:
    height, width = pixels.shape
    boxes = boxes or []
    return Prediction(
        "slice.png",
        label="glioma",
        probabilities=CLASSES,
        boxes_xyxy=np.array([box for box, _, _ in boxes], np.float32).reshape(-1, 4),
        box_labels=tuple(name for _, name, _ in boxes),
        scores=np.array([score for _, _, score in boxes], np.float32),
        width=width,
        height=height,
        model="tiny 1",
        origin=Origin(pixels=pixels),
    )


def count(picture: Image.Image, color: tuple[int, int, int], region: tuple[int, int, int, int] | None = None) -> int:
    pixels = np.asarray(picture.crop(region) if region else picture)
    return int((pixels == np.array(color)).all(axis=-1).sum())


def origin(picture: Image.Image, side: int) -> tuple[int, int]:
    """Top left of the slice: half a unit from the left, four units down; the text is at least 14 pixels high."""
    unit = max(14, round(side / 38))
    return unit // 2, 4 * unit


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(
    ("height", "width", "side"),
    [
        (128, 128, 512),
        (256, 256, 512),
        (300, 200, 600),
        (640, 640, 640),
        (1500, 2000, 1024),
        (90, 1000, 1000),
        (1, 1, 512),
    ],
)
def test_any_size_and_brightness(height: int, width: int, side: int, level: int) -> None:
    pixels = np.full((height, width), level, np.uint8)
    box = [0.25 * width, 0.5 * height, 0.75 * width, 0.75 * height]
    picture = prediction(pixels, [(box, "glioma", 0.9)]).draw()
    assert picture.mode == "RGB"
    left, top = origin(picture, side)
    scale = side / max(height, width)
    tile = (left, top, left + round(width * scale), top + round(height * scale))
    # The box is where it belongs: its left line is in the class's colour, with a dark rim.
    x, y = left + round(box[0] * scale), top + round(0.5 * (box[1] + box[3]) * scale)
    if min(height, width) > 1:
        assert count(picture, color_of("glioma", tuple(CLASSES)), (x - 3, y - 2, x + 4, y + 3)) >= 5
        # Away from box and label the slice is untouched: the panel covers no anatomy.
        assert count(picture, (level,) * 3, tile) > 0.5 * (tile[2] - tile[0]) * (tile[3] - tile[1]) * 0.5
    assert picture.width > tile[2] and picture.height >= tile[3]


@pytest.mark.parametrize(
    "box",
    [[0, 0, 20, 20], [108, 0, 128, 20], [0, 108, 20, 128], [108, 108, 128, 128], [0, 0, 128, 128], [60, 0, 61, 1]],
)
def test_boxes_and_labels_stay_inside(box: list[float]) -> None:
    """A box at the edge is drawn inside the slice, and its label is complete."""
    pixels = np.full((128, 128), 60, np.uint8)
    plain, boxed = (prediction(pixels, boxes).draw() for boxes in ([], [(box, "pituitary", 0.9)]))
    left, top = origin(boxed, 512)
    changed = np.abs(np.asarray(plain, int) - np.asarray(boxed, int)).any(axis=-1)
    changed[:, left + 512 + 7 :] = False  # the panel
    inside = changed[top : top + 512, left : left + 512]
    assert inside.sum() == changed.sum() > 0
    color = color_of("pituitary", tuple(CLASSES))
    rows, columns = np.nonzero((np.asarray(boxed)[:, : left + 512] == color).all(axis=-1))
    assert font(14).getlength("pituitary 0.90") <= np.ptp(columns) + 1
    assert rows.min() >= top and columns.max() < left + 512


def test_only_sure_boxes_are_drawn_best_twelve_first() -> None:
    pixels = np.zeros((600, 600), np.uint8)
    many = [([i * 10, 10, i * 10 + 50, 60], "glioma", 0.99 - 0.03 * i) for i in range(25)]
    assert shown_boxes(prediction(pixels, many)) == list(range(12))
    assert shown_boxes(prediction(pixels, [([0, 0, 9, 9], "glioma", 0.49)])) == []
    assert prediction(pixels, many).draw().width > 600


@pytest.mark.parametrize("flag", ["tumor_without_box", "class_box_conflict"])
def test_an_unsure_box_is_drawn_where_a_flag_is_about_it(flag: str) -> None:
    weak = prediction(np.zeros((600, 600), np.uint8), [([100, 100, 300, 300], "meningioma", 0.3)])
    assert shown_boxes(replace(weak, flags=(flag,))) == [0]
    blue = color_of("meningioma", tuple(CLASSES))
    tile = (0, 64, 607, 660)
    assert count(weak.draw(), blue, tile) == 0
    thin = count(replace(weak, flags=(flag,)).draw(), blue, tile)
    sure = count(replace(weak, scores=np.array([0.8], np.float32)).draw(), blue, tile)
    assert 500 < thin < sure


def test_of_what_is_refused_no_class_no_bars_and_no_boxes_are_drawn() -> None:
    """A tag that says no tumour would be read as a finding."""
    weak = prediction(np.full((600, 600), 90, np.uint8), [([100, 100, 300, 300], "meningioma", 0.3)])
    judged = replace(weak, label="no_tumor", flags=("low_confidence",)).draw()
    picture = Prediction(weak.image, width=600, height=600, origin=weak.origin, flags=("not_a_brain_mri",)).draw()
    colors = [color_of(name, tuple(CLASSES)) for name in CLASSES]
    assert all(count(judged, color) for color in colors)
    assert not any(count(picture, color) for color in colors)


@pytest.mark.parametrize("flag", FLAG_TEXTS)
def test_advice_on_a_slice_is_drawn_in_full(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    write = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, xy: tuple[float, float], words: str, **more: Any) -> None:
        drawn.append(words)
        write(self, xy, words, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    replace(prediction(np.zeros((600, 600), np.uint8)), flags=(flag,)).draw()
    assert FLAG_TEXTS[flag] in " ".join(drawn)


def test_a_class_that_is_not_the_likeliest_says_so() -> None:
    """The operating point can choose another class."""
    likeliest = prediction(np.zeros((600, 600), np.uint8))
    amber = (255, 196, 61)
    assert count(likeliest.draw(), amber) == 0
    assert count(replace(likeliest, label="no_tumor").draw(), amber) > 20


def test_truth_is_dashed() -> None:
    pixels = np.zeros((600, 600), np.uint8)
    truth = Sample(
        Path("x"), "x", "test", "glioma", np.array([[100, 100, 500, 500]], np.float32), ("glioma",), boxed=True
    )
    picture = np.asarray(prediction(pixels).draw(truth=truth))
    left, top = origin(Image.fromarray(picture), 600)
    line = (
        (picture[top + 300, left : left + 600] == 255).all(axis=-1),
        (picture[top + 100, left + 100 : left + 500] == 255),
    )
    share = line[1].all(axis=-1).mean()
    assert 0.3 < share < 0.7, "dashes and gaps"


def test_a_heat_map_gets_its_own_tile() -> None:
    pixels = np.full((600, 500), 100, np.uint8)
    heat = np.zeros((600, 500), np.float32)
    heat[300:, 250:] = 1
    plain = prediction(pixels).draw()
    warm = replace(prediction(pixels), heatmap=heat).draw()
    left, top = origin(plain, 600)
    assert warm.width == plain.width + 500 + left
    array = np.asarray(warm)
    assert (array[top + 50, left + 50] == 100).all(), "the slice itself stays as it is"
    second = 2 * left + 500
    assert (array[top + 50, second + 50] == 100).all(), "no evidence here"
    red, _, blue = array[top + 450, second + 400].astype(int)
    assert red > 180 and red > blue + 20, "and here it does"


def test_the_slice_is_read_from_its_file(tmp_path: Path) -> None:
    pixels = np.full((40, 60), 77, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    from_file = replace(prediction(pixels), origin=Origin(tmp_path / "a.png"))
    from_nowhere = replace(from_file, origin=Origin())
    expected = prediction(pixels).draw().tobytes()
    assert from_file.draw().tobytes() == expected
    assert draw_prediction(pixels, from_nowhere, title="slice.png", model="tiny 1").tobytes() == expected
    (tmp_path / "a.png").unlink()
    for broken in (from_file, from_nowhere, Prediction("a.png", error="truncated")):
        with pytest.raises(DataError):
            broken.draw()


def test_other_data_sets_and_odd_names_are_drawn() -> None:
    pixels = np.zeros((64, 64), np.uint8)
    names = [f"a class with a very long name number {i}" for i in range(20)]
    other = replace(
        prediction(pixels, [([1, 1, 30, 30], names[3], 0.9)]),
        image="a\nname " * 80,
        label=names[3],
        probabilities=dict.fromkeys(names, 0.05),
        flags=("class_box_conflict", "low_confidence", "a_flag_of_tomorrow"),
    )
    assert other.draw().height > 500


def test_the_same_prediction_gives_the_same_picture() -> None:
    one = prediction(np.zeros((64, 64), np.uint8), [([1, 1, 30, 30], "glioma", 0.9)])
    assert one.draw().tobytes() == one.draw().tobytes()


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0 %"), (0.0004, "< 0.1 %"), (0.5, "50.0 %"), (0.9989, "99.9 %"), (0.99951, "> 99.9 %"), (1.0, "100 %")],
)
def test_percent_never_rounds_to_certainty(share: float, text: str) -> None:
    assert percent(share) == text


def test_text_is_cut_in_its_middle() -> None:
    face = font(14)
    short = shorten("0123456789" * 10, face, 100)
    assert face.getlength(short) <= 100 and short.startswith("012") and short.endswith("789") and "…" in short
    assert shorten("a", face, 100) == "a" and shorten("abc", face, 0) == "…"
    assert BACKGROUND != (0, 0, 0), "a black slice can be told from the sheet"
