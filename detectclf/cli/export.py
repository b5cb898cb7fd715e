"""``export``."""

# No `from __future__ import annotations` here: typer would have to compile every annotation again at each start.

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from detectclf.cli import options, output


def export(
    to: Annotated[
        Literal["onnx", "openvino"],
        typer.Option(help="Format of the graphs: onnx, which OpenVINO reads as well, or openvino's own."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", metavar="DIR")],
    bundle: Annotated[
        Path | None,
        typer.Argument(
            help="Bundle to export [default: the packaged one].", metavar="BUNDLE", callback=options.packaged
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Quantise to int8 on half of the slices of --data, and measure the loss on the other half."
        ),
    ] = False,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            help="Folder with an export, or shards, for --int8; repeat it to merge several.",
            metavar="DIR_OR_URI",
        ),
    ] = None,
    split: options.Split = "valid",
    limit: options.Limit = None,
    patients: options.Patients = None,
    any_tumor: options.AnyTumor = None,
    assign: options.Assign = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a bundle as a folder of graphs that runs without detectclf, with a model.json that says how.

    Example: detectclf export bundle/ --to onnx --out exported/
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import ExportRecipe
    from detectclf.pipelines import export as pipeline
    from detectclf.recipes import load_recipe

    flags = {
        "data.sources": data or None,
        "data.patients": patients,
        "data.limit": limit,
        "data.any_tumor": any_tumor or None,
    }
    recipe = load_recipe(ExportRecipe, None, assign or (), flags)
    done = pipeline.export(bundle, to, recipe, split, out, int8=int8)
    if json:
        output.print_json(done)
        return
    if done["int8"] is not None:
        output.say(_table(done["int8"]), quiet)
    output.say(f"export: {done['export']}", quiet)


def _table(measured: dict[str, Any]) -> str:
    rows = [f"{'':10}{'float32':>9}{'int8':>9}{'loss':>9}"]
    for name in measured["loss"]:
        numbers = (measured[column][name] for column in ("float32", "int8", "loss"))
        rows.append(f"{name:10}" + "".join(f"{number:9.4f}" for number in numbers))
    rows.append(f"on {measured['measured_slices']} slices; ranges from {measured['calibration_slices']} others")
    return "\n".join(rows)


def add_commands(app: typer.Typer) -> None:
    """Adds this file's command to ``app``."""
    app.command("export")(export)
