"""``detectclf data ...``: check, draw, count, convert, split and download data sets. The source is never changed."""

# No `from __future__ import annotations` here: typer would have to compile every annotation again at each start.

from pathlib import Path
from typing import Annotated

import typer

from detectclf.cli import options, output
from detectclf.errors import DataError, UnsafeError

app = typer.Typer(
    help="Check, draw, count, convert, split and download data sets. The source is never changed.",
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="Folder with an export.", metavar="DIR")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must be empty or not exist.")]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="Picture to write, such as sheet.png.")]
FORMATS = "coco, yolo, voc, csv, tfrecord, webdataset, createml, classes-csv, folder"


@app.command()
def check(
    folders: Annotated[list[Path], typer.Argument(help="Folders with exports.", metavar="DIR")],
    json: options.Json = False,
    sheet: Annotated[Path | None, typer.Option(help="Picture to write, with the groups of copies.")] = None,
    any_tumor: options.AnyTumor = None,
    fix: Annotated[bool, typer.Option("--fix", help="Write a fixed copy to --out and log each change.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the fixed copy (with --fix).")] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Bundle that checks the labels ('default': the packaged one) and lists the suspect ones; with --sheet "
            "it also draws them, to NAME.suspects.png [default: labels are not checked].",
            metavar="BUNDLE",
        ),
    ] = None,
    patients: options.Patients = None,
    patient_pattern: options.PatientPattern = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find faults in labels and images, and copies of slices and patients across splits.

    The exit code is 0 with warnings, copies and leaks at most, 2 with errors, 3 when a file is refused as unsafe (a
    decompression bomb, a device, a file over the limits). The rest is checked all the same.

    Example: detectclf data check export/ --sheet copies.png
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import check as pipeline

    judge = pipeline.load_judge(model) if model is not None else None  # first, so that a wrong path is reported at once
    audit = pipeline.check(
        folders,
        any_tumor=any_tumor or (),
        sheet=sheet,
        fix_to=pipeline.fix_target(fix, out),
        patients=patients,
        pattern=patient_pattern,
    )
    labels = pipeline.judge_labels(audit, judge, sheet) if judge is not None else None
    if json:
        suspects = {} if labels is None else {"suspects": labels.to_records(), "not_judged": labels.left_out}
        output.print_json(audit.to_record() | suspects)
    else:
        output.say(pipeline.audit_text(audit, everything=verbose), quiet)
        if labels is not None:
            output.say(labels.text(), quiet)
    if audit.errors:
        raise typer.Exit(UnsafeError.exit_code if audit.unsafe else DataError.exit_code)


@app.command()
def show(
    folder: Folder,
    out: OutFile,
    augmented: Annotated[bool, typer.Option("--augmented", help="Draw training slices as training sees them.")] = False,
    split: Annotated[str | None, typer.Option(help="Only this split [default: all; train with --augmented].")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Slices to draw.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice of slices.")] = 0,
    patients: options.Patients = None,
    patient_pattern: options.PatientPattern = None,
    any_tumor: options.AnyTumor = None,
    assign: options.Assign = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Draw a contact sheet of slices with their boxes.

    Example: detectclf data show export/ --augmented --set augment.paint=0.5 --out augmented.png
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import ShowRecipe
    from detectclf.pipelines import show as pipeline
    from detectclf.recipes import load_recipe

    flags = {
        "data.sources": [str(folder)],
        "data.any_tumor": any_tumor or None,
        "data.patients": patients,
        "data.patient_pattern": patient_pattern,
    }
    recipe = load_recipe(ShowRecipe, None, assign or (), flags)
    drawn = pipeline.show(recipe, out, augmented=augmented, split=split, n=n, seed=seed)
    _wrote(drawn, json, quiet)


@app.command()
def stats(
    folder: Folder,
    plot: Annotated[Path | None, typer.Option(help="Picture to write, with the counts.", metavar="FILE")] = None,
    patients: options.Patients = None,
    patient_pattern: options.PatientPattern = None,
    any_tumor: options.AnyTumor = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Count slices, classes and boxes per split.

    Example: detectclf data stats export/ --plot stats.png
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import stats as pipeline

    counts = pipeline.stats(folder, plot, any_tumor=any_tumor or (), patients=patients, pattern=patient_pattern)
    if json:
        output.print_json(counts)
    else:
        output.say(pipeline.stats_text(counts))


@app.command()
def convert(
    folder: Folder,
    to: Annotated[str, typer.Option("--to", help=f"One of {FORMATS}.", metavar="FORMAT")],
    out: OutFolder,
    from_: Annotated[
        str | None, typer.Option("--from", help="Format of DIR [default: detected].", metavar="FORMAT")
    ] = None,
    drop_boxes: Annotated[
        bool, typer.Option("--drop-boxes", help="Write a format without boxes, which loses them.")
    ] = False,
    patients: options.Patients = None,
    patient_pattern: options.PatientPattern = None,
    any_tumor: options.AnyTumor = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a data set in another format.

    Example: detectclf data convert export/ --to yolo --out export-yolo/
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import convert as pipeline

    written = pipeline.convert(
        folder,
        out,
        to=to,
        from_=from_,
        drop_boxes=drop_boxes,
        any_tumor=any_tumor or (),
        patients=patients,
        pattern=patient_pattern,
    )
    _wrote(written, json, quiet)


@app.command()
def split(
    folder: Folder,
    out: OutFolder,
    ratios: Annotated[
        str,
        typer.Option(
            help="Shares of train, valid and test, or of train and valid: fractions that add up to 1, or whole numbers "
            "such as 8,1,1."
        ),
    ] = "0.7,0.2,0.1",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    patients: options.Patients = None,
    patient_pattern: options.PatientPattern = None,
    any_tumor: options.AnyTumor = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a new split: slices of a patient and copies of a slice stay together, classes are balanced.

    Example: detectclf data split export/ --out clean/ --ratios 0.7,0.2,0.1
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import split as pipeline

    dealt = pipeline.split(
        folder,
        out,
        ratios=ratios,
        seed=seed,
        any_tumor=any_tumor or (),
        patients=patients,
        pattern=patient_pattern,
    )
    _wrote(dealt, json, quiet)


@app.command()
def sample(
    out: OutFolder,
    n: Annotated[int, typer.Option("--n", min=12, help="Slices to draw.")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same one draws the same slices.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the embedded sample data: drawn slices with known tumours, as a COCO export.

    Example: detectclf data sample --out sample/
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import sample as pipeline

    _wrote(pipeline.sample(out, n=n, seed=seed), json, quiet)


@app.command()
def download(
    version: Annotated[
        str, typer.Argument(help="Version of a project on Roboflow.", metavar="WORKSPACE/PROJECT/VERSION")
    ],
    out: OutFolder,
    format: Annotated[str, typer.Option(help="Export format.")] = "coco",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Download a Roboflow export. The key is read from the environment variable ROBOFLOW_API_KEY only.

    Example: detectclf data download ali-rostami/labeled-mri-brain-tumor-dataset/1 --out export/
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import download as pipeline

    _wrote(pipeline.download(version, out, format=format, quiet=quiet), json, quiet)


def _wrote(summary: dict[str, object], as_json: bool, quiet: bool) -> None:
    if as_json:
        output.print_json(summary)
    else:
        output.say(f"wrote {summary['wrote']}: {summary['detail']}", quiet)
