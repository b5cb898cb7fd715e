"""The prediction of one picture: class and boxes of the slice, and where the picture came from."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.errors import ConfigError, DataError, DetectclfError
from detectclf.files import ByteSpan
from detectclf.models.map_fit import NOT_MEASURED
from detectclf.types import FloatArray, FusedOutputs, Pixels, Sample, StageOutputs

if TYPE_CHECKING:
    from PIL.Image import Image
    from supervision import Detections


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Where the pixels of a picture can be read again.

    Attributes:
        path: the file; ``None`` for a picture that came from memory.
        span: bytes of that file, where the picture lies inside a container.
        frame: frame, page or slice of that file from 0, where it holds several.
        axis: ``axial``, ``coronal`` or ``sagittal``, where the file is a NIfTI volume.
        pixels: the picture itself, where it came from memory.
        root: folder that the file must lie in, where it is of a data set.
        study: name of the study, where the picture is a slice of one.
        number: place of the slice in its study, from 0.
    """

    path: Path | None = None
    span: ByteSpan | None = None
    frame: int | None = None
    axis: str | None = None
    pixels: Pixels | None = None
    root: str | None = None
    study: str | None = None
    number: int | None = None

    @property
    def counted(self) -> int | None:
        """The number that the picture goes by: in its study, else in its file; ``None`` for a file's only picture."""
        return self.frame if self.number is None else self.number


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prediction(FusedOutputs):
    """Class and boxes of one picture, by all stages together. :class:`FusedOutputs` describes its other attributes.

    Attributes:
        image: the input as given (file name or path); may be passed by position.
        width, height: pixels of the original image.
        model: name and version of the bundle.
        heatmap: ``(height, width)`` float32 in [0, 1], activation map of the classifier, where it was asked for.
        heatmap_fit: how well such maps of this model fit the true boxes, or that it was not measured; with a map.
        picture: name of the file that it was drawn into, where it was.
        origin: where the pixels can be read again.
        error: why the input could not be read, one line; no class is predicted then.
        error_exit: exit code of that error (2 invalid, 3 unsafe); 0 without an error.
        missing: name of the package that is not installed, and remedy, where it failed for that only.
    """

    image: str = field(kw_only=False)
    width: int | None = None
    height: int | None = None
    model: str | None = None
    heatmap: FloatArray | None = None
    heatmap_fit: str | None = None
    picture: str | None = None
    origin: Origin = field(default_factory=Origin)
    error: str | None = None
    error_exit: int = 0
    missing: tuple[str, str] | None = None

    @classmethod
    def of(
        cls,
        fused: FusedOutputs,
        image: str,
        *,
        width: int,
        height: int,
        origin: Origin,
        model: str | None = None,
        heatmap: FloatArray | None = None,
        heatmap_fit: str | None = None,
    ) -> Prediction:
        """The prediction of ``image`` with the class and boxes of ``fused``; arguments are the attributes."""
        shared = {each.name: getattr(fused, each.name) for each in fields(FusedOutputs)}
        shared |= {"width": width, "height": height, "heatmap": heatmap, "heatmap_fit": heatmap_fit}
        return cls(image, origin=origin, model=model, **shared)

    @property
    def path(self) -> Path | None:
        """The file that the picture was read from."""
        return self.origin.path

    @property
    def part(self) -> str:
        """Axis and number of the picture in a file that holds several, such as ``axial 12``; else empty."""
        return " ".join(str(each) for each in (self.origin.axis, self.origin.counted) if each is not None)

    @property
    def stages(self) -> StageOutputs | None:
        """Outputs of the stages before fusion, where they were kept."""
        return None if self.before_fusion is None else self.before_fusion.outputs

    @property
    def classifier_probabilities(self) -> dict[str, float]:
        """Class -> calibrated probability by the classifier alone; empty where it was not kept."""
        return {} if self.before_fusion is None else self.before_fusion.classifier_probabilities

    @property
    def detector_label(self) -> str | None:
        """Class of the slice by the detector alone, where it was kept."""
        return None if self.before_fusion is None else self.before_fusion.detector_label

    def to_record(self) -> dict[str, Any]:
        """The JSON object of the public contract; with ``error`` set, every other field but ``image`` is ``None``.

        Where the picture is refused, ``class``, ``confidence`` and ``probabilities`` are ``None``, and there are no
        boxes.
        Where the file holds several pictures, ``frame`` is the number of this one from 0, and ``axis`` the direction
        that the volume is sliced in. A slice of a volume has ``study`` and, as its place in it, ``frame``, even where
        it could not be read. Where it was drawn, ``picture`` is the name of that file.
        """
        place = {} if self.origin.study is None else {"study": self.origin.study, "frame": self.origin.number}
        if self.error is not None:
            keys = ("class", "confidence", "probabilities", "boxes", "flags", "width", "height", "model")
            return {"image": self.image, **dict.fromkeys(keys), "error": self.error, **place}
        return {
            "image": self.image,
            "class": self.label,
            "confidence": self.confidence,
            "probabilities": self.probabilities or None,
            "boxes": [
                {"xyxy": [round(float(v), 2) for v in box], "class": label, "score": float(score)}
                for box, label, score in zip(self.boxes_xyxy, self.box_labels, self.scores, strict=True)
            ],
            "flags": list(self.flags),
            "width": self.width,
            "height": self.height,
            "model": self.model,
            "error": None,
            **(place or ({} if self.origin.frame is None else {"frame": self.origin.frame})),
            **({} if self.origin.axis is None else {"axis": self.origin.axis}),
            **({} if self.picture is None else {"picture": self.picture}),
        }

    def __repr__(self) -> str:
        name = f"{self.image} ({self.part})" if self.part else self.image
        if self.error is not None:
            return f"Prediction({name!r}: not read, {self.error})"
        if self.label is None or self.confidence is None:
            why = f"refused, {', '.join(self.flags)}" if self.flags else "no class"
            return f"Prediction({name!r}: {why})"
        count = int((self.scores >= self.box_threshold).sum())
        boxes = f"{count or 'no'} box{'' if count == 1 else 'es'}"
        flags = f", {', '.join(self.flags)}" if self.flags else ""
        return f"Prediction({name!r}: {self.label} {self.confidence:.0%}, {boxes}{flags})"

    def _repr_png_(self) -> bytes | None:
        """The picture of :meth:`draw`, which notebooks show; nothing where it cannot be drawn."""
        try:
            picture = self.draw()
        except DetectclfError:
            return None
        target = io.BytesIO()
        picture.save(target, "PNG")
        return target.getvalue()

    def to_supervision(self) -> Detections:
        """The former name of :meth:`to_detections`."""
        return self.to_detections()

    def to_detections(self) -> Detections:
        """The drawn boxes for the tools of the package supervision: its annotators, trackers and counters.

        Class ids count the classes of :attr:`probabilities` in order; ``data["class_name"]`` has their names. Boxes
        below the threshold are left out.

        Raises:
            ConfigError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ConfigError(
                "supervision is not installed, which is an extra",
                remedy="pip install 'detectclf[supervision]', or without PyAV's GPL libraries: "
                "pip install --no-deps supervision pydeprecate",
            ) from error

        sure = np.flatnonzero(self.scores >= self.box_threshold)
        names = [self.box_labels[i] for i in sure]
        order = list(self.probabilities)
        return supervision.Detections(
            xyxy=self.boxes_xyxy[sure].reshape(-1, 4),
            confidence=self.scores[sure],
            class_id=np.array([order.index(name) for name in names], dtype=int),
            data={"class_name": np.array(names, dtype=str)},
        )

    def draw(self, *, truth: Sample | None = None) -> Image:
        """The slice with its boxes, and beside it class, probabilities and flags, as an RGB image.

        Args:
            truth: the labelled sample, to be drawn as well.

        Raises:
            DataError: the input could not be read, or its file is gone.
        """
        from detectclf.drawing.predictions import Heat, draw_prediction

        if self.error is not None or (self.label is None and self.judged):
            reason = self.error or "nothing was predicted"
            raise DataError(reason, file=self.image, remedy="only readable slices are drawn")
        title = f"{PurePath(self.image).name} ({self.part})" if self.part else PurePath(self.image).name
        pixels = self._read_pixels()
        heat = None if self.heatmap is None else Heat(self.heatmap, self.heatmap_fit or NOT_MEASURED)
        return draw_prediction(pixels, self, title=title, model=self.model or "", heat=heat, truth=truth)

    def _read_pixels(self) -> Pixels:
        from detectclf.imaging.images import read_image

        origin = self.origin
        if origin.pixels is not None:
            return origin.pixels
        if origin.path is None:
            raise DataError("the file of this picture is not known", file=self.image, remedy="predict it again")
        return read_image(origin.path, span=origin.span, frame=origin.frame, axis=origin.axis, root=origin.root)


__all__ = ["Origin", "Prediction"]
