"""``data split``: a new split in which copies of one slice stay together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectclf.errors import ConfigError, DataError
from detectclf.files import atomic_folder
from detectclf.pipelines.opening import open_folder


def split(
    folder: Path, out: Path, *, ratios: str = "0.7,0.2,0.1", seed: int = 0, any_tumor: Sequence[str] = ()
) -> dict[str, Any]:
    """Splits anew, copies together, classes balanced; written in the source's own format."""
    from detectclf.datasets.index import SliceIndex
    from detectclf.datasets.splits import grouped_split
    from detectclf.formats import detect_format, write

    shares = _ratios(ratios)
    dataset = open_folder(folder, negative_boxes="keep", any_tumor=any_tumor)
    if out.resolve().is_relative_to(folder.resolve()):
        raise DataError("lies inside the data set", file=out, remedy="choose another --out")
    index = SliceIndex()
    indexed = index.look_up(dataset.samples)
    unreadable = np.flatnonzero(~indexed.readable)
    if len(unreadable):
        raise DataError(
            "cannot be read, so its copies cannot be found",
            file=dataset.samples[int(unreadable[0])].path,
            remedy=f"fix the data first: detectclf data check {folder} --fix --out DIR",
        )
    groups = index.find_copies(indexed.fingerprints)
    dealt = grouped_split(dataset, groups, shares, seed)
    with atomic_folder(out) as partial:
        write(dealt, partial, detect_format(folder)[0])
    counts = {name: len(dealt.split(name).samples) for name in dealt.splits}
    detail = ", ".join(f"{name} {n}" for name, n in counts.items()) + f"; {len(groups)} groups of copies kept together"
    return {"wrote": str(out), "detail": detail, "splits": counts, "groups": len(groups)}


def _ratios(text: str) -> dict[str, float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    names = ("train", "valid", "test")
    if not 2 <= len(shares) <= len(names) or not all(0 < share < float("inf") for share in shares):
        raise ConfigError(f"--ratios {text!r}", remedy="give two or three positive shares such as 0.7,0.2,0.1")
    return dict(zip(names, shares, strict=False))
