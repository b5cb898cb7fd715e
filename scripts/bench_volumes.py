"""The packaged model, or a bundle, on heads from elsewhere: volumes, some with a mask of their tumour.

    python scripts/bench_volumes.py DIR [--model BUNDLE] [--every 5]
    python scripts/bench_volumes.py DIR --studies [--every 5]

DIR holds ``NAME.nii.gz`` (or ``.nii``), and beside it ``NAME-label.nii.gz`` where a tumour was outlined; a volume
without one is taken for healthy. Axial slices are some millimetres apart, as scanners take them, and show enough of the
head. Slices of a head with a tumour count as away from it where they are ten millimetres or more from its mask; those
between show its rim, or nothing, and are not asked for. Slices further below the crown than brains reach are counted on
their own: face and neck are no business of the model, but come with every volume.

With ``--studies`` each volume is predicted as a whole, as ``detectclf predict`` does, and the table says for how many
volumes a tumour is called by the rule of ``detectclf/inference/study_rule.py``, and for how many by their worst slice.
``--every`` leaves slices out first, as a scan with thicker steps does; 0 takes all. ``scripts/draw_volumes.py`` makes
volumes to try it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import typer

from detectclf.boxes import iou
from detectclf.inference.loading import load
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import FileSlice
from detectclf.inference.volumes import volume_in
from detectclf.prediction import Prediction
from detectclf.types import FloatArray

LEAST_HEAD = 0.5
"""Share of the largest cross-section of the head that a slice shows at least."""
BRAIN_HEIGHT = 120.0
"""Millimetres from the crown down to where slices show face and neck."""
LEAST_TUMOR = 30.0
"""Square millimetres of tumour that a slice shows at least, to be one with a tumour."""
FAR = 10.0
"""Millimetres from the tumour at which a slice is one without."""
HIT = 0.3
"""IoU of a box with that of the mask."""

Kind = Literal["healthy", "tumor", "away", "face, neck"]


class Asked(NamedTuple):
    """A slice to ask for: its place in the volume, what it shows, and the box ``(4,)`` of its tumour in pixels."""

    frame: int
    kind: Kind
    box: FloatArray | None


class Verdict(NamedTuple):
    """Of one slice: what it shows; whether it is called a tumour, has a box, and has one at the right place."""

    kind: Kind
    called: bool
    boxed: bool
    hit: bool


def main(
    folder: Path,
    model: Annotated[Path | None, typer.Option(help="Bundle [default: the packaged one].")] = None,
    every: Annotated[float, typer.Option(help="Millimetres between slices.")] = 5.0,
    studies: Annotated[bool, typer.Option(help="Figures of whole volumes instead of slices.")] = False,
) -> None:
    """Prints what the model says of each volume, and of all together."""
    predictor = load(model)
    if studies:
        show_studies({file.name: whole(predictor, file, every) for file in volumes_in(folder)})
        return
    found: dict[str, list[Verdict]] = {}
    for file in volumes_in(folder):
        stem, mask = file.name.removesuffix(".gz").removesuffix(".nii"), mask_of(file)
        asked = list(slices(oriented(file), None if mask is None else oriented(mask), every))
        said = predictor.predict_many([FileSlice(file, each.frame, "axial") for each in asked])
        found[stem] = [verdict(*each, predictor.names.negative) for each in zip(asked, said, strict=True)]
    show({**found, "all": [each for own in found.values() for each in own]})


def volumes_in(folder: Path) -> list[Path]:
    """The volumes of ``folder``, without the masks."""
    files = [file for file in folder.iterdir() if file.name.endswith((".nii", ".nii.gz"))]
    return sorted(file for file in files if "-label.nii" not in file.name)


def mask_of(file: Path) -> Path | None:
    """The mask beside a volume."""
    stem = file.name.removesuffix(".gz").removesuffix(".nii")
    return next((m for end in (".nii.gz", ".nii") if (m := file.parent / f"{stem}-label{end}").is_file()), None)


class StudyVerdict(NamedTuple):
    """Of one volume: whether it has a tumour, is called one, and would be by its worst slice; number of findings and
    flickers, whether a finding is at the right place (``None`` without a tumour), and the tumour probability."""

    tumor: bool
    called: bool
    by_worst: bool
    findings: int
    flickers: int
    hit: bool | None
    probability: float


def whole(predictor: Predictor, file: Path, every: float) -> StudyVerdict:
    """What a whole volume amounts to, of which slices ``every`` millimetres apart are taken; 0 for all."""
    volume, mask = volume_in(file), mask_of(file)
    stride = max(1, round(every / (volume.step or 1)))
    taken = range(0, len(volume), stride)
    positions = None if volume.positions is None else tuple(volume.positions[i] for i in taken)
    study = predictor.study_of(replace(volume, files=tuple(volume.files[i] for i in taken), positions=positions))
    if study.error is not None:
        raise SystemExit(study.error)
    negative = study.negative
    hit = None
    if mask is not None:
        outlined = np.asarray(oriented(mask).dataobj) > 0
        boxes = [(box.xyxy, box_of(outlined[..., box.number * stride])) for f in study.findings for box in f.boxes]
        hit = any(truth[2] > truth[0] and float(iou(truth, found[None]).max()) >= HIT for found, truth in boxes)
    worst = any(each.error is None and each.judged and each.label != negative for each in study.predictions)
    probability = 1 - study.probabilities.get(negative or "", 0.0)
    called = study.label != negative
    return StudyVerdict(mask is not None, called, worst, len(study.findings), len(study.flickers), hit, probability)


def show_studies(found: dict[str, StudyVerdict]) -> None:
    """Prints a line for each volume, and what they come to."""
    print(f"{'':32} {'tumour':>7} {'called':>7} {'by worst slice':>15} {'findings':>9} {'flickers':>9} {'P':>6}")
    for name, each in found.items():
        row = (
            f"{name:32} {each.tumor!s:>7} {each.called!s:>7} {each.by_worst!s:>15} {each.findings:9} {each.flickers:9}"
        )
        print(f"{row} {each.probability:6.3f}" + ("" if each.hit is None else f" hit {each.hit}"))
    for tumor in (False, True):
        own = [each for each in found.values() if each.tumor == tumor]
        if own:
            called, worst = sum(each.called for each in own), sum(each.by_worst for each in own)
            boxed, hits = sum(each.findings > 0 for each in own), sum(bool(each.hit) for each in own)
            kind, place = ("with a tumour", f", at the right place {hits}") if tumor else ("healthy", "")
            told = f"called a tumour {called}, by the worst slice {worst}; with a finding {boxed}{place}"
            print(f"{kind}: {len(own)} volumes; {told}")


def verdict(asked: Asked, prediction: Prediction, negative: str) -> Verdict:
    """What a prediction amounts to.

    Raises:
        SystemExit: the slice could not be read.
    """
    if prediction.error is not None:
        raise SystemExit(prediction.error)
    drawn = prediction.boxes_xyxy[prediction.scores >= prediction.box_threshold]
    hit = asked.box is not None and len(drawn) > 0 and float(iou(asked.box, drawn).max()) >= HIT
    return Verdict(asked.kind, prediction.label != negative, len(drawn) > 0, hit)


def show(found: dict[str, list[Verdict]]) -> None:
    """Prints a line for each volume and kind of slice."""
    print(f"{'':24} {'slices':10} {'':>6} {'called a tumour':>16} {'or boxed':>9} {f'at IoU {HIT}':>12}")
    for name, verdicts in found.items():
        for kind in get_args(Kind):
            own = [each for each in verdicts if each.kind == kind]
            called, boxed = sum(each.called for each in own), sum(each.called or each.boxed for each in own)
            if own:
                print(f"{name:24} {kind:10} {len(own):6} {called:16} {boxed:9} {sum(each.hit for each in own):12}")


def oriented(file: Path) -> Any:
    """The volume of ``file``, its axes to the right, to the front and to the head."""
    import nibabel

    return nibabel.as_closest_canonical(nibabel.squeeze_image(nibabel.load(file)))


def slices(volume: Any, mask: Any | None, every: float) -> Iterator[Asked]:
    """The axial slices of a volume that are asked for.

    Args:
        volume, mask: of :func:`oriented`, on one grid; a mask is 0 outside the tumour.
        every: millimetres between them.

    Raises:
        SystemExit: the mask has another grid.
    """
    levels = np.asarray(volume.dataobj, dtype=np.float32)
    outlined = np.zeros(levels.shape, dtype=bool) if mask is None else np.asarray(mask.dataobj) > 0
    if outlined.shape != levels.shape:
        raise SystemExit("a mask has another grid than its volume")
    right, front, step = (float(size) for size in volume.header.get_zooms()[:3])
    head = (levels > 0.1 * np.percentile(levels, 99)).sum(axis=(0, 1))
    crown = np.flatnonzero(head > 0.1 * head.max())[-1]
    touched = np.flatnonzero(outlined.any(axis=(0, 1)))
    for frame in range(0, len(head), max(1, round(every / step))):
        plane = outlined[..., frame]
        if head[frame] < LEAST_HEAD * head.max():
            continue
        if plane.sum() * right * front >= LEAST_TUMOR:
            yield Asked(frame, "tumor", box_of(plane))
        elif len(touched) and np.abs(touched - frame).min() * step < FAR:
            continue
        elif (crown - frame) * step > BRAIN_HEIGHT:
            yield Asked(frame, "face, neck", None)
        else:
            yield Asked(frame, "healthy" if mask is None else "away", None)


def box_of(plane: npt.NDArray[np.bool_]) -> FloatArray:
    """``(4,)`` xyxy round a mask ``(right, up)``, in pixels of the slice as it is shown: mirrored, upside down."""
    shown = plane.T[::-1, ::-1]
    if not shown.any():
        return np.zeros(4, dtype=np.float32)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


if __name__ == "__main__":
    typer.run(main)
