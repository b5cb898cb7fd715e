"""Fusion of one slice: values worked out by hand, flags, and properties that hold for any outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectclf.errors import ModelError
from detectclf.inference.fusion import (
    FusionClasses,
    default_fusion,
    detector_evidence,
    fuse,
    fused_probabilities,
)
from detectclf.models.bundle import FusionParameters
from detectclf.types import NOT_A_BRAIN_MRI, UNUSUAL_INPUT, FusedOutputs, StageOutputs, StagePredictions

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
TUMORS = ("glioma", "meningioma", "pituitary")
NAMES = FusionClasses(CLASSES, "no_tumor", TUMORS)
PLAIN = replace(default_fusion(CLASSES), box_weight=0.0)


def outputs(probabilities: list[float], boxes: list[tuple[list[float], str, float]]) -> StageOutputs:
    return StageOutputs(
        np.log(np.array(probabilities, np.float32)),
        np.array([box for box, _, _ in boxes], np.float32).reshape(-1, 4),
        tuple(name for _, name, _ in boxes),
        np.array([score for _, _, score in boxes], np.float32),
    )


def fused(out: StageOutputs, parameters: FusionParameters = PLAIN, names: FusionClasses = NAMES) -> FusedOutputs:
    return fuse(out, parameters, names)


def alone(result: FusedOutputs) -> StagePredictions:
    assert result.before_fusion is not None
    return result.before_fusion


HERE, THERE = [10.0, 10, 50, 50], [60.0, 60, 90, 90]


def test_temperature_divides_the_logits() -> None:
    out = StageOutputs(np.array([2, 0, 0, 0], np.float32), np.zeros((0, 4), np.float32), (), np.zeros(0, np.float32))
    got = fused_probabilities(out, replace(PLAIN, temperature=2.0), NAMES)
    assert got[0] == pytest.approx(np.e / (np.e + 3))


def test_unusual_slices_have_a_temperature_of_their_own_and_a_flag() -> None:
    out = outputs([0.7, 0.1, 0.1, 0.1], [])
    parameters = replace(PLAIN, unusual_temperature=2.0)
    usual, unusual = fuse(out, parameters, NAMES), fuse(out, parameters, NAMES, novelty="unusual")
    assert usual.probabilities["glioma"] == pytest.approx(0.7)
    # 1 - P(no tumour) has odds of 9, which become 3, and glioma and each other type 7, which become the root of 7.
    assert 1 - unusual.probabilities["no_tumor"] == pytest.approx(0.75)
    assert unusual.probabilities["glioma"] == pytest.approx(0.75 * 7**0.5 / (7**0.5 + 2))
    assert UNUSUAL_INPUT in unusual.flags and UNUSUAL_INPUT not in usual.flags
    assert fuse(out, parameters, NAMES, novelty="outside").flags == (NOT_A_BRAIN_MRI,)


@pytest.mark.parametrize(
    ("absent", "expected", "reason"),
    [
        (None, 0.75, "without a number of its own, no tumour has that of a tumour: odds of 9 become 3"),
        (4.0, 3**0.5 / (3**0.5 + 1), "odds of 9 to the power of a quarter"),
        (1.0, 0.9, "1 leaves them"),
    ],
)
def test_no_tumour_on_an_unusual_slice_has_a_temperature_of_its_own(
    absent: float | None, expected: float, reason: str
) -> None:
    parameters = replace(PLAIN, unusual_temperature=2.0, unusual_negative_temperature=absent)
    healthy, ill = outputs([0.04, 0.03, 0.9, 0.03], []), outputs([0.4, 0.3, 0.1, 0.2], [])
    assert fuse(healthy, parameters, NAMES, novelty="unusual").probabilities["no_tumor"] == pytest.approx(expected), (
        reason
    )
    assert fuse(ill, parameters, NAMES, novelty="unusual").probabilities["no_tumor"] == pytest.approx(0.25), reason


@given(
    st.lists(st.floats(0.001, 1), min_size=4, max_size=4),
    st.floats(1, 20),
    st.one_of(st.none(), st.floats(1, 20)),
    st.one_of(st.none(), st.floats(0.01, 0.99)),
)
def test_an_unusual_slice_is_less_sure_of_the_same_answer(
    weights: list[float], temperature: float, absent: float | None, threshold: float | None
) -> None:
    out = outputs([w / sum(weights) for w in weights], [])
    parameters = replace(
        PLAIN, unusual_temperature=temperature, unusual_negative_temperature=absent, tumor_threshold=threshold
    )
    edge = 0.5 if threshold is None else threshold
    usual, unusual = fuse(out, parameters, NAMES), fuse(out, parameters, NAMES, novelty="unusual")
    before, after = (1 - said.probabilities["no_tumor"] - edge for said in (usual, unusual))
    assert abs(after) <= abs(before) + 1e-6 and after * before >= -1e-6
    if threshold is not None and abs(after) > 1e-6:
        assert (usual.label == "no_tumor") == (unusual.label == "no_tumor")


def test_an_unusual_slice_without_a_class_for_no_tumour() -> None:
    names = FusionClasses(("glioma", "meningioma"), None, ("glioma", "meningioma"))
    out = StageOutputs(
        np.log(np.array([0.8, 0.2], np.float32)), np.zeros((0, 4), np.float32), (), np.zeros(0, np.float32)
    )
    parameters = replace(default_fusion(names.classes), unusual_temperature=2.0, box_weight=0.0)
    assert fused_probabilities(out, parameters, names, unusual=True)[0] == pytest.approx(2 / 3)


def test_evidence_is_the_log_odds_of_the_best_boxes() -> None:
    out = outputs([0.25] * 4, [(HERE, "glioma", 0.8), (THERE, "glioma", 0.3), (THERE, "pituitary", 0.5)])
    floor = np.log(0.01 / 0.99)
    np.testing.assert_allclose(detector_evidence(out, NAMES), [np.log(4), floor, -np.log(4), 0], atol=1e-6)


def test_evidence_where_the_detector_boxes_heads_or_lacks_a_class() -> None:
    heads = FusionClasses(CLASSES, "no_tumor", CLASSES)
    out = outputs([0.25] * 4, [(HERE, "no_tumor", 0.9), (THERE, "glioma", 0.2)])
    assert detector_evidence(out, heads)[2] == pytest.approx((np.log(9) + np.log(4)) / 2, abs=1e-6)
    few = FusionClasses(CLASSES, "no_tumor", ("glioma",))
    assert list(detector_evidence(out, few)[[1, 3]]) == [0, 0]


def test_the_logistic_regression_by_hand() -> None:
    out = outputs([0.4, 0.1, 0.4, 0.1], [(HERE, "glioma", 0.5)])
    parameters = replace(PLAIN, class_weight=2.0, box_weight=0.5, bias=(0.1, 0.0, 0.0, 0.0))
    floor = np.log(0.01 / 0.99)
    z = 2 * np.log([0.4, 0.1, 0.4, 0.1]) + 0.5 * np.array([0, floor, 0, floor]) + [0.1, 0, 0, 0]
    np.testing.assert_allclose(fused_probabilities(out, parameters, NAMES), np.exp(z) / np.exp(z).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("threshold", "label"),
    [
        (None, "no_tumor"),  # the likeliest class
        (0.45, "glioma"),  # P(tumour) = 0.48 reaches it: the likeliest tumour
        (0.48, "glioma"),  # reaching is enough
        (0.5, "no_tumor"),
        (0.0, "glioma"),  # everything is a tumour
    ],
)
def test_operating_point(threshold: float | None, label: str) -> None:
    out = outputs([0.3, 0.1, 0.52 - 1e-6, 0.08], [])
    assert fused(out, replace(PLAIN, tumor_threshold=threshold)).label == label


def test_box_scores_are_geometric_means() -> None:
    out = outputs([0.64, 0.04, 0.16, 0.16], [(HERE, "glioma", 0.81), (THERE, "pituitary", 0.25)])
    got = fused(out, replace(PLAIN, box_gamma=0.5))
    assert got.box_labels == ("glioma", "pituitary")
    np.testing.assert_allclose(got.scores, [0.72, 0.2], atol=1e-6)
    np.testing.assert_allclose(fused(out, replace(PLAIN, box_gamma=0.0)).scores, [0.81, 0.25], atol=1e-6)


def test_a_healthy_slice_keeps_its_boxes_in_order_under_the_threshold() -> None:
    out = outputs([0.1, 0.1, 0.7, 0.1], [(HERE, "glioma", 1.0), (THERE, "pituitary", 0.9)])
    got = fused(out, replace(PLAIN, box_gamma=0.0))
    assert got.label == "no_tumor" and got.box_labels == ("glioma", "pituitary")
    assert got.scores[0] < 0.5 and got.scores[0] > got.scores[1] > 0


def test_a_box_of_the_negative_class_is_not_a_tumour_box() -> None:
    names = FusionClasses(CLASSES, "no_tumor", CLASSES)
    healthy = fused(outputs([0.01, 0.01, 0.97, 0.01], [(HERE, "no_tumor", 0.95)]), names=names)
    assert healthy.scores[0] > 0.9 and healthy.flags == () and alone(healthy).detector_label == "no_tumor"
    ill = fused(outputs([0.97, 0.01, 0.01, 0.01], [(HERE, "no_tumor", 0.95)]), names=names)
    assert ill.box_labels == ("no_tumor",) and ill.flags == ("tumor_without_box",)


def test_the_best_box_gets_a_copy_with_the_slices_class() -> None:
    out = outputs(
        [0.01, 0.96, 0.01, 0.02],
        [(HERE, "pituitary", 0.9), ([11, 11, 51, 51], "meningioma", 0.3), (THERE, "meningioma", 0.2)],
    )
    got = fused(out)
    # The weaker meningioma on the same tumour is a duplicate; the one elsewhere stays.
    assert got.box_labels == ("meningioma", "meningioma", "pituitary")
    np.testing.assert_array_equal(got.boxes_xyxy[0], np.array(HERE, np.float32))
    assert got.scores[0] == pytest.approx(np.sqrt(0.9 * 0.96), abs=1e-6)
    assert alone(got).outputs is out and got.flags == ("class_box_conflict",)


INSIDE, BESIDE = [15.0, 15, 40, 40], [45.0, 45, 85, 85]


@pytest.mark.parametrize(
    ("second", "name", "drawn"),
    [
        (INSIDE, "glioma", 1),  # a box within the box: the same lesion
        ([10.0, 10, 50, 90], "glioma", 1),  # around it, twice as large
        (INSIDE, "meningioma", 1),  # the same lesion with another class
        (BESIDE, "glioma", 2),  # touching at a corner: another lesion
        (THERE, "glioma", 2),  # elsewhere
    ],
)
def test_one_box_per_lesion(second: list[float], name: str, drawn: int) -> None:
    got = fused(outputs([0.9, 0.08, 0.01, 0.01], [(HERE, "glioma", 0.95), (second, name, 0.9)]))
    assert len(got.scores) == 2, "nothing is lost for mAP"
    assert got.box_labels[0] == "glioma" and int((got.scores >= PLAIN.box_threshold).sum()) == drawn


def test_of_two_classes_for_one_box_the_slices_class_is_drawn() -> None:
    got = fused(outputs([0.1, 0.85, 0.01, 0.04], [(HERE, "glioma", 0.9)]), replace(PLAIN, box_gamma=0.0))
    assert got.box_labels == ("meningioma", "glioma") and got.scores[1] < PLAIN.box_threshold <= got.scores[0]


@pytest.mark.parametrize(
    ("probabilities", "boxes", "flags", "detector"),
    [
        ([0.97, 0.01, 0.01, 0.01], [(HERE, "glioma", 0.9)], (), "glioma"),
        ([0.01, 0.01, 0.97, 0.01], [], (), "no_tumor"),
        ([0.01, 0.01, 0.97, 0.01], [(HERE, "glioma", 0.3)], (), "no_tumor"),  # the box is below the threshold
        ([0.01, 0.01, 0.97, 0.01], [(HERE, "glioma", 0.9)], ("class_box_conflict",), "glioma"),
        ([0.01, 0.97, 0.01, 0.01], [(HERE, "glioma", 0.9)], ("class_box_conflict",), "glioma"),
        ([0.97, 0.01, 0.01, 0.01], [], ("tumor_without_box",), "no_tumor"),
        ([0.97, 0.01, 0.01, 0.01], [(HERE, "glioma", 0.1)], ("tumor_without_box",), "no_tumor"),
        ([0.5, 0.4, 0.05, 0.05], [(HERE, "glioma", 0.9)], ("low_confidence",), "glioma"),
        ([0.5, 0.4, 0.05, 0.05], [], ("low_confidence", "tumor_without_box"), "no_tumor"),
    ],
)
def test_flags(
    probabilities: list[float], boxes: list[tuple[list[float], str, float]], flags: tuple[str, ...], detector: str
) -> None:
    got = fused(outputs(probabilities, boxes))
    assert got.flags == flags and alone(got).detector_label == detector


def test_without_a_negative_class() -> None:
    names = FusionClasses(("cyst", "lesion"), None, ("cyst", "lesion"))
    plain = default_fusion(names.classes)
    none = fused(outputs([0.9, 0.1], []), plain, names)
    assert none.label == "cyst" and alone(none).detector_label is None and none.flags == ("tumor_without_box",)
    some = fused(outputs([0.9, 0.1], [(HERE, "lesion", 0.05)]), replace(plain, tumor_threshold=0.9), names)
    assert some.label == "cyst" and alone(some).detector_label == "lesion"


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        (outputs([0.5, 0.5], []), "4 classes"),
        (replace(outputs([0.25] * 4, []), classifier_logits=np.full(4, np.nan, np.float32)), "not finite"),
    ],
)
def test_what_cannot_be_fused(out: StageOutputs, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        fused(out)


@pytest.mark.parametrize(
    ("score", "label", "drawn"),
    [
        (0.3, "glioma", ["glioma"]),  # under the threshold, but the slice is a glioma and this is its best box
        (0.15, "glioma", []),  # a guess
        (0.3, "no_tumor", []),  # a healthy slice shows none
    ],
)
def test_a_tumour_slice_shows_a_box(score: float, label: str, drawn: list[str]) -> None:
    probabilities = [0.97 if name == label else 0.01 for name in CLASSES]
    boxes = [(HERE, "glioma", score), (THERE, "glioma", score / 2)]
    got = fused(outputs(probabilities, boxes), replace(PLAIN, box_gamma=0.0))
    assert got.label == label
    shown = [name for name, s in zip(got.box_labels, got.scores, strict=True) if s >= got.box_threshold]
    assert shown == drawn and ("tumor_without_box" in got.flags) == (label == "glioma" and not drawn)


@pytest.mark.parametrize("classes", [("glioma", "meningioma"), ("glioma", "no_tumor")])
def test_what_is_out_of_distribution_gets_no_answer_whatever_the_classes(classes: tuple[str, str]) -> None:
    negative = "no_tumor" if "no_tumor" in classes else None
    names = FusionClasses(classes, negative, ("glioma",))
    out = outputs([0.97, 0.03], [(HERE, "glioma", 0.97)])
    got = fuse(out, default_fusion(names.classes), names, novelty="outside")
    assert got.flags == (NOT_A_BRAIN_MRI,) and not got.judged
    assert (got.label, got.confidence, got.probabilities, len(got.scores)) == (None, None, {}, 0)
    assert alone(got).outputs is out, "evaluation of the stages needs them"


box_lists = st.lists(st.tuples(st.sampled_from(CLASSES), st.floats(0, 1, width=32)), max_size=6)
shares = st.lists(st.floats(1e-6, 1), min_size=4, max_size=4)


@given(
    probabilities=shares,
    boxes=box_lists,
    gamma=st.floats(0, 1),
    threshold=st.none() | st.floats(0, 1),
    keep=st.booleans(),
)
def test_properties(
    probabilities: list[float], boxes: list[tuple[str, float]], gamma: float, threshold: float | None, keep: bool
) -> None:
    """Whatever the outputs of the stages, the fused outputs are valid and class and boxes agree."""
    names = FusionClasses(CLASSES, "no_tumor", CLASSES if keep else TUMORS)
    placed = [([i, i, i + 20.0, i + 20.0], name, s) for i, (name, s) in enumerate(boxes) if keep or name != "no_tumor"]
    placed.sort(key=lambda row: -row[2])
    parameters = replace(default_fusion(CLASSES), box_gamma=gamma, tumor_threshold=threshold)
    got = fused(outputs(probabilities, placed), parameters, names)
    assert sum(got.probabilities.values()) == pytest.approx(1)
    assert got.label in CLASSES
    assert len(got.boxes_xyxy) == len(got.box_labels) == len(got.scores)
    assert ((got.scores >= 0) & (got.scores <= 1)).all() and (np.diff(got.scores) <= 0).all()
    if got.label == "no_tumor":
        assert all(s < 0.5 for name, s in zip(got.box_labels, got.scores, strict=True) if name != "no_tumor")
    if threshold is not None:
        tumor = 1 - np.float64(got.probabilities["no_tumor"])
        assert (got.label != "no_tumor") == bool(tumor >= threshold)
