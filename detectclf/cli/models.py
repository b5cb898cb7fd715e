"""``bundle``, ``evaluate``, ``compare``, ``models``, ``doctor``."""

# No `from __future__ import annotations` here: typer would have to compile every annotation again at each start.

from pathlib import Path
from typing import Annotated

import typer

from detectclf.cli import options, output


def bundle(
    detector: Annotated[Path, typer.Option(help="Run directory of the detector.", metavar="RUN")],
    classifier: Annotated[Path, typer.Option(help="Run directory of the classifier.", metavar="RUN")],
    data: options.Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write.", metavar="DIR")],
    split: options.Split = "valid",
    folds: Annotated[
        Path | None,
        typer.Option(
            help="Folder of runs that each held some folds out: fit on their out-of-fold predictions of all the data, "
            "not on a split.",
            metavar="DIR",
        ),
    ] = None,
    development: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the runs detector/ and classifier/ that held the split out: fit on their predictions for "
            "it, where the runs that are bundled were trained on all the data.",
            metavar="DIR",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for the report on the slices that the bundle is fitted on.", metavar="DIR"),
    ] = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(help="Set the operating point for this tumour sensitivity (0 to 1) on the split."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle, which predictions carry [default: detectclf].")
    ] = None,
    export: Annotated[
        bool | None,
        typer.Option(
            "--export/--no-export",
            help="Write the graphs with which the bundle predicts without torch; takes some seconds [default: export].",
        ),
    ] = None,
    config: options.Config = None,
    device: options.Device = None,
    limit: options.Limit = None,
    patients: options.Patients = None,
    any_tumor: options.AnyTumor = None,
    assign: options.Assign = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Join a detector run and a classifier run: fit calibration, fusion and thresholds on a split, write a bundle.

    Example: detectclf bundle --detector runs/detector --classifier runs/resnet50 --data export/ --out bundle/
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import BundleRecipe
    from detectclf.pipelines import bundle as pipeline
    from detectclf.recipes import load_recipe

    flags = {
        "data.sources": data,
        "data.patients": patients,
        "data.limit": limit,
        "data.any_tumor": any_tumor or None,
        "bundle.sensitivity": sensitivity,
        "bundle.name": name,
        "bundle.export": export,
        "predict.device": device,
    }
    recipe = load_recipe(BundleRecipe, config, assign or (), flags)
    runs = {"detector": detector, "classifier": classifier}
    summary = pipeline.bundle(runs, recipe, split, out, folds=folds, development=development, report=report)
    if json:
        output.print_json(summary)
    else:
        output.say(f"bundle: {summary['bundle']} (fitted on {summary['samples']} slices, {summary['split']})", quiet)


def evaluate(
    data: options.Data,
    split: options.Split = "test",
    model: options.Model = None,
    detector: options.DetectorRun = None,
    classifier: options.ClassifierRun = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the report and its figures, without an earlier one [default: evaluation, or evaluation-2 "
            "and so on where that is taken].",
            metavar="DIR",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Add class-activation maps: pictures, and the share of each map inside the true boxes."
        ),
    ] = False,
    predictions: options.Predictions = None,
    runtime: options.Runtime = None,
    device: options.Device = None,
    limit: options.Limit = None,
    patients: options.Patients = None,
    any_tumor: options.AnyTumor = None,
    assign: options.Assign = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure mAP and accuracy together, from the same predictions; write report.json and report.html.

    Example: detectclf evaluate --data export/ --split test --model bundle/ --out evaluation/
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import EvaluateRecipe
    from detectclf.pipelines import evaluate as pipeline
    from detectclf.recipes import load_recipe

    flags = {
        "data.sources": data,
        "data.patients": patients,
        "data.limit": limit,
        "data.any_tumor": any_tumor or None,
        "predict.runtime": runtime,
        "predict.device": device,
    }
    recipe = load_recipe(EvaluateRecipe, None, assign or (), flags)
    done = pipeline.evaluate(
        recipe,
        split,
        model=model,
        detector=detector,
        classifier=classifier,
        out=pipeline.report_folder(out),
        explain=explain,
        made=predictions,
        command=output.command_line(),
    )
    if json:
        output.say(done.report.to_json().rstrip())
    else:
        output.say(done.table, quiet)
        output.say(f"report: {done.html}", quiet)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that `evaluate` wrote, or run directories.", metavar="RUN")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the leader board as a page and as JSON.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Rank evaluations and runs on a leader board, with paired tests; a tie is called a tie.

    Example: detectclf compare evaluation-a/ evaluation-b/ --out board/
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import compare as pipeline

    board = pipeline.compare(runs, out)
    if json:
        output.say(board.to_json().rstrip())
    else:
        output.say(board.table)


def models(json: options.Json = False, quiet: options.Quiet = False, verbose: options.Verbose = False) -> None:
    """List the architectures with their input size, parameters and weights.

    Example: detectclf models
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import models as pipeline

    rows = pipeline.list_models()
    if json:
        output.print_json(rows)
    else:
        output.say(pipeline.models_table(rows))
        output.say(pipeline.packaged_model())


def doctor(json: options.Json = False, quiet: options.Quiet = False, verbose: options.Verbose = False) -> None:
    """Check the installation: versions, device, whether box operations really run, weights cache.

    Example: detectclf doctor
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import doctor as pipeline

    findings = pipeline.examine()
    if json:
        output.print_json(findings.to_record())
    else:
        output.say(findings.table())
    if not findings.healthy:
        raise typer.Exit(2)


def add_commands(app: typer.Typer) -> None:
    """Adds this file's commands to ``app``."""
    for command in (bundle, evaluate, compare, models, doctor):
        app.command(command.__name__)(command)
