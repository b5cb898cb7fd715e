"""Corruptions and made screens: pictures of the right size, boxes where the lesion went, the table's figures."""

from __future__ import annotations

import numpy as np
import pytest
from bench_robustness import _figures, _screen_table, _table, _turned_table
from corruptions import CORRUPTIONS, STRENGTHS, corrupted
from screen_pictures import boxes_on, screens

from detectclf.datasets.scanner_noise import KINDS, with_scanner_noise
from detectclf.imaging.framing import framed
from detectclf.sample_data.slices import sample_slice
from detectclf.types import FloatArray, Pixels


def marked() -> tuple[Pixels, FloatArray]:
    """A drawn slice with a white square, and its box."""
    pixels = sample_slice(3, "no_tumor", "axial").pixels.copy()
    pixels[100:124, 90:130] = 255
    return pixels, np.array([[90, 100, 130, 124]], dtype=np.float32)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_the_slice_and_keeps_its_box(name: str) -> None:
    pixels, boxes = marked()
    far = []
    for strength in range(len(STRENGTHS)):
        made = corrupted(name, strength, pixels, boxes, seed=1)
        assert made.pixels.shape == pixels.shape and made.pixels.dtype == np.uint8 and made.boxes.shape == (1, 4)
        x1, y1, x2, y2 = made.boxes[0].round().astype(int)
        middle = made.pixels[(3 * y1 + y2) // 4 : (y1 + 3 * y2) // 4 + 1, (3 * x1 + x2) // 4 : (x1 + 3 * x2) // 4 + 1]
        assert middle.mean() > 130, f"{name}, {STRENGTHS[strength]}: the square is there"
        far.append(float(np.abs(made.pixels.astype(int) - pixels).mean()))
        again = corrupted(name, strength, pixels, boxes, seed=1)
        np.testing.assert_array_equal(again.pixels, made.pixels)
    assert 0 < far[0] <= far[1] * 1.01 and far[1] <= far[2] * 1.01, f"{name}: stronger is further"


def test_screens_show_the_slice_where_they_say() -> None:
    pixels, boxes = marked()
    others = [sample_slice(seed, "no_tumor", "coronal").pixels for seed in range(5)]
    for screen in screens(pixels, others, np.random.default_rng(0)):
        box = boxes_on(screen.matrix, boxes)[0]
        x1, y1, x2, y2 = box.round().astype(int)
        quarter = ((x2 - x1) // 4, (y2 - y1) // 4)
        inside = screen.pixels[y1 + quarter[1] : y2 - quarter[1], x1 + quarter[0] : x2 - quarter[0]]
        assert inside.size and inside.mean() > 90, screen.kind
        part = framed(screen.pixels).part
        whole = part.width * part.height == screen.pixels.size
        assert whole == (screen.kind == "marked"), f"{screen.kind}: cropped, unless its head fills it"


def test_scanner_noise_is_of_every_kind_and_drawn() -> None:
    pixels, _ = marked()
    for kind in range(KINDS):
        one, two = (with_scanner_noise(pixels, kind, np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(one, two)
        changed = np.abs(one.astype(int) - pixels).mean()
        assert one.shape == pixels.shape and 0.3 < changed < 40, kind


def test_the_tables() -> None:
    def row(case: str, truth: str, label: str | None, *flags: str, boxed: bool = False) -> dict[str, object]:
        return {"case": case, "truth": truth, "label": label, "confidence": 0.9, "flags": list(flags), "boxed": boxed}

    rows = [
        row("as they are", "glioma", "glioma", boxed=True),
        row("as they are", "glioma", "no_tumor"),
        row("as they are", "no_tumor", None, "not_a_brain_mri"),
        row("turned by 90", "glioma", "no_tumor", "orientation"),
        row("page", "glioma", "no_tumor"),
        row("page", "glioma", None, "not_a_brain_mri"),
    ]
    assert _figures(rows[:3]) == ["33", "50", "50", "33"], "what is refused is neither right nor called"
    assert "| as they are |  | 33 | 50 | 50 | 33 |" in _table(rows)
    assert "| turned by 90 | 0 | 100 | 0 | 0 |" in _turned_table(rows)
    assert "| page | 2 | 0 | 0 | 1 | 1 |" in _screen_table(rows[4:])
