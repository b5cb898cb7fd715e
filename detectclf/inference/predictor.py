"""Prediction of many pictures: threads decode them while the networks run on batches; the outputs are fused."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from detectclf.config import PredictConfig
from detectclf.errors import ModelError
from detectclf.imaging.images import read_pixels
from detectclf.inference.fusion import FusionClasses, fuse
from detectclf.inference.ood import MapStatistics, novelty
from detectclf.inference.preprocess import DecodedInput, UndecodedInput, prepare
from detectclf.inference.sources import ImageSource
from detectclf.prediction import Prediction
from detectclf.types import FloatArray, FusedOutputs, Pixels, Sample, StageOutputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detectclf.models.bundle import Bundle
    from detectclf.models.classifiers import Classifier
    from detectclf.models.detectors import Detector
    from detectclf.models.roi_features import Found

    Network = TypeVar("Network", bound=nn.Module)


class Predictor:
    """All stages of a bundle on one device.

    Args:
        bundle: the networks with their fusion; the networks are moved to the device.
        config: batch size and device.

    Raises:
        ModelError: the stages were trained on different classes.
        DeviceError: the device does not exist.
    """

    def __init__(self, bundle: Bundle, config: PredictConfig) -> None:
        from detectclf.models.device import resolve_device
        from detectclf.models.memory import keep_freed_memory

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
        self.device = resolve_device(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        # Copies: the networks of the bundle stay as they were saved, which Grad-CAM needs.
        self._detector = self._fast_detector(bundle.stages["detector"].network)
        classifier: Classifier = bundle.stages["classifier"].network
        self._classifier = self._fast(classifier, 1, classifier.input_size)

    def _fast(self, network: Network, channels: int, side: int) -> Network:
        """A faster copy of ``network``, on the device."""
        import torch

        from detectclf.models.fuse_conv_bn import fuse_conv_bn

        noise = torch.rand((1, channels, side, side), generator=torch.Generator().manual_seed(0))
        fast = fuse_conv_bn(network.to(self.device).eval(), noise.to(self.device))
        return fast.to(memory_format=torch.channels_last)

    def _fast_detector(self, detector: Detector) -> Detector:
        """A faster copy of ``detector``; only its backbone has enough batch norms for fusing to pay."""
        import copy

        import torch

        fast = copy.deepcopy(detector.to(self.device).eval())
        fast.network.backbone = self._fast(fast.network.backbone, 3, detector.input_size)
        return fast.to(memory_format=torch.channels_last)

    @property
    def name(self) -> str:
        """Name and version of the bundle, as predictions carry them."""
        return f"{self.bundle.name} {self.bundle.version}"

    def predict(self, image: ImageSource, *, explain: bool = False) -> Prediction:
        """The prediction of one picture; with ``explain``, also the Grad-CAM of its class.

        Raises:
            DataError: the picture cannot be read.
            UnsafeError: the picture is refused as unsafe.
            ModelError: a Grad-CAM is asked for, and the classifier has no convolutions.
        """
        prepared = self._prepare(image)
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
            inputs: files, slices of files, samples, arrays or PIL images; read lazily.
            batch_size: pictures per forward pass; by default as configured.
            explain: whether to compute the Grad-CAM of each slice's class.
            read: gives the pixels of a sample, such as the slice index, which makes its entry from the same read.

        Raises:
            ModelError: a Grad-CAM is asked for, and the classifier has no convolutions.
        """
        for batch in self._batches(inputs, batch_size or self.config.batch_size, read):
            yield from self._predict_batch(batch, explain)

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
        for batch in self._readable(samples, batch_size or self.config.batch_size, read):
            yield from self._run_stages(batch)

    def statistics_many(self, samples: Iterable[ImageSource]) -> FloatArray:
        """``(N, D)`` statistics of the detector's feature maps, as in :attr:`StageOutputs.features`.

        Only the detector runs.

        Raises:
            DataError, UnsafeError: a picture cannot be read.
        """
        import torch

        rows = []
        for batch in self._readable(samples, self.config.batch_size):
            with torch.inference_mode(), MapStatistics(self._detector.backbone()) as statistics:
                self._detector(list(self._tensor([s.resized.detector for s in batch])))
            rows.append(statistics.rows())
        return np.concatenate(rows)

    def _readable(
        self, samples: Iterable[ImageSource], size: int, read: Callable[[Sample], Pixels] = read_pixels
    ) -> Iterator[list[DecodedInput]]:
        """Batches of decoded pictures; raises the error of the first one that cannot be read."""
        for batch in self._batches(samples, size, read):
            for prepared in batch:
                if isinstance(prepared, UndecodedInput):
                    raise prepared.error
            yield [prepared for prepared in batch if isinstance(prepared, DecodedInput)]

    def _batches(
        self, inputs: Iterable[ImageSource], size: int, read: Callable[[Sample], Pixels]
    ) -> Iterator[list[DecodedInput | UndecodedInput]]:
        """Batches of preprocessed pictures, which threads decode while the networks run."""
        remaining = iter(inputs)
        pending: deque[Future[DecodedInput | UndecodedInput]] = deque()
        # Threads suffice, since cv2 and PIL release the interpreter lock; more would take cores from the networks.
        pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
        try:
            while True:
                for item in islice(remaining, max(0, 2 * size - len(pending))):
                    pending.append(pool.submit(self._prepare, item, read))
                if not pending:
                    return
                yield [pending.popleft().result() for _ in range(min(size, len(pending)))]
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(
        self, source: ImageSource, read: Callable[[Sample], Pixels] = read_pixels
    ) -> DecodedInput | UndecodedInput:
        size = self.bundle.stages["detector"].preprocessing.size
        return prepare(source, size, self._classifier.input_size, read)

    def _predict_batch(self, batch: Sequence[DecodedInput | UndecodedInput], explain: bool) -> list[Prediction]:
        decoded = [prepared for prepared in batch if isinstance(prepared, DecodedInput)]
        fused = [self._fuse(outputs) for outputs in self._run_stages(decoded)]
        heatmaps = self._heatmaps(decoded, fused) if explain else [None] * len(decoded)
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
                )
                for prepared, outputs, heatmap in zip(decoded, fused, heatmaps, strict=True)
            ]
        )
        return [next(predictions) if isinstance(each, DecodedInput) else each.prediction() for each in batch]

    def _fuse(self, outputs: StageOutputs) -> FusedOutputs:
        seen = novelty(self.bundle.ood, outputs.features)
        return fuse(outputs, self.bundle.fusion, self.names, novelty=seen)

    def _run_stages(self, batch: Sequence[DecodedInput]) -> list[StageOutputs]:
        """The outputs of all networks for a batch, boxes in pixels of the whole pictures."""
        import torch

        if not batch:
            return []
        with torch.inference_mode():
            found, statistics = self._find(self._tensor([s.resized.detector for s in batch]))
            images = self._tensor([s.resized.classifier for s in batch])
            logits = self._classifier(images)
        rows = zip(batch, found, logits.float().cpu().numpy(), statistics, strict=True)
        return [self._outputs(*row) for row in rows]

    def _find(self, images: Tensor) -> tuple[list[Found], FloatArray]:
        """Boxes on each of ``images``, in its pixels, and the statistics of the detector's feature maps."""
        from detectclf.inference.second_look import second_look
        from detectclf.models.roi_features import RoIFeatures

        with MapStatistics(self._detector.backbone()) as statistics:
            features = RoIFeatures(self._detector, images)
        return second_look(features), statistics.rows()

    def _tensor(self, resized: Sequence[Pixels]) -> Tensor:
        """``(B, 1, S, S)`` float in [0, 1] on the device."""
        import torch

        block = torch.from_numpy(np.stack(resized))
        images = block.to(self.device).unsqueeze(1).float().div(255)
        return images.to(memory_format=torch.channels_last)

    def _outputs(self, prepared: DecodedInput, found: Found, logits: FloatArray, features: FloatArray) -> StageOutputs:
        """Outputs of detector and classifier, boxes in pixels of the whole picture."""
        from detectclf.models.detectors import in_original_pixels

        part = prepared.part
        boxes, labels, scores = in_original_pixels(found, prepared.resized.scale, part.width, part.height)
        names = tuple(self.names.detector_classes[i] for i in labels)
        return StageOutputs(logits, boxes, names, scores, features).moved(part.left, part.top)

    def _heatmaps(self, batch: Sequence[DecodedInput], fused: Sequence[FusedOutputs]) -> list[FloatArray]:
        """The Grad-CAM of each slice's class, at the size of the whole picture."""
        from detectclf.inference.explain import grad_cam, heatmap

        if not batch:
            return []
        targets = [self.names.classes.index(each.label or "") for each in fused]
        images = self._tensor([prepared.resized.classifier for prepared in batch])
        cams = grad_cam(self.bundle.stages["classifier"].network, images, targets)
        maps = []
        for prepared, cam in zip(batch, cams, strict=True):
            part, whole = prepared.part, np.zeros(prepared.pixels.shape, dtype=np.float32)
            size, inside = self._classifier.input_size, prepared.resized.inside
            part.of(whole)[:] = heatmap(cam, inside, size, part.width, part.height)
            maps.append(whole)
        return maps
