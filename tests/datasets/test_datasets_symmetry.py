"""Halves of a head shown twice: the tumour is gone or there twice, and what cannot be symmetric is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectclf.boxes import iou
from detectclf.config import AugmentConfig
from detectclf.datasets.augment import classification_augment, detection_augment
from detectclf.datasets.loading import ClassificationSlices, DetectionSlices
from detectclf.datasets.symmetry import find_axis, make_symmetric
from detectclf.types import Sample

SIDE = 200
STILL = AugmentConfig(flip=0, affine=0, intensity=0, noise=0, blur=0, bias_field=0, ghosting=0)


def head(*, tilt: float = 0.0, x: float = 100.0, tumor: tuple[float, float] | None = (60.0, 80.0), face: bool = False):
    """An oval head with ventricles, upright or tilted (degrees), and a bright disc of 12 px with its box."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    angle = np.radians(tilt)
    across = (columns - x) * np.cos(angle) - (rows - 100) * np.sin(angle)
    along = (columns - x) * np.sin(angle) + (rows - 100) * np.cos(angle)
    pixels = np.where((across / 60) ** 2 + (along / 85) ** 2 < 1, 120, 0)
    for side in (-1, 1):
        pixels[((across - 18 * side) / 8) ** 2 + ((along + 10) / 25) ** 2 < 1] = 60
    if face:  # a profile: much on one side only
        pixels[(across > 0) & (pixels > 0)] = 20
    boxes = np.zeros((0, 4), dtype=np.float32)
    if tumor is not None:
        disc = (columns - tumor[0]) ** 2 + (rows - tumor[1]) ** 2 < 12**2
        pixels[disc] = 250
        boxes = np.array([[tumor[0] - 12, tumor[1] - 12, tumor[0] + 12, tumor[1] + 12]], dtype=np.float32)
    return pixels.astype(np.uint8), boxes


@settings(max_examples=25, deadline=None)
@given(st.floats(-10, 10), st.floats(85, 115))
def test_axis_is_found_wherever_the_head_lies(tilt: float, x: float) -> None:
    axis = find_axis(head(tilt=tilt, x=x, tumor=None)[0])
    assert axis is not None and axis.symmetry > 0.97
    assert abs(np.degrees(axis.angle) - tilt) < 2.5
    assert abs(axis.distance(np.array([x, 100.0]))) < 3


@pytest.mark.parametrize("side", [224, 320, 640], ids=["as searched and more", "a detector's input", "an original"])
def test_axis_and_boxes_are_right_to_the_pixel(side: int) -> None:
    # mirror-symmetric by construction, so that half a pixel of bias shows
    rows, columns = np.mgrid[:side, :side] + 0.5
    pixels = np.where(
        ((columns - side / 2) / (0.35 * side)) ** 2 + ((rows - side / 2) / (0.42 * side)) ** 2 < 1, 120, 0
    )
    axis = find_axis(pixels.astype(np.uint8))
    assert axis is not None and abs(axis.x - (side - 1) / 2) < 0.3 and axis.angle == 0
    x1, y1, x2, y2 = int(0.25 * side), int(0.35 * side), int(0.36 * side), int(0.5 * side)
    pixels[y1:y2, x1:x2] = 255
    boxes = np.array([[x1, y1, x2, y2]], dtype=np.float32)
    doubled = make_symmetric(pixels.astype(np.uint8), boxes, healthy=False)
    assert doubled is not None
    lit = np.argwhere((doubled.pixels > 200) & (columns > side / 2))
    edges = [*lit.min(axis=0)[::-1], *(lit.max(axis=0)[::-1] + 1)]
    np.testing.assert_allclose(doubled.boxes_xyxy[1], edges, atol=0.75)


