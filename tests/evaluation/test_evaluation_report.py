"""The whole report: contract keys, bad input, leaks, page, files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_examples import CLASSES, example
from PIL import Image

from detectclf.config import EvaluateConfig
from detectclf.datasets.index import SliceIndex
from detectclf.errors import DataError
from detectclf.evaluation.caveats import about_slices
from detectclf.evaluation.explanation import MapFit
from detectclf.evaluation.headlines import HEADLINES, figure_at
from detectclf.evaluation.record import Speed
from detectclf.evaluation.rendering import markdown_text
from detectclf.evaluation.report import build_report, write_report
from detectclf.evaluation.report_html import render_html, render_markdown, report_plots
from detectclf.evaluation.report_types import Report
from detectclf.evaluation.tables import report_table
from detectclf.prediction import Origin, Prediction
from detectclf.types import Dataset, Sample, empty_boxes

FAST = EvaluateConfig(bootstrap=40, worst=3)
Case = Callable[[list[Prediction], Dataset], tuple[list[Prediction], Dataset]]


def report_of(predictions: list[Prediction], dataset: Dataset, **more: Any) -> Report:
    return build_report(predictions, dataset, config=FAST, groups=range(len(dataset.samples)), **more)


def with_samples(dataset: Dataset, samples: list[Sample]) -> Dataset:
    return replace(dataset, samples=tuple(samples))


def only(*labels: str) -> Case:
    return lambda p, d: (p, with_samples(d, [s for s in d.samples if s.label in labels]))


def unboxed(predictions: list[Prediction], dataset: Dataset) -> tuple[list[Prediction], Dataset]:
    bare = [replace(s, boxes_xyxy=empty_boxes(), box_labels=(), boxed=False) for s in dataset.samples]
    return predictions, with_samples(dataset, bare)


BAD_INPUT: list[tuple[str, Case, str, list[str], list[str]]] = [
    (
        "no predictions at all",
        lambda p, d: ([], d),
        "no slice has a prediction",
        ["combined.accuracy", "detection.mAP"],
        [],
    ),
    ("no slices", lambda p, d: ([], with_samples(d, [])), "no slice has a prediction", ["combined.accuracy"], []),
    (
        "one class",
        only("glioma"),
        "only one class occurs",
        ["combined.auroc.glioma"],
        ["combined.accuracy", "detection.mAP"],
    ),
    (
        "no healthy slice",
        only("glioma", "pituitary"),
        "no healthy slice",
        ["combined.specificity", "detection.false_alarms_per_healthy_slice"],
        ["combined.sensitivity"],
    ),
    (
        "healthy slices only",
        only("no_tumor"),
        "no true tumour box",
        ["detection.mAP", "detection.froc_mean", "combined.sensitivity"],
        ["combined.specificity"],
    ),
    (
        "no tumour slice",
        only("no_tumor"),
        "sensitivity is undefined",
        ["combined.sensitivity"],
        ["combined.specificity"],
    ),
    (
        "no boxes",
        unboxed,
        "no slice has known boxes",
        ["detection.mAP", "combined.mAP", "detection.recall_one_box"],
        ["combined.accuracy"],
    ),
    (
        "a single slice",
        lambda p, d: (p[:1], with_samples(d, list(d.samples[:1]))),
        "fewer than two source groups",
        [],
        ["combined.accuracy"],
    ),
    (
        "predictions of other images",
        lambda p, d: ([replace(q, image=f"x{q.image}", origin=Origin()) for q in p], d),
        "not in this split",
        ["combined.accuracy"],
        [],
    ),
    ("an image predicted twice", lambda p, d: ([*p, p[3]], d), "repeat an image", [], ["combined.accuracy"]),
    ("a slice without prediction", lambda p, d: (p[1:], d), "1 slices have no prediction", [], ["combined.accuracy"]),
    (
        "an unreadable image",
        lambda p, d: ([Prediction(p[0].image, error="truncated"), *p[1:]], d),
        "could not be read",
        [],
        ["combined.accuracy"],
    ),
    (
        "a refused image",
        lambda p, d: ([Prediction(p[0].image, flags=("not_a_brain_mri",)), *p[1:]], d),
        "1 slices were refused",
        [],
        ["combined.accuracy", "detection.mAP"],
    ),
    (
        "no negative class",
        lambda p, d: (p, replace(d, negative=None)),
        "no negative class",
        ["combined.specificity"],
        ["combined.accuracy"],
    ),
    (
        "a class that does not occur",
        only("glioma", "no_tumor", "meningioma"),
        "no slice is pituitary",
        ["combined.per_class.pituitary.recall", "combined.auroc.pituitary", "detection.per_class.pituitary.AP"],
        ["combined.accuracy", "detection.mAP"],
    ),
    (
        "a prediction that is not finite",
        lambda p, d: ([replace(p[0], scores=p[0].scores + np.float32("nan")), *p[1:]], d),
        "not finite",
        [],
        ["combined.accuracy", "detection.mAP"],
    ),
    (
        "class not known",
        lambda p, d: (p, with_samples(d, [replace(s, label=None) for s in d.samples])),
        "no slice has a known class",
        ["combined.accuracy"],
        ["detection.mAP"],
    ),
    (
        "records without stages",
        lambda p, d: ([replace(q, before_fusion=None) for q in p], d),
        "do not hold the detector's own boxes",
        ["stages.detector_alone.accuracy"],
        ["detection.mAP", "classification.accuracy"],
    ),
]
# Drawing is slow; the emptiest reports are the ones that could break it.
DRAWN = ("no predictions at all", "one class", "a single slice", "healthy slices only")


@pytest.mark.parametrize(("why", "change", "note", "null", "known"), BAD_INPUT, ids=[c[0] for c in BAD_INPUT])
def test_bad_input_gives_a_valid_report(why: str, change: Case, note: str, null: list[str], known: list[str]) -> None:
    report = report_of(*change(*example(14, 1)))
    record = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in report.json"))
    assert any(note in line for line in record["notes"]), record["notes"]
    assert all("\n" not in line for line in record["notes"])
    for key in null:
        assert figure_at(record, key) is None, key
    for key in known:
        assert figure_at(record, key) is not None, key
    assert render_html(report, report_plots(report) if why in DRAWN else {}).startswith("<!DOCTYPE html>")
    assert "not a medical device" in render_markdown(report).lower()
    assert "Accuracy" in report_table(report)


def test_slices_are_refused_or_not_evaluated_but_not_both() -> None:
    """Each slice that has no figures is counted once."""
    predictions, dataset = example(14, 1)
    refused = [Prediction(each.image, flags=("not_a_brain_mri",)) for each in predictions[:3]]
    for rest, said in (
        (predictions[3:], "3 were refused"),
        (predictions[5:], "3 were refused; 2 others were not eval"),
    ):
        first = about_slices(report_of([*refused, *rest], dataset).record["data"])[0]
        assert said in first and ("others" in first) == ("others" in said), first


def test_contract_keys_and_agreement_of_intervals() -> None:
    predictions, dataset = example(60, 2)
    record = report_of(predictions, dataset, speed=Speed(3.0, "cpu")).record
    assert list(record)[:10] == [
        "data", "warnings", "detection", "classification", "combined", "stages", "intervals", "clean", "new_patients",
        "speed",
    ]  # fmt: skip
    assert {"split", "samples", "boxed", "sources", "sha256"} <= record["data"].keys()
    assert list(record["detection"]["froc"]) == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]
    assert set(record["detection"]["per_class"]["glioma"]) == {"AP", "AP50", "recall"}
    assert {"accuracy", "mAP", "mAP50", "joint_accuracy", "referred"} <= record["combined"].keys()
    assert record["clean"]["samples"] is None, "nothing is known of the training slices"
    for headline in HEADLINES:
        value = figure_at(record, headline.key)
        limits = record["intervals"].get(headline.key)
        if value is not None and limits is not None:
            assert limits[0] <= value <= limits[1], headline.key
    assert {k for k in ("combined.accuracy", "combined.mAP", "combined.joint_accuracy") if record["intervals"][k]} == {
        "combined.accuracy",
        "combined.mAP",
        "combined.joint_accuracy",
    }
    assert record["intervals"]["detection.false_alarms_per_healthy_slice"][1] > 0


BOX_KEYS = (
    "mAP mAP50 mAP75 localisation four_class_mAP froc froc_mean froc_iou10 froc_iou10_mean recall_one_box "
    "mean_iou_of_hits false_alarms_per_healthy_slice healthy_slices box_threshold"
)
CLASS_KEYS = (
    "accuracy balanced_accuracy macro_f1 sensitivity specificity per_class classes confusion_matrix auroc nll brier "
    "ece reliability"
)
SUBSET_KEYS = "samples patients combined detection classification stages explanation intervals note"
SECTION_KEYS = {
    "data": "split samples boxed evaluated source_groups patients slices_with_patient classes any_tumor boxes sources "
    "sha256 split_unit fitted_here refused",
    "detection": f"slices boxes per_class by_size {BOX_KEYS}",
    "classification": f"samples ece_bins {CLASS_KEYS}",
    "combined": f"{CLASS_KEYS} {BOX_KEYS} AP_per_class joint_accuracy joint_slices contradictions flagged referred "
    "confident_misses confident_miss_slices mistakes mistakes_flagged "
    "referred_at_risk risk_coverage gain",
    "stages": "classifier_alone detector_alone",
    "clean": SUBSET_KEYS,
    "new_patients": SUBSET_KEYS,
    "unknown_patients": SUBSET_KEYS,
    "speed": "images_per_second device explained",
    "training": "patients slices slices_without_patient",
    "leaks": "samples files",
    "explanation": "mass_inside_box peak_inside_box area_inside_box slices",
    "operating_point": "set sensitivity sensitivity_interval specificity specificity_interval",
    "bootstrap": "resamples seed unit groups patient_groups level",
}


def test_the_keys_of_every_section_are_frozen() -> None:
    record = report_of(*example(30, 2)).record
    assert {name: set(record[name]) for name in SECTION_KEYS} == {k: set(v.split()) for k, v in SECTION_KEYS.items()}
    others = {"warnings", "intervals", "by_source", "facts", "command", "versions", "limits", "notes", "use"}
    assert set(record) == {*SECTION_KEYS, *others}


def test_two_healthy_slices_do_not_prove_specificity() -> None:
    predictions, dataset = example(30, 2)
    healthy = [i for i, s in enumerate(dataset.samples) if s.label == "no_tumor"]
    keep = [i for i in range(30) if i not in healthy[2:]]
    few = [replace(predictions[i], label="no_tumor") if i in healthy else predictions[i] for i in keep]
    record = report_of(few, with_samples(dataset, [dataset.samples[i] for i in keep])).record
    assert record["combined"]["specificity"] == 1.0
    assert record["intervals"]["combined.specificity"] == pytest.approx([0.025**0.5, 1.0])


def test_a_recall_of_one_gets_the_exact_interval() -> None:
    predictions, dataset = example(30, 2)
    one_each = [s for s in dataset.samples if s.label == "no_tumor" or (s.boxed and len(s.box_labels) == 1)]
    said = {s.name: s for s in one_each}
    perfect = [
        replace(p, before_fusion=replace(p.before_fusion, outputs=replace(
            p.stages, boxes_xyxy=said[p.image].boxes_xyxy, box_labels=said[p.image].box_labels,
            scores=np.full(len(said[p.image].box_labels), 0.9, np.float32))))
        for p in predictions if p.image in said and p.stages is not None
    ]  # fmt: skip
    record = report_of(perfect, with_samples(dataset, one_each)).record
    tumors = sum(s.label != "no_tumor" for s in one_each)
    assert record["detection"]["recall_one_box"] == 1.0
    assert record["intervals"]["detection.recall_one_box"] == pytest.approx([0.025 ** (1 / tumors), 1.0])


def test_every_figure_of_the_contract_has_an_interval() -> None:
    record = report_of(*example(60, 2)).record
    for key in ("combined.referred", "combined.auroc.macro", "combined.auroc.tumor", "classification.auroc.glioma",
                "combined.risk_coverage.area", "detection.localisation.AP"):  # fmt: skip
        low, high = record["intervals"][key]
        assert low < high, key


def test_the_order_of_predictions_does_not_matter() -> None:
    predictions, dataset = example(40, 3)
    first, second = report_of(predictions, dataset).record, report_of(predictions[::-1], dataset).record
    assert first == second


def test_slices_of_one_name_in_two_sources_are_told_apart() -> None:
    predictions, dataset = example(12, 5)
    other = [replace(s, path=Path("/elsewhere") / s.name, source="b") for s in dataset.samples]
    both = replace(dataset, samples=(*dataset.samples, *other))
    moved = [replace(p, origin=Origin(Path("/elsewhere") / p.image), label="no_tumor") for p in predictions]
    report = report_of([*moved, *predictions], both)
    by_source = {
        (s.source, s.name): p.label for s, p in zip(report.aligned.samples, report.aligned.predictions, strict=True)
    }
    assert len(by_source) == 24
    assert all(by_source[("b", p.image)] == "no_tumor" for p in predictions)
    assert all(by_source[("data", p.image)] == p.label for p in predictions)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Prediction], Dataset]:
    """Forty slices with pictures; slices 10 to 14 are mirrored copies of 0 to 4."""
    import cv2

    folder = tmp_path_factory.mktemp("slices")
    predictions, dataset = example(40, 6)
    random = np.random.default_rng(0)
    pictures = [
        cv2.resize(random.integers(0, 255, (12, 12), dtype=np.uint8), (256, 256), interpolation=cv2.INTER_CUBIC)
        for _ in range(40)
    ]
    for i in range(10, 15):
        pictures[i] = pictures[i - 10][:, ::-1]
    samples = []
    for sample, pixels in zip(dataset.samples, pictures, strict=True):
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / sample.name)
        samples.append(replace(sample, path=folder / sample.name, source=str(folder)))
    return [replace(p, origin=Origin(folder / p.image)) for p in predictions], with_samples(dataset, samples)


def test_leaks_are_found_by_content_and_left_out(on_disk: tuple[list[Prediction], Dataset]) -> None:
    predictions, dataset = on_disk
    # Trained on slices 0 to 4: their mirrored copies 10 to 14 have been seen as well.
    train = SliceIndex().look_up(dataset.samples[:5]).fingerprints
    report = build_report(predictions, dataset, config=FAST, train_fingerprints=train)
    record = report.record
    assert (record["leaks"]["samples"], record["clean"]["samples"]) == (10, 30)
    assert record["data"]["source_groups"] == 35
    clean = [i for i in range(40) if not (i < 5 or 10 <= i < 15)]
    alone = build_report(predictions, with_samples(dataset, [dataset.samples[i] for i in clean]), config=FAST)
    for key in ("combined.accuracy", "combined.mAP", "detection.mAP50", "combined.joint_accuracy"):
        assert figure_at(record["clean"], key) == pytest.approx(figure_at(alone.record, key)), key
    assert figure_at(record, "combined.mAP") != figure_at(record["clean"], "combined.mAP")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br", "img", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_self_contained(on_disk: tuple[list[Prediction], Dataset], tmp_path: Path) -> None:
    predictions, dataset = on_disk
    hostile = "<script>alert(1)</script>|`x`"
    metadata = {"operating_point": {"sensitivity": 0.95, "max_false_alarm_rate": None}, "model": {"name": hostile}}
    report = build_report(predictions, dataset, config=FAST, metadata=metadata, command=f"detectclf evaluate {hostile}")
    files = write_report(report, tmp_path / "new" / "out")
    page = files["report.html"].read_text(encoding="utf-8")
    parser = _Page()
    parser.feed(page)
    assert not parser.open
    assert "script" not in parser.tags
    assert all(link.startswith(("data:image/", "#")) for link in parser.links)
    assert sum(link.startswith("data:image/jpeg") for link in parser.links) == 3, "the gallery"
    assert parser.tags.count("svg") == 5
    assert not re.search(r"url\((?!#)|@import|<link", page)
    for text in (
        "Research use",
        "not for diagnosis",
        "<li>No patient-level split: patients are not known</li>",
        "<li>Copies of training slices not looked for</li>",
        "What the model has not seen",
        "no slice of a new patient: no slice has a known patient",
        "are called tumour-free with a probability above 0.9",
        "detectclf evaluate",
        "prefers-color-scheme",
    ):
        assert text in page, text
    assert "nan" not in re.findall(r"\b[a-z]+\b", re.sub(r"data:image[^\"]*", "", page))
    assert "sensitivity 0.95" in page
    assert "max_false_alarm_rate None" not in page
    assert json.loads(files["report.json"].read_text(encoding="utf-8")) == report.record
    lines = files["predictions.jsonl"].read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["image"] for line in lines] == [p.image for p in predictions]
    assert {p.name for p in (tmp_path / "new" / "out" / "figures").iterdir()} == {
        f"{n}.png" for n in report_plots(report)
    }


def test_a_picture_that_is_gone_is_said_and_the_page_stands() -> None:
    report = report_of(*example(30, 7))
    page = render_html(report, {})
    assert report.mistakes
    assert page.count("no picture:") == len(report.mistakes)


def test_mistakes_come_by_cost() -> None:
    predictions, dataset = example(80, 8, skill=0.3)
    report = build_report(
        predictions, dataset, config=EvaluateConfig(bootstrap=0, worst=100), groups=range(len(dataset.samples))
    )
    costs = [m.cost for m in report.mistakes]
    assert costs == sorted(costs, reverse=True)
    assert {"missed tumour", "false alarm", "wrong tumour class"} <= {m.kind for m in report.mistakes}
    wrong = sum(p.label != s.label for p, s in zip(predictions, dataset.samples, strict=True))
    assert sum(m.kind in ("missed tumour", "false alarm", "wrong tumour class") for m in report.mistakes) == wrong
    assert report.record["intervals"] == {}


@pytest.mark.parametrize(
    ("why", "asked", "text"),
    [
        ("a sensitivity", {"sensitivity": 0.95, "max_false_alarm_rate": None}, "sensitivity 0.95 or more, fixed"),
        ("a rate", {"sensitivity": None, "max_false_alarm_rate": 0.1}, "false-alarm rate 0.1 or less, fixed"),
        ("none asked", {"sensitivity": None, "max_false_alarm_rate": None}, None),
        ("two runs, no bundle", None, None),
    ],
)
def test_the_operating_point_is_told_everywhere(why: str, asked: dict[str, Any] | None, text: str | None) -> None:
    report = report_of(*example(40, 3), metadata={"operating_point": asked})
    point = report.record["operating_point"]
    low, high = point["sensitivity_interval"]
    assert low <= point["sensitivity"] <= high
    for told in (report_table(report), render_html(report, {}), render_markdown(report)):
        if text is None:
            assert "fixed in the bundle" not in told, why
        else:
            reached = f"here sensitivity {100 * point['sensitivity']:.1f} % (95 % interval {100 * low:.1f} to "
            assert text in told and reached in told and "specificity" in told, why


def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write the report"):
        write_report(report_of(*example(4, 9)), tmp_path / "file" / "out")


def test_markdown_cannot_be_broken_by_names() -> None:
    assert markdown_text("a|b\n<i>`*") == "a\\|b\\\\n&lt;i&gt;\\`\\*"  # not every reader knows \\<
    assert markdown_text("&lt;b> & [x](y)") == "&amp;lt;b&gt; & \\[x\\](y)"


def test_digest_depends_on_content_and_not_on_order_or_place(on_disk: tuple[list[Prediction], Dataset]) -> None:
    _, dataset = on_disk

    def digest(data: Dataset) -> str:
        return str(report_of([], data).record["data"]["sha256"])

    assert digest(dataset) == digest(with_samples(dataset, list(dataset.samples[::-1])))
    relabelled = [
        replace(dataset.samples[0], label=CLASSES[0] if dataset.samples[0].label != CLASSES[0] else CLASSES[1])
    ]
    assert digest(dataset) != digest(with_samples(dataset, [*relabelled, *dataset.samples[1:]]))


def test_shares_of_the_maps_are_a_figure_with_its_interval() -> None:
    predictions, dataset = example(12)
    shares = [np.nan if i % 3 == 0 else i / 12 for i in range(12)]
    del predictions[1]  # its share goes with it
    fits = [MapFit(share, share if np.isnan(share) else float(share > 0.4)) for share in shares]
    record = report_of(predictions, dataset, map_fits=fits).record
    known = [share for i, share in enumerate(shares) if i % 3 and i != 1]
    assert record["explanation"]["mass_inside_box"] == pytest.approx(np.mean(known))
    assert record["explanation"]["peak_inside_box"] == pytest.approx(np.mean([share > 0.4 for share in known]))
    assert record["explanation"]["slices"] == 7
    assert 0 < record["explanation"]["area_inside_box"] < 0.3, "what a map that says nothing would have"
    low, high = record["intervals"]["explanation.mass_inside_box"]
    assert low < np.mean(known) < high
    nothing = {"mass_inside_box": None, "peak_inside_box": None, "area_inside_box": None, "slices": 0}
    assert report_of(predictions, dataset).record["explanation"] == nothing


def test_a_figure_that_no_resample_changes_has_no_interval() -> None:
    predictions, dataset = example(8)
    right = [
        replace(p, boxes_xyxy=s.boxes_xyxy, box_labels=s.box_labels, scores=np.full(len(s.box_labels), 0.9, np.float32))
        for p, s in zip(predictions, dataset.samples, strict=True)
    ]
    record = report_of(right, dataset).record
    assert record["combined"]["mAP50"] == pytest.approx(1.0)
    assert record["intervals"]["combined.mAP50"] is None, "not 1.000 to 1.000, whatever the rounding"
    assert any("no interval of" in note and "mAP50" in note for note in record["notes"])


def test_a_figure_of_too_few_slices_says_why_it_has_no_interval() -> None:
    predictions, dataset = example(40, 2)
    healthy = [i for i, s in enumerate(dataset.samples) if s.label == "no_tumor"]
    keep = [i for i in range(40) if i not in healthy[2:]]
    said = [replace(p, label="glioma") if i == healthy[0] else p for i, p in enumerate(predictions)]
    record = report_of(said, with_samples(dataset, [dataset.samples[i] for i in keep])).record
    assert record["combined"]["specificity"] is not None and record["intervals"]["combined.specificity"] is None
    assert any("no interval of" in note and "tenth" in note and "Specificity" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("fitted", "expected", "why"),
    [
        ({"split": "test", "sources": ["data"]}, True, "the very split"),
        ({"split": "test", "sources": ["/elsewhere/other"]}, False, "the split of this name of other data"),
        ({"split": "valid", "sources": ["data"]}, False, "another split"),
        (None, None, "two runs without a bundle"),
    ],
)
def test_a_fit_on_the_evaluated_split_is_told(fitted: dict[str, Any] | None, expected: bool | None, why: str) -> None:
    report = report_of(*example(20, 3), metadata={"fitted_on": fitted})
    assert report.record["data"]["fitted_here"] is expected, why
    for told in (report_table(report), render_html(report, {}), render_markdown(report)):
        assert ("fitted on this split" in told) is bool(expected), why


def test_predictions_that_are_not_finite_are_written_as_valid_json(tmp_path: Path) -> None:
    predictions, dataset = example(6, 1)
    wrong = replace(predictions[0], probabilities=dict.fromkeys(CLASSES, float("nan")))
    files = write_report(report_of([wrong, *predictions[1:]], dataset), tmp_path)
    for name in ("report.json", "predictions.jsonl", "slices.jsonl"):
        assert "NaN" not in files[name].read_text(encoding="utf-8"), name


def test_missing_figures_of_clean_slices_are_explained(on_disk: tuple[list[Prediction], Dataset]) -> None:
    predictions, dataset = on_disk
    for seen, note in (
        ([s for s in dataset.samples if s.label == "no_tumor"], "clean slices: no healthy slice"),
        (dataset.samples, "every slice is a copy"),
    ):
        report = build_report(
            predictions, dataset, config=FAST, train_fingerprints=SliceIndex().look_up(seen).fingerprints
        )
        assert report.record["clean"]["combined"]["specificity"] is None
        told = [*report.record["notes"], report.record["clean"]["note"] or ""]
        assert any(note in line for line in told), told
        assert render_html(report, {})
