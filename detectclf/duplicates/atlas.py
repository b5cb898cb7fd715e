"""Patients of known slices, found by content: the atlas of figshare 1512427.

Nearly every brain-tumour set on Kaggle and Roboflow holds slices of figshare 1512427 (J. Cheng, CC BY 4.0), resized,
re-encoded or mirrored, and without the patients that the original names. The atlas has a thumbnail of each of its 3,064
slices with the patient, so that these slices get their patients back. ``scripts/build_atlas.py`` rebuilds it.

Source: Cheng, Jun, "brain tumor dataset", figshare 1512427, licensed under CC BY 4.0; changed to thumbnails of 24 x 24
pixels. The atlas stays under that licence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from detectclf.duplicates.alignment import ORIENTATIONS
from detectclf.duplicates.fingerprints import Fingerprints
from detectclf.progress import Progress
from detectclf.types import FloatArray

FILE = "figshare_atlas.npz"
SIDE = 24
"""Side of the atlas's thumbnails, pixels."""

MATCH = 0.993
"""Correlation from which a slice is one of the atlas. Over 1,647 published slices, resized, re-encoded and mirrored, a
slice reached at least 0.9956 with itself and, in eight orientations, at most 0.9893 with a slice of another patient;
550 slices that are not of the atlas reached at most 0.965, 392 of Br35H 0.932 (docs/log.md)."""

_CHUNK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """The slices of figshare 1512427.

    Attributes:
        thumbnails: ``(A, 576)`` float32, each of mean 0 and length 1.
        sources: ``(A,)`` number of each slice in the original.
        patients: ``(A,)`` number of the patient of each.
        folds: ``(A,)`` the published patient-level fold of each, 1 to 5.
    """

    thumbnails: FloatArray
    sources: npt.NDArray[np.int64]
    patients: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]

    def match(self, fingerprints: Fingerprints) -> npt.NDArray[np.int64]:
        """Row of the atlas ``(N,)`` that each slice shows, mirrored or turned or as it is; -1 where it is none of them.

        Cropped slices and those of much changed contrast are not found.
        """
        found = np.full(len(fingerprints), -1, dtype=np.int64)
        readable = np.flatnonzero(fingerprints.readable)
        with Progress("looking for known patients", len(readable)) as progress:
            for start in range(0, len(readable), _CHUNK):
                chunk = readable[start : start + _CHUNK]
                thumbnails = _shrunk(fingerprints.rows["thumb"][chunk])
                correlation = _normalised(thumbnails) @ self.thumbnails.T
                for _, turn in ORIENTATIONS[1:]:
                    np.maximum(correlation, _normalised(turn(thumbnails)) @ self.thumbnails.T, out=correlation)
                best = correlation.argmax(axis=1)
                sure = correlation[np.arange(len(chunk)), best] >= MATCH
                found[chunk[sure]] = best[sure]
                progress.advance(len(chunk))
        return found


@cache
def load_atlas() -> Atlas:
    """The atlas that comes with the package."""
    file = resources.files("detectclf") / "assets" / FILE
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        thumbnails = _normalised(arrays["thumbnail"].astype(np.float32))
        return Atlas(
            thumbnails,
            arrays["source"].astype(np.int64),
            arrays["patient"].astype(np.int64),
            arrays["fold"].astype(np.int64),
        )


def _shrunk(thumbs: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> FloatArray:
    """``(N, SIDE, SIDE)`` thumbnails of the thumbnails of fingerprints."""
    import cv2

    small = [cv2.resize(thumb.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for thumb in thumbs]
    return np.stack(small).astype(np.float32)


def _normalised(images: FloatArray) -> FloatArray:
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6), dtype=np.float32)


__all__ = ["Atlas", "load_atlas"]
