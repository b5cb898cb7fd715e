"""``bench``."""

# No `from __future__ import annotations` here: typer would have to compile every annotation again at each start.

from pathlib import Path
from typing import Annotated

import typer

from detectclf.cli import options, output


def bench(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Bundle to time [default: the packaged one].", metavar="BUNDLE", callback=options.packaged),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="What computes the networks; may be repeated [default: all that are installed].",
            metavar="openvino|onnx|torch",
        ),
    ] = None,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Slices per forward pass; may be repeated. 1 is one slice after the other; with more, the next ones "
            "are decoded meanwhile [default: 1 and 8].",
        ),
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option(min=1, help="Slices of one pass, of which there are three [default: 16, or the largest batch]."),
    ] = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Time a bundle on this machine: milliseconds per slice, slices per second, memory and loading, by runtime.

    The slices are drawn, and decoding is included. Threads are those that OMP_NUM_THREADS allows.

    Example: detectclf bench bundle/ --runtime openvino --batch-size 1 --batch-size 16
    """
    output.setup_logging(quiet, verbose)
    from detectclf.pipelines import bench as pipeline

    done = pipeline.bench(bundle, runtimes=runtime or (), batch_sizes=batch_size or (), slices=slices, device=device)
    if json:
        output.print_json(done.to_record())
    else:
        output.say(done.table())


def add_commands(app: typer.Typer) -> None:
    """Adds this file's command to ``app``."""
    app.command("bench")(bench)
