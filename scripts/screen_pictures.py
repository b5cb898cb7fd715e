"""Makes pictures of screens and pages that show a slice: captions, toolbars, rulers, bezels, paper, light and shadow.

    python scripts/screen_pictures.py DATA OUT [--slices 6]

DATA is an export with boxes, OUT gets PNG files named after what they show. ``bench_robustness.py --screens`` judges a
model on such pictures. Everything is drawn, from a fixed seed; no picture of a real screen is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import typer
from PIL import Image

from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.imaging.images import read_pixels
from detectclf.types import FloatArray, Pixels, Sample

WIDTH, HEIGHT = 1280, 800
"""Pixels of a made screen."""
_WORDS = ("Series", "4", "T1", "axial", "TR", "450", "512 x 512", "5.0 mm", "WL 300", "Figure", "2.", "oedema", "mass")


class Screen(NamedTuple):
    """A made picture ``(H, W)``, what it shows, and the 2 x 3 or 3 x 3 matrix from slice pixels to its pixels."""

    kind: str
    pixels: Pixels
    matrix: FloatArray


def screens(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> list[Screen]:
    """One picture of each kind.

    Args:
        pixels: the slice.
        others: slices that are shown beside it, where several are.
        rng: of places, sizes and light.
    """
    made = []
    for kind, draw in _KINDS.items():
        canvas, matrix = draw(pixels, others, rng)
        made.append(Screen(kind, np.clip(canvas, 0, 255).astype(np.uint8), matrix))
    return made


def boxes_on(matrix: FloatArray, boxes: FloatArray) -> FloatArray:
    """``(N, 4)`` boxes of the slice, on the made picture: the upright boxes round their moved corners."""
    if not len(boxes):
        return boxes
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 1, 2).astype(np.float64)
    moved = cv2.perspectiveTransform(corners, _square(matrix)).reshape(-1, 4, 2)
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)


def _square(matrix: FloatArray) -> FloatArray:
    return np.vstack([matrix, [0, 0, 1]])[:3].astype(np.float64)


Drawn = tuple[np.ndarray, FloatArray]


def _blank(level: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.full((height, width), level, dtype=np.float32)


def _paste(canvas: np.ndarray, pixels: Pixels, left: int, top: int, side: int) -> FloatArray:
    """Puts the slice on the canvas, its longer side as long as ``side``."""
    scale = side / max(pixels.shape)
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.array([[scale, 0, left], [0, scale, top]], dtype=np.float64)


def _text(canvas: np.ndarray, rng: np.random.Generator, left: int, top: int, lines: int, ink: int, size: float) -> None:
    for line in range(lines):
        words = " ".join(rng.choice(_WORDS, size=int(rng.integers(3, 7))))
        place = (left, top + round(line * 38 * size) + 20)
        cv2.putText(canvas, words, place, cv2.FONT_HERSHEY_SIMPLEX, size, ink, max(1, round(2 * size)), cv2.LINE_AA)


def _page(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A page of a paper: white, a figure with caption, text above and below."""
    canvas = _blank(255, 900, 1200)
    side = int(rng.integers(380, 520))
    left, top = int(rng.integers(60, 820 - side)), int(rng.integers(300, 420))
    _text(canvas, rng, 60, 60, 6, 20, 0.7)
    matrix = _paste(canvas, pixels, left, top, side)
    _text(canvas, rng, 60, top + side + 20, 8, 20, 0.6)
    return canvas, matrix


