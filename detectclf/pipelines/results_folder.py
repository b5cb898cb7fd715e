"""Folders for results: those of one command never lie among those of another."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from detectclf.errors import DataError

_RESULTS = (
    *("run.json", "manifest.json", "predictions.jsonl", "predictions.json", "predictions.csv", "predictions.coco.json"),
    *("studies.jsonl", "report.json", "bundle.json", "model.json", "metrics.jsonl"),
    *("boxes.csv", "index.html", "report.html"),
)
"""Files by which the results of a command are known, and others that one would overwrite."""
_DATA = ("data.yaml", "labels")
"""What a data set in YOLO format has, and predictions in it would overwrite."""


def check_no_results(out: Path, *, but: Collection[str] = ()) -> None:
    """Makes sure that no results lie in ``out``, if it is there at all.

    Args:
        out: the folder.
        but: files that may be there.

    Raises:
        DataError: some do, or a data set does.
    """
    data = next((name for name in _DATA if name not in but and (out / name).exists()), None)
    if data is not None:
        raise DataError(f"already holds labels ({data})", file=out, remedy="choose another --out")
    found = next((name for name in _RESULTS if name not in but and (out / name).exists()), None)
    if found is not None:
        raise DataError(f"already holds results ({found})", file=out, remedy="choose another --out, or remove it")


__all__ = ["check_no_results"]
