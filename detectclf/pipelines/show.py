"""``data show``: a contact sheet of slices with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectclf.config import AugmentConfig
from detectclf.pipelines.opening import open_folder
from detectclf.pipelines.pictures import write_picture


def show(
    folder: Path,
    out: Path,
    *,
    augmented: bool = False,
    split: str | None = None,
    n: int = 16,
    seed: int = 0,
    any_tumor: Sequence[str] = (),
    patients: Path | None = None,
    pattern: str | None = None,
) -> dict[str, Any]:
    """Draws ``n`` slices of all classes with their boxes; ``augmented`` as training would see them.

    ``patients`` and ``pattern`` are as ``data.patients`` and ``data.patient_pattern``; the title then says of how many
    patients the slices are.
    """
    from detectclf.datasets.augment import detection_augment
    from detectclf.drawing.sheets import contact_sheet, sample_tiles, spread
    from detectclf.formats.files import slice_classes

    dataset = open_folder(folder, negative_boxes="keep", any_tumor=any_tumor, patients=patients, pattern=pattern)
    if split is not None:
        from detectclf.datasets.dataset import require_split

        dataset = require_split(dataset, split)
    samples = spread(dataset, n, seed)
    augment = detection_augment(AugmentConfig(), seed=seed) if augmented else None
    title = f"{folder.name}: {len(samples)} {'augmented ' if augmented else ''}slices"
    people = {s.patient for s in samples if s.patient is not None}
    title += f" of {len(people)} patients" if people else ""
    write_picture(contact_sheet(sample_tiles(samples, augment), slice_classes(dataset), title=title), out)
    return {"wrote": str(out), "detail": f"{len(samples)} slices"}
