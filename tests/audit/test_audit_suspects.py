"""The label doctor: what is suspect, why, and in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detectclf.audit.suspects import Opinion, find_suspects
from detectclf.types import Sample

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")


def sample(name: str, label: str, box: tuple[float, float, float, float] | None = None) -> Sample:
    boxes = np.array([box] if box else np.zeros((0, 4)), dtype=np.float32).reshape(-1, 4)
    return Sample(Path(name), name, "train", label, boxes, (label,) * len(boxes), boxed=True)


def opinion(label: str, p: float, box: tuple[float, float, float, float] | None = None, score: float = 0.9) -> Opinion:
    rest = {c: (1 - p) / 3 for c in CLASSES if c != label}
    return Opinion({label: p, **rest}, None if box is None else np.array(box, np.float32), score, unseen=True)


HERE, NEAR, FAR = (10, 10, 50, 50), (15, 12, 52, 50), (100, 100, 140, 140)


def test_the_surest_contradiction_comes_first() -> None:
    cases = [
        (sample("right", "glioma", HERE), opinion("glioma", 0.99, NEAR)),
        (sample("doubtful", "glioma", HERE), opinion("meningioma", 0.55, NEAR)),
        (sample("sure", "no_tumor"), opinion("pituitary", 0.99, HERE)),
        (sample("elsewhere", "glioma", HERE), opinion("glioma", 0.9, FAR)),
        (sample("faint elsewhere", "glioma", HERE), opinion("glioma", 0.9, FAR, score=0.2)),
        (sample("undecided", "glioma", HERE), opinion("glioma", 0.4, NEAR)),
    ]
    found = find_suspects([s for s, _ in cases], [o for _, o in cases], "no_tumor")
    assert [(cases[f.index][0].name, f.kind) for f in found] == [
        ("sure", "class"),
        ("doubtful", "class"),
        ("elsewhere", "box"),
    ]
    assert "looks like pituitary (0.990)" in found[0].detail
    record = found[0].to_record(*cases[2])
    assert record["file"] == "train/sure" and record["said"] == "pituitary" and record["unseen"] is True


def test_unknown_boxes_contradict_nothing() -> None:
    unboxed = Sample(Path("a"), "a", "train", "glioma", boxed=False)
    assert find_suspects([unboxed], [opinion("glioma", 0.9, FAR)], "no_tumor") == []
