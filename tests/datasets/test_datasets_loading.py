"""Slices become the right tensors, once decoded, in an order and with changes that depend on nothing but the seed."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectclf.config import AugmentConfig
from detectclf.datasets import slice_cache
from detectclf.datasets.augment import classification_augment, detection_augment
from detectclf.datasets.batches import Batches
from detectclf.datasets.loading import ClassificationSlices, DetectionSlices, default_workers, make_loader
from detectclf.errors import DataError
from detectclf.imaging import images
from detectclf.types import Sample, empty_boxes

CLASSES = ("glioma", "pituitary")


def write_slice(folder: Path, name: str, width: int, height: int, box: tuple[int, int, int, int] | None) -> Sample:
    """A dark slice with a bright box, and its sample."""
    pixels = np.full((height, width), 40, dtype=np.uint8)
    if box is not None:
        pixels[box[1] : box[3], box[0] : box[2]] = 250
    Image.fromarray(pixels).save(folder / name)
    boxes = np.array([box], dtype=np.float32) if box is not None else empty_boxes()
    labels = ("pituitary",) if box is not None else ()
    label = "pituitary" if box is not None else "glioma"
    return Sample(folder / name, name, "train", label, boxes, labels, True, width, height, str(folder))


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Wide, high, square and unboxed slices."""
    wide = write_slice(tmp_path, "wide.png", 128, 64, (96, 16, 128, 48))
    high = write_slice(tmp_path, "high.png", 50, 100, (10, 60, 30, 90))
    empty = write_slice(tmp_path, "empty.png", 64, 64, None)
    boxless = Sample(empty.path, "boxless.png", "train", "glioma", source=empty.source)
    return [wide, high, empty, boxless]


def test_boxes_follow_the_pixels_into_the_input_square(samples: list[Sample]) -> None:
    slices = DetectionSlices(samples, CLASSES, 32)
    assert [s.name for s in slices.samples] == ["wide.png", "high.png", "empty.png"]  # boxless one left out
    for index in (0, 1):
        image, target = slices[index]
        assert image.shape == (1, 32, 32) and image.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1
        x1, y1, x2, y2 = (round(v) for v in target["boxes"][0].tolist())
        inside = image[0, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
        assert inside.min() > 0.9, "the bright box is where the scaled box says"
        sample = slices.samples[index]
        assert target["size"] == (sample.width, sample.height)
        np.testing.assert_allclose(target["boxes"].numpy() / target["scale"], sample.boxes_xyxy, rtol=1e-6)
        assert target["labels"].tolist() == [1] and target["labels"].dtype == torch.int64
    _, target = slices[2]
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)


def test_classifier_gets_every_slice_with_a_class(samples: list[Sample]) -> None:
    unknown = Sample(samples[0].path, "unknown.png", "train", None)
    slices = ClassificationSlices([*samples, unknown], CLASSES, 32)
    assert len(slices) == 4
    image, target = slices[3]
    assert image.shape == (1, 32, 32)
    assert target == {"label": 0, "image_id": 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: [s[3]], "no slice with known boxes"),  # a classes-only source for the detector
        (lambda s: [], "no slice with known boxes"),  # an empty split
    ],
)
def test_nothing_to_train_on_is_said(samples: list[Sample], change, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=words):
        DetectionSlices(change(samples), CLASSES, 32)


def test_class_that_nobody_knows_is_said(samples: list[Sample]) -> None:
    with pytest.raises(DataError, match=r"wide\.png.*'pituitary' is none of glioma"):
        DetectionSlices(samples, ("glioma",), 32)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_unreadable_slice_is_named(samples: list[Sample], cache: str) -> None:
    samples[1].path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"high\.png"):
        list(make_loader(DetectionSlices(samples, CLASSES, 32, cache=cache), batch_size=2, seed=0, workers=0))