def _slide(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A slide of a talk: title, points, the slice at one side."""
    level = int(rng.choice([255, 235, 40]))
    canvas, ink = _blank(level), 255 if level < 128 else 10
    _text(canvas, rng, 60, 50, 1, ink, 1.6)
    _text(canvas, rng, 60, 220, 6, ink, 0.8)
    return canvas, _paste(canvas, pixels, int(rng.integers(680, 760)), 180, int(rng.integers(400, 500)))


def _viewer(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A viewer of slices: black, words in the corners, thumbnails at the left, a bar of grey levels, a ruler."""
    canvas = _blank(0)
    canvas[:48] = 58
    canvas[:, :120] = 44
    for row, other in enumerate(others[:4]):
        _paste(canvas, other, 15, 70 + row * 110, 90)
    side = int(rng.integers(480, 640))
    matrix = _paste(canvas, pixels, 160 + int(rng.integers(0, 300)), 90, side)
    _text(canvas, rng, 140, 60, 4, 200, 0.5)
    _text(canvas, rng, 900, 640, 5, 200, 0.5)
    canvas[120:620, 1220:1244] = np.linspace(255, 0, 500)[:, None]
    for tick in range(11):
        canvas[200 + tick * 40 : 202 + tick * 40, 1190 : 1190 + (20 if tick % 5 == 0 else 10)] = 255
    return canvas, matrix


def _web(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A web page in a browser, with a column of text beside the slice."""
    canvas = _blank(246)
    canvas[:70] = 222
    cv2.rectangle(canvas, (160, 18), (1100, 52), 255, -1)
    _text(canvas, rng, 180, 22, 1, 90, 0.5)
    _text(canvas, rng, 640, 130, 14, 40, 0.6)
    matrix = _paste(canvas, pixels, 60, 140, int(rng.integers(360, 520)))
    canvas[:, -16:] = 205
    return canvas, matrix


def _phone(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A screenshot of a phone: tall, bars at both ends, words of a chat."""
    level = int(rng.choice([0, 18, 250]))
    canvas, ink = _blank(level, 720, 1560), 235 if level < 128 else 20
    canvas[:90] = abs(level - 30)
    _text(canvas, rng, 40, 30, 1, ink, 0.8)
    _text(canvas, rng, 60, 160, 4, ink, 0.8)
    matrix = _paste(canvas, pixels, 40, 440, 640)
    _text(canvas, rng, 60, 1160, 6, ink, 0.8)
    canvas[-110:] = abs(level - 30)
    return canvas, matrix


def _plot(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A plot with axes, ticks and a colour bar, as plotting libraries draw it."""
    canvas, side = _blank(255, 800, 600), 420
    matrix = _paste(canvas, pixels, 110, 80, side)
    cv2.rectangle(canvas, (110, 80), (110 + side, 80 + side), 0, 2)
    for tick in range(0, side + 1, 70):
        cv2.putText(canvas, str(tick), (105 + tick, 530), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0, 1, cv2.LINE_AA)
        cv2.putText(canvas, str(tick), (65, 85 + tick), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0, 1, cv2.LINE_AA)
    canvas[80 : 80 + side, 580:605] = np.linspace(255, 0, side)[:, None]
    _text(canvas, rng, 180, 30, 1, 0, 0.7)
    return canvas, matrix


def _grid(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A sheet of film or a contact sheet: several slices side by side; the slice is the first."""
    level, side = int(rng.choice([0, 0, 230])), 390
    canvas, matrix = _blank(level, 1200, 800), None
    for i, each in enumerate([pixels, *others][:6]):
        placed = _paste(canvas, each, 5 + (i % 3) * 400, 5 + (i // 3) * 400, side)
        matrix = placed if matrix is None else matrix
    assert matrix is not None
    return canvas, matrix


def _marked(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """The slice itself with a white border, letters of orientation, an arrow and a ruler on it."""
    side = 640
    canvas = _blank(0, side + 120, side + 120)
    canvas[:12] = canvas[-12:] = 255
    canvas[:, :12] = canvas[:, -12:] = 255
    matrix = _paste(canvas, pixels, 60, 60, side)
    for word, place in (("R", (22, 390)), ("L", (718, 390)), ("A", (370, 50)), ("P", (370, 740))):
        cv2.putText(canvas, word, place, cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2, cv2.LINE_AA)
    cv2.line(canvas, (735, 200), (735, 600), 255, 2)
    return canvas, matrix


def _photographed(canvas: np.ndarray, matrix: FloatArray, rng: np.random.Generator, *, screen: bool) -> Drawn:
    """``canvas`` as a camera sees it: askew, with light that falls off, noise, and a screen's grid and glare."""
    height, width = canvas.shape
    if screen:
        rows, columns = np.mgrid[:height, :width]
        canvas = canvas * (0.94 + 0.06 * np.sin(columns * 1.9) * np.sin(rows * 1.9)) + 6
        canvas = cv2.copyMakeBorder(canvas, 30, 30, 30, 30, cv2.BORDER_CONSTANT, value=12)
        matrix = np.array([[1, 0, 30], [0, 1, 30], [0, 0, 1]]) @ _square(matrix)
        height, width = canvas.shape
    out_width, out_height = 1280, 960
    scale = 0.82 * min(out_width / width, out_height / height)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    middle = np.array([out_width / 2, out_height / 2])
    turn = np.deg2rad(rng.uniform(-5, 5))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    target = (corners - [width / 2, height / 2]) * scale @ rotation.T + middle + rng.uniform(-30, 30, (4, 2))
    warp = cv2.getPerspectiveTransform(corners, target.astype(np.float32))
    desk = 90 + 25 * cv2.GaussianBlur(rng.normal(0, 6, (out_height, out_width)).astype(np.float32), (0, 0), 9)
    seen = cv2.warpPerspective(canvas.astype(np.float32), warp, (out_width, out_height), flags=cv2.INTER_AREA)
    cover = cv2.warpPerspective(np.ones_like(canvas, np.float32), warp, (out_width, out_height))
    seen = seen * cover + desk * (1 - cover)
    y, x = np.mgrid[:out_height, :out_width] / np.array([out_height, out_width])[:, None, None]
    light = 1.0 - rng.uniform(0.1, 0.4) * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1) + 0.5)
    glare = (
        40 * np.exp(-(((x - rng.uniform(0, 1)) / 0.15) ** 2 + ((y - rng.uniform(0, 1)) / 0.25) ** 2)) if screen else 0
    )
    seen = cv2.GaussianBlur(seen * light + glare, (0, 0), 0.9) + rng.normal(0, 3, seen.shape)
    return seen, warp @ _square(matrix)


def _screen_photo(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A photograph of a viewer on a screen."""
    return _photographed(*_viewer(pixels, others, rng), rng, screen=True)


def _page_photo(pixels: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> Drawn:
    """A photograph of a printed page on a desk."""
    return _photographed(*_page(pixels, others, rng), rng, screen=False)


_KINDS: dict[str, Callable[[Pixels, Sequence[Pixels], np.random.Generator], Drawn]] = {
    "page": _page,
    "slide": _slide,
    "viewer": _viewer,
    "web": _web,
    "phone": _phone,
    "plot": _plot,
    "grid": _grid,
    "marked": _marked,
    "screen-photo": _screen_photo,
    "page-photo": _page_photo,
}


def chosen(samples: Sequence[Sample], count: int, seed: int = 0) -> list[Sample]:
    """``count`` of ``samples``, drawn with a fixed seed."""
    order = np.random.default_rng(seed).permutation(len(samples))[:count]
    return [samples[i] for i in order]


def main(
    data: Path,
    out: Path,
    slices: Annotated[int, typer.Option(help="Slices, each on one picture of every kind.")] = 6,
    split: Annotated[str, typer.Option(help="Split of the export.")] = "valid",
) -> None:
    """Writes the pictures."""
    rng = np.random.default_rng(0)
    found = open_dataset(DataConfig(sources=(data,))).split(split).samples
    pixels = [read_pixels(sample) for sample in chosen(found, slices + 5)]
    out.mkdir(parents=True, exist_ok=True)
    for i, each in enumerate(pixels[:slices]):
        for screen in screens(each, [p for p in pixels if p is not each][:5], rng):
            Image.fromarray(screen.pixels).save(out / f"{screen.kind}-{i}.png")


if __name__ == "__main__":
    typer.run(main)
