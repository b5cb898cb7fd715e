"""Slices as torch data sets: augmented and put into batches.

How a slice is augmented depends on (seed, epoch, index) alone, and the order of an epoch on (seed, epoch) alone, never
on the number of loader processes or training processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from detectclf.datasets.augment import ClassificationAugment, DetectionAugment
from detectclf.datasets.slice_cache import SlicePixels
from detectclf.errors import DataError
from detectclf.types import ANY_TUMOR, ANY_TUMOR_INDEX, FloatArray, Pixels, Sample

Target: TypeAlias = dict[str, Any]
Item: TypeAlias = tuple[Tensor, Target]
Batch: TypeAlias = dict[str, Any]
"""``images``: ``(B, 1, S, S)`` float32 in [0, 1]; ``targets``: a list of ``B`` dicts, see the data sets."""


class Slices(Dataset[Item]):
    """Base of the data sets: samples, classes, pixels, and the epoch that augmentation depends on."""

    def __init__(
        self, samples: Sequence[Sample], classes: Sequence[str], size: int, cache: Literal["auto", "memory", "none"]
    ) -> None:
        self.samples, self.classes = tuple(samples), tuple(classes)
        self.pixels = SlicePixels(self.samples, size, cache)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.samples)

    def _class_index(self, name: str, sample: Sample) -> int:
        if name == ANY_TUMOR:
            return ANY_TUMOR_INDEX
        if name not in self.classes:
            raise DataError(
                f"class {name!r} is none of {', '.join(self.classes)}",
                file=sample.path,
                remedy="map it in data.class_map",
            )
        return self.classes.index(name)


class DetectionSlices(Slices):
    """Slices with their boxes; those whose boxes are not known are left out.

    An item is ``(image, target)``: image ``(1, S, S)`` float32 in [0, 1]; target with ``boxes`` ``(N, 4)`` float32
    xyxy pixels of that image, ``labels`` ``(N,)`` int64 from 0 or ``ANY_TUMOR_INDEX``, ``image_id`` (index into
    ``samples``), ``scale`` (image over original pixels) and ``size`` (original width and height).

    Args:
        samples: slices of one split.
        classes: box classes; a label is the position in it.
        size: side of the network's input, pixels.
        augment: random changes, or ``None``.
        seed: of the changes.
        cache: see :class:`SlicePixels`.

    Raises:
        DataError: no slice has known boxes, or a box has another class.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        size: int,
        augment: DetectionAugment | None = None,
        *,
        seed: int = 0,
        cache: Literal["auto", "memory", "none"] = "auto",
    ) -> None:
        super().__init__([s for s in samples if s.boxed], classes, size, cache)
        if not self.samples:
            raise DataError("no slice with known boxes in this split", remedy="add a detection export with --data")
        self.augment, self.seed = augment, seed
        self.labels = [
            np.array([self._class_index(name, s) for name in s.box_labels], dtype=np.int64) for s in self.samples
        ]

    def __getitem__(self, index: int) -> Item:
        """Item ``index``; raises DataError where its file cannot be read."""
        pixels, scale, width, height, inside = self.pixels[index]
        boxes, labels = self._known_boxes(index)
        boxes = (boxes * np.float32(scale)).astype(np.float32)
        if self.augment is not None:
            self.augment.reseed(self.seed, self.epoch, index)
            pixels, boxes, labels = self.augment(pixels, boxes, labels, inside)
        target: Target = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(labels),
            "image_id": index,
            "scale": scale,
            "size": (width, height),
        }
        return _to_tensor(pixels), target

    def _known_boxes(self, index: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """``(N, 4)`` boxes in pixels of the original slice, and their ``(N,)`` labels."""
        return self.samples[index].boxes_xyxy, self.labels[index]


class ClassificationSlices(Slices):
    """Slices with their class; those without one are left out.

    An item is ``(image, target)``: image ``(1, S, S)`` float32 in [0, 1]; target with ``label`` (position in
    ``classes``, or ``ANY_TUMOR_INDEX``) and ``image_id``.

    Args and errors as for :class:`DetectionSlices`; ``negative`` is the class of slices without a tumour. Symmetry
    augmentation gives slices that class only where the data have it too, since class weights are counted on the data.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        size: int,
        augment: ClassificationAugment | None = None,
        *,
        seed: int = 0,
        cache: Literal["auto", "memory", "none"] = "auto",
        negative: str | None = None,
    ) -> None:
        super().__init__([s for s in samples if s.label is not None], classes, size, cache)
        if not self.samples:
            raise DataError("no slice with a known class in this split", remedy="add labelled data with --data")
        self.augment, self.seed = augment, seed
        self.labels = [self._class_index(s.label, s) for s in self.samples if s.label is not None]
        healthy = self.classes.index(negative) if negative in self.classes else None
        self.healthy = healthy if healthy in self.labels else None

    def __getitem__(self, index: int) -> Item:
        """Item ``index``; raises DataError where its file cannot be read."""
        resized, label = self.pixels[index], self.labels[index]
        pixels = resized.pixels
        if self.augment is not None:
            self.augment.reseed(self.seed, self.epoch, index)
            pixels, gone = self.augment(pixels, self._tumors(index, resized.scale), resized.inside)
            if gone and self.healthy is not None:
                label = self.healthy
        return _to_tensor(pixels), {"label": label, "image_id": index}

    def _tumors(self, index: int, scale: float) -> FloatArray | None:
        """``(N, 4)`` boxes on the input; ``None`` where they are not known, or no class means no tumour."""
        sample = self.samples[index]
        if not sample.boxed or self.healthy is None:
            return None
        tumor = [name != self.classes[self.healthy] for name in sample.box_labels]
        boxes: FloatArray = sample.boxes_xyxy[np.array(tumor, dtype=bool)] * np.float32(scale)
        return boxes


class Batches(Sampler[list[int]]):
    """Indices of the batches of an epoch, for all training processes together.

    In training the order is drawn from (seed, epoch), and the last batch is filled up from the front of that order:
    every batch is full, so that BatchNorm never meets a batch of one and processes get equal shares. Otherwise the
    order is that of the slices, and the last batch may be short.

    Args:
        length: number of slices.
        batch_size: slices per batch.
        seed: of the order; ``None`` keeps the slices' own.
    """

    drop_last = False  # Accelerate asks for it

    def __init__(self, length: int, batch_size: int, seed: int | None) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.epoch, self.first = 0, 0

    def begin(self, epoch: int, first: int = 0) -> None:
        """Chooses the epoch, and the batch to start from when an interrupted epoch is resumed."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.length)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
            order = np.resize(order, len(self) * self.batch_size)
        for start in range(self.first * self.batch_size, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()


def collate(items: Sequence[Item]) -> Batch:
    """Items -> ``{"images": (B, 1, S, S), "targets": [B dicts]}``."""
    return {"images": torch.stack([image for image, _ in items]), "targets": [target for _, target in items]}


def make_loader(slices: Slices, *, batch_size: int, seed: int | None, workers: int | None = None) -> DataLoader[Item]:
    """A loader over ``slices``. With loader processes the cache is filled before they copy it, else meanwhile.

    Args:
        slices: the data set.
        batch_size: slices per step over all processes; Accelerate gives each its share.
        seed: of the order in training; ``None`` for the slices' own order.
        workers: loader processes; by default none with a cache (augmentation takes milliseconds), else one per core up
            to 8.

    Raises:
        DataError: a slice cannot be read, and loader processes share a cache; otherwise the loader raises it.
    """
    if workers is None:
        workers = 0 if slices.pixels.cached else min(8, os.cpu_count() or 1)
    if workers:
        slices.pixels.fill()
    else:
        slices.pixels.start()
    sampler = Batches(len(slices), batch_size, seed)
    build: Callable[..., DataLoader[Item]] = DataLoader
    return build(
        slices,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread if workers else None,
    )


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255))[None]


def _one_thread(_worker: int) -> None:
    # With a thread per core in each, loader processes slow down one another and the training.
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
