"""Preprocessing: a source is decoded, cropped to the head, cleaned, and resized for each network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from detectclf.errors import ConfigError, DataError, DetectclfError, MissingPackageError, StorageError
from detectclf.imaging.artefacts import Cleaned, cleaned
from detectclf.imaging.framing import Part, framed
from detectclf.imaging.images import read_pixels, resize_pad
from detectclf.imaging.upright import upright_features
from detectclf.imaging.volumes import middle_slice
from detectclf.inference.sources import Encoded, ImageSource, name_of, origin_of, pixels_of
from detectclf.prediction import Origin, Prediction
from detectclf.types import ARTEFACTS, CROPPED, SEVERAL_SLICES, FloatArray, Pixels, Sample


class ResizedInput(NamedTuple):
    """A slice at the input size of each network: uint8 squares, the slice at the top left, padding beside it.

    Attributes:
        detector: ``(S, S)`` pixels.
        scale: pixels of ``detector`` per original pixel.
        classifier: ``(S, S)`` pixels.
        inside: width and height of the slice in ``classifier``.
    """

    detector: Pixels
    scale: float
    classifier: Pixels
    inside: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedInput:
    """An input that could be decoded.

    Attributes:
        image: what the prediction calls it.
        origin: where its pixels can be read again.
        pixels: the whole picture.
        part: the part of the picture that the networks see.
        resized: that part.
        upright: ``(D,)`` features that tell whether its head is upright.
        flags: what is said of a picture that shows more than a slice.
    """

    image: str
    origin: Origin
    pixels: Pixels
    part: Part
    resized: ResizedInput
    upright: FloatArray
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class UndecodedInput:
    """An input that could not be decoded, and why."""

    image: str
    origin: Origin
    error: DetectclfError

    def prediction(self) -> Prediction:
        """A prediction without a class, with the error."""
        error = self.error
        missing = (error.package, error.remedy or "") if isinstance(error, MissingPackageError) else None
        return Prediction(self.image, origin=self.origin, error=str(error), error_exit=error.exit_code, missing=missing)


def prepare(
    source: ImageSource,
    detector_size: int,
    classifier_size: int,
    read: Callable[[Sample], Pixels] = read_pixels,
    *,
    clean: bool = True,
) -> DecodedInput | UndecodedInput:
    """Decodes ``source``, a sample by ``read``, and resizes it for each network, whose sizes are sides in pixels.

    Without ``clean``, noise and stripes are left in.

    Raises:
        StorageError, ConfigError: the store that it lies in refuses, does not answer, or has no library here.
    """
    image, origin = name_of(source), origin_of(source)
    try:
        pixels = pixels_of(source, read)
    except (StorageError, ConfigError):
        raise  # no fault of this picture, and no record of it
    except DetectclfError as error:
        return UndecodedInput(image, origin, error)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        return UndecodedInput(image, origin, DataError(reason, file=image, remedy="check the file and its disk"))
    if origin.frame is None and origin.study is None:
        origin = _of_middle(source, origin)
    if origin.path is None:
        origin = replace(origin, pixels=pixels)
    shown = framed(pixels)
    seen = cleaned(shown.pixels) if clean else Cleaned(shown.pixels, strong=False)
    detector, scale, _ = resize_pad(seen.pixels, detector_size)
    classifier, _, inside = resize_pad(seen.pixels, classifier_size)
    resized = ResizedInput(detector, scale, classifier, inside)
    raised = {SEVERAL_SLICES: shown.several, CROPPED: shown.more, ARTEFACTS: seen.strong}
    flags = tuple(flag for flag, applies in raised.items() if applies)
    return DecodedInput(image, origin, pixels, shown.part, resized, upright_features(shown), flags)


def _of_middle(source: ImageSource, origin: Origin) -> Origin:
    """``origin`` with the slice that was read of a volume of which none was chosen."""
    content = source.content if isinstance(source, Encoded) else source
    file = origin.path if origin.path is not None and origin.span is None else content
    middle = middle_slice(file, origin.axis) if isinstance(file, Path | bytes) else None
    return origin if middle is None else replace(origin, frame=middle[0], axis=middle[1])


__all__ = ["DecodedInput", "ResizedInput", "UndecodedInput", "prepare"]
