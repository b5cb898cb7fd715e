"""``data check``: faults, copies and, where a model is given, suspect labels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.errors import ConfigError, one_line
from detectclf.files import check_free
from detectclf.pipelines.pictures import check_picture, write_picture
from detectclf.progress import working
from detectclf.types import Problem, order_classes

if TYPE_CHECKING:
    from PIL.Image import Image

    from detectclf.audit.check import Audit
    from detectclf.inference.predictor import Predictor
    from detectclf.pipelines.suspect_labels import SuspectLabels


log = logging.getLogger(__name__)


SHEET_GROUPS = 60
"""Most groups of copies drawn on a sheet."""

SHOWN_ALIKE = 3
"""Problems of one kind that get a line each on a terminal; where there are more, one line has them all, with so many
examples (``--verbose`` lists them all)."""


def fix_target(fix: bool, out: Path | None) -> Path | None:
    """The folder that ``--fix --out DIR`` asks for, or ``None``.

    Raises:
        ConfigError: one of the two without the other.
    """
    if fix != (out is not None):
        raise ConfigError("--fix and --out go together", remedy="give `--fix --out DIR`, or neither")
    return out


def check(
    folders: Sequence[Path],
    *,
    any_tumor: Sequence[str] = (),
    sheet: Path | None = None,
    fix_to: Path | None = None,
    patients: Path | None = None,
    pattern: str | None = None,
) -> Audit:
    """Audits ``folders`` together; draws the groups of copies into ``sheet`` and writes a fixed copy to ``fix_to``.

    ``patients`` and ``pattern`` are as ``data.patients`` and ``data.patient_pattern``.

    Raises:
        DataError, UnsafeError: as :func:`detectclf.audit.check.check`, and where a file cannot be written.
        ConfigError: the suffix of ``sheet`` is not that of a picture, or ``pattern`` has not one group.
    """
    from detectclf.audit import check as audit
    from detectclf.datasets.index import SliceIndex
    from detectclf.pipelines.opening import data_settings

    config = data_settings(patients, pattern, any_tumor)
    # What the end of the work would refuse.
    if sheet is not None:
        check_picture(sheet)
    if fix_to is not None:
        check_free(fix_to)
    index = SliceIndex()
    with working("checking the data"):
        found = audit.check(
            folders,
            class_map=config.spellings,
            patients=config.patients,
            patient_pattern=config.patient_pattern,
            index=index,
        )
    if sheet is not None:
        write_picture(_group_sheet(found), sheet)
        log.info("groups of copies: %s", one_line(sheet))
    if fix_to is not None:
        from detectclf.audit.fix import fix

        done = fix(
            folders,
            fix_to,
            class_map=config.spellings,
            patients=config.patients,
            patient_pattern=config.patient_pattern,
            index=index,
        )
        log.info("%s: %d changes, logged in %s", done.out, done.changes, done.log)
        if done.remaining:
            log.warning("%s: %d errors are left for a person", done.out, len(done.remaining))
    return found


def load_judge(model: Path) -> Predictor:
    """The bundle ``model`` (``default``: the packaged one); raises ModelError where it is not a bundle."""
    from detectclf.config import PredictConfig
    from detectclf.inference.loading import is_default
    from detectclf.pipelines.opening import predictor_of

    return predictor_of(None if is_default(model) else model, {}, PredictConfig())


def judge_labels(audit: Audit, judge: Predictor, sheet: Path | None) -> SuspectLabels:
    """The labels of the audited slices that a model contradicts; with ``sheet``, drawn into a file beside it."""
    from detectclf.pipelines.suspect_labels import find_suspect_labels, write_suspect_sheet

    found = find_suspect_labels(audit.slices, judge)
    if sheet is not None:
        suspects = sheet.with_name(f"{sheet.stem}.suspects.png")
        write_suspect_sheet(found, suspects)
        log.info("suspect labels: %s", one_line(suspects))
    return found


def audit_text(audit: Audit, *, everything: bool = False) -> str:
    """The audit for a person: counts, problems by code with examples, groups by kind, leaks."""
    problems = audit.problems
    errors = sum(p.severity == "error" for p in problems)
    lines = [
        f"{audit.samples} slices; " + ", ".join(f"{name} {count}" for name, count in audit.splits.items()),
        "classes: " + ", ".join(f"{name} {count}" for name, count in audit.classes.items()),
        f"{errors} errors, {len(problems) - errors} warnings",
    ]
    lines += _problem_lines(problems, len(problems) if everything else SHOWN_ALIKE)
    kinds = Counter(g.kind for g in audit.groups)
    by_kind = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    lines.append(
        f"{len(audit.groups)} groups of copies{f' ({by_kind})' if by_kind else ''}, {audit.leaks} across splits"
    )
    lines.append(_patients_line(audit))
    if audit.leaks or audit.patient_leaks:
        lines.append(
            "leaks make figures look too good: `detectclf data split DIR --out DIR` keeps patients and copies together"
        )
    if not problems and not audit.groups:
        lines.append("no problems")
    return "\n".join(lines)


def _problem_lines(problems: Sequence[Problem], most: int) -> list[str]:
    """How often each kind of problem occurs; then a line for each problem, or for all of a kind that has over ``most``.

    Problems of a kind differ in little but the file, and twenty such lines hide the one that is different.
    """
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.severity, problem.code), []).append(problem)
    by_count = sorted(kinds.items(), key=lambda item: -len(item[1]))
    lines = [f"  {severity:7} {code} x {len(alike)}" for (severity, code), alike in by_count]
    for (severity, code), alike in kinds.items():
        if len(alike) <= most:
            lines += [f"{severity}: {_place(p)}: {p.detail} [{code}]" for p in alike]
            continue
        others = ", ".join(map(_place, alike[1:most]))
        rest = f"and {len(alike) - 1} more such as {others}"
        lines.append(f"{severity}: {_place(alike[0])}: {alike[0].detail} [{code}]; {rest}")
    if any(len(alike) > most for alike in kinds.values()):
        lines.append("list all with --verbose or --json")
    return lines


def _place(problem: Problem) -> str:
    return problem.file if problem.line is None else f"{problem.file}:{problem.line}"


def _patients_line(audit: Audit) -> str:
    known = audit.known_patients
    if not known.slices:
        return "no slice has a known patient: give --patients FILE if you know them"
    meaning = {
        "file": "the patients file",
        "export": "the export",
        "dicom": "DICOM headers",
        "name": "file names",
        "atlas": "their content, slices of figshare 1512427",
    }
    origins = ", ".join(f"{n} by {meaning[origin]}" for origin, n in known.origins.items())
    slices = f"{known.patients} patients on {known.slices} of {audit.samples} slices ({origins})"
    return f"{slices}, {audit.patient_leaks} patients in more than one split"


def _group_sheet(audit: Audit) -> Image:
    from detectclf.datasets.class_names import with_canonical_names
    from detectclf.drawing.sheets import Row, row_sheet, side_by_side, tile_of
    from detectclf.imaging.images import read_pixels

    # Leaks first: they are what the sheet is looked at for.
    groups = sorted(audit.groups, key=lambda g: len(g.splits) < 2)
    rows = []
    for group in groups[:SHEET_GROUPS]:
        tiles = []
        for member in group.members:
            sample = with_canonical_names(audit.slices[member])
            tiles.append(tile_of(sample, read_pixels(sample)))
        leak = len(group.splits) > 1
        rows.append(Row(f"{group.kind}: {' and '.join(group.splits)}", tuple(tiles), alarm=leak))
    more = f", the first {SHEET_GROUPS}" if len(groups) > SHEET_GROUPS else ""
    title = f"{len(groups)} groups of copies{more}; {audit.leaks} cross splits"
    # Several columns of groups, or the sheet would be one long strip.
    columns = max(1, round((len(rows) / 6) ** 0.5))
    per_column = max(1, -(-len(rows) // columns))
    classes = order_classes(list(audit.classes))
    parts = [rows[i : i + per_column] for i in range(0, max(1, len(rows)), per_column)]
    return side_by_side([row_sheet(part, classes, title=title if not i else " ") for i, part in enumerate(parts)])
