"""The stages over many slices: decoded once, ahead of the models, batched, fused."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from detectclf.config import PredictConfig
from detectclf.errors import ModelError
from detectclf.inference.fusion import FusionClasses, fuse
from detectclf.inference.ood import MapStatistics, is_out_of_distribution
from detectclf.inference.preprocess import DecodedInput, UndecodedInput, prepare
from detectclf.inference.refine import ProposalRefiner
from detectclf.inference.sources import ImageSource
from detectclf.types import FloatArray, Pixels, Prediction, StageOutputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detectclf.models.bundle import Bundle
    from detectclf.models.classifiers import Classifier
    from detectclf.models.detectors import Detector
    from detectclf.models.refiner import Refiner
    from detectclf.models.roi_features import Found

    Network = TypeVar("Network", bound=nn.Module)


class Predictor:
    """Both stages of a bundle on one device.

    Args:
        bundle: the models with their fusion; they are moved to the device.
        config: batch size and device.

    Raises:
        ModelError: detector and classifier name classes that do not go together.
        DeviceError: the device is not there.
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
        # The bundle keeps its networks as they are saved, and as Grad-CAM wants them; these are copies.
        self._detector = self._fast_detector(bundle.stages["detector"].network)
        classifier: Classifier = bundle.stages["classifier"].network
        self._classifier = self._fast(classifier, 1, classifier.input_size)
        self._reader = None
        if "refiner" in bundle.stages:
            refiner: Refiner = bundle.stages["refiner"].network
            fast = self._fast(refiner, 1, refiner.input_size)
            self._reader = ProposalRefiner(fast, self._refined_classes(), self.device)

    def _fast(self, network: Network, channels: int, side: int) -> Network:
        """A copy of ``network`` on the device, as fast as it goes."""
        import torch

        from detectclf.models.fuse_conv_bn import fuse_conv_bn

        noise = torch.rand((1, channels, side, side), generator=torch.Generator().manual_seed(0))
        fast = fuse_conv_bn(network.to(self.device).eval(), noise.to(self.device))
        return fast.to(memory_format=torch.channels_last)

    def _fast_detector(self, detector: Detector) -> Detector:
        """The same of a detector; its heads have next to nothing to fold."""
        import copy

        import torch

        fast = copy.deepcopy(detector.to(self.device).eval())
        fast.network.backbone = self._fast(fast.network.backbone, 3, detector.input_size)
        return fast.to(memory_format=torch.channels_last)

    def _refined_classes(self) -> tuple[str, ...]:
        refined = self.bundle.stages["refiner"].classes
        tumors = {name for name in self.names.detector_classes if name != self.names.negative}
        if set(refined) != tumors:
            raise ModelError(
                f"the refiner reads {', '.join(refined)}, the detector finds {', '.join(sorted(tumors))}",
                remedy="train both on data with the same classes",
            )
        return refined

    @property
    def name(self) -> str:
        """Name and version of the bundle, as predictions carry them."""
        return f"{self.bundle.name} {self.bundle.version}"

    def predict(self, image: ImageSource, *, explain: bool = False) -> Prediction:
        """Both stages on one image.

        Raises:
            DataError, UnsafeError: the image cannot be read, or is refused.
        """
        prepared = self._prepare(image)
        if isinstance(prepared, UndecodedInput):
            raise prepared.error
        return self._predict_batch([prepared], explain)[0]

    def predict_many(
        self, inputs: Iterable[ImageSource], *, batch_size: int | None = None, explain: bool = False
    ) -> Iterator[Prediction]:
        """Both stages on many images, in their order; an unreadable one gives a prediction with ``error`` set.

        Args:
            inputs: files, slices of files, samples, arrays or PIL images; read lazily.
            batch_size: slices per forward pass; by default that of the settings.
            explain: also compute the Grad-CAM of the slice's class.

        Raises:
            ModelError: a map is asked for and the classifier has none.
        """
        for batch in self._batches(inputs, batch_size or self.config.batch_size):
            yield from self._predict_batch(batch, explain)

    def raw_many(self, samples: Iterable[ImageSource], *, batch_size: int | None = None) -> Iterator[StageOutputs]:
        """What the two stages say of each image before fusion, in their order.

        Raises:
            DataError, UnsafeError: an image cannot be read; figures and fits must not leave it out silently.
        """
        for batch in self._readable(samples, batch_size or self.config.batch_size):
            yield from self._run_stages(batch)

    def statistics_many(self, samples: Iterable[ImageSource]) -> FloatArray:
        """``(N, D)`` statistics of the detector's maps, as in :attr:`StageOutputs.features`; the detector alone runs.

        Raises:
            DataError, UnsafeError: an image cannot be read.
        """
        import torch

        rows = []
        for batch in self._readable(samples, self.config.batch_size):
            with torch.inference_mode(), MapStatistics(self._detector.backbone()) as statistics:
                self._detector(list(self._tensor([s.resized.detector for s in batch])))
            rows.append(statistics.rows())
        return np.concatenate(rows)

    def _readable(self, samples: Iterable[ImageSource], size: int) -> Iterator[list[DecodedInput]]:
        """Batches of slices; raises the error of the first one that cannot be read."""
        for batch in self._batches(samples, size):
            for prepared in batch:
                if isinstance(prepared, UndecodedInput):
                    raise prepared.error
            yield [prepared for prepared in batch if isinstance(prepared, DecodedInput)]

    def _batches(self, inputs: Iterable[ImageSource], size: int) -> Iterator[list[DecodedInput | UndecodedInput]]:
        """Batches of prepared slices, decoded by threads while the models run."""
        remaining = iter(inputs)
        pending: deque[Future[DecodedInput | UndecodedInput]] = deque()
        # cv2 and PIL release the interpreter lock, so threads do; more than a few only take the models' cores.
        pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
        try:
            while True:
                for item in islice(remaining, max(0, 2 * size - len(pending))):
                    pending.append(pool.submit(self._prepare, item))
                if not pending:
                    return
                yield [pending.popleft().result() for _ in range(min(size, len(pending)))]
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(self, source: ImageSource) -> DecodedInput | UndecodedInput:
        size = self.bundle.stages["detector"].preprocessing.size
        return prepare(source, size, self._classifier.input_size, self._reader)

    def _predict_batch(self, batch: Sequence[DecodedInput | UndecodedInput], explain: bool) -> list[Prediction]:
        outputs = iter(self._run_stages([s for s in batch if isinstance(s, DecodedInput)]))
        predictions = []
        for prepared in batch:
            if isinstance(prepared, UndecodedInput):
                predictions.append(_unread(prepared))
                continue
            height, width = prepared.pixels.shape
            said, known = next(outputs), self.bundle.ood
            unlike = known is not None and said.features is not None and is_out_of_distribution(known, said.features)
            fused = fuse(said, self.bundle.fusion, self.names, width=width, height=height, out_of_distribution=unlike)
            origin = prepared.origin
            predictions.append(
                replace(
                    fused,
                    image=origin.image,
                    model=self.name,
                    path=origin.path,
                    span=origin.span,
                    frame=origin.frame,
                    axis=origin.axis,
                    pixels=prepared.pixels if origin.path is None else None,
                )
            )
        return self._with_heatmaps(batch, predictions) if explain else predictions

    def _run_stages(self, batch: Sequence[DecodedInput]) -> list[StageOutputs]:
        """All networks on readable slices."""
        import torch

        if not batch:
            return []
        with torch.inference_mode():
            found, statistics = self._find(self._tensor([s.resized.detector for s in batch]))
            images = self._tensor([s.resized.classifier for s in batch])
            if self.bundle.fusion.tta:
                # One pass over both, which is faster than two.
                logits = self._classifier(torch.cat([images, images.flip(3)])).unflatten(0, (2, -1)).mean(dim=0)
            else:
                logits = self._classifier(images)
        rows = zip(batch, found, logits.float().cpu().numpy(), statistics, strict=True)
        outputs = [self._outputs(*row) for row in rows]
        if self._reader is not None:
            outputs = self._reader.read([s.resized.refiner for s in batch if s.resized.refiner is not None], outputs)
        return [said.moved(s.part.left, s.part.top) for s, said in zip(batch, outputs, strict=True)]

    def _find(self, images: Tensor) -> tuple[list[Found], FloatArray]:
        """Boxes on each of ``images``, in its pixels, and the statistics of the detector's maps."""
        from detectclf.inference.tta import merge_views, with_mirrored
        from detectclf.models.roi_features import RoIFeatures

        tta = self.bundle.fusion.tta
        with MapStatistics(self._detector.backbone()) as statistics:
            view = RoIFeatures(self._detector, with_mirrored(images) if tta else images)
        found = merge_views(view, self._detector.config.nms_iou) if tta else view.found
        return found, statistics.rows()[: len(images)]

    def _tensor(self, resized: Sequence[Pixels]) -> Tensor:
        """``(B, 1, S, S)`` float in [0, 1] on the device."""
        import torch

        block = torch.from_numpy(np.stack(resized))
        images = block.to(self.device).unsqueeze(1).float().div(255)
        return images.to(memory_format=torch.channels_last)

    def _outputs(self, prepared: DecodedInput, found: Found, logits: FloatArray, features: FloatArray) -> StageOutputs:
        """The stages before fusion, boxes on the part of the picture that was looked at."""
        from detectclf.models.detectors import in_original_pixels

        part = prepared.part
        boxes, labels, scores = in_original_pixels(found, prepared.resized.scale, part.width, part.height)
        return StageOutputs(logits, boxes, tuple(self.names.detector_classes[i] for i in labels), scores, features)

    def _with_heatmaps(
        self, batch: Sequence[DecodedInput | UndecodedInput], predictions: Sequence[Prediction]
    ) -> list[Prediction]:
        from detectclf.inference.explain import grad_cam, heatmap

        rows = {i: prepared for i, prepared in enumerate(batch) if isinstance(prepared, DecodedInput)}
        done = list(predictions)
        if not rows:
            return done
        targets = [self.names.classes.index(done[i].label or "") for i in rows]
        resized = self._tensor([prepared.resized.classifier for prepared in rows.values()])
        cams = grad_cam(self.bundle.stages["classifier"].network, resized, targets)
        for (i, prepared), cam in zip(rows.items(), cams, strict=True):
            part, whole = prepared.part, np.zeros(prepared.pixels.shape, dtype=np.float32)
            size, inside = self._classifier.input_size, prepared.resized.inside
            part.of(whole)[:] = heatmap(cam, inside, size, part.width, part.height)
            done[i] = replace(done[i], heatmap=whole)
        return done


def _unread(prepared: UndecodedInput) -> Prediction:
    origin, error = prepared.origin, prepared.error
    return Prediction(origin.image, error=str(error), error_exit=error.exit_code, path=origin.path)
