"""Boxes are joined into findings, and slices into the verdict on a volume, by the documented rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detectclf.inference.findings import SliceBox, joined
from detectclf.inference.sources import FileSlice
from detectclf.inference.studies import Study, summed_up
from detectclf.inference.study_picture import best_slices
from detectclf.inference.study_rule import slices_that_agree
from detectclf.inference.volumes import Volume
from detectclf.prediction import Prediction

HERE, NEAR, FAR = (10, 10, 30, 30), (14, 12, 34, 32), (60, 60, 80, 80)
Box = tuple[tuple[int, int, int, int], str, float]


def boxes_of(slices: list[list[Box]]) -> list[list[SliceBox]]:
    return [
        [SliceBox(number, np.array(xyxy, np.float32), label, score) for xyxy, label, score in boxes]
        for number, boxes in enumerate(slices)
    ]


def g(xyxy: tuple[int, int, int, int], score: float = 0.9, label: str = "glioma") -> Box:
    return xyxy, label, score


@pytest.mark.parametrize(
    ("slices", "expected", "reason"),
    [
        ([], [], "nothing"),
        ([[], [g(HERE)], []], [(1, 1, 1)], "one box"),
        ([[g(HERE)], [g(NEAR)], [g(HERE)]], [(0, 2, 3)], "boxes that overlap"),
        ([[g(HERE)], [], [g(NEAR)]], [(0, 2, 2)], "one slice is bridged"),
        ([[g(HERE)], [], [], [g(NEAR)]], [(0, 0, 1), (3, 3, 1)], "two are not"),
        ([[g(HERE)], [g(FAR)]], [(0, 0, 1), (1, 1, 1)], "elsewhere"),
        ([[g(HERE), g(FAR)], [g(FAR), g(HERE)]], [(0, 1, 2), (0, 1, 2)], "two tumours side by side"),
        ([[g(HERE)], [g(HERE), g(NEAR, 0.6)]], [(0, 1, 2), (1, 1, 1)], "one box of a slice; the best chooses first"),
        ([[g(HERE)], [g(HERE, label="pituitary")]], [(0, 1, 2)], "whatever the class"),
    ],
)
def test_joining(slices: list[list[Box]], expected: list[tuple[int, int, int]], reason: str) -> None:
    assert [(*each.slices, len(each.boxes)) for each in joined(boxes_of(slices))] == expected, reason


def test_a_finding_is_summed_up() -> None:
    slices = [[g(HERE, 0.6)], [g(NEAR, 0.9, "pituitary")], [g(HERE, 0.5)]]
    (finding,) = joined(boxes_of(slices))
    assert (finding.label, finding.best.number) == ("glioma", 1)
    assert finding.score(2) == pytest.approx(0.75) and finding.score(9) == pytest.approx(2.0 / 3)
    assert finding.union().tolist() == [10, 10, 34, 32]


@pytest.mark.parametrize(
    ("step", "slices", "expected"),
    [(5.0, 30, 2), (3.0, 50, 2), (2.0, 80, 3), (1.0, 150, 6), (0.5, 300, 6), (None, 30, 3), (5.0, 1, 1), (1.0, 4, 4)],
)
def test_how_many_slices_have_to_agree(step: float | None, slices: int, expected: int) -> None:
    assert slices_that_agree(step, slices) == expected


def predicted(tumor: float | str, boxes: tuple[Box, ...] = (), **changes: object) -> Prediction:
    """A slice with this tumour probability, four fifths glioma; ``bad`` cannot be read, ``none`` shows no brain."""
    if tumor == "bad":
        return Prediction("a", error="a: cut short", error_exit=2)
    if tumor == "none":
        return Prediction("a", flags=("not_a_brain_mri",))
    share = float(tumor)
    return Prediction(
        "a",
        label="glioma" if share >= 0.5 else "no_tumor",
        probabilities={"glioma": share * 0.8, "meningioma": share * 0.2, "no_tumor": 1 - share, "pituitary": 0.0},
        boxes_xyxy=np.array([box for box, _, _ in boxes], np.float32).reshape(-1, 4),
        box_labels=tuple(label for _, label, _ in boxes),
        scores=np.array([score for *_, score in boxes], np.float32),
    )


def study_of(slices: list[Prediction], negative: str | None = "no_tumor", **volume: object) -> Study:
    given = {
        "positions": tuple(5.0 * i for i in range(len(slices))),
        "spacing": (0.5, 2.0),
    } | volume
    return summed_up(
        Volume("v", tuple(FileSlice(Path("a")) for _ in slices), **given),  # type: ignore[arg-type]
        slices,
        negative,
        "tiny 1",
        0.6,
    )


@pytest.mark.parametrize(
    ("curve", "label", "tumor", "flags", "reason"),
    [
        ([0.1, 0.1, 0.1], "no_tumor", 0.1, [], "healthy"),
        ([0.1, 0.99, 0.1, 0.1], "no_tumor", 0.1, [], "one slice alone has no say"),
        ([0.1, 0.9, 0.8, 0.1], "glioma", 0.8, ["tumor_without_box"], "two neighbours, the lower of them counts"),
        ([0.9, 0.1, 0.9, 0.1, 0.9], "no_tumor", 0.1, [], "every other slice flickers"),
        ([0.9, "bad", 0.8], "glioma", 0.8, ["tumor_without_box", "unreadable_slices"], "a bad one is bridged"),
        ([0.9, "none", 0.8], "glioma", 0.8, ["tumor_without_box"], "so is one without brain"),
        ([0.9, "none", "none", 0.9, 0.2], "no_tumor", 0.2, [], "two of them are not"),
        ([0.45, 0.45, 0.1], "no_tumor", 0.45, ["low_confidence"], "not sure"),
        ([0.8], "glioma", 0.8, ["tumor_without_box", "few_slices"], "one slice"),
    ],
)
def test_verdict(curve: list[float | str], label: str, tumor: float, flags: list[str], reason: str) -> None:
    study = study_of([predicted(each) for each in curve])
    assert study.label == label, reason
    assert 1 - study.probabilities["no_tumor"] == pytest.approx(tumor), reason
    assert study.probabilities["glioma"] == pytest.approx(tumor * 0.8), reason
    assert sum(study.probabilities.values()) == pytest.approx(1)
    assert list(study.flags) == flags, reason
    expected = [None if isinstance(each, str) else pytest.approx(each) for each in curve]
    assert list(study.curve) == expected, reason


def test_a_volume_without_a_brain_is_refused() -> None:
    """ "No tumour" would read as healthy."""
    study = study_of([predicted("none") for _ in range(3)])
    record = study.to_record()
    assert (study.label, study.confidence, study.judged) == (None, None, False)
    assert (record["class"], record["confidence"], record["probabilities"]) == (None, None, None)
    assert (record["findings"], record["flags"], record["error"]) == ([], ["not_a_brain_mri"], None)
    assert record["curve"] == [None] * 3 and record["no_brain"] == [0, 1, 2]


def test_record_of_a_finding_and_a_flicker() -> None:
    slices = [
        predicted(0.1),
        *(predicted(0.9, (g(HERE, 0.8), g(FAR, 0.4))) for _ in range(3)),
        predicted(0.1, (g(FAR),)),
    ]
    record = study_of(slices).to_record("predictions.csv")
    assert list(record)[:9] == [
        "study", "slices", "class", "confidence", "probabilities", "findings", "flags", "records", "error"
    ]  # fmt: skip
    assert record["findings"] == [
        {
            "class": "glioma",
            "score": pytest.approx(0.8),
            "slices": [1, 3],
            "best_slice": 1,
            "xyxy": [10, 10, 30, 30],
            "position_mm": 5.0,
            "extent_mm": [10.0, 40.0, 15.0],  # 20 px of 0.5 mm, 20 px of 2 mm, 3 slices of 5 mm
        }
    ]
    assert [each["slices"] for each in record["flickers"]] == [[4, 4]]
    assert (record["study"], record["slices"], record["class"], record["flags"]) == ("v", 5, "glioma", [])
    assert (record["records"], record["agree"], record["no_brain"]) == ("predictions.csv", 2, [])


def test_without_spacing_there_are_no_millimetres() -> None:
    slices = [predicted(0.9, (g(HERE),)) for _ in range(3)]
    record = study_of(slices, positions=None, spacing=None, flags=("unknown_positions",)).to_record()
    assert (record["findings"][0]["extent_mm"], record["findings"][0]["position_mm"]) == (None, None)
    assert (record["spacing_mm"], record["step_mm"], record["agree"]) == (None, None, 3)
    assert record["flags"] == ["unknown_positions"]


def test_a_finding_of_a_volume_without_tumor_is_a_conflict() -> None:
    study = study_of([predicted(0.3, (g(HERE),)) for _ in range(4)])
    assert (study.label, study.flags) == ("no_tumor", ("class_box_conflict",))


def test_without_a_negative_class_the_best_class_that_neighbours_reach_wins() -> None:
    study = study_of([predicted(0.9), predicted(0.9), predicted(0.2)], negative=None)
    assert study.label == "glioma" and sum(study.probabilities.values()) == pytest.approx(1)


def test_nothing_readable() -> None:
    study = study_of([predicted("bad"), predicted("bad")])
    record = study.to_record()
    assert study.error_exit == 2 and "none of its 2 slices could be read" in record["error"]
    assert all(record[key] is None for key in ("class", "probabilities", "findings", "flags", "confidence"))


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([None, 0.1, 0.2], [1, 2]),
        ([None, None], [0, 1]),
        ([0.5] * 3 + [0.1] * 60, [0, 5, 10, 15, 20, 25, 30, 35]),
    ],
)
def test_slices_on_the_picture(curve: list[float | None], expected: list[int]) -> None:
    chosen = best_slices([True] * len(curve), [], curve)
    assert len(chosen) <= 8 and (len(curve) > 8 or chosen == expected)
    assert chosen == sorted(set(chosen))


def test_the_picture_of_a_refused_volume_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "? 0.00" would read as a finding of low probability."""
    titles: list[str] = []
    monkeypatch.setattr(
        "detectclf.inference.study_picture.draw_study", lambda *_, title, **__: titles.append(title), raising=True
    )
    study_of([predicted("none") for _ in range(3)]).draw()
    assert titles == [f"{study_of([predicted('none')]).name}: refused; 3 slices"]
