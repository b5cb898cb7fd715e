#!/usr/bin/env python
"""Writes the README's measured figures from the report files in docs/results/, so that none is ever typed.

    python scripts/update_readme.py            # after copying report.json files into docs/results/
    python scripts/update_readme.py --check    # says whether the README is up to date (exit 1 when not)

Each file in docs/results/ is ``{"title": ..., "command": ..., "machine": ..., "report": <report.json>}``, as
``--add`` makes it:

    python scripts/update_readme.py --add NAME --title T --machine M --report evaluation/report.json

A result with slices of new patients goes to the block "patients", new patients first; one without to "results", with
what its slices share with the training slices. ``demo``, ``bakeoff`` and ``robustness``, whose report is the
``--summary`` of ``bench_robustness.py``, have blocks of their own.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from detectclf.evaluation.headline_table import COLUMNS, PATIENTS_FIRST, SOURCE_COLUMNS, headline_rows, source_cells
from detectclf.evaluation.headlines import HEADLINES, Headline, figure_at, show, show_interval

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
README = ROOT / "README.md"

BAKEOFF, ROBUSTNESS = "bakeoff", "robustness"

KEYS = (
    "combined.accuracy",
    "combined.sensitivity",
    "combined.specificity",
    "combined.mAP",
    "combined.mAP50",
    "combined.joint_accuracy",
    "combined.ece",
    "combined.gain.accuracy_over_classifier",
    "combined.gain.accuracy_over_detector",
    "combined.gain.mAP_over_detector",
    "classification.accuracy",
    "stages.detector_alone.accuracy",
    "detection.mAP",
    "detection.false_alarms_per_healthy_slice",
)
KEPT = (
    *("data", "detection", "classification", "combined", "stages", "clean", "new_patients", "unknown_patients"),
    *("by_source", "training", "speed"),
)
ROWS = [headline for key in KEYS for headline in HEADLINES if headline.key == key]


def by_patient(result: dict[str, Any]) -> str:
    """One result as a Markdown table: new patients first, then unknown ones, all slices, and those without copies."""
    report = result["report"]
    seen = headline_rows(report, PATIENTS_FIRST)
    lines = [
        f"**{result['title']}**",
        "",
        f"| slices | {' | '.join(['number', 'patients', *(h.name for h in COLUMNS)])} |",
    ]
    lines += [f"|---|{'---:|' * (len(COLUMNS) + 2)}"]
    for row in seen:
        numbers = ["–" if n is None else str(n) for n in (row.slices, row.patients)]
        known = [f"{value} ({limits})" if limits else value for value, limits in row.cells]
        known = known or [str(row.note or "–"), *["–"] * (len(COLUMNS) - 1)]
        lines.append(f"| {' | '.join([row.name, *numbers, *known])} |")
    lines += ["", *(f"{row.name}: {row.note}." for row in seen if row.note and row.cells)]
    if len(report.get("by_source") or ()) > 1:
        heads = ["slices", "patients", *(name for name, _ in SOURCE_COLUMNS.values())]
        lines += ["", f"| source | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
        for each in report["by_source"]:
            cells = [str(each["samples"]), str(each["patients"] or "–"), *(value for value, _ in source_cells(each))]
            lines.append(f"| {' | '.join([each['source'], *cells])} |")
    return "\n".join([*lines, "", *_made(result)])


def _has_new_patients(report: dict[str, Any]) -> bool:
    return bool((report.get("new_patients") or {}).get("samples"))


def comparison(result: dict[str, Any]) -> str:
    """One result without new patients, and that it has none."""
    report = result["report"]
    if "new_patients" not in report:
        return table(result)  # of a report made before patients were looked at
    note = str(report["new_patients"]["note"])
    shared = "it shares all patients with the training slices: " if "patients in training" in note else ""
    return f"For comparison with other work; {shared}{note}.\n\n{table(result)}"


def table(result: dict[str, Any]) -> str:
    """One result as a Markdown table: every figure on all slices and on those that are no copies of training ones."""
    report = result["report"]
    clean = report["clean"]
    everything, kept = report["data"]["samples"], clean.get("samples")
    doubled = kept is not None and kept < everything
    head = ["figure", f"all {everything} slices (95 % interval)", *([f"the {kept} that are no copies"] * doubled)]
    lines = [f"**{result['title']}**", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in ROWS:
        if figure_at(report, row.key) is None:
            continue  # of a report made before there was such a figure
        cells = [row.name, _cell(report, report["intervals"], row)]
        if doubled:
            cells.append(_cell(clean, clean["intervals"], row))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_made(result)])


def _made(result: dict[str, Any]) -> list[str]:
    """On what machine and by what command."""
    rate = result["report"]["speed"]["images_per_second"]
    timed = f"; {rate:.1f} slices per second, all stages, decoded" if rate else ""
    return [f"{result['machine']}{timed}.", "", f"`{result['command']}`"]


def board(result: dict[str, Any]) -> str:
    """The bake-off as a Markdown table, best first; what may be chance is called a tie."""
    budget, rows = result["budget"], result["rows"]
    title = f"**{len(rows)} trainings on {budget['training_slices']} slices at {budget['size']} px, judged on "
    title += f"{result['known']} slices of {result['patients']} patients whom none of them had seen**"
    columns = "accuracy (95 % interval) | macro-F1 | rate | epochs | parameters | ms per slice | against the best |"
    lines = [title, "", f"| architecture | start | {columns}", "|---|---|---|---:|---:|---:|---:|---:|---|"]
    for row in rows:
        accuracy = f"{100 * row['accuracy']:.1f} % ({show_interval(row['interval'], percent=True)})"
        verdict = "best" if row is rows[0] else "tie" if row["tie_with_best"] else "worse"
        lines.append(
            f"| `{row['arch']}` | {row['start']} | {accuracy} | {row['macro_f1']:.3f} | {row['rate']:g} | "
            f"{row['epochs']} | {row['parameters'] / 1e6:.1f} M | {row['ms_per_slice']:.1f} | {verdict} |"
        )
    machines = " and ".join(dict.fromkeys(row["machine"] for row in rows))
    notes = f"Macro-F1 is over all {result['slices']} slices of the test split, healthy ones among them. "
    notes += f"Trained on {machines}. Timed on {result['timed_on']}, one slice at a time, decoded. "
    return "\n".join([*lines, "", f"{notes}`{result['command']}`"])


def robustness(result: dict[str, Any]) -> str:
    """Slices that are made worse, in two sentences."""
    whole, *rows = result["report"]["rows"]
    right = ", ".join(f"{row['change']} {100 * row['right']:.0f} %" for row in rows)
    most = max(rows, key=lambda row: float(row["refused"]))
    slices = result["report"]["slices"]
    return (
        f"**{result['title']}** ({slices} slices). Right as they are: {100 * whole['right']:.0f} %; "
        f"each change at its middle strength: {right}. Refused: at most {100 * most['refused']:.0f} % "
        f"({most['change']}). {result['machine']}. `{result['command']}`"
    )


def _cell(record: dict[str, Any], intervals: dict[str, Any], row: Headline) -> str:
    limits = show_interval(intervals.get(row.key), percent=row.percent)
    return show(figure_at(record, row.key), percent=row.percent) + (f" ({limits})" if limits else "")


def updated(text: str) -> str:
    """The README with every ``<!-- NAME:begin -->`` block filled from the results that belong there."""
    results = {f.stem: json.loads(f.read_text(encoding="utf-8")) for f in sorted(RESULTS.glob("*.json"))}
    kinds = {name: _block_of(name, result) for name, result in results.items()}
    writers = {"patients": by_patient, "demo": table, "results": comparison, BAKEOFF: board, ROBUSTNESS: robustness}
    for block, write in writers.items():
        tables = [write(results[name]) for name, kind in kinds.items() if kind == block]
        begin, end = f"<!-- {block}:begin -->", f"<!-- {block}:end -->"
        before, rest = text.split(begin)
        after = rest.split(end, 1)[1]
        text = f"{before}{begin}\n" + "".join(f"{t}\n\n" for t in tables) + f"{end}{after}"
    return text


def _block_of(name: str, result: dict[str, Any]) -> str:
    if name in ("demo", BAKEOFF, ROBUSTNESS):
        return name
    return "patients" if _has_new_patients(result["report"]) else "results"


def _kept(report: dict[str, Any]) -> dict[str, Any]:
    """What the README takes from a report: no lists of files, and no curves."""
    keep = {k: _without_curves(report[k]) for k in KEPT}
    keep["data"] = {k: v for k, v in report["data"].items() if isinstance(v, int | float | str)}
    return keep | {"intervals": report["intervals"]}


def _without_curves(section: Any) -> Any:
    if isinstance(section, dict):
        return {k: _without_curves(v) for k, v in section.items() if k not in ("risk_coverage", "reliability")}
    return section


def main() -> int:
    """Adds a result, checks, or rewrites the README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--add", metavar="NAME")
    parser.add_argument("--title")
    parser.add_argument("--machine")
    parser.add_argument("--command", help="as in the report unless given (paths of this machine are nobody's business)")
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args()
    if chosen.add:
        report = json.loads(chosen.report.read_text(encoding="utf-8"))
        content = {
            "title": chosen.title,
            "machine": chosen.machine,
            "command": chosen.command or report["command"],
            "report": report if chosen.add == ROBUSTNESS else _kept(report),
        }
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{chosen.add}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    if chosen.check:
        return int(updated(text) != text)
    README.write_text(updated(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
