"""``detectclf data ...``: one plain function per command. Sources are only read."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detectclf.config import AugmentConfig, DataConfig
from detectclf.data.safety import atomic_folder, atomic_write
from detectclf.errors import ConfigError, DataError, one_line
from detectclf.types import Dataset, order_classes

if TYPE_CHECKING:
    from PIL.Image import Image

    from detectclf.data.audit import Audit
    from detectclf.inference.predictor import Predictor
    from detectclf.pipelines.label_doctor import Diagnosis

log = logging.getLogger(__name__)

SHEET_GROUPS = 60
"""Most groups of copies drawn on a sheet."""

SHOWN_PROBLEMS = 20
"""Problems listed in full on a terminal; the rest are counted (``--verbose`` lists them all)."""


def fix_target(fix: bool, out: Path | None) -> Path | None:
    """The folder that ``--fix --out DIR`` asks for, or ``None``.

    Raises:
        ConfigError: one of the two without the other.
    """
    if fix != (out is not None):
        raise ConfigError("--fix and --out go together", remedy="give `--fix --out DIR`, or neither")
    return out


def check(folders: Sequence[Path], *, sheet: Path | None = None, fix_to: Path | None = None) -> Audit:
    """Audits ``folders`` together; draws the groups of copies and writes a mended copy where asked."""
    from detectclf.data import audit

    found = audit.check(folders)
    if sheet is not None:
        _write_picture(_group_sheet(found), sheet)
        log.info("groups of copies: %s", one_line(sheet))
    if fix_to is not None:
        from detectclf.data.fix import fix

        done = fix(folders, fix_to)
        log.info("%s: %d changes, logged in %s", done.out, done.changes, done.log)
        if done.remaining:
            log.warning("%s: %d errors are left for a person", done.out, len(done.remaining))
    return found


def load_judge(model: Path) -> Predictor:
    """The bundle ``model`` (``default``: the packaged one); raises ModelError where it is none."""
    from detectclf.config import PredictConfig
    from detectclf.pipelines.opening import predictor_of

    named_default = str(model) == "default" and not model.exists()
    return predictor_of(None if named_default else model, None, None, PredictConfig())


def judge_labels(audit: Audit, judge: Predictor, sheet: Path | None) -> Diagnosis:
    """What a model makes of the labels of the slices looked at."""
    from detectclf.pipelines.label_doctor import diagnose, write_suspect_sheet

    found = diagnose(audit.slices, judge)
    if sheet is not None:
        suspects = sheet.with_name(f"{sheet.stem}.suspects.png")
        write_suspect_sheet(found, suspects)
        log.info("suspect labels: %s", one_line(suspects))
    return found


def audit_text(audit: Audit, *, everything: bool = False) -> str:
    """The audit for a person: counts, problems by code, the first of them in full, groups by kind, leaks."""
    problems = audit.problems
    errors = sum(p.severity == "error" for p in problems)
    lines = [
        f"{audit.samples} slices; " + ", ".join(f"{name} {count}" for name, count in audit.splits.items()),
        "classes: " + ", ".join(f"{name} {count}" for name, count in audit.classes.items()),
        f"{errors} errors, {len(problems) - errors} warnings",
    ]
    counts = Counter((p.severity, p.code) for p in problems)
    lines += [f"  {severity:7} {code} x {n}" for (severity, code), n in counts.most_common()]
    shown = problems if everything else problems[:SHOWN_PROBLEMS]
    lines += [
        f"{p.severity}: {p.file}{f':{p.line}' if p.line is not None else ''}: {p.detail} [{p.code}]" for p in shown
    ]
    if len(shown) < len(problems):
        lines.append(f"... and {len(problems) - len(shown)} more; list all with --verbose or --json")
    kinds = Counter(g.kind for g in audit.groups)
    by_kind = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    lines.append(
        f"{len(audit.groups)} groups of copies{f' ({by_kind})' if by_kind else ''}, {audit.leaks} across splits"
    )
    if audit.leaks:
        lines.append("leaks make figures too good: `detectclf data split DIR --out DIR` keeps copies together")
    if not problems and not audit.groups:
        lines.append("no problems")
    return "\n".join(lines)


def _group_sheet(audit: Audit) -> Image:
    from detectclf.data.class_names import in_known_words
    from detectclf.data.images import read_image
    from detectclf.drawing.sheets import Row, row_sheet, side_by_side, tile_of

    # Leaks first: they are what the sheet is looked at for.
    groups = sorted(audit.groups, key=lambda g: len(g.splits) < 2)
    rows = []
    for group in groups[:SHEET_GROUPS]:
        tiles = []
        for member in group.members:
            sample = in_known_words(audit.slices[member])
            tiles.append(tile_of(sample, read_image(sample.path, span=sample.span)))
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


def show(
    folder: Path, out: Path, *, augmented: bool = False, split: str | None = None, n: int = 16, seed: int = 0
) -> dict[str, Any]:
    """Draws ``n`` slices of all classes with their boxes; ``augmented`` as training would see them."""
    from detectclf.data.augment import detection_augment
    from detectclf.drawing.sheets import contact_sheet, sample_tiles, spread

    dataset = _open(folder, negative_boxes="keep")
    if split is not None:
        from detectclf.data.dataset import require_split

        dataset = require_split(dataset, split)
    samples = spread(dataset, n, seed)
    augment = detection_augment(AugmentConfig(), seed=seed) if augmented else None
    title = f"{folder.name}: {len(samples)} {'augmented ' if augmented else ''}slices"
    _write_picture(contact_sheet(sample_tiles(samples, augment), dataset.classes, title=title), out)
    return {"wrote": str(out), "detail": f"{len(samples)} slices"}


def stats(folder: Path, plot: Path | None = None) -> dict[str, Any]:
    """Counts of slices, classes and boxes per split; ``plot`` draws them."""
    dataset = _open(folder, negative_boxes="keep")
    counts = {
        "samples": len(dataset.samples),
        "classes": list(dataset.classes),
        "splits": {name: _counts(dataset.split(name)) for name in dataset.splits},
    }
    if plot is not None:
        from detectclf.drawing.stats import stats_figure

        buffer = io.BytesIO()
        stats_figure(dataset).savefig(buffer, format="png", dpi=130)
        plot.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(plot, buffer.getvalue())
        counts["plot"] = str(plot)
    return counts


def _counts(part: Dataset) -> dict[str, Any]:
    labels = Counter(s.label for s in part.samples)
    sides = np.array([b[2:] - b[:2] for s in part.samples for b in s.boxes_xyxy], dtype=np.float64).reshape(-1, 2)
    return {
        "samples": len(part.samples),
        "boxed": sum(s.boxed for s in part.samples),
        "boxes": len(sides),
        "median_box": [round(float(v), 1) for v in np.median(sides, axis=0)] if len(sides) else None,
        "classes": {name: labels[name] for name in part.classes},
        "unlabelled": labels[None],
    }


def stats_text(counts: dict[str, Any]) -> str:
    """The counts as a plain table."""
    names = counts["classes"]
    lines = [f"{'split':10} {'slices':>7} {'boxes':>7}  " + " ".join(f"{n:>12}" for n in names)]
    for split, row in counts["splits"].items():
        classes = " ".join(f"{row['classes'][n]:>12}" for n in names)
        lines.append(f"{split:10} {row['samples']:>7} {row['boxes']:>7}  {classes}")
    if "plot" in counts:
        lines.append(f"figure: {counts['plot']}")
    return "\n".join(lines)


def convert(folder: Path, out: Path, *, to: str, from_: str | None = None, drop_boxes: bool = False) -> dict[str, Any]:
    """Writes ``folder`` to ``out`` in format ``to``; what the target cannot hold is refused."""
    from detectclf.data.convert import convert as write_converted

    dataset = write_converted(folder, out, to, from_, drop_boxes=drop_boxes)
    return {"wrote": str(out), "detail": f"{len(dataset.samples)} slices as {to}", "samples": len(dataset.samples)}


def split(folder: Path, out: Path, *, ratios: str = "0.7,0.2,0.1", seed: int = 0) -> dict[str, Any]:
    """Splits anew, copies together, classes balanced; written in the source's own format."""
    from detectclf.data.copies import find_copies
    from detectclf.data.fingerprints import fingerprint_samples
    from detectclf.data.formats import detect_format, write
    from detectclf.data.splits import grouped_split

    shares = _ratios(ratios)
    dataset = _open(folder, negative_boxes="keep")
    if out.resolve().is_relative_to(folder.resolve()):
        raise DataError("lies inside the data set", file=out, remedy="choose another --out")
    prints = fingerprint_samples(dataset.samples)
    unreadable = np.flatnonzero(~prints.readable)
    if len(unreadable):
        raise DataError(
            "cannot be read, so its copies cannot be found",
            file=dataset.samples[int(unreadable[0])].path,
            remedy=f"mend the data first: detectclf data check {folder} --fix --out DIR",
        )
    groups = find_copies(prints)
    dealt = grouped_split(dataset, groups, shares, seed)
    with atomic_folder(out) as partial:
        write(dealt, partial, detect_format(folder)[0])
    counts = {name: len(dealt.split(name).samples) for name in dealt.splits}
    detail = ", ".join(f"{name} {n}" for name, n in counts.items()) + f"; {len(groups)} groups of copies kept together"
    return {"wrote": str(out), "detail": detail, "splits": counts, "groups": len(groups)}