def test_cache_decodes_once_and_changes_nothing(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    real = images.read_image
    monkeypatch.setattr(images, "read_image", lambda path, **kw: (reads.append(path), real(path, **kw))[1])
    cached = DetectionSlices(samples, CLASSES, 32, cache="memory")
    fresh = DetectionSlices(samples, CLASSES, 32, cache="none")
    loader = make_loader(cached, batch_size=2, seed=0)
    for _ in range(3):
        list(loader)
    assert len(reads) == len(cached)
    assert all(torch.equal(cached[i][0], fresh[i][0]) for i in range(len(cached)))
    assert len(reads) == 2 * len(cached)


@pytest.mark.parametrize(
    ("free", "cached"),
    [
        (4 * 3 * 32 * 32, True),  # a quarter of it is just enough
        (4 * 3 * 32 * 32 - 4, False),
    ],
)
def test_auto_cache_takes_a_quarter_of_the_free_memory(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch, free: int, cached: bool
) -> None:
    monkeypatch.setattr(slice_cache, "free_memory", lambda: free)
    assert DetectionSlices(samples, CLASSES, 32).pixels.cached is cached


def test_free_memory_is_plausible() -> None:
    assert 2**20 < slice_cache.free_memory() < 2**50


def test_augmentation_depends_on_seed_epoch_and_index_alone(samples: list[Sample]) -> None:
    def build(seed: int) -> DetectionSlices:
        return DetectionSlices(samples, CLASSES, 64, detection_augment(AugmentConfig(), seed=seed), seed=seed)

    one, two = build(7), build(7)
    one[0], one[1], one[2]  # another history of calls
    assert torch.equal(one[1][0], two[1][0])
    first = one[1][0]
    one.epoch = 1
    assert not torch.equal(one[1][0], first)
    assert not torch.equal(build(8)[1][0], first)
    plain = ClassificationSlices(samples, CLASSES, 64, classification_augment(AugmentConfig(), seed=7), seed=7)
    assert torch.equal(plain[0][0], plain[0][0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
def test_loader_processes_change_nothing(samples: list[Sample]) -> None:
    def images(workers: int) -> list[torch.Tensor]:
        augment = detection_augment(AugmentConfig(), seed=1)
        slices = DetectionSlices(samples, CLASSES, 32, augment, seed=1, cache="none")
        return [batch["images"] for batch in make_loader(slices, batch_size=2, seed=1, workers=workers)]

    for here, there in zip(images(0), images(2), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize(
    ("device", "cached", "several"),
    [
        ("cpu", True, False),  # the network takes far longer than augmentation
        ("cpu", False, True),  # files are decoded again in each epoch
        ("cuda", True, sys.platform == "linux"),  # one process would keep a GPU waiting
        ("cuda", False, True),
    ],
)
def test_loader_processes_where_they_help(device: str, cached: bool, several: bool) -> None:
    assert (default_workers(device, cached=cached) > 0) is several


@pytest.mark.parametrize(
    ("length", "size"),
    [(10, 4), (9, 4), (8, 4), (1, 2), (3, 3)],  # ragged, one left over, even, fewer than a batch, exact
)
def test_training_batches_are_full_and_cover_the_epoch(length: int, size: int) -> None:
    batches = Batches(length, size, seed=3)
    order = list(batches)
    assert len(order) == len(batches) and all(len(b) == size for b in order)
    seen = [i for b in order for i in b]
    assert sorted(seen[:length]) == list(range(length)), "each slice once before any is repeated"
    assert order == list(batches), "the same epoch has the same order"
    batches.begin(1)
    assert length < 4 or list(batches) != order
    batches.begin(0, first=1)
    assert list(batches) == order[1:], "an interrupted epoch goes on where it stopped"


def test_validation_batches_keep_the_order() -> None:
    assert list(Batches(5, 2, seed=None)) == [[0, 1], [2, 3], [4]]


def test_slices_are_there_before_all_are_decoded(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks gets a slice at once, and none is decoded twice."""
    gate, reads = threading.Event(), []
    real = images.read_image

    def slow(path: Path, **options: object) -> np.ndarray:
        reads.append(path)
        if threading.current_thread() is not threading.main_thread():
            assert gate.wait(10)
        return real(path, **options)

    monkeypatch.setattr(images, "read_image", slow)
    monkeypatch.setattr(slice_cache.os, "cpu_count", lambda: 1)
    pixels = slice_cache.SlicePixels(samples, 32, "memory")
    pixels.start()
    last = pixels[len(samples) - 1].pixels.copy()  # the only thread still waits with the first
    gate.set()
    pixels.fill()
    assert sorted(reads) == sorted(s.path for s in samples)
    assert (pixels[len(samples) - 1].pixels == last).all()


def test_a_broken_slice_fails_the_next_one_asked_for(samples: list[Sample]) -> None:
    samples[1].path.write_bytes(b"not a picture")
    pixels = slice_cache.SlicePixels(samples, 32, "memory")
    pixels.start()
    with pytest.raises(DataError, match=r"high\.png"):
        for _ in range(1000):
            _ = pixels[0]
            time.sleep(0.01)
    pixels.stop()