def test_padding_beside_a_slice_is_no_part_of_it() -> None:
    pixels, boxes = head()
    padded = np.zeros((SIDE + 60, SIDE + 60), dtype=np.uint8)
    padded[:SIDE, :SIDE] = pixels
    alone, beside = (
        make_symmetric(pixels, boxes, healthy=True),
        make_symmetric(padded, boxes, healthy=True, inside=(SIDE, SIDE)),
    )
    assert alone is not None and beside is not None
    np.testing.assert_array_equal(beside.pixels[:SIDE, :SIDE], alone.pixels)
    assert not beside.pixels[SIDE:].any() and not beside.pixels[:, SIDE:].any()


@pytest.mark.parametrize(("tumor", "tilt"), [((60.0, 80.0), 0.0), ((140.0, 120.0), 0.0), ((60.0, 80.0), 8.0)])
def test_the_healthy_half_twice_shows_no_tumor(tumor, tilt) -> None:
    pixels, boxes = head(tumor=tumor, tilt=tilt)
    before = pixels.copy()
    symmetric = make_symmetric(pixels, boxes, healthy=True)
    assert symmetric is not None and len(symmetric.boxes_xyxy) == 0
    assert (pixels > 200).any() and not (symmetric.pixels > 200).any()
    np.testing.assert_array_equal(pixels, before)
    plain = head(tumor=None, tilt=tilt)[0].astype(int)
    assert np.mean(np.abs(symmetric.pixels.astype(int) - plain) > 40) < 0.02, "more than outlines has changed"


def test_the_tumors_half_twice_has_two_boxes_that_fit() -> None:
    pixels, boxes = head(tilt=6.0)
    symmetric = make_symmetric(pixels, boxes, healthy=False)
    assert symmetric is not None and symmetric.rows.tolist() == [0, 0]
    np.testing.assert_array_equal(symmetric.boxes_xyxy[0], boxes[0])
    own = np.zeros(pixels.shape, dtype=bool)
    x1, y1, x2, y2 = boxes[0].astype(int)
    own[y1:y2, x1:x2] = True
    rows, columns = np.nonzero((symmetric.pixels > 200) & ~own)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float32)
    assert iou(found, symmetric.boxes_xyxy[1:])[0] > 0.85  # a pixel off in 24