def _ratios(text: str) -> dict[str, float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    names = ("train", "valid", "test")
    if not 2 <= len(shares) <= len(names) or not all(0 < share < float("inf") for share in shares):
        raise ConfigError(f"--ratios {text!r}", remedy="give two or three positive shares such as 0.7,0.2,0.1")
    return dict(zip(names, shares, strict=False))


def sample(out: Path, *, n: int = 240, seed: int = 0) -> dict[str, Any]:
    """Writes the embedded sample data."""
    from detectclf.data.phantom import write_sample_data

    write_sample_data(out, n=n, seed=seed)
    return {"wrote": str(out), "detail": f"{n} drawn slices, COCO, splits train, valid, test"}


def download(version: str, out: Path, *, format: str = "coco", quiet: bool = False) -> dict[str, Any]:
    """Downloads a Roboflow export with a progress bar."""
    from detectclf.data import roboflow

    with _download_progress(quiet) as progress:
        roboflow.download(version, out, format=format, progress=progress)
    return {"wrote": str(out), "detail": f"{version} as {format}"}


@contextmanager
def _download_progress(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """A bar per stage on a terminal; elsewhere a line when a stage begins."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, disable=not console.is_terminal) as bars:

        def tell(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
                if not console.is_terminal:
                    log.info("%s ...", stage)
            bars.update(tasks[stage], completed=share)

        yield tell


def _open(folder: Path, *, negative_boxes: Any) -> Dataset:
    from detectclf.data.dataset import open_dataset

    return open_dataset(DataConfig(sources=(folder,), negative_boxes=negative_boxes))


def _write_picture(picture: Image, out: Path) -> None:
    suffix = out.suffix.lower()
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    if suffix not in formats:
        raise ConfigError(f"{out.name}: a picture is .png, .jpg or .webp", remedy="choose another --out")
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format=formats[suffix])
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, buffer.getvalue())
