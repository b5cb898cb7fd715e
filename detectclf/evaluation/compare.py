"""Leader board of runs: accuracy and mAP against speed and size, with paired tests on the slices all have in common.

Two runs differ in accuracy where exact McNemar (1947) and the paired bootstrap over source groups both say so, and in
mAP where a randomisation test and the bootstrap do; no p is smaller than an exact test of as many sources as differ
could give, and p values are adjusted for the number of pairs (Holm 1979). Else they tie.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from detectclf.config import EvaluateConfig
from detectclf.errors import DataError
from detectclf.evaluation.aligned import Aligned, boxes_of
from detectclf.evaluation.bootstrap import bootstrap
from detectclf.evaluation.caveats import RESEARCH_USE
from detectclf.evaluation.detection import map_figures
from detectclf.evaluation.entries import Entry, load_entry
from detectclf.evaluation.headlines import show
from detectclf.evaluation.intervals import interval
from detectclf.evaluation.matching import Matches, match_by_class
from detectclf.evaluation.paired_tests import least_p, mcnemar_exact, paired_p, randomisation_p
from detectclf.evaluation.rendering import environment
from detectclf.evaluation.tables import text_table
from detectclf.evaluation.weighted import (
    Bools,
    Floats,
    Ints,
    Values,
    WeightedFigures,
    joined,
    on_slices,
    published,
    ratio,
)
from detectclf.files import atomic_write
from detectclf.types import Prediction

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Board:
    """The leader board: ``record`` is what ``compare --json`` gives."""

    record: dict[str, Any]

    def to_json(self) -> str:
        """Valid JSON without NaN."""
        return json.dumps(self.record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    @property
    def table(self) -> str:
        """Runs and verdicts as plain text."""
        rows = [
            [
                run["run"],
                show(run["accuracy"], percent=True),
                show(run["mAP"]),
                show(run["mAP50"]),
                show(run["joint_accuracy"], percent=True),
                "–" if run["images_per_second"] is None else f"{run['images_per_second']:.1f}",
                "–" if run["parameters"] is None else f"{run['parameters'] / 1e6:.1f} M",
                str(run["slices"] or "–"),
            ]
            for run in self.record["runs"]
        ]
        names = ("run", "accuracy", "mAP", "mAP50", "joint", "slices/s", "parameters", "slices")
        pairs = "".join(f"{verdict(pair)}\n" for pair in self.record["pairs"])
        notes = "".join(f"note: {note}\n" for note in self.record["notes"])
        return text_table("leader board", names, rows) + pairs + notes


def verdict(pair: dict[str, Any]) -> str:
    """One pair in words."""
    accuracy, mean_ap = pair["accuracy"]["verdict"], pair["mAP"]["verdict"]
    return f"{pair['first']} against {pair['second']}: accuracy {accuracy}, mAP {mean_ap}"


def compare_runs(runs: Sequence[Path], config: EvaluateConfig | None = None) -> Board:
    """Reads evaluations (folders of ``evaluate``) and training runs, and compares the evaluations pairwise.

    Args:
        runs: folders; an evaluation may lie in a run's ``evaluation`` folder.
        config: resamples and seed.

    Raises:
        DataError: a folder is neither, or two have one name and place.
    """
    settings = config or EvaluateConfig()
    entries = _named([load_entry(Path(run)) for run in runs])
    paired = [entry for entry in entries if entry.data is not None]
    notes = [f"{e.name}: a training run; figures are of its own valid split, not paired" for e in entries if not e.data]
    notes += [f"{e.name}: its speed includes class-activation maps" for e in entries if e.row["explained"]]
    notes += [_copies(entry.row) for entry in entries if entry.row["copies"]]
    pairs: list[dict[str, Any]] = []
    if len(paired) > 1:
        pairs, more = _pairs(paired, settings)
        notes.extend(more)
    rows = sorted((entry.row for entry in entries), key=_merit)
    return Board({"runs": rows, "pairs": pairs, "notes": notes})


def _copies(row: dict[str, Any]) -> str:
    clean = f"accuracy {show(row['clean_accuracy'], percent=True)}, mAP {show(row['clean_mAP'])} without them"
    return f"{row['run']}: {row['copies']:.0f} of its slices are copies of its training slices; {clean}"


def _merit(row: dict[str, Any]) -> tuple[float, str]:
    known = [value for value in (row["accuracy"], row["mAP"]) if value is not None]
    return (-sum(known), row["run"])


def _named(entries: Sequence[Entry]) -> list[Entry]:
    """Runs of one name get their parent's too."""
    names = [entry.name for entry in entries]
    for entry in entries:
        if names.count(entry.name) > 1:
            entry.row["run"] = f"{entry.folder.resolve().parent.name}/{entry.folder.resolve().name}"
    again = [entry.name for entry in entries]
    for number, entry in enumerate(entries):
        if again.count(again[number]) > 1:
            entry.row["run"] = f"{again[number]} ({number + 1})"
    return list(entries)


