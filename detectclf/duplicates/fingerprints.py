"""Fingerprints: what is kept of a slice to find its copies again, a thumbnail and a few numbers, 4.2 KB.

The thumbnail is stretched to a square and to the full grey range, so that size, brightness and contrast do not matter
when thumbnails are compared. The head box allows comparing the heads alone, whatever the margin round them. Size, grey
range and noise only serve to name the kind of copy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detectclf.documents import parse_json
from detectclf.duplicates.disjoint_sets import join_names
from detectclf.errors import DataError
from detectclf.files import atomic_write
from detectclf.types import Pixels

SIDE = 64
"""Side of the thumbnail, pixels: large enough for neighbouring slices of one head to differ clearly."""

ROW = np.dtype(
    [
        ("thumb", np.uint8, (SIDE, SIDE)),
        ("digest", np.uint8, (16,)),  # BLAKE2b of shape and pixels: equal exactly for exact copies
        ("size", np.uint32, (2,)),  # width, height; 0, 0 for a slice that cannot be read
        ("levels", np.float32, (2,)),  # grey levels that the thumbnail's 0 and 255 stand for
        ("box", np.float32, (4,)),  # head box xyxy as shares of width and height
        ("noise", np.float32),  # standard deviation of the pixel noise, grey levels
    ]
)
"""One slice's fingerprint."""

Rows = npt.NDArray[np.void]
"""Array of :data:`ROW`, shape ``(N,)``."""

FINGERPRINTS_FILE = "fingerprints.safetensors"
"""Name of the file in the folder of a run or bundle."""

_VERSION = "1"
_WORK_SIDE = 192


