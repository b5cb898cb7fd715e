"""New patients: which slices count, what the report says of them, and that a patient is resampled as a whole."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_examples import example
from hypothesis import given
from hypothesis import strategies as st

from detectclf.config import EvaluateConfig
from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.by_source import source_names, source_rows
from detectclf.evaluation.compare import compare_runs
from detectclf.evaluation.headline_table import headline_rows
from detectclf.evaluation.headlines import figure_at
from detectclf.evaluation.leakage import Provenance, common_groups, numbered
from detectclf.evaluation.model_card import CardContent, render_model_card
from detectclf.evaluation.record import Training
from detectclf.evaluation.report import build_report, prediction_lines
from detectclf.evaluation.report_html import render_html, render_markdown
from detectclf.evaluation.report_types import Report
from detectclf.evaluation.slices import read_slices, slice_lines
from detectclf.evaluation.tables import report_table
from detectclf.evaluation.trust import is_confident_miss, is_mistake
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR, LOW_CONFIDENCE, UNUSUAL_INPUT, Dataset, Sample, empty_boxes

FAST = EvaluateConfig(bootstrap=40, worst=0)


@pytest.mark.parametrize(
    ("why", "partitions", "expected"),
    [
        ("nothing shared", [[0, 1, 2], [5, 6, 7]], [0, 1, 2]),
        ("one partition", [[3, 3, 1, 3]], [0, 0, 2, 0]),
        ("copies join two patients, who are one", [[0, 0, 1, 2], [7, 8, 8, 9]], [0, 0, 0, 3]),
        ("three ways round", [[0, 0, 1, 2], [5, 6, 6, 7], [9, 8, 7, 9]], [0, 0, 0, 0]),
        ("no slice", [[], []], []),
    ],
)
def test_groups_that_share_a_slice_are_one(why: str, partitions: list[list[int]], expected: list[int]) -> None:
    assert common_groups(*(np.array(p, dtype=np.int64) for p in partitions)).tolist() == expected, why


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.sampled_from("abc"))), max_size=12))
def test_slices_are_together_exactly_where_a_chain_joins_them(rows: list[tuple[int, str | None]]) -> None:
    found = common_groups(
        np.array([r[0] for r in rows], dtype=np.int64), numbered([() if r[1] is None else (r[1],) for r in rows])
    )
    label = list(range(len(rows)))
    for _ in rows:  # the slow way: the least label spreads until nothing changes
        for i, first in enumerate(rows):
            for k, second in enumerate(rows):
                if first[0] == second[0] or (first[1] is not None and first[1] == second[1]):
                    label[i] = label[k] = min(label[i], label[k])
    assert found.tolist() == label


def of_patients(
    patients: Sequence[str | None],
    trained: Collection[str] | None,
    *,
    groups: Sequence[int] | None = None,
    held_out: bool = True,
    other_key: bool = False,
    seed: int = 3,
) -> Report:
    """A report in which no slice is a copy of a training slice (``held_out``), or that is not known."""
    predictions, dataset = example(len(patients), seed)
    samples = tuple(replace(s, patient=p) for s, p in zip(dataset.samples, patients, strict=True))
    return build_report(
        predictions,
        replace(dataset, samples=samples),
        config=FAST,
        groups=range(len(patients)) if groups is None else groups,
        train_patients=trained,
        held_out=held_out,
        other_key=other_key,
    )


ABC = ["a", "a", "b", "b", "b", "c", "c", None, None, None]
CASES = [
    # why, patients, training patients, new (slices, patients), slices of unknown patients, what the row says
    ("all patients are new", ABC, frozenset(), (7, 3), 3, None),
    ("one is not", ABC, {"b", "z"}, (4, 2), 3, "3 of 7 slices with a known patient are of patients in training"),
    (
        "none is new",
        ABC,
        {"a", "b", "c"},
        (0, 0),
        3,
        "all 7 slices with a known patient are of patients in",
    ),
    ("no patient is known", [None] * 10, {"a"}, (0, 0), 10, "no slice of a new patient: no slice has a known patient"),
    ("every patient is known", ["a", "b"] * 5, {"b"}, (5, 1), 0, "5 of 10 slices with a known patient are of patients"),
    ("no list of training patients", ABC, None, (None, None), 3, "the model keeps no list of its training patients"),
    ("no list, but none to be new", [None] * 10, None, (0, 0), 10, "no slice has a known patient"),
]


def test_copies_that_were_not_looked_for_are_said_of_new_patients() -> None:
    section = json.loads(of_patients(ABC, {"b"}, held_out=False).to_json())["new_patients"]
    assert section["samples"] == 4 and "copies of training slices were not looked for" in section["note"]


@pytest.mark.parametrize(
    ("why", "patients", "new", "unknown"),
    [
        ("names that do not depend on the key", ["figshare-1"] * 5 + ["figshare-2"] * 5, 5, 0),
        ("a hashed name, of whom nothing is known", ["anon-a"] * 3 + ["figshare-2"] * 4 + ["figshare-1"] * 3, 4, 3),
        ("hashed names only", ["anon-a"] * 5 + ["anon-b"] * 5, 0, 10),
    ],
)
def test_names_under_another_key_are_neither_new_nor_seen(
    why: str, patients: list[str], new: int, unknown: int
) -> None:
    record = json.loads(of_patients(patients, {"figshare-1", "anon-z"}, other_key=True).to_json())
    assert (record["new_patients"]["samples"], record["unknown_patients"]["samples"]) == (new, unknown), why
    assert ("hashed under another key" in record["new_patients"]["note"]) == (unknown > 0), why


@pytest.mark.parametrize(("why", "patients", "trained", "new", "unknown", "note"), CASES, ids=[c[0] for c in CASES])
def test_who_is_new(
    why: str,
    patients: list[str | None],
    trained: Collection[str] | None,
    new: tuple[int | None, int | None],
    unknown: int,
    note: str | None,
) -> None:
    report = of_patients(patients, trained)
    record = json.loads(report.to_json())
    section = record["new_patients"]
    assert (section["samples"], section["patients"]) == new
    assert record["unknown_patients"]["samples"] == unknown
    assert note is None or note in section["note"]
    for key in ("combined.accuracy", "combined.mAP", "detection.mAP50", "classification.ece"):
        if not new[0]:
            assert figure_at(section, key) is None, f"{key}: null, never 0"
    row = next(r for r in headline_rows(record) if r.key == "new_patients")
    assert bool(row.cells) is bool(new[0])
    for told in (report_table(report), render_html(report, {}), render_markdown(report)):
        assert "New patients" in told
        assert note is None or note in told


def test_the_figures_are_those_of_the_new_patients_alone() -> None:
    patients = [f"p{i % 9}" if i % 4 else None for i in range(60)]
    trained = {"p0", "p3", "p5"}
    record = of_patients(patients, trained).record
    predictions, dataset = example(60, 3)
    for key, keep in (
        ("new_patients", [i for i, p in enumerate(patients) if p is not None and p not in trained]),
        ("unknown_patients", [i for i, p in enumerate(patients) if p is None]),
    ):
        alone = build_report(
            [predictions[i] for i in keep],
            replace(dataset, samples=tuple(dataset.samples[i] for i in keep)),
            config=FAST,
            groups=range(len(keep)),
        ).record
        for figure in ("combined.accuracy", "combined.mAP", "detection.mAP50", "combined.ece", "combined.specificity"):
            assert figure_at(record[key], figure) == pytest.approx(figure_at(alone, figure)), (key, figure)


def test_a_copy_carries_its_patient_and_a_copy_of_a_training_slice_is_not_new() -> None:
    # Slice 2 has no patient, but is a copy of slice 1 of patient b; slice 4 is a copy of slice 3, of another source.
    report = of_patients(["a", "b", None, None, None], {"a"}, groups=[0, 1, 1, 3, 3])
    assert report.record["data"]["slices_with_patient"] == 3
    assert report.record["new_patients"]["samples"] == 2
    seen = of_patients(["a", "b", None, None, None], {"b"}, groups=[0, 1, 1, 3, 3])
    assert seen.record["new_patients"]["samples"] == 1, "the copy of a slice of patient b is of patient b"
    # Slices 0 and 1 are copies under two names: whoever knows one knows both.
    two_names = of_patients(["a", "b", "b", "c", None], {"a"}, groups=[0, 0, 1, 2, 3])
    assert two_names.record["new_patients"]["samples"] == 1


def test_where_no_tumour_has_a_known_type_the_row_says_what_accuracy_is_of() -> None:
    predictions, dataset = example(30, 3)
    samples = tuple(
        replace(s, patient=s.name, label=s.label if s.label == "no_tumor" else ANY_TUMOR) for s in dataset.samples
    )
    report = build_report(
        predictions, replace(dataset, samples=samples), config=FAST, groups=range(30), train_patients=(), held_out=True
    )
    part = report.record["new_patients"]
    assert part["note"] == "no tumour of known type among them, so accuracy and ECE are of tumour-free slices"
    assert part["combined"]["accuracy"] == part["combined"]["specificity"]


def test_without_healthy_slices_the_row_says_so() -> None:
    predictions, dataset = example(30, 3)
    samples = tuple(replace(s, patient=None if s.label == "no_tumor" else s.name) for s in dataset.samples)
    report = build_report(
        predictions, replace(dataset, samples=samples), config=FAST, groups=range(30), train_patients=(), held_out=True
    )
    record = report.record
    assert "no healthy slice among them" in record["new_patients"]["note"]
    assert record["new_patients"]["combined"]["specificity"] is None
    assert record["unknown_patients"]["combined"]["specificity"] == record["combined"]["specificity"]
    assert record["unknown_patients"]["combined"]["sensitivity"] is None


@pytest.mark.parametrize(
    ("why", "patients", "unit", "groups", "patient_groups"),
    [
        ("none known", [None] * 12, "source group", 12, 0),
        ("all known", ["a", "b", "c"] * 4, "patient", 3, 3),
        ("some known", ["a", "a", "b", "b", *[None] * 8], "patient where known, source group elsewhere", 10, 2),
    ],
)
def test_resamples_are_of_patients(
    why: str, patients: list[str | None], unit: str, groups: int, patient_groups: int
) -> None:
    report = of_patients(patients, frozenset())
    bootstrap = report.record["bootstrap"]
    assert (bootstrap["unit"], bootstrap["groups"], bootstrap["patient_groups"]) == (unit, groups, patient_groups), why
    assert report.record["data"]["source_groups"] == 12, "copies are counted as before"
    of_groups = of_patients(
        [None] * 12, frozenset(), groups=numbered([() if p is None else (p,) for p in patients]).tolist()
    )
    assert report.record["intervals"] == of_groups.record["intervals"]


SPLIT_UNITS = [
    (ABC, frozenset(), True, "patient-level split of the 7 slices with a known patient; source-level split of the 3"),
    (ABC, {"b"}, True, "no patient-level split: 3 of 7 slices with a known patient are of patients in training"),
    (
        ABC,
        None,
        False,
        "patient-level split not checked for 7 slices with a known patient: those in training are ",
    ),
    ([None] * 4, {"b"}, True, "no patient-level split: patients are not known; source-level split of the 4 slices"),
    ([None] * 4, {"b"}, False, "copies of training slices not looked for"),
]


@pytest.mark.parametrize(("patients", "trained", "held_out", "text"), SPLIT_UNITS)
def test_what_a_split_keeps_apart(
    patients: list[str | None], trained: Collection[str] | None, held_out: bool, text: str
) -> None:
    report = of_patients(patients, trained, held_out=held_out)
    assert text in report.record["data"]["split_unit"]
    card = render_model_card(CardContent("m", "1", ("glioma", "no_tumor"), "no_tumor", evaluation=report.record))
    assert text.replace("_", "\\_") in card.replace("\\", "") or text in card
    assert card.index("| New patients |") < card.index("| All slices |"), "by patient first"


def test_names_of_patients_are_in_no_output(tmp_path: Path) -> None:
    report = of_patients(["secret-jane"] * 3 + ["secret-joe"] * 3 + [None] * 4, {"secret-joe"})
    lines = slice_lines(report)
    for text in (lines, report.to_json(), render_html(report, {}), render_markdown(report), report_table(report)):
        assert "secret" not in text
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["patient"] for row in rows] == [0, 0, 0, 1, 1, 1, None, None, None, None]
    assert [row["new_patient"] for row in rows] == [True] * 3 + [False] * 7


def test_evaluations_with_and_without_patients_are_paired_by_patient(tmp_path: Path) -> None:
    patients = [f"p{i % 6}" if i < 40 else None for i in range(60)]
    for name, report in (
        ("new", of_patients(patients, frozenset())),
        ("old", of_patients([None] * 60, None)),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(report.to_json(), encoding="utf-8")
        lines = [json.loads(line) for line in slice_lines(report).splitlines()]
        if name == "old":  # as earlier versions wrote it
            lines = [{k: v for k, v in line.items() if k not in ("patient", "new_patient")} for line in lines]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name / "slices.jsonl").write_text(text, encoding="utf-8")
        (tmp_path / name / "predictions.jsonl").write_text(prediction_lines(report.predictions), encoding="utf-8")
    data, groups, _ = read_slices(tmp_path / "new")
    assert len({s.patient for s in data.samples} - {None}) == 6 and len(set(groups)) == 26
    note = "tests are by patient where known: 40 slices of 6 patients; by source slice elsewhere: 20 slices of 20"
    for order in (("new", "old"), ("old", "new")):
        board = compare_runs([tmp_path / name for name in order], EvaluateConfig(bootstrap=40))
        assert any(note in line for line in board.notes), board.notes
        assert any(line.startswith("new: accuracy") and "on 40 slices of new patients" in line for line in board.notes)


def _slice(label: str | None, said: str, p_healthy: float, flags: tuple[str, ...] = ()) -> tuple[Sample, Prediction]:
    rest = {"glioma": 1 - p_healthy} if said != "meningioma" else {"meningioma": 1 - p_healthy}
    return (
        Sample(Path("x.png"), "x.png", "test", label, width=9, height=9, boxed=label == "no_tumor"),
        Prediction("x.png", label=said, probabilities={"no_tumor": p_healthy, **rest}, flags=flags),
    )


def _aligned(rows: Sequence[tuple[Sample, Prediction]]) -> Aligned:
    samples, predictions = tuple(r[0] for r in rows), tuple(r[1] for r in rows)
    classes = ("glioma", "meningioma", "no_tumor")
    return Aligned(samples, predictions, np.arange(len(rows), dtype=np.intp), classes, "no_tumor")


TRUST = [
    ("a confident miss", ("glioma", "no_tumor", 0.95), True, True),
    ("0.9 is not above 0.9", ("glioma", "no_tumor", 0.9), False, True),
    ("an unsure miss", ("glioma", "no_tumor", 0.6), False, True),
    ("sure, but the operating point calls it a tumour", ("glioma", "glioma", 0.95), False, False),
    ("the wrong tumour", ("glioma", "meningioma", 0.1), False, True),
    ("healthy and called so", ("no_tumor", "no_tumor", 0.99), False, False),
    ("a false alarm", ("no_tumor", "glioma", 0.1), False, True),
    ("a tumour of unknown type, missed", (ANY_TUMOR, "no_tumor", 0.99), True, True),
    ("a tumour of unknown type, found: no class is wrong", (ANY_TUMOR, "meningioma", 0.1), False, False),
    ("no label, no mistake", (None, "no_tumor", 0.99), False, False),
]


@pytest.mark.parametrize(("why", "row", "miss", "mistake"), TRUST, ids=[c[0] for c in TRUST])
def test_confident_misses_and_mistakes(why: str, row: tuple[str | None, str, float], miss: bool, mistake: bool) -> None:
    data = _aligned([_slice(*row)])
    assert (bool(is_confident_miss(data)[0]), bool(is_mistake(data)[0])) == (miss, mistake)


def test_flagged_mistakes_are_counted_and_told() -> None:
    predictions, dataset = example(80, 8, skill=0.3)
    wrong = [i for i, (p, s) in enumerate(zip(predictions, dataset.samples, strict=True)) if p.label != s.label]
    flags = {wrong[0]: (LOW_CONFIDENCE,), wrong[1]: (UNUSUAL_INPUT, LOW_CONFIDENCE), wrong[2]: ("class_box_conflict",)}
    said = [replace(p, flags=flags.get(i, ())) for i, p in enumerate(predictions)]
    miss = next(i for i in wrong if dataset.samples[i].label != "no_tumor")
    said[miss] = replace(said[miss], label="no_tumor", probabilities={"no_tumor": 0.97, "glioma": 0.03})
    report = build_report(said, dataset, config=FAST, groups=range(80))
    combined = report.record["combined"]
    assert combined["mistakes"] == len(wrong)
    assert combined["mistakes_flagged"] == pytest.approx(2 / len(wrong)), "a conflict of stages is no flag of low trust"
    assert combined["confident_miss_slices"] >= 1
    tumors = sum(s.label != "no_tumor" for s in dataset.samples)
    assert combined["confident_misses"] == pytest.approx(combined["confident_miss_slices"] / tumors)
    page = render_html(report, {})
    assert f"Of {len(wrong)} slices of the wrong class" in page and "Confident misses" in report_table(report)


def _sources(unknown_types: bool) -> tuple[Aligned, Provenance]:
    """Forty slices of ``a/data`` and forty of ``b/data``, the latter perhaps with tumours of unknown type."""
    predictions, dataset = example(80, 4, skill=0.3)

    def moved(sample: Sample, i: int) -> Sample:
        source = "/home/jane/a/data" if i < 40 else "/home/jane/b/data"
        if not unknown_types or i < 40 or sample.label == "no_tumor":
            return replace(sample, source=source)
        return replace(sample, source=source, label=ANY_TUMOR, box_labels=(ANY_TUMOR,) * len(sample.box_labels))

    samples = tuple(moved(s, i) for i, s in enumerate(dataset.samples))
    rows = np.arange(80, dtype=np.intp)
    nothing = np.zeros(80, dtype=np.bool_)
    here = Provenance(rows.astype(np.int64), rows.astype(np.int64), nothing, None, None)
    return Aligned(samples, tuple(predictions), rows, dataset.classes, "no_tumor"), here


def test_each_source_has_the_figures_of_its_slices() -> None:
    data, here = _sources(unknown_types=False)
    rows = source_rows(data, here, count=40, seed=0)
    assert [row.source for row in rows] == ["data (1)", "data (2)"], "no folder that names a person"
    for row, part in zip(rows, (range(40), range(40, 80)), strict=True):
        samples, predictions = [data.samples[i] for i in part], [data.predictions[i] for i in part]
        dataset = Dataset(tuple(samples), data.classes, "no_tumor")
        record = build_report(predictions, dataset, config=FAST, groups=range(40)).record
        for key in ("accuracy", "sensitivity", "specificity", "mAP", "mAP50", "ece", "confident_misses"):
            assert getattr(row, key) == pytest.approx(record["combined"][key]), key
        assert row.AP50_any_tumor == pytest.approx(record["combined"]["localisation"]["AP50"])
        low, high = row.intervals["accuracy"] or [1.0, 0.0]
        assert row.accuracy is not None and low <= row.accuracy <= high
        assert row.tumor_slices + row.healthy_slices == row.samples == 40


def test_tumours_of_unknown_type_are_called_and_boxed_but_have_no_class_figures() -> None:
    typed = source_rows(*_sources(unknown_types=False), count=0, seed=0)
    untyped = source_rows(*_sources(unknown_types=True), count=0, seed=0)
    assert untyped[0] == typed[0], "the other source does not change"
    known, unknown = typed[1], untyped[1]
    for key in ("sensitivity", "specificity", "boxed", "AP50_any_tumor", "tumor_ece", "confident_misses"):
        assert getattr(unknown, key) == getattr(known, key), key
    assert unknown.mAP50 is None, "no slice with boxes of a known type but healthy ones"
    assert unknown.accuracy == unknown.specificity, "accuracy is left with the healthy slices"
    assert unknown.mistakes < known.mistakes, "no type can be wrong where it is not known"


def test_a_box_is_close_enough_at_iou_and_score_of_0_3() -> None:
    truth = np.array([[0, 0, 100, 100]], dtype=np.float32)
    cases = [
        ([0, 0, 100, 31], 0.3, 1.0),
        ([0, 0, 100, 29], 0.9, 0.0),
        ([0, 0, 100, 100], 0.29, 0.0),
        ([0, 0, 100, 100], 0.3, 1.0),
    ]
    for xyxy, score, expected in cases:
        sample = Sample(
            Path("x"), "x", "test", "glioma", truth, ("glioma",), boxed=True, width=200, height=200, source="s"
        )
        said = Prediction(
            "x",
            label="glioma",
            probabilities={"glioma": 1.0},
            boxes_xyxy=np.array([xyxy], dtype=np.float32),
            box_labels=("meningioma",),
            scores=np.array([score], dtype=np.float32),
        )
        one = np.zeros(1, dtype=np.int64)
        here = Provenance(one, one, one.astype(np.bool_), None, None)
        (row,) = source_rows(_aligned([(sample, said)]), here, count=0, seed=0)
        assert row.boxed == expected, (xyxy, score, "whatever the class of the box")


def test_calibration_of_tumour_or_not() -> None:
    # Ten tumours called tumours with 0.7: right ten times of ten, so the error is 0.3.
    data = _aligned([_slice(ANY_TUMOR, "glioma", 0.3)] * 10)
    groups = np.arange(10)
    (row,) = source_rows(data, Provenance(groups, groups, groups < 0, None, None), count=0, seed=0)
    assert row.tumor_ece == pytest.approx(0.3) and row.ece is None


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["/x/boxed", "/x/br35h"], ["boxed", "br35h"]),
        (["/x/a/train", "/x/b/train", "c"], ["train (1)", "train (2)", "c"]),
        ([""], ["unnamed"]),
    ],
)
def test_names_of_sources(sources: list[str], names: list[str]) -> None:
    assert source_names(sources) == names


def test_no_box_and_no_slice_are_no_crash() -> None:
    assert empty_boxes().shape == (0, 4)
    assert source_rows(_aligned([]), Provenance(*[np.zeros(0, dtype=np.int64)] * 2, np.zeros(0, bool), None, None),
                       count=10, seed=0) == ()  # fmt: skip


@pytest.mark.parametrize(
    ("training", "note"),
    [
        (None, None),
        (Training(3, 50, 0), None),
        (
            Training(3, 50, 20),
            "20 of 50 training slices have no known patient: new patients are those who",
        ),
    ],
)
def test_training_slices_of_unknown_patients_are_told(training: Training | None, note: str | None) -> None:
    report = build_report(*example(10, 1), config=FAST, groups=range(10), train_patients={"a"}, training=training)
    assert any(line.startswith(note or "no such note") for line in report.record["notes"]) is bool(note)
    for told in (render_html(report, {}), render_model_card(CardContent("m", "1", (), None, evaluation=report.record))):
        assert ("of 3 known patients" in told) is (training is not None)


def test_a_report_of_sources_with_and_without_known_types_is_whole() -> None:
    data, _ = _sources(unknown_types=True)
    samples = tuple(
        replace(s, patient=f"p{i % 7}" if s.label != "no_tumor" else None) for i, s in enumerate(data.samples)
    )
    report = build_report(
        data.predictions,
        Dataset(samples, data.classes, "no_tumor", ("/home/jane/a/data", "/home/jane/b/data")),
        config=FAST,
        groups=range(80),
        train_patients={"p1"},
        held_out=True,
    )
    record = json.loads(report.to_json())
    typed, untyped = record["by_source"]
    assert typed["mAP50"] is not None and untyped["mAP50"] is None
    assert record["combined"]["mistakes"] == typed["mistakes"] + untyped["mistakes"]
    assert record["combined"]["sensitivity"] == pytest.approx(
        sum(row["sensitivity"] * row["tumor_slices"] for row in (typed, untyped))
        / sum(row["tumor_slices"] for row in (typed, untyped))
    )
    assert record["new_patients"]["patients"] == 6 and record["new_patients"]["combined"]["mAP50"] is not None
    for told in (render_html(report, {}), render_markdown(report), report_table(report)):
        assert "data (2)" in told and "called a tumour" in told.lower()