def _pairs(entries: Sequence[Entry], config: EvaluateConfig) -> tuple[list[dict[str, Any]], list[str]]:
    tables = [entry.table() for entry in entries]
    common = sorted(set.intersection(*(set(table) for table in tables)))
    if not common:
        return [], ["the evaluations share no slice with the same truth: they cannot be compared"]
    notes = [
        f"{entry.name}: {len(table) - len(common)} of its slices are not in every evaluation; tests leave them out"
        for entry, table in zip(entries, tables, strict=True)
        if len(table) > len(common)
    ]
    data = [entry.take([table[key] for key in common]) for entry, table in zip(entries, tables, strict=True)]
    groups = np.array([entries[0].groups[tables[0][key]] for key in common], dtype=np.int64)
    matches = [_matches(d) for d in data]
    figures = joined([_figures(d, matches[k], str(k)) for k, d in enumerate(data)])
    drawn = bootstrap(figures, groups, count=max(config.bootstrap, 1), seed=config.seed)
    values = published(figures, len(common))
    rows = []
    for a, b in combinations(range(len(entries)), 2):
        row = _pair((entries[a].name, entries[b].name), (a, b), (data[a], data[b]), groups, drawn, values)
        # A pair that the bootstrap calls a tie stays one.
        if row["mAP"]["p"] is not None and row["mAP"]["p"] < LEVEL:
            row["mAP"]["p_randomisation"] = randomisation_p(
                matches[a], matches[b], groups[data[a].boxed], count=max(config.bootstrap, 1), seed=config.seed
            )
        rows.append(row)
    for figure in ("accuracy", "mAP"):
        _judge([row[figure] for row in rows], [(row["first"], row["second"]) for row in rows])
    return rows, notes


def _matches(data: Aligned) -> dict[str, Matches]:
    """Of the slices whose boxes are known, per class that has a true box."""
    return match_by_class(boxes_of(data.take(data.boxed.tolist()), fused=True), data.tumor_classes)


def _figures(data: Aligned, matches: dict[str, Matches], prefix: str) -> WeightedFigures:
    accuracy = ratio(_right(data), [s.label is not None for s in data.samples], f"{prefix}.accuracy")
    return joined([accuracy, on_slices(map_figures(matches, prefix, "per_class"), data.boxed)])


def _right(data: Aligned) -> list[bool]:
    return [s.label is not None and s.label == p.label for s, p in zip(data.samples, data.predictions, strict=True)]


def _pair(
    names: tuple[str, str],
    numbers: tuple[int, int],
    data: tuple[Aligned, Aligned],
    groups: Ints,
    drawn: dict[str, Floats],
    values: Values,
) -> dict[str, Any]:
    right = [np.array(_right(d), dtype=np.bool_) for d in data]
    differ = {"accuracy": right[0] != right[1], "mAP": _boxes_differ(*data)}
    out: dict[str, Any] = {"first": names[0], "second": names[1], "slices": len(data[0])}
    for figure in ("accuracy", "mAP"):
        a, b = (f"{number}.{figure}" for number in numbers)
        sources = len(np.unique(groups[differ[figure]]))
        first, second = values.get(a), values.get(b)
        if first is None or second is None:
            out[figure] = {"difference": None, "interval": None, "p": None, "sources_differ": sources}
            continue
        differences = drawn[a] - drawn[b]
        p = paired_p(differences)
        out[figure] = {
            "difference": first - second,
            "interval": interval(differences),
            "p": None if p is None else max(p, least_p(sources)),
            "sources_differ": sources,
        }
    out["accuracy"]["p_mcnemar"] = mcnemar_exact(right[0], right[1])
    return out


def _boxes_differ(first: Aligned, second: Aligned) -> Bools:
    """``(I,)`` whether the runs give other boxes to a slice whose boxes are known."""

    def said(p: Prediction) -> tuple[Any, ...]:
        return p.boxes_xyxy.tolist(), p.box_labels, p.scores.tolist()

    pairs = zip(first.samples, first.predictions, second.predictions, strict=True)
    return np.array([s.boxed and said(p) != said(q) for s, p, q in pairs], dtype=np.bool_)


def _judge(rows: Sequence[dict[str, Any]], names: Sequence[tuple[str, str]]) -> None:
    """Adjusts the p values by Holm and names the better run of each pair, or a tie."""
    known = [row for row in rows if row["p"] is not None]
    worst = [max(row["p"], row.get("p_mcnemar", 0.0), row.get("p_randomisation", 0.0)) for row in known]
    highest = 0.0
    for rank, k in enumerate(np.argsort(worst, kind="stable").tolist()):
        highest = max(highest, min(1.0, worst[k] * (len(known) - rank)))
        known[k]["p_holm"] = highest
    for row, (first, second) in zip(rows, names, strict=True):
        if row["p"] is None:
            row.update(p_holm=None, verdict="not comparable")
        elif row["p_holm"] >= LEVEL or row["difference"] == 0:
            row["verdict"] = "tie"
        else:
            row["verdict"] = f"{first if row['difference'] > 0 else second} is better"


def write_board(board: Board, out: str | Path) -> dict[str, Path]:
    """Writes compare.json and the page compare.html into ``out``; name -> file.

    Raises:
        DataError: ``out`` cannot be written to.
    """
    from detectclf.drawing.plots import LeaderPoint, as_svg, leader_figure

    folder = Path(out)
    plots = {}
    for key, title, label, unit in (
        ("images_per_second", "Against speed", "Slices per second", 1.0),
        ("parameters", "Against size", "Parameters, millions", 1e6),
    ):
        points = [
            LeaderPoint(run["run"], run[key] / unit, run["accuracy"], run["mAP"])
            for run in board.record["runs"]
            if run[key] is not None
        ]
        if points:
            plots[title] = as_svg(leader_figure(points, label))
    page = environment().get_template("compare.html.j2").render(record=board.record, plots=plots, use=RESEARCH_USE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "not writable"
        raise DataError(f"cannot write the page ({reason})", file=folder, remedy="choose another --out") from error
    for name, content in (("compare.json", board.to_json()), ("compare.html", page)):
        atomic_write(folder / name, content)
    return {name: folder / name for name in ("compare.json", "compare.html")}
