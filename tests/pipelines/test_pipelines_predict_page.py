"""The gallery of ``predict --visualize``: its order, and what is in it as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from detectclf.pipelines.predict_page import sections_of, write_gallery

PROBABILITIES = {"glioma": 0.7, "meningioma": 0.1, "no_tumor": 0.1, "pituitary": 0.1}


def record(image: str, label: str | None, confidence: float = 0.7, *flags: str, picture: str = "") -> dict[str, Any]:
    return {
        "image": image, "class": label, "confidence": confidence if label else None, "model": "tiny 1",
        "probabilities": PROBABILITIES if label else None, "boxes": [], "flags": list(flags), "error": None,
        "picture": picture or f"{image}.pred.png",
    }  # fmt: skip


RECORDS = [
    record("healthy", "no_tumor"),
    record("p", "pituitary"),
    record("noise", None, 0, "not_a_brain_mri"),
    record("unsure", "glioma", 0.5, "low_confidence"),
    record("less", "glioma", 0.6),
    record("sure", "glioma", 0.9),
    record("odd", "pituitary", 0.9, "unusual_input", "class_box_conflict"),
    record("new", "glioma", 0.9, "flag_of_tomorrow"),
]


def test_flags_come_first_then_classes_and_the_surest_first_in_each() -> None:
    found = [(each.title.partition(" (")[0], [entry.name for entry in each.entries]) for each in sections_of(RECORDS)]
    assert found == [
        ("Flagged: class box conflict", ["odd"]),
        ("Flagged: low confidence", ["unsure"]),
        ("Flagged: flag of tomorrow", ["new"]),
        ("Refused: no brain MRI; if it is a screen or a page, crop to the slice", ["noise"]),
        ("glioma", ["sure", "less"]),
        ("no tumor", ["healthy"]),
        ("pituitary", ["p"]),
    ]


def test_names_of_strangers_are_text_and_every_picture_is_found(tmp_path: Path) -> None:
    name, picture = "<script>\n\"'&\udcff.png", "a #1%20&.pred.png"
    study = {"study": "head", "slices": 5, "class": "glioma", "confidence": 0.8, "probabilities": PROBABILITIES}
    study |= {"flags": [], "error": None, "model": "tiny 1", "picture": "head.pred.png"}
    slices = [record(f"head{i}", "glioma") for i in range(5)]
    for each in slices:
        del each["picture"]
    broken = {"image": "b.png", "class": None, "flags": None, "error": "b.png: broken <b>", "model": None}
    page = write_gallery(tmp_path, [record(name, "glioma", picture=picture), *slices, broken], [study])
    assert page is not None
    text = page.read_text(encoding="utf-8")
    assert re.findall('<img src="([^"]*)"', text) == ["head.pred.png", "a%20%231%2520%26.pred.png"]
    assert "<script" not in text and "<b>" not in text and "b.png: broken &lt;b&gt;" in text
    assert "http" not in text and "glioma, 80.0 %; 5 slices" in text, "nothing from elsewhere"


def test_one_picture_needs_no_page(tmp_path: Path) -> None:
    assert write_gallery(tmp_path, RECORDS[:1], []) is None and not list(tmp_path.iterdir())
