"""Time, memory, recall and precision of finding copies, on planted variants of real slices.

Usage: ``python scripts/bench_copies.py ../shared/data/boxed --slices 20000 --side 256``, with ``--slices 2000
--sources 200`` for the growth from there, with ``--slices 100000`` for the memory. Each source slice is planted as
itself and as variants drawn from ``VARIANTS``, then as two of them one after the other; pairs of one source are the
truth. Sources that are copies of each other already (the real data holds many) are left out beforehand, by the finder
itself on the originals.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from detectclf.duplicates.copies import find_copies
from detectclf.duplicates.fingerprints import ROW, Fingerprints, fingerprint
from detectclf.types import Pixels

Variant = Callable[[Pixels, np.random.Generator], Pixels]


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _clip(values: object) -> Pixels:
    return np.clip(np.asarray(values), 0, 255).astype(np.uint8)


def _crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape
    top, bottom = (int(v) for v in rng.uniform(0, 0.03, 2) * height)
    left, right = (int(v) for v in rng.uniform(0, 0.03, 2) * width)
    return np.ascontiguousarray(pixels[top : height - bottom, left : width - right])


def _sharpen(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    soft = cv2.GaussianBlur(pixels, (0, 0), 1.5).astype(np.float32)
    return np.asarray(_clip(pixels + rng.uniform(1, 3) * (pixels - soft)))


def _full_crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape
    y, x = int(0.03 * height), int(0.03 * width)
    return np.asarray(cv2.resize(pixels[y:-y, x:-x], (width, height)), np.uint8)


VARIANTS: dict[str, Variant] = {
    "reencoded": lambda p, rng: _jpeg(p, int(rng.integers(35, 90))),
    "reencoded at 10": lambda p, rng: _jpeg(p, 10),
    "resized": lambda p, rng: _clip(cv2.resize(p, None, fx=(f := rng.uniform(0.3, 1.4)), fy=f)),
    "stretched": lambda p, rng: _clip(cv2.resize(p, (416, 512))),
    "mirrored": lambda p, rng: np.ascontiguousarray(p[:, ::-1]),
    "flipped": lambda p, rng: np.ascontiguousarray(p[::-1]),
    "rotated": lambda p, rng: np.ascontiguousarray(np.rot90(p, int(rng.integers(1, 4)))),
    "brighter": lambda p, rng: _clip(p * 1.0 + rng.uniform(15, 60)),
    "darker": lambda p, rng: _clip(p * rng.uniform(0.4, 0.8)),
    "contrast": lambda p, rng: _clip((p - 128.0) * rng.uniform(1.2, 1.6) + 128),
    "gamma": lambda p, rng: _clip(255 * (p / 255.0) ** rng.choice([0.6, 1.6])),
    "cropped": _crop,
    "cropped to 94 %": _full_crop,
    "sharpened": _sharpen,
    "noised": lambda p, rng: _clip(p + rng.normal(0, rng.uniform(4, 16), p.shape)),
    "mirrored, adjusted, small": lambda p, rng: _jpeg(_clip(cv2.resize(p[:, ::-1] * 1.2 + 10, (256, 256))), 60),
    "cropped, noised": lambda p, rng: _clip((c := _crop(p, rng)) + rng.normal(0, 8, c.shape)),
}


def _kinds(count: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """``count`` ways to alter a slice: each variant once in random order, after that two different ones together."""
    single = [(name,) for name in rng.permutation(list(VARIANTS)).tolist()]
    double = [tuple(rng.choice(list(VARIANTS), 2, replace=False).tolist()) for _ in range(count - len(single))]
    return [*single, *double][:count]


def plant(
    files: list[Path], count: int, seed: int, side: int | None = None
) -> tuple[Fingerprints, np.ndarray, list[str]]:
    """Fingerprints of ``count`` slices (each file with some random variants), the source of each, and its variant.

    With ``side`` the sources are first shrunk to it, which makes many variants of few files cheap.
    """
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, ROW)
    source = np.zeros(count, np.int64)
    kinds: list[str] = []
    drawn = -(-count // len(files)) - 1
    plan = ((number, kind) for number in range(len(files)) for kind in [(), *_kinds(drawn, rng)])
    for place, (number, kind) in enumerate(islice(plan, count)):
        if not kind:
            pixels = np.asarray(cv2.imread(str(files[number]), cv2.IMREAD_GRAYSCALE), np.uint8)
            if side is not None:
                pixels = np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        shown = pixels
        for name in kind:
            shown = VARIANTS[name](shown, rng)
        rows[place], source[place] = fingerprint(shown)[0], number
        kinds.append(" + ".join(kind) or "original")
    names = tuple(str(place) for place in range(len(kinds)))
    empty = ("",) * len(kinds)
    return Fingerprints(rows[: len(kinds)], names, empty, empty), source[: len(kinds)], kinds


def pair_scores(groups: list[tuple[int, ...]], source: np.ndarray) -> tuple[float, float]:
    """Recall and precision of pairs."""
    true = sum(int(n) * (int(n) - 1) // 2 for n in np.bincount(source))
    found = sum(len(g) * (len(g) - 1) // 2 for g in groups)
    right = sum(int(n) * (int(n) - 1) // 2 for g in groups for n in np.bincount(source[list(g)]))
    return right / max(true, 1), right / max(found, 1)


def distinct(files: list[Path]) -> list[Path]:
    """``files`` without those that are copies of an earlier one."""
    fingerprints, _, _ = plant(files, len(files), 0)
    later = {member for group in find_copies(fingerprints) for member in group.members[1:]}
    return [file for number, file in enumerate(files) if number not in later]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="folder searched for .jpg files")
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--sources", type=int, help="use only this many source slices")
    parser.add_argument("--side", type=int, help="shrink the sources to this many pixels first (faster)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    files = distinct(sorted(args.data.rglob("*.jpg")))
    if args.sources:
        files = [files[i] for i in np.linspace(0, len(files) - 1, args.sources).astype(int)]
    start = time.process_time()
    fingerprints, source, kinds = plant(files, args.slices, args.seed, args.side)
    made = time.process_time()
    groups = [group.members for group in find_copies(fingerprints)]
    end = time.process_time()
    recall, precision = pair_scores(groups, source)
    linked = {member for group in groups for member in group}
    missed: dict[str, int] = {}
    for number, kind in enumerate(kinds):
        if number not in linked:
            missed[kind] = missed.get(kind, 0) + 1
    result = {
        "slices": len(fingerprints),
        "sources": len(set(source.tolist())),
        "recall": round(recall, 4),
        "precision": round(precision, 4),
        "alone": missed,
        "fingerprint_cpu_ms_per_slice": round(1e3 * (made - start) / len(fingerprints), 2),
        "find_cpu_ms_per_slice": round(1e3 * (end - made) / len(fingerprints), 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
