"""Slices as torch data sets: augmented and put into batches.

How a slice is augmented depends on (seed, epoch, index) alone, and the order of an epoch on (seed, epoch) alone, never
on the number of loader processes or training processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detectclf.datasets.augment import ClassificationAugment, DetectionAugment
from detectclf.datasets.batches import Batches, balancing_weights
from detectclf.datasets.loader_processes import begin_loader_process, can_fork, default_workers, fork_unheard
from detectclf.datasets.shard_order import shards_of
from detectclf.datasets.slice_cache import ResizedSlice, SlicePixels
from detectclf.datasets.synthesis import NO_SYNTHESIS, DrawnSlice, Synthesis
from detectclf.errors import DataError
from detectclf.types import ANY_TUMOR, ANY_TUMOR_INDEX, FloatArray, Pixels, Sample, empty_boxes

Target: TypeAlias = dict[str, Any]
Item: TypeAlias = tuple[Tensor, Target]
Batch: TypeAlias = dict[str, Any]
"""``images``: ``(B, 1, S, S)`` float32 in [0, 1]; ``targets``: a list of ``B`` dicts, see the data sets."""


class Slices(Dataset[Item]):
    """Base of the data sets: samples, classes, pixels, and the epoch that augmentation depends on."""

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        size: int,
        *,
        seed: int,
        cache: Literal["auto", "memory", "none"],
        negative: str | None,
        synthesis: Synthesis,
        balance: float,
        shuffle_buffer: int | None,
    ) -> None:
        self.shuffle_buffer = shuffle_buffer
        self.seed, self.negative, self.synthesis, self.balance = seed, negative, synthesis, balance
        self.samples, self.classes = tuple(samples), tuple(classes)
        self.pixels = SlicePixels(self.samples, size, cache)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.samples)

    def _lesions(self, index: int, resized: ResizedSlice) -> FloatArray | None:
        """The mask of the tumours on the input, where it is known."""
        masks = self.synthesis.masks
        mask = None if masks is None else masks.find(self.samples[index])
        return None if mask is None else mask.on(resized.inside, resized.pixels.shape[0])

    def _drawn(self, index: int) -> DrawnSlice | None:
        """A drawn slice in place of slice ``index``, where chance has it."""
        # Another stream than augmentation's, so that its changes stay the same.
        rng = np.random.default_rng((self.seed, self.epoch, index, 2))
        return self.synthesis.replacement(self.samples[index].label, self.classes, self.negative, self.pixels.size, rng)

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
        negative: the class of slices without a tumour.
        synthesis: masks and drawn slices, for augmentation.
        balance: how much an epoch makes up for classes of few slices, see :func:`balancing_weights`.
        shuffle_buffer: slices that are put in random order together, see :func:`shards_of`.

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
        negative: str | None = None,
        synthesis: Synthesis = NO_SYNTHESIS,
        balance: float = 0.0,
        shuffle_buffer: int | None = None,
    ) -> None:
        boxed = [s for s in samples if s.boxed]
        super().__init__(
            boxed,
            classes,
            size,
            seed=seed,
            cache=cache,
            negative=negative,
            synthesis=synthesis,
            balance=balance,
            shuffle_buffer=shuffle_buffer,
        )
        if not self.samples:
            raise DataError("no slice with known boxes in this split", remedy="add a detection export with --data")
        self.augment = augment
        self.labels = [
            np.array([self._class_index(name, s) for name in s.box_labels], dtype=np.int64) for s in self.samples
        ]

    def __getitem__(self, index: int) -> Item:
        """Item ``index``; raises DataError where its file cannot be read."""
        resized = self.pixels[index]
        pixels, scale, width, height, _ = resized
        boxes, labels = (self.samples[index].boxes_xyxy * np.float32(scale)).astype(np.float32), self.labels[index]
        if self.augment is not None:
            pixels, boxes, labels = self._augmented(self.augment, index, resized, boxes, labels)
        target: Target = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(labels),
            "image_id": index,
            "scale": scale,
            "size": (width, height),
        }
        return _to_tensor(pixels), target

    def _augmented(
        self,
        augment: DetectionAugment,
        index: int,
        resized: ResizedSlice,
        boxes: FloatArray,
        labels: npt.NDArray[np.int64],
    ) -> tuple[Pixels, FloatArray, npt.NDArray[np.int64]]:
        augment.reseed(self.seed, self.epoch, index)
        if (drawn := self._drawn(index)) is None:
            return augment(resized.pixels, boxes, labels, resized.inside, self._lesions(index, resized))
        kind = self.classes.index(drawn.label) if drawn.label in self.classes else ANY_TUMOR_INDEX
        kinds = np.full(len(drawn.boxes_xyxy), kind, dtype=np.int64)
        return augment(drawn.pixels, drawn.boxes_xyxy, kinds, drawn=True)


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
        synthesis: Synthesis = NO_SYNTHESIS,
        balance: float = 0.0,
        shuffle_buffer: int | None = None,
    ) -> None:
        named = [s for s in samples if s.label is not None]
        super().__init__(
            named,
            classes,
            size,
            seed=seed,
            cache=cache,
            negative=negative,
            synthesis=synthesis,
            balance=balance,
            shuffle_buffer=shuffle_buffer,
        )
        if not self.samples:
            raise DataError("no slice with a known class in this split", remedy="add labelled data with --data")
        self.augment = augment
        self.labels = [self._class_index(s.label, s) for s in self.samples if s.label is not None]
        healthy = self.classes.index(negative) if negative in self.classes else None
        self.healthy = healthy if healthy in self.labels else None

    def __getitem__(self, index: int) -> Item:
        """Item ``index``; raises DataError where its file cannot be read."""
        resized, label = self.pixels[index], self.labels[index]
        pixels = resized.pixels
        if self.augment is not None:
            self.augment.reseed(self.seed, self.epoch, index)
            if (drawn := self._drawn(index)) is not None:
                pixels, _ = self.augment(drawn.pixels, drawn.boxes_xyxy, drawn=True)
                label = self._class_index(drawn.label, self.samples[index])
                return _to_tensor(pixels), {"label": label, "image_id": index}
            tumors = self._tumors(index, resized.scale)
            pixels, content = self.augment(pixels, tumors, resized.inside, self._lesions(index, resized))
            if content == "healthy" and self.healthy is not None:
                label = self.healthy
            elif content == "any_tumor":
                label = ANY_TUMOR_INDEX
        return _to_tensor(pixels), {"label": label, "image_id": index}

    def _tumors(self, index: int, scale: float) -> FloatArray | None:
        """``(N, 4)`` boxes on the input; ``None`` where they are not known, or no class means no tumour."""
        sample = self.samples[index]
        if self.labels[index] == self.healthy:
            return empty_boxes()
        if not sample.boxed or self.healthy is None:
            return None
        tumor = [name != self.classes[self.healthy] for name in sample.box_labels]
        boxes: FloatArray = sample.boxes_xyxy[np.array(tumor, dtype=bool)] * np.float32(scale)
        return boxes


def collate(items: Sequence[Item]) -> Batch:
    """Items -> ``{"images": (B, 1, S, S), "targets": [B dicts]}``."""
    return {"images": torch.stack([image for image, _ in items]), "targets": [target for _, target in items]}


def make_loader(
    slices: Slices, *, batch_size: int, seed: int | None, workers: int | None = None, device: str = "cpu"
) -> DataLoader[Item]:
    """A loader over ``slices``. With loader processes the cache is filled before they copy it, else meanwhile.

    Args:
        slices: the data set.
        batch_size: slices per step over all processes; Accelerate gives each its share.
        seed: of the order in training; ``None`` for the slices' own order.
        workers: loader processes; see :func:`default_workers`.
        device: type of the device that the batches are for.

    Raises:
        DataError: a slice cannot be read, and loader processes share a cache; otherwise the loader raises it.
    """
    if workers is None:
        workers = default_workers(device, cached=slices.pixels.cached)
    if workers:
        slices.pixels.fill()
    else:
        slices.pixels.start()
    weights, shards = (
        balancing_weights(slices.samples, slices.balance),
        shards_of(slices.samples, slices.shuffle_buffer),
    )
    sampler = Batches(len(slices), batch_size, seed, weights, shards)
    build: Callable[..., DataLoader[Item]] = DataLoader
    return build(
        slices,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=begin_loader_process if workers else None,
        # Forked processes share the cache; others would be sent a copy of it in each epoch.
        multiprocessing_context=fork_unheard() if workers and can_fork() else None,
    )


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255))[None]
