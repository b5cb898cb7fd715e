"""An input as the networks want it: decoded, cut to the slice in it, resized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from detectclf.errors import DataError, DetectclfError
from detectclf.imaging.framing import Part, shown_part
from detectclf.imaging.images import resize_pad
from detectclf.inference.refine import PreparedSlice, ProposalRefiner
from detectclf.inference.sources import ImageSource, Origin, origin_of, pixels_of
from detectclf.types import Pixels


class ResizedInput(NamedTuple):
    """A slice at the size of each network (uint8 squares, slice at the top left).

    Attributes:
        detector: ``(S, S)`` pixels.
        scale: pixels of ``detector`` over original ones.
        classifier: ``(S, S)`` pixels.
        inside: width and height of the slice in ``classifier``; the rest is padding.
        refiner: what crops are cut from, or ``None`` without that stage.
    """

    detector: Pixels
    scale: float
    classifier: Pixels
    inside: tuple[int, int]
    refiner: PreparedSlice | None


@dataclass(frozen=True, slots=True, eq=False)
class DecodedInput:
    """An input that could be decoded.

    Attributes:
        origin: where it comes from.
        pixels: the whole picture.
        part: what the networks see of it.
        resized: that part.
    """

    origin: Origin
    pixels: Pixels
    part: Part
    resized: ResizedInput


@dataclass(frozen=True, slots=True, eq=False)
class UndecodedInput:
    """An input that could not be decoded, and why."""

    origin: Origin
    error: DetectclfError


def prepare(
    source: ImageSource, detector_size: int, classifier_size: int, reader: ProposalRefiner | None
) -> DecodedInput | UndecodedInput:
    """Decodes ``source`` and brings it to the size of each network, sides in pixels."""
    origin = origin_of(source)
    try:
        pixels = pixels_of(source)
    except DetectclfError as error:
        return UndecodedInput(origin, error)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        return UndecodedInput(origin, DataError(reason, file=origin.image, remedy="check the file and its disk"))
    part = shown_part(pixels)
    slice_pixels = part.of(pixels)
    detector, scale, _ = resize_pad(slice_pixels, detector_size)
    classifier, _, inside = resize_pad(slice_pixels, classifier_size)
    refiner = None if reader is None else reader.prepare(slice_pixels)
    return DecodedInput(origin, pixels, part, ResizedInput(detector, scale, classifier, inside, refiner))


__all__ = ["DecodedInput", "ResizedInput", "UndecodedInput", "prepare"]
