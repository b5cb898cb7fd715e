"""The packaged model, or a bundle, on slices that are changed in twelve ways at three strengths: a table in markdown.

    python scripts/bench_robustness.py DATA [--model BUNDLE] [--slices 150] [--screens] [--out FILE]

DATA is an export with boxes of a split that the model was not trained on. Each row is one change; its cells are for the
mild, the middle and the strong one:

- ``accuracy``: slices of known class with the right class; what is refused is not right;
- ``called``: tumour slices called a tumour of any class;
- ``boxed``: tumour slices with a box that counts (score) and an IoU of 0.3 or more;
- ``refused``: slices that are refused as no brain MRI.

Slices turned by 90, 180 and 270 degrees follow, with the share that carries the flag ``orientation``, and the share
that is wrong without any flag. With ``--screens``, pictures of screens and pages are judged instead (see
``screen_pictures.py``), and every confident wrong answer without a flag is listed. Predictions are kept in FILE as they
come, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, tee
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from corruptions import CORRUPTIONS, STRENGTHS, corrupted
from screen_pictures import boxes_on, chosen, screens

from detectclf.boxes import pairwise_iou
from detectclf.config import DataConfig
from detectclf.datasets.dataset import open_dataset
from detectclf.imaging.images import read_pixels
from detectclf.inference.loading import load
from detectclf.inference.predictor import Predictor
from detectclf.types import ANY_TUMOR, NEGATIVE_CLASS, ORIENTATION, FloatArray, Pixels, Sample

HIT, SURE = 0.3, 0.6
"""IoU of a box with the true one; probability from which a wrong answer is a confident one."""

Row = dict[str, Any]
Case = tuple[str, Pixels, FloatArray, str | None]
"""Name, pixels, true boxes and true class of one picture."""


def main(
    data: Path,
    model: Annotated[Path | None, typer.Option(help="Bundle [default: the packaged one].")] = None,
    slices: Annotated[int, typer.Option(help="Slices that are drawn from the split.")] = 150,
    split: Annotated[str, typer.Option(help="Split of the export.")] = "valid",
    screens_too: Annotated[bool, typer.Option("--screens", help="Pictures of screens and pages instead.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON Lines with what was found so far.")] = None,
    summary: Annotated[Path | None, typer.Option(help="JSON with the middle strength, for update_readme.py.")] = None,
) -> None:
    """Prints the table."""
    predictor = load(model)
    samples = chosen(open_dataset(DataConfig(sources=(data,))).split(split).samples, slices)
    cases = _screen_cases(samples) if screens_too else _cases(samples)
    rows = list(_judged(predictor, cases, out))
    if summary is not None:
        summary.write_text(json.dumps({"slices": len(samples), "rows": _middle(rows)}, indent=1) + "\n")
    print(f"{predictor.name}, {len(samples)} slices\n")
    print(_screen_table(rows) if screens_too else f"{_table(rows)}\n\n{_turned_table(rows)}")


def _cases(samples: Sequence[Sample]) -> Iterator[Case]:
    originals = [(read_pixels(s), s.boxes_xyxy, s.label) for s in samples]
    yield from (("as they are", *each) for each in originals)
    for strength in (1, 0, 2):  # the middle first: of a run that is stopped it says most
        for name in CORRUPTIONS:
            for seed, (pixels, boxes, label) in enumerate(originals):
                yield f"{name}/{STRENGTHS[strength]}", *corrupted(name, strength, pixels, boxes, seed), label
    for turn in (1, 2, 3):
        for pixels, boxes, label in originals:
            yield f"turned by {90 * turn}", np.ascontiguousarray(np.rot90(pixels, turn)), boxes[:0], label


def _screen_cases(samples: Sequence[Sample]) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    pixels = [read_pixels(sample) for sample in samples]
    for i, sample in enumerate(samples):
        others = [pixels[(i + k) % len(pixels)] for k in range(1, 6)]
        for screen in screens(pixels[i], others, rng):
            yield screen.kind, screen.pixels, boxes_on(screen.matrix, sample.boxes_xyxy), sample.label


def _judged(predictor: Predictor, cases: Iterable[Case], out: Path | None) -> Iterator[Row]:
    """What is said of each case; those that ``out`` holds are not predicted again."""
    known = [json.loads(line) for line in out.read_text().splitlines()] if out is not None and out.is_file() else []
    yield from known
    waiting, again = tee(islice(cases, len(known), None))
    predictions = predictor.predict_many(pixels for _, pixels, _, _ in again)
    for (name, _, boxes, label), said in zip(waiting, predictions, strict=True):
        drawn = said.boxes_xyxy[said.scores >= said.box_threshold]
        row = {
            "case": name,
            "truth": label,
            "label": said.label,
            "confidence": said.confidence,
            "flags": list(said.flags),
            "boxed": len(boxes) > 0 and bool((pairwise_iou(boxes, drawn) >= HIT).any()),
        }
        if out is not None:
            with out.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        yield row


def _is_right(row: Row) -> bool:
    if row["truth"] == ANY_TUMOR:
        return row["label"] not in (None, NEGATIVE_CLASS)
    return bool(row["label"] == row["truth"])


def _share(rows: Sequence[Row], true: Callable[[Row], bool]) -> str:
    return f"{100 * np.mean([true(row) for row in rows]):.0f}" if rows else "–"


def _figures(rows: Sequence[Row]) -> list[str]:
    """Accuracy, called, boxed and refused, per cent."""
    tumors = [row for row in rows if row["truth"] != NEGATIVE_CLASS]
    return [
        _share(rows, _is_right),
        _share(tumors, lambda row: row["label"] not in (None, NEGATIVE_CLASS)),
        _share(tumors, lambda row: row["boxed"]),
        _share(rows, lambda row: row["label"] is None),
    ]


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| per cent at each strength | strengths | accuracy | called | boxed | refused |",
        "|---|---|---:|---:|---:|---:|",
        "| " + " | ".join(["as they are", "", *_figures([row for row in rows if row["case"] == "as they are"])]) + " |",
    ]
    for name, corruption in CORRUPTIONS.items():
        three = [_figures([row for row in rows if row["case"] == f"{name}/{each}"]) for each in STRENGTHS]
        cells = [", ".join(each) for each in zip(*three, strict=True)]
        strengths = ", ".join(f"{value:g}" for value in corruption.strengths)
        lines.append(f"| {name} | {strengths} ({corruption.unit}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _middle(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Shares of slices as they are, and with each change at its middle strength."""
    names = {"as they are": "as they are"} | {f"{name}/{STRENGTHS[1]}": name for name in CORRUPTIONS}
    own = {name: [row for row in rows if row["case"] == case] for case, name in names.items()}
    return [
        {
            "change": name,
            "right": sum(map(_is_right, found)) / len(found),
            "refused": sum(row["label"] is None for row in found) / len(found),
        }
        for name, found in own.items()
    ]


def _turned_table(rows: Sequence[Row]) -> str:
    lines = [
        "| per cent | accuracy | flag `orientation` | refused | wrong without a flag |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("as they are", *(f"turned by {90 * turn}" for turn in (1, 2, 3))):
        own = [row for row in rows if row["case"] == name]
        cells = [
            _share(own, _is_right),
            _share(own, lambda row: ORIENTATION in row["flags"]),
            _share(own, lambda row: row["label"] is None),
            _share(own, lambda row: not _is_right(row) and not row["flags"]),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _screen_table(rows: Sequence[Row]) -> str:
    lines = ["| picture | number | right | flagged, not refused | refused | confident, wrong, no flag |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for name in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == name]
        refused = sum(row["label"] is None for row in own)
        flagged = sum(bool(row["flags"]) for row in own) - refused
        bad = sum(not _is_right(row) and not row["flags"] and (row["confidence"] or 0) >= SURE for row in own)
        lines.append(f"| {name} | {len(own)} | {sum(map(_is_right, own))} | {flagged} | {refused} | {bad} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
