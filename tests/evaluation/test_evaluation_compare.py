"""Leader board: paired on common slices, a tie called a tie; and the model card."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_examples import TUMORS, example

from detectclf.config import EvaluateConfig
from detectclf.errors import DataError
from detectclf.evaluation.aligned import align, boxes_of
from detectclf.evaluation.compare import compare_runs, write_board
from detectclf.evaluation.detection import mean_average_precision
from detectclf.evaluation.matching import Boxes, Matches, match_by_class
from detectclf.evaluation.model_card import CardContent, write_model_card
from detectclf.evaluation.paired_tests import randomisation_p
from detectclf.evaluation.record import Speed
from detectclf.evaluation.report import build_report, prediction_lines
from detectclf.evaluation.report_types import Report
from detectclf.evaluation.slices import read_slices, slice_lines
from detectclf.prediction import Origin
from detectclf.types import empty_boxes

FAST = EvaluateConfig(bootstrap=200)


def write_bare(report: Report, folder: Path) -> None:
    """What the leader board reads, without the page and its figures, which take their time."""
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    (folder / "slices.jsonl").write_text(slice_lines(report), encoding="utf-8")
    (folder / "predictions.jsonl").write_text(prediction_lines(report.predictions), encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three evaluations of the same sixty slices, and a training run."""
    folder = tmp_path_factory.mktemp("runs")
    for name, skill, speed in (("good", 2.5, 4.0), ("twin", 2.5, 8.0), ("poor", -1.0, 9.0)):
        predictions, dataset = example(60, 0, skill=skill)
        report = build_report(
            predictions,
            dataset,
            config=EvaluateConfig(bootstrap=20, worst=0),
            groups=range(60),
            speed=Speed(speed, "cpu", name == "poor"),
            metadata={"model": {"parameters": 3_000_000}},
        )
        write_bare(report, folder / name / "evaluation")
    (folder / "training").mkdir()
    lines = [{"epoch": e, "metrics": {"accuracy": a, "macro_f1": a}} for e, a in ((1, 0.5), (2, 0.8), (3, 0.7))]
    (folder / "training" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_tie_is_a_tie_and_a_difference_is_named(runs: Path, tmp_path: Path) -> None:
    board = compare_runs([runs / n for n in ("poor", "good", "twin", "training")], FAST)
    record = json.loads(board.to_json())
    verdicts = {(p["first"], p["second"]): p["accuracy"]["verdict"] for p in record["pairs"]}
    assert verdicts == {
        ("poor", "good"): "good is better",
        ("poor", "twin"): "twin is better",
        ("good", "twin"): "tie",
    }
    assert {p["mAP"]["verdict"] for p in record["pairs"]} == {"tie"}, "the boxes are the same in all"
    by_name = {row["run"]: row for row in record["runs"]}
    assert by_name["good"]["accuracy"] == by_name["twin"]["accuracy"]
    assert by_name["training"]["accuracy"] == 0.8, "the best epoch"
    assert [row["run"] for row in record["runs"]][:2] == ["good", "twin"]
    assert any("training run" in note for note in record["notes"])
    assert [n for n in record["notes"] if "speed" in n] == ["poor: its speed includes class-activation maps"]
    assert "accuracy tie, mAP tie" in board.table
    files = write_board(board, tmp_path / "board")
    page = files["compare.html"].read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "good is better" in page
    assert "Not a medical device" in page


def test_only_common_slices_are_paired(runs: Path, tmp_path: Path) -> None:
    predictions, dataset = example(60, 0)
    fewer = type(dataset)(dataset.samples[:40], dataset.classes, dataset.negative, dataset.sources)
    report = build_report(predictions[:40], fewer, config=EvaluateConfig(bootstrap=0, worst=0), groups=range(40))
    write_bare(report, tmp_path / "fewer")
    record = compare_runs([runs / "good", tmp_path / "fewer"], FAST).record
    assert record["pairs"][0]["slices"] == 40
    assert any("20 of its slices" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("sources", "verdict", "why"),
    [
        (1, "tie", "every resample of one source is the same and proves nothing"),
        (3, "tie", "2 * 0.5**3 is the least that an exact test of three sources can give"),
        (60, "good is better", "enough sources"),
    ],
)
def test_few_sources_prove_nothing(sources: int, verdict: str, why: str, tmp_path: Path) -> None:
    predictions, dataset = example(60, 0)
    none = [
        replace(p, label="no_tumor", boxes_xyxy=empty_boxes(), box_labels=(), scores=p.scores[:0]) for p in predictions
    ]
    for name, said in (("good", predictions), ("blind", none)):
        groups = [i % sources for i in range(60)]
        report = build_report(said, dataset, config=EvaluateConfig(bootstrap=0, worst=0), groups=groups)
        write_bare(report, tmp_path / name)
    (pair,) = compare_runs([tmp_path / "good", tmp_path / "blind"], FAST).record["pairs"]
    assert (pair["accuracy"]["verdict"], pair["mAP"]["verdict"]) == (verdict, verdict), why
    assert pair["mAP"]["sources_differ"] <= sources


def matches_of(boxes: Boxes) -> dict[str, Matches]:
    return match_by_class(boxes, TUMORS)


def test_randomisation_is_that_of_swapped_slices() -> None:
    # Eight slices: all 256 swaps can be counted one by one.
    data, other = (align(*example(8, 7, skill=skill))[0] for skill in (2.5, 2.5))
    first = boxes_of(data, fused=True)
    columns = [list(c) for c in (boxes_of(other, fused=True).found, first.found_labels, first.scores)]
    rotated = [column[1:] + column[:1] for column in columns]
    second = Boxes(first.truth, first.truth_labels, *rotated)

    def difference(swap: tuple[bool, ...]) -> float:
        sides = [(second, first) if s else (first, second) for s in swap]
        means = []
        for side in (0, 1):
            rows = [(pair[side], i) for i, pair in enumerate(sides)]
            found = (
                [b.found[i] for b, i in rows],
                [b.found_labels[i] for b, i in rows],
                [b.scores[i] for b, i in rows],
            )
            means.append(mean_average_precision(first.truth, first.truth_labels, *found, TUMORS).mAP)
        return abs(means[0] - means[1])  # type: ignore[operator]

    found = difference((False,) * 8)
    swaps = [difference(swap) for swap in product((False, True), repeat=8)]
    expected = np.mean([far >= found - 1e-9 for far in swaps])
    got = randomisation_p(matches_of(first), matches_of(second), np.arange(8), count=4000, seed=0)
    assert got == pytest.approx(expected, abs=0.03)


def test_groups_change_hands_whole() -> None:
    boxes = boxes_of(align(*example(20, 3))[0], fused=True)
    none = Boxes(
        boxes.truth, boxes.truth_labels, [b[:0] for b in boxes.found], [()] * 20, [s[:0] for s in boxes.scores]
    )
    pair = matches_of(boxes), matches_of(none)
    assert randomisation_p(*pair, np.arange(20), count=500, seed=0) < 0.01
    assert randomisation_p(*pair, np.zeros(20, dtype=np.int64), count=500, seed=0) == 1.0, "one source proves nothing"


def test_predictions_are_read_back_from_their_records(tmp_path: Path) -> None:
    predictions, dataset = example(12, 3)
    foreign = replace(predictions[0], image="other.png", origin=Origin())
    report = build_report([foreign, *predictions[::-1]], dataset, config=EvaluateConfig(bootstrap=0, worst=0))
    write_bare(report, tmp_path / "new")
    data, groups, _ = read_slices(tmp_path / "new")
    assert [s.name for s in data.samples] == [s.name for s in dataset.samples]
    assert groups == tuple(report.provenance.groups.tolist())
    for read, made, sample, true in zip(data.predictions, predictions, data.samples, dataset.samples, strict=True):
        assert (read.image, read.label, read.probabilities) == (made.image, made.label, made.probabilities)
        assert (read.box_labels, read.box_threshold) == (made.box_labels, made.box_threshold)
        assert (read.scores == made.scores).all()
        assert np.allclose(read.boxes_xyxy, made.boxes_xyxy, atol=0.00501)
        assert (sample.label, sample.boxed, sample.box_labels) == (true.label, true.boxed, true.box_labels)
        assert (sample.boxes_xyxy == true.boxes_xyxy).all()
    line = json.loads((tmp_path / "new" / "slices.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert set(line) == {"image", "line", "source", "group", "patient", "seen", "new_patient", "truth", "negative",
        "pixels", "box_threshold"}  # fmt: skip


def test_old_evaluations_are_still_read(tmp_path: Path) -> None:
    truth = {"class": "glioma", "boxed": True, "boxes": [[10, 10, 50, 60]], "box_classes": ["glioma"]}
    old = {
        "image": "a.png",
        "source": "export",
        "group": 4,
        "seen": None,
        "truth": truth,
        "class": "pituitary",
        "probabilities": {"glioma": 0.25, "pituitary": 0.75},
        "boxes": [[11, 12, 51, 61.125]],
        "box_classes": ["pituitary"],
        "scores": [0.5],
        "box_threshold": 0.25,
        "negative": "no_tumor",
    }
    (tmp_path / "slices.jsonl").write_text(json.dumps(old) + "\n", encoding="utf-8")
    data, groups, _ = read_slices(tmp_path)
    (read,) = data.predictions
    assert (read.label, read.box_labels, read.box_threshold, groups) == ("pituitary", ("pituitary",), 0.25, (4,))
    assert read.boxes_xyxy.tolist() == pytest.approx(np.array([[11, 12, 51, 61.12]])), "rounded as records are"
    assert read.scores.tolist() == [0.5]


def test_predictions_of_another_evaluation_are_refused(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "good" / "evaluation", tmp_path / "mixed")
    file = tmp_path / "mixed" / "predictions.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(DataError, match=r"slices\.jsonl:1: not a slice"):
        read_slices(tmp_path / "mixed")


def test_slices_of_one_name_in_folders_of_one_name_are_all_paired(tmp_path: Path) -> None:
    predictions, dataset = example(12, 5)
    other = [replace(s, path=Path("/b/data") / s.name, source="/b/data") for s in dataset.samples]
    both = replace(dataset, samples=(*dataset.samples, *other))
    said = [*predictions, *(replace(p, origin=Origin(Path("/b/data") / p.image)) for p in predictions)]
    for name in ("first", "second"):
        report = build_report(said, both, config=EvaluateConfig(bootstrap=0, worst=0), groups=range(24))
        write_bare(report, tmp_path / name)
    record = compare_runs([tmp_path / "first", tmp_path / "second"], FAST).record
    assert record["pairs"][0]["slices"] == 24


def boxes_moved(truth: dict[str, Any], pixels: float) -> dict[str, Any]:
    return truth | {"boxes": [[value + pixels for value in box] for box in truth["boxes"]]}


@pytest.mark.parametrize(
    ("change", "paired"),
    [
        (lambda row, i: {}, 60),
        (lambda row, i: {"source": "elsewhere"}, 60),  # a copy of the data in another folder
        (lambda row, i: {"truth": boxes_moved(row["truth"], 0.6)}, 60),  # rounded to whole pixels
        (lambda row, i: {"truth": boxes_moved(row["truth"], 9)}, 15),  # others; none on healthy slices
        (lambda row, i: {"pixels": f"{i + 1000}"}, 0),  # other pictures of the same names
    ],
    ids=["same", "other folder", "rounded boxes", "other boxes", "other pictures"],
)
def test_slices_are_paired_by_content(runs: Path, tmp_path: Path, change, paired: int) -> None:
    for name, altered in (("good", lambda row, i: {}), ("poor", change)):
        shutil.copytree(runs / name / "evaluation", tmp_path / name)
        file = tmp_path / name / "slices.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [row | {"pixels": str(i)} | altered(row, i) for i, row in enumerate(rows)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    board = compare_runs([tmp_path / "good", tmp_path / "poor"], FAST)
    assert [pair.slices for pair in board.pairs] == ([paired] if paired else [])
    assert not any("by name" in note for note in board.notes)


def test_copies_of_training_slices_and_refusals_are_told_on_the_board(runs: Path, tmp_path: Path) -> None:
    record = json.loads((runs / "good" / "evaluation" / "report.json").read_text(encoding="utf-8"))
    record["leaks"]["samples"] = 7
    record["data"]["refused"] = 5
    record["clean"]["combined"] = {"accuracy": 0.5, "mAP": 0.25}
    (tmp_path / "leaky").mkdir()
    (tmp_path / "leaky" / "report.json").write_text(json.dumps(record), encoding="utf-8")
    for name in ("slices.jsonl", "predictions.jsonl"):
        shutil.copy(runs / "good" / "evaluation" / name, tmp_path / "leaky")
    notes = compare_runs([tmp_path / "leaky"], FAST).record["notes"]
    assert notes == [
        "leaky: 5 slices were refused; they are in none of its figures and in no test",
        "leaky: 7 of its slices are copies of its training slices; accuracy 50.0 %, mAP 0.250 without them",
        "leaky: none of its slices is of a known new patient",
    ]
    record["clean"]["combined"] = {"accuracy": None, "mAP": None}  # each slice is a copy
    (tmp_path / "leaky" / "report.json").write_text(json.dumps(record), encoding="utf-8")
    notes = compare_runs([tmp_path / "leaky"], FAST).record["notes"]
    assert notes[1].endswith("training slices; there are no figures without them")


def test_evaluations_of_other_slices_are_not_compared(runs: Path, tmp_path: Path) -> None:
    report = build_report(
        *example(20, 99, sources=("elsewhere",)), config=EvaluateConfig(bootstrap=0, worst=0), groups=range(20)
    )
    write_bare(report, tmp_path / "other")
    record = compare_runs([runs / "good", tmp_path / "other"], FAST).record
    assert record["pairs"] == []
    assert any("share no slice" in note for note in record["notes"])


def test_runs_of_one_name_are_told_apart(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "metrics.jsonl").write_text('{"metrics": {"mAP": 0.5, "mAP50": 0.9}}\n')
    record = compare_runs([runs / "good", tmp_path / "good"], FAST).record
    assert len({row["run"] for row in record["runs"]}) == 2


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "neither an evaluation nor a run"),
        ({"report.json": "{"}, "not readable JSON"),
        ({"report.json": "[]"}, "not a report"),
        ({"report.json": '{"combined": {}}'}, "no slices of an evaluation"),
        ({"report.json": '{"combined": {}}', "slices.jsonl": '{"image": 1}\n'}, "slices.jsonl:1: not a slice"),
        ({"metrics.jsonl": "nonsense\n"}, "damaged metrics.jsonl"),
    ],
)
def test_what_is_no_run_gets_one_line(files: dict[str, str], reason: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=reason):
        compare_runs([tmp_path])


