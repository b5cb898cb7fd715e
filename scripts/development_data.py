"""Writes the data by which choices are made: a development set by patient, and what is trained on beside it.

``python scripts/development_data.py ../shared dev`` reads ``../shared/data``, writes exports and prints what they hold:

- ``slices/{train,valid}``: valid has the patients of the published fold 5 of figshare 1512427 and a fifth of the groups
  of healthy slices, train the rest. Patients come from the atlas and are checked against ``patients.csv``.
- ``br35h/{train,valid}``: tumours of unknown type on T1, T2 and FLAIR; valid has a quarter of the groups of slices that
  are nearly alike.
- ``unboxed/train``: tumour slices without boxes, of sources without patients. None is of the patients in valid.
- ``lgg/{flair,t1,t1c}/valid``: slices of other hospitals, for choosing only: there is no train split.
- ``stripped/valid``: axial slices of ``slices/valid`` without skull, where it can be taken off
  (``skull_strip.py``), cut to the brain and stretched to the full range.
- ``final/``: train splits of everything but ``lgg`` and ``stripped``, for the packaged model.

Copies of a slice, found by content over all sources, stay on one side. The originals are only read.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from development_export import Picture, Table, write_annotations, write_split
from PIL import Image
from skull_strip import cropped, strip

from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.duplicates.atlas import load_atlas
from detectclf.duplicates.copies import CopyGroup
from detectclf.duplicates.fingerprints import Fingerprints
from detectclf.errors import DataError
from detectclf.imaging.images import image_size, read_pixels
from detectclf.types import ANY_TUMOR, NEGATIVE_CLASS, Sample

SEED = 0
HELD_FOLD = 5
HEALTHY_SHARE, GROUP_SHARE = 1 / 5, 1 / 4
SOURCES = ("boxed", "figshare", "br35h", "unboxed")
LGG_SEQUENCES = ("flair", "t1", "t1c")


def main(
    shared: Annotated[Path, typer.Argument(help="Folder with `data/` in it; never changed.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
) -> None:
    """Writes the development data and prints what is in them."""
    if out.exists():
        raise typer.BadParameter(f"{out}: exists; name another folder, or remove it")
    data, table = shared / "data", Table()
    pictures = assign_sides(read_pictures(data, SliceIndex(), table), table)
    for name, sources in (("slices", ("boxed", "figshare")), ("br35h", ("br35h",)), ("unboxed", ("unboxed",))):
        for side in ("train", "valid"):
            write_split(out, f"{name}/{side}", [p for p in pictures if p.source in sources and p.side == side], table)
        everything = [p for p in pictures if p.source in sources and p.side is not None]
        write_split(out, f"final/{name}/train", everything, table)
    for sequence, slices in read_lgg(data / "lgg").items():
        write_split(out, f"lgg/{sequence}/valid", slices, table)
    write_stripped(out, [p for p in pictures if p.source in ("boxed", "figshare") and p.side == "valid"], table)
    print(table)


def read_pictures(data: Path, index: SliceIndex, table: Table) -> list[Picture]:
    """Every slice that may be trained on, with patient and fold where known, and with its group."""
    samples: list[Sample] = []
    sources: list[str] = []
    for source in SOURCES:
        unknown_type = ("Tumor (type unknown)",) if source == "br35h" else ()
        config = DataConfig(sources=(data / source,), any_tumor=unknown_type)
        found = open_dataset(config).samples
        samples += found
        sources += [source] * len(found)
    fingerprints = index.look_up(samples).fingerprints
    copies = index.find_copies(fingerprints)
    groups = group_numbers(len(samples), copies, alike_groups(data / "br35h", samples))
    named = with_patients(samples, fingerprints, data / "patients.csv")
    mixed = sum(len({sources[i] for i in group.members}) > 1 for group in copies)
    several = sum(len({named[i][0].patient for i in group.members} - {None}) > 1 for group in copies)
    table.remarks.append(f"{len(copies)} groups of copies; {mixed} over two sources, {several} over two patients")
    return [
        Picture(_named(sample, source), source, group, fold)
        for (sample, fold), source, group in zip(named, sources, groups, strict=True)
    ]


def _named(sample: Sample, source: str) -> Sample:
    prefix = {"figshare": "fs_", "br35h": "", "unboxed": f"u_{sample.split}_"}.get(source, f"{sample.split}_")
    return replace(sample, name=prefix + Path(sample.name).name)


def alike_groups(folder: Path, samples: Sequence[Sample]) -> list[list[int]]:
    """Indices of the slices of each ``group`` that the annotations of an export name."""
    members: dict[int, list[int]] = {}
    for file in sorted(folder.glob("*/_annotations.coco.json")):
        group_of = {image["file_name"]: int(image["group"]) for image in json.loads(file.read_text())["images"]}
        for i, sample in enumerate(samples):
            if sample.path.parent == file.parent:
                members.setdefault(group_of[sample.name], []).append(i)
    return list(members.values())


def group_numbers(count: int, copies: Iterable[CopyGroup], alike: Iterable[Sequence[int]]) -> list[int]:
    """Number of the group of each of ``count`` slices: the least index that is connected with it."""
    groups = list(range(count))
    for members in [*(group.members for group in copies), *alike]:
        joined = {groups[i] for i in members}
        groups = [min(joined) if group in joined else group for group in groups]
    return groups


def with_patients(
    samples: Sequence[Sample], fingerprints: Fingerprints, listed: Path
) -> list[tuple[Sample, int | None]]:
    """Each sample with its patient, and the patient's published fold, by the atlas.

    Raises:
        DataError: the list of patients says otherwise.
    """
    atlas = load_atlas()
    with listed.open(newline="") as stream:
        known = {row["file"]: (int(row["patient"]), int(row["fold"])) for row in csv.DictReader(stream)}
    found: list[tuple[Sample, int | None]] = []
    for sample, row in zip(samples, atlas.match(fingerprints).tolist(), strict=True):
        here = (int(atlas.patients[row]), int(atlas.folds[row])) if row >= 0 else None
        if sample.name in known and known[sample.name] != here:
            raise DataError(
                f"{sample.name}: another patient than in the atlas", file=listed, remedy="look at the slice"
            )
        patient = None if here is None else f"figshare-{here[0]}"
        found.append((replace(sample, patient=patient), None if here is None else here[1]))
    return found


def assign_sides(pictures: Sequence[Picture], table: Table) -> list[Picture]:
    """Each picture with its side.

    Patients go by the published fold. Of the healthy slices of ``boxed`` a fifth of the groups, and of ``br35h`` a
    quarter, is drawn for valid; groups that reach into another source are in train. Slices without a patient in
    ``unboxed`` are in train, since the atlas holds every slice of the patients in valid.

    Raises:
        DataError: a group would be on both sides.
    """
    rng = np.random.default_rng(SEED)
    healthy = {p.group for p in pictures if p.source == "boxed" and p.sample.label == NEGATIVE_CLASS}
    alike = {p.group for p in pictures if p.source == "br35h"}
    tied = {p.group for p in pictures if p.source != "br35h"} & alike
    table.remarks.append(f"{len(tied)} groups of br35h have copies in other sources and are in train")
    held = draw(healthy, HEALTHY_SHARE, rng) | draw(alike - tied, GROUP_SHARE, rng)
    placed = [replace(p, side=_side(p, held)) for p in pictures]
    both = {p.group for p in placed if p.side == "train"} & {p.group for p in placed if p.side == "valid"}
    if both:
        raise DataError(f"{len(both)} groups of copies are in train and in valid", remedy="look at these slices")
    return placed


def draw(groups: set[int], share: float, rng: np.random.Generator) -> set[int]:
    """A ``share`` of ``groups``, rounded down."""
    order: npt.NDArray[np.int64] = rng.permutation(sorted(groups))
    return set(order[: int(len(groups) * share)].tolist())


def _side(picture: Picture, held: set[int]) -> str | None:
    if picture.fold is not None:
        if picture.source == "unboxed" and picture.fold == HELD_FOLD:
            return None  # without a box it counts in no figure of localisation
        return "valid" if picture.fold == HELD_FOLD else "train"
    known = picture.source in ("br35h", "unboxed") or picture.sample.label == NEGATIVE_CLASS
    return ("valid" if picture.group in held else "train") if known else None


def read_lgg(folder: Path) -> dict[str, list[Picture]]:
    """Sequence -> its slices. Patients are numbered: their ids in the archive are in no file that is written."""
    truth = json.loads((folder / "truth.json").read_text())
    patients = {name: i for i, name in enumerate(sorted({row["patient"] for row in truth.values()}), 1)}
    slices: dict[str, list[Picture]] = {sequence: [] for sequence in LGG_SEQUENCES}
    for name, row in sorted(truth.items()):
        number = patients[row["patient"]]
        boxes = np.array(row["boxes"], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        path = folder / "img" / name
        width, height = image_size(path)
        renamed = name.replace(row["patient"], f"lgg-{number:02d}")
        labels = (ANY_TUMOR,) * len(boxes)
        label = ANY_TUMOR if len(boxes) else NEGATIVE_CLASS
        sample = Sample(path, renamed, "valid", label, boxes, labels, True, width, height, patient=f"lgg-{number}")
        slices[row["sequence"]].append(Picture(sample, "lgg", number, side="valid"))
    return slices


def write_stripped(out: Path, pictures: Sequence[Picture], table: Table) -> None:
    """Writes those of ``pictures`` whose skull can be taken off."""
    folder = out / "stripped" / "valid"
    folder.mkdir(parents=True)
    kept = []
    for picture in pictures:
        stripped = strip(read_pixels(picture.sample), picture.sample.boxes_xyxy)
        if stripped is not None:
            name = Path(picture.sample.name).with_suffix(".png").name
            pixels, boxes = cropped(stripped, picture.sample.boxes_xyxy)
            Image.fromarray(pixels).save(folder / name)
            size = {"width": pixels.shape[1], "height": pixels.shape[0]}
            kept.append(replace(picture, sample=replace(picture.sample, name=name, boxes_xyxy=boxes, **size)))
    write_annotations(out, "stripped/valid", kept, table)


if __name__ == "__main__":
    typer.run(main)
