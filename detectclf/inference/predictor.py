"""Prediction of many pictures: threads decode them while the networks run on batches; the outputs are fused."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detectclf.boxes import in_original_pixels
from detectclf.config import PredictConfig
from detectclf.errors import ConfigError, DataError, ModelError, UnsafeError
from detectclf.imaging.images import read_pixels
from detectclf.inference import forks  # noqa: F401 - its hooks, for processes that are forked off
from detectclf.inference.decoding_pool import DecodingPool
from detectclf.inference.fusion import FusionClasses, fuse
from detectclf.inference.ood import novelty
from detectclf.inference.orientation import is_turned
from detectclf.inference.preprocess import DecodedInput, UndecodedInput, prepare
from detectclf.inference.runtimes.base import Raw
from detectclf.inference.runtimes.choice import open_runtime
from detectclf.inference.sources import ImageSource, taken
from detectclf.inference.studies import Study, refused, summed_up
from detectclf.inference.volumes import Volume, volume_in
from detectclf.models.map_fit import measured_fit
from detectclf.prediction import Prediction
from detectclf.types import CROPPED, ORIENTATION, FloatArray, FusedOutputs, Pixels, Sample, StageOutputs

if TYPE_CHECKING:
    from detectclf.models.bundle import Bundle


class Predictor:
    """All stages of a bundle, computed by one runtime; may be used by several threads at once.

    It also works in processes that are forked off after it was made (``multiprocessing``, prefork servers), in torch
    there with one thread and on the CPU only. Such a process must end by ``os._exit``, as those of ``multiprocessing``
    do, where ONNX Runtime is used: it aborts in a plain exit.

    Args:
        bundle: the networks with their fusion.
        config: batch size, runtime and device.

    Raises:
        ModelError: the stages were trained on different classes, or the runtime cannot run them.
        DeviceError: the device does not exist.
    """

    def __init__(self, bundle: Bundle, config: PredictConfig) -> None:
        self.bundle, self.config = bundle, config
        self.names = FusionClasses(
            tuple(bundle.classes), bundle.negative, tuple(str(name) for name in bundle.stages["detector"].classes)
        )
        foreign = sorted(set(self.names.detector_classes) - set(self.names.classes))
        if foreign:
            raise ModelError(
                f"the detector has classes that the classifier does not know: {', '.join(foreign)}",
                remedy="train both on data with the same classes",
            )
        self.runtime = open_runtime(bundle, config)
        self._process = os.getpid()

    @property
    def name(self) -> str:
        """Name and version of the bundle, as predictions carry them."""
        return f"{self.bundle.name} {self.bundle.version}"

    @property
    def device(self) -> str:
        """Where the networks are computed, such as ``cpu`` or ``cuda:0``."""
        return self.runtime.device

    def predict(self, image: ImageSource, *, explain: bool = False) -> Prediction:
        """The prediction of one picture; with ``explain``, also the activation map of its class.

        Args:
            image: a path, the bytes of a file, a binary file object, an array, a PIL image or a tensor; in full at
                :data:`~detectclf.inference.sources.ImageSource`.
            explain: whether to compute the activation map.

        Raises:
            DataError: the picture cannot be read.
            UnsafeError: the picture is refused as unsafe.
            ModelError: an activation map is asked for, and the classifier has no convolutions.
        """
        prepared = self._prepare(taken(image))
        if isinstance(prepared, UndecodedInput):
            raise prepared.error
        return self._predict_batch([prepared], explain)[0]

    def predict_many(
        self,
        inputs: Iterable[ImageSource],
        *,
        batch_size: int | None = None,
        explain: bool = False,
        read: Callable[[Sample], Pixels] = read_pixels,
    ) -> Iterator[Prediction]:
        """The predictions of many pictures, in order; one that cannot be read gives a prediction with ``error`` set.

        Args:
            inputs: pictures, as :data:`~detectclf.inference.sources.ImageSource` lists them; read lazily, at most two
                batches ahead.
            batch_size: pictures per forward pass, at least 1; by default as configured.
            explain: whether to compute the activation map of each slice's class.
            read: gives the pixels of a sample, such as the slice index, which makes its entry from the same read.

        Raises:
            ConfigError: no such batch size.
            ModelError: an activation map is asked for, and the classifier has no convolutions.
        """
        for batch in self._batches(inputs, batch_size, read):
            yield from self._predict_batch(batch, explain)

    def predict_study(
        self,
        path: str | Path,
        *,
        axis: str | None = None,
        each: Callable[[Prediction], None] = lambda prediction: None,
    ) -> Study:
        """What the slices of one volume say together; :mod:`detectclf.inference.studies` says how.

        Args:
            path: a NIfTI file, or a folder with one DICOM series.
            axis: ``axial`` (default), ``coronal`` or ``sagittal`` slices of a NIfTI volume.
            each: called with the prediction of every slice as it is made.

        Raises:
            DataError: there is no volume or several, it is no MRI, or none of its slices can be read.
            UnsafeError: it is refused as unsafe.
        """
        volume = volume_in(path, axis)
        if volume.error is not None:
            raise volume.error
        study = self.study_of(volume, each=each)
        if study.error is not None:
            raise (UnsafeError if study.error_exit == UnsafeError.exit_code else DataError)(study.error)
        return study

    def study_of(self, volume: Volume, *, each: Callable[[Prediction], None] = lambda prediction: None) -> Study:
        """As :meth:`predict_study`, of a volume that is known; one that cannot be read gives ``error``."""
        steps = self.study_in_steps(volume)
        try:
            while True:
                each(next(steps))
        except StopIteration as end:
            study: Study = end.value
            return study
        finally:
            steps.close()

    def study_in_steps(self, volume: Volume) -> Generator[Prediction, None, Study]:
        """The predictions of the slices of a volume, as they are made; it returns what they say together."""
        if volume.error is not None:
            return refused(volume, self.name)
        slices = []
        try:
            for prediction in self.predict_many(volume):
                # Without what fills the memory over a volume.
                slices.append(replace(prediction, before_fusion=None))
                yield prediction
        finally:
            volume.close()
        return summed_up(volume, slices, self.names.negative, self.name, self.bundle.fusion.low_confidence)

    def raw_many(
        self,
        samples: Iterable[ImageSource],
        *,
        batch_size: int | None = None,
        read: Callable[[Sample], Pixels] = read_pixels,
    ) -> Iterator[StageOutputs]:
        """The outputs of the stages for each picture, before fusion, in order; arguments as of :meth:`predict_many`.

        Raises:
            DataError, UnsafeError: a picture cannot be read; a fit must not leave it out silently.
        """
        for batch in self._batches(samples, batch_size, read):
            yield from self._run_stages(_readable(batch))

    def statistics_many(self, samples: Iterable[ImageSource], *, clean: bool = False) -> FloatArray:
        """``(N, D)`` statistics of the detector's feature maps, as in :attr:`StageOutputs.features`.

        Only the detector runs. Without ``clean``, noise and stripes are left in: a refusal that knows only slices from
        which all of them is gone refuses those with a rest (docs/log.md).

        Raises:
            DataError, UnsafeError: a picture cannot be read.
        """
        rows, remaining = [], iter(samples)
        while batch := [self._prepare(taken(each), clean=clean) for each in islice(remaining, self.config.batch_size)]:
            rows.append(self.runtime.features(_stacked(s.resized.detector for s in _readable(batch))))
        return np.concatenate(rows)

    def _batches(
        self, inputs: Iterable[ImageSource], batch_size: int | None, read: Callable[[Sample], Pixels]
    ) -> Iterator[list[DecodedInput | UndecodedInput]]:
        """Batches of preprocessed pictures, which threads decode while the networks run."""
        size = self.config.batch_size if batch_size is None else batch_size
        if size < 1:
            raise ConfigError(f"a batch of {size} slices", remedy="give a batch_size of 1 or more")
        remaining = iter(inputs)
        pending: deque[Future[DecodedInput | UndecodedInput]] = deque()
        # Threads suffice, since cv2 and PIL release the interpreter lock; more would take cores from the networks.
        pool = DecodingPool(min(4, os.cpu_count() or 1))
        try:
            while True:
                for item in islice(remaining, max(0, 2 * size - len(pending))):
                    pending.append(pool.submit(self._prepare, taken(item), read))
                if not pending:
                    return
                yield [pending.popleft().result() for _ in range(min(size, len(pending)))]
        finally:
            pool.close()

    def _prepare(
        self, source: ImageSource, read: Callable[[Sample], Pixels] = read_pixels, *, clean: bool = True
    ) -> DecodedInput | UndecodedInput:
        detector, classifier = (self.bundle.stages[kind].preprocessing.size for kind in ("detector", "classifier"))
        return prepare(source, detector, classifier, read, clean=clean)

    def _predict_batch(self, batch: Sequence[DecodedInput | UndecodedInput], explain: bool) -> list[Prediction]:
        decoded = [prepared for prepared in batch if isinstance(prepared, DecodedInput)]
        fused = [self._fuse(*each) for each in zip(decoded, self._run_stages(decoded), strict=True)]
        heatmaps: list[FloatArray | None] = [None] * len(decoded)
        fit = None
        if explain:
            heatmaps, fit = self._heatmaps(decoded, fused), measured_fit(self.bundle.metadata)
        predictions = iter(
            [
                Prediction.of(
                    outputs,
                    prepared.image,
                    width=prepared.pixels.shape[1],
                    height=prepared.pixels.shape[0],
                    origin=prepared.origin,
                    model=self.name,
                    heatmap=heatmap,
                    heatmap_fit=fit,
                )
                for prepared, outputs, heatmap in zip(decoded, fused, heatmaps, strict=True)
            ]
        )
        return [next(predictions) if isinstance(each, DecodedInput) else each.prediction() for each in batch]

    def _fuse(self, prepared: DecodedInput, outputs: StageOutputs) -> FusedOutputs:
        ood = self.bundle.ood
        novel = novelty(ood, outputs.features, cropped=CROPPED in prepared.flags)
        fused = fuse(outputs, self.bundle.fusion, self.names, novelty=novel)
        if not fused.judged:
            return fused
        turned = ood is not None and is_turned(ood.orientation, prepared.upright)
        return replace(fused, flags=(*fused.flags, *prepared.flags, *([ORIENTATION] if turned else [])))

    def _run_stages(self, batch: Sequence[DecodedInput]) -> list[StageOutputs]:
        """The outputs of all networks for a batch, boxes in pixels of the whole pictures."""
        if not batch:
            return []
        for_detector = _stacked(s.resized.detector for s in batch)
        found = self.runtime.run(for_detector, _stacked(s.resized.classifier for s in batch))
        return [self._outputs(*row) for row in zip(batch, found, strict=True)]

    def _outputs(self, prepared: DecodedInput, found: Raw) -> StageOutputs:
        """Outputs of detector and classifier, boxes in pixels of the whole picture."""
        part = prepared.part
        boxes, labels, scores = in_original_pixels(
            found.boxes, found.labels, found.scores, prepared.resized.scale, part.width, part.height
        )
        names = tuple(self.names.detector_classes[i] for i in labels)
        return StageOutputs(found.logits, boxes, names, scores, found.features).moved(part.left, part.top)

    def _heatmaps(self, batch: Sequence[DecodedInput], fused: Sequence[FusedOutputs]) -> list[FloatArray | None]:
        """The activation map of each slice's class, at the size of the picture; ``None`` where there is no class."""
        from detectclf.inference.explain import activation_maps, heatmap

        if not batch:
            return []
        # What is refused has no class; its map is that of the first one, and dropped.
        targets = [0 if each.label is None else self.names.classes.index(each.label) for each in fused]
        images = _stacked(prepared.resized.classifier for prepared in batch)
        if self._process != os.getpid():
            from detectclf.models.device import one_thread_after_fork

            one_thread_after_fork()
        classes = self.names.classes
        negative = classes.index(self.names.negative) if self.names.negative in classes else None
        cams = activation_maps(self.bundle.stages["classifier"].network, images, targets, negative)
        maps: list[FloatArray | None] = []
        for prepared, cam, each in zip(batch, cams, fused, strict=True):
            if each.label is None:
                maps.append(None)
                continue
            part, whole = prepared.part, np.zeros(prepared.pixels.shape, dtype=np.float32)
            size, inside = images.shape[-1], prepared.resized.inside
            part.of(whole)[:] = heatmap(cam, inside, size, part.width, part.height)
            maps.append(whole)
        return maps


def _readable(batch: Sequence[DecodedInput | UndecodedInput]) -> list[DecodedInput]:
    """The pictures of a batch; raises the error of the first one that cannot be read."""
    for prepared in batch:
        if isinstance(prepared, UndecodedInput):
            raise prepared.error
    return [prepared for prepared in batch if isinstance(prepared, DecodedInput)]


def _stacked(slices: Iterable[Pixels]) -> Pixels:
    """``(B, S, S)``: slices of one size as a batch."""
    return np.stack(list(slices))


__all__ = ["Predictor"]