def test_the_card_claims_only_what_is_known(runs: Path, tmp_path: Path) -> None:
    bare = write_model_card(tmp_path, CardContent("name", "1", ("glioma", "no_tumor"), "no_tumor"))
    text = bare.read_text(encoding="utf-8")
    assert bare.name == "MODEL_CARD.md"
    sections = (
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations", "CLAIM checklist",
    )  # fmt: skip
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(sections)
    assert "Not evaluated yet" in text
    assert "Not recorded." in text
    assert "Licences that the data states: not recorded." in text
    assert "under Model details" not in text.split("## CLAIM checklist")[1].replace("sizes under Model details", "")
    assert "None" not in text.replace("None yet.", "")


def test_the_card_holds_metadata_and_no_folders(runs: Path, tmp_path: Path) -> None:
    evaluation = json.loads((runs / "good" / "evaluation" / "report.json").read_text(encoding="utf-8"))
    card = CardContent(
        "name",
        "1",
        ("glioma", "no_tumor"),
        "no_tumor",
        stages={"detector": {"arch": "fasterrcnn_x", "parameters": 3}},
        fusion={"temperature": 1.5, "tumor_threshold": None},
        metadata={
            "training": {
                "detector": {"data": {"sources": ["/home/jane/export"]}, "env": {"command": ["/home/jane/x"]}}
            },
            "operating_point": {"sensitivity": 0.95, "max_false_alarm_rate": None},
            "licences": {"export": "CC BY 4.0"},
        },
        evaluation=evaluation,
    )
    text = write_model_card(tmp_path, card).read_text(encoding="utf-8")
    assert "jane" not in text
    for expected in ("fasterrcnn\\_x", "export", "sensitivity 0.95", "tumor\\_threshold: not set", "| Accuracy |",
                     "export: CC BY 4.0", "| 27 | Ensembling | two stages"):  # fmt: skip
        assert expected in text, expected
