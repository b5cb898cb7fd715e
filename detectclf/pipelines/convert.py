"""``data convert``: an export in another format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detectclf.types import Dataset


def convert(
    folder: Path,
    out: Path,
    *,
    to: str,
    from_: str | None = None,
    drop_boxes: bool = False,
    any_tumor: Sequence[str] = (),
    patients: Path | None = None,
    pattern: str | None = None,
) -> dict[str, Any]:
    """Writes ``folder`` to ``out`` in format ``to``; what the target cannot hold is refused.

    ``any_tumor``, ``patients`` and ``pattern`` are as ``data.any_tumor``, ``data.patients`` and
    ``data.patient_pattern``. COCO holds patients, as opaque names; with the other formats they go to
    ``patients.csv``.
    """
    from detectclf.datasets.patients import with_stated_patients
    from detectclf.formats.convert import convert as write_converted
    from detectclf.pipelines.opening import data_settings

    config = data_settings(patients, pattern)

    def with_patients(dataset: Dataset) -> Dataset:
        return replace(dataset, samples=with_stated_patients(dataset.samples, config))

    dataset = write_converted(folder, out, to, from_, drop_boxes=drop_boxes, any_tumor=any_tumor, change=with_patients)
    return {"wrote": str(out), "detail": f"{len(dataset.samples)} slices as {to}", "samples": len(dataset.samples)}
