"""Pictures of the development data and how a split of them is written: see ``development_data.py``."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detectclf.types import ANY_TUMOR, CANONICAL_CLASSES, NEGATIVE_CLASS, Sample


@dataclass(frozen=True, slots=True)
class Picture:
    """One slice of the development data.

    Attributes:
        sample: the slice; its name is that in the export, its patient ``figshare-N`` where known.
        source: the folder that it comes from.
        group: number of the group of copies, or of near-alike slices, that it belongs to.
        fold: the published fold of its patient.
        side: ``train`` or ``valid``; ``None`` where it is left out.
    """

    sample: Sample
    source: str
    group: int
    fold: int | None = None
    side: str | None = None


@dataclass(slots=True)
class Table:
    """What was written, a row per split, and remarks."""

    rows: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, name: str, pictures: Sequence[Picture]) -> None:
        """Counts of one split."""
        tumors = sum(p.sample.label != NEGATIVE_CLASS for p in pictures)
        boxes = sum(len(p.sample.box_labels) for p in pictures)
        patients = {p.sample.patient for p in pictures if p.sample.patient is not None}
        groups = {p.group for p in pictures if p.sample.patient is None}
        self.rows.append((name, len(pictures), tumors, boxes, len(patients), len(groups)))

    def __str__(self) -> str:
        head = f"{'set':24}{'slices':>8}{'tumour':>8}{'boxes':>8}{'patients':>10}{'groups of slices without':>26}"
        lines = [f"{n:24}{s:>8}{t:>8}{b:>8}{p:>10}{g:>26}" for n, s, t, b, p, g in self.rows]
        return "\n".join([head, *lines, *self.remarks])


def write_split(out: Path, name: str, pictures: Sequence[Picture], table: Table) -> None:
    """Writes one split; nothing where there is no picture."""
    if not pictures:
        return
    folder = out / name
    folder.mkdir(parents=True)
    for picture in pictures:
        shutil.copyfile(picture.sample.path, folder / picture.sample.name)
    write_annotations(out, name, pictures, table)


def write_annotations(out: Path, name: str, pictures: Sequence[Picture], table: Table) -> None:
    """Writes the annotations of pictures that lie there: COCO, or ``_classes.csv`` where boxes are not known."""
    folder = out / name
    if all(p.sample.boxed for p in pictures):
        (folder / "_annotations.coco.json").write_text(json.dumps(coco_of(pictures)))
    else:
        tumors = [label for label in CANONICAL_CLASSES if label != NEGATIVE_CLASS]
        rows = [[p.sample.name, *(int(p.sample.label == label) for label in tumors)] for p in pictures]
        with (folder / "_classes.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["filename", *tumors], *rows])
    table.add(name, pictures)


def coco_of(pictures: Sequence[Picture]) -> dict[str, object]:
    """COCO annotations; each image has its ``patient`` and ``fold``, or else its ``group``."""
    used = {p.sample.label for p in pictures}
    names = [name for name in (*CANONICAL_CLASSES, ANY_TUMOR) if name in used]
    categories = [{"id": 0, "name": "classes", "supercategory": "none"}]
    categories += [{"id": i, "name": name, "supercategory": "classes"} for i, name in enumerate(names, 1)]
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, picture in enumerate(pictures, 1):
        sample = picture.sample
        known = {"patient": sample.patient, "fold": picture.fold}
        extra = {key: value for key, value in known.items() if value is not None} or {"group": picture.group}
        size = {"width": sample.width, "height": sample.height}
        images.append({"id": number, "file_name": sample.name, **size, **extra})
        for box, label in zip(sample.boxes_xyxy.tolist(), sample.box_labels, strict=True):
            width, height = box[2] - box[0], box[3] - box[1]
            record = {"id": len(annotations) + 1, "image_id": number, "category_id": names.index(label) + 1}
            place = {"bbox": [box[0], box[1], width, height], "area": width * height, "iscrowd": 0}
            annotations.append({**record, **place})
    return {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": annotations}