def fingerprint(pixels: Pixels) -> Rows:
    """The fingerprint of one slice.

    Args:
        pixels: ``(H, W)`` uint8.

    Returns:
        An array of :data:`ROW` with shape ``(1,)``.
    """
    import cv2

    height, width = pixels.shape
    row = np.zeros(1, dtype=ROW)
    digest = hashlib.blake2b(f"{height}x{width}".encode(), digest_size=16)
    digest.update(pixels.tobytes())
    row["digest"] = np.frombuffer(digest.digest(), np.uint8)
    row["size"] = (width, height)
    row["noise"] = _noise(pixels)
    small = cv2.resize(pixels, (_WORK_SIDE, _WORK_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    row["box"] = np.array(_head_box(small), np.float32) / _WORK_SIDE
    thumb = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low, high = float(thumb.min()), float(thumb.max())
    row["levels"] = (low, high)
    row["thumb"] = np.rint((thumb - low) * (255.0 / max(high - low, 1e-6)))
    return row


def _noise(pixels: Pixels) -> float:
    # Immerkaer 1996, "Fast noise variance estimation".
    # Every other row is enough, and halves the time.
    p = pixels[::2].astype(np.int16)
    if min(p.shape) < 3:
        return 0.0
    mask = p[:-2, :-2] + p[:-2, 2:] + p[2:, :-2] + p[2:, 2:] + 4 * p[1:-1, 1:-1]
    mask = mask - 2 * (p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:])
    return float(np.abs(mask).mean() / 6.0)


def _head_box(small: npt.NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Box ``xyxy`` round everything clearly brighter than the background, in pixels of ``small``."""
    import cv2

    side = small.shape[0]
    low, high = np.percentile(small, [2, 99])
    mask = cv2.GaussianBlur(small, (0, 0), 1.2) > low + 0.12 * (high - low)
    rows = np.flatnonzero(mask.mean(axis=1) > 0.04)
    columns = np.flatnonzero(mask.mean(axis=0) > 0.04)
    if high - low < 4 or len(rows) < side // 12 or len(columns) < side // 12:
        return 0, 0, side, side
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """Fingerprints of many slices, each with its name, split, source and patient.

    Attributes:
        rows: ``(N,)`` of :data:`ROW`.
        names, splits, sources: of each slice, as in :class:`~detectclf.types.Sample`.
        patients: of each slice, ``None`` where not known; where not given, none is known.
        atlas_slices: numbers of further slices, of figshare 1512427, that have no row because the atlas knows them.
        aliases: disjoint sets of two or more names of patients that mean one person, such as a stated name and that of
            the atlas.
        keys: check values of the keys under which names were hashed (:func:`detectclf.pseudonyms.key_check`).
    """

    rows: Rows
    names: tuple[str, ...]
    splits: tuple[str, ...]
    sources: tuple[str, ...]
    patients: tuple[str | None, ...] = ()
    atlas_slices: tuple[int, ...] = ()
    aliases: tuple[frozenset[str], ...] = ()
    keys: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.patients:
            object.__setattr__(self, "patients", (None,) * len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        """``(N,)``: which slices could be read; the others match nothing."""
        return np.asarray(self.rows["size"][:, 0] > 0)

    @classmethod
    def merged(cls, parts: Sequence[Fingerprints]) -> Fingerprints:
        """All of ``parts``; of slices with the same pixels the first is kept, if possible with its patient.

        Where they have several patients, these are one person's names.
        """
        first: dict[bytes, tuple[int, int]] = {}
        patients: dict[bytes, dict[str, None]] = {}
        for number, part in enumerate(parts):
            slices = zip(part.digests, part.patients, part.readable.tolist(), strict=True)
            for row, (digest, patient, readable) in enumerate(slices):
                first.setdefault(digest, (number, row))
                if patient is not None and readable:  # those that cannot be read share one digest
                    patients.setdefault(digest, {})[patient] = None
        rows = np.array([parts[number].rows[row] for number, row in first.values()], dtype=ROW)
        names, splits, sources = (
            tuple(getattr(parts[number], key)[row] for number, row in first.values())
            for key in ("names", "splits", "sources")
        )
        atlas_slices = tuple(sorted({number for part in parts for number in part.atlas_slices}))
        aliases = join_names([*(known for part in parts for known in part.aliases), *patients.values()])
        keys = frozenset(key for part in parts for key in part.keys)
        kept = tuple(next(iter(patients.get(digest, ())), None) for digest in first)
        return cls(rows, names, splits, sources, kept, atlas_slices, aliases, keys)

    @property
    def digests(self) -> list[bytes]:
        """Digest of the pixels of each slice: equal for exact copies, and for all slices that could not be read."""
        return [digest.tobytes() for digest in self.rows["digest"]]

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, whole or not at all."""
        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(self.rows[name]) for name in ROW.names or ()}
        lists = {"names": self.names, "splits": self.splits, "sources": self.sources, "patients": self.patients}
        rest = {
            "atlas_slices": self.atlas_slices,
            "aliases": [sorted(names) for names in self.aliases],
            "keys": sorted(self.keys),
        }
        meta = {key: json.dumps(value) for key, value in {**lists, **rest}.items()}
        atomic_write(Path(path), save(tensors, metadata={"fingerprints": _VERSION, **meta}))

    @classmethod
    def load(cls, path: str | Path) -> Fingerprints:
        """Reads what :meth:`save` wrote.

        Raises:
            DataError: no such file, or not a file of fingerprints.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                meta: dict[str, str] = file.metadata() or {}
                if meta.get("fingerprints") != _VERSION:
                    raise DataError(
                        f"fingerprints of version {meta.get('fingerprints')}, not {_VERSION}",
                        file=path,
                        remedy="make them again",
                    )
                lists = [tuple(str(item) for item in parse_json(meta[key])) for key in ("names", "splits", "sources")]
                # Files before 2026-12 have no patients.
                patients = tuple(None if p is None else str(p) for p in parse_json(meta.get("patients", "[]")))
                atlas_slices = tuple(int(number) for number in parse_json(meta.get("atlas_slices", "[]")))
                aliases = join_names(map(str, names) for names in parse_json(meta.get("aliases", "[]")))
                keys = frozenset(map(str, parse_json(meta.get("keys", "[]"))))
                rows = np.zeros(len(lists[0]), dtype=ROW)
                for name in ROW.names or ():
                    tensor = file.get_tensor(name)
                    if tensor.shape != rows[name].shape or tensor.dtype != rows[name].dtype:
                        raise DataError(f"{name} has shape {tensor.shape} of {tensor.dtype}", file=path)
                    rows[name] = tensor
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError("not a file of fingerprints", file=path, remedy="make them again") from error
        if any(len(item) != len(rows) for item in (*lists, *([patients] if patients else []))):
            raise DataError("names, splits, sources and patients differ in number", file=path, remedy="make them again")
        return cls(rows, lists[0], lists[1], lists[2], patients, atlas_slices, aliases, keys)