@pytest.mark.parametrize(
    ("pixels", "boxes", "reason"),
    [
        (*head(tumor=None), "no tumour"),
        (*head(tumor=(100.0, 80.0)), "a tumour in the middle"),
        (head()[0], np.array([[48, 68, 72, 92], [130, 68, 150, 92]], dtype=np.float32), "tumours on both sides"),
        (*head(face=True), "a slice without symmetry"),
        (np.zeros((50, 50), dtype=np.uint8), np.array([[2, 2, 9, 9]], dtype=np.float32), "nothing is seen"),
        (np.full((2, 3), 99, dtype=np.uint8), np.array([[0, 0, 1, 1]], dtype=np.float32), "a few pixels, all alike"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_halved_is_left_alone(pixels, boxes, reason) -> None:
    assert make_symmetric(pixels, boxes, healthy=True) is None, reason
    assert make_symmetric(pixels, boxes, healthy=False) is None, reason


def test_a_tumor_that_would_leave_the_picture_is_not_shown_twice() -> None:
    pixels, boxes = head(x=55.0, tumor=(112.0, 100.0))
    boxes[0, 2] += 10  # beyond the head, whose other half is cut off
    assert make_symmetric(pixels, boxes, healthy=False) is None
    assert make_symmetric(pixels, boxes, healthy=True) is not None


def test_augmentation_drops_or_doubles_boxes() -> None:
    pixels, boxes = head()
    labels = np.array([1])
    healthy = detection_augment(STILL.model_copy(update={"symmetry_healthy": 1.0}), seed=0)
    doubled = detection_augment(STILL.model_copy(update={"symmetry_tumor": 1.0}), seed=0)
    never = detection_augment(STILL, seed=0)
    assert healthy(pixels, boxes, labels)[2].tolist() == []
    assert doubled(pixels, boxes, labels)[2].tolist() == [1, 1]
    assert never(pixels, boxes, labels)[2].tolist() == [1]


@pytest.mark.parametrize(
    ("boxed", "negative", "label"),
    [(True, "no_tumor", "no_tumor"), (False, "no_tumor", "glioma"), (True, None, "glioma")],
    ids=["its class is known", "where the tumour lies is not known", "no class to call it"],
)
def test_a_slice_without_its_tumor_is_of_the_negative_class(tmp_path, boxed, negative, label) -> None:
    import cv2

    pixels, boxes = head()
    path = tmp_path / "slice.png"
    cv2.imwrite(str(path), pixels)
    sample = Sample(path, "slice.png", "train", "glioma", boxes, ("glioma",), boxed, SIDE, SIDE)
    augment = classification_augment(STILL.model_copy(update={"symmetry_healthy": 1.0}), seed=0)
    healthy = Sample(path, "healthy.png", "train", "no_tumor", width=SIDE, height=SIDE)
    classes = ("glioma", "no_tumor")
    image, target = ClassificationSlices([sample, healthy], classes, SIDE, augment, negative=negative)[0]
    assert classes[target["label"]] == label
    assert bool((image > 0.8).any()) == (label == "glioma")


def test_more_than_always_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        AugmentConfig(symmetry_healthy=0.7, symmetry_tumor=0.4)


def test_a_box_of_the_negative_class_is_no_tumor(tmp_path) -> None:
    import cv2

    pixels, boxes = head()
    path = tmp_path / "slice.png"
    cv2.imwrite(str(path), pixels)
    round_head = np.array([[40, 15, 160, 185]], dtype=np.float32)
    both = np.concatenate([boxes, round_head])
    samples = [
        Sample(path, "tumor.png", "train", "glioma", both, ("glioma", "no_tumor"), True, SIDE, SIDE),
        Sample(path, "healthy.png", "train", "no_tumor", round_head, ("no_tumor",), True, SIDE, SIDE),
    ]
    augment = classification_augment(STILL.model_copy(update={"symmetry_healthy": 1.0}), seed=0)
    slices = ClassificationSlices(samples, ("glioma", "no_tumor"), SIDE, augment, negative="no_tumor")
    assert slices[0][1]["label"] == 1 and not bool((slices[0][0] > 0.8).any())
    np.testing.assert_array_equal(np.rint(slices[1][0][0].numpy() * 255), pixels)


def test_without_healthy_slices_none_are_made(tmp_path) -> None:
    # class weights counted on the slices would be 0 for a class that only augmentation knows
    import cv2

    pixels, boxes = head()
    cv2.imwrite(str(tmp_path / "slice.png"), pixels)
    sample = Sample(tmp_path / "slice.png", "slice.png", "train", "glioma", boxes, ("glioma",), True, SIDE, SIDE)
    augment = classification_augment(STILL.model_copy(update={"symmetry_healthy": 1.0}), seed=0)
    assert (
        ClassificationSlices([sample], ("glioma", "no_tumor"), SIDE, augment, negative="no_tumor")[0][1]["label"] == 0
    )


@pytest.mark.parametrize(("width", "height"), [(500, 333), (511, 400)])
def test_a_tumor_at_the_border_of_an_oblong_slice_is_shown_twice(tmp_path, width: int, height: int) -> None:
    import cv2

    columns = np.mgrid[:height, :width][1] + 0.5
    pixels = np.where(np.abs(columns - width / 2) < 0.3 * width, 120, 0).astype(np.uint8)
    pixels[height - 40 :, width // 2 - 90 : width // 2 - 50] = 250
    box = np.array([[width // 2 - 90, height - 40, width // 2 - 50, height]], dtype=np.float32)
    cv2.imwrite(str(tmp_path / "slice.png"), pixels)
    sample = Sample(tmp_path / "slice.png", "slice.png", "train", "glioma", box, ("glioma",), True, width, height)
    augment = detection_augment(STILL.model_copy(update={"symmetry_tumor": 1.0}), seed=0)
    _, target = DetectionSlices([sample], ("glioma",), 224, augment)[0]
    assert len(target["boxes"]) == 2
