"""``serve``."""

# No `from __future__ import annotations` here: typer would have to compile every annotation again at each start.

import sys
from typing import Annotated

import typer

from detectclf.cli import options, output


def serve(
    model: options.Model = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Any other than this machine itself lets others in, and needs --token "
            "[default: 127.0.0.1].",
            metavar="ADDRESS",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free [default: 8080].")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="DETECTCLF_TOKEN",
            help="Secret of 16 characters or more that users have to know. Others on this machine can see the command "
            "line, so rather set the variable DETECTCLF_TOKEN.",
            metavar="SECRET",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name by which the server may be called, such as that of a proxy; may be repeated.",
            metavar="NAME",
        ),
    ] = None,
    runtime: options.Runtime = None,
    device: options.Device = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Most slices per forward pass [default: 8].")] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any limit, such as max_files=1000; may be repeated.", metavar="KEY=VALUE"),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Serve a page to drop slices on, and an HTTP API, on this machine; Ctrl+C ends it.

    Nothing that is uploaded is written to a disk. Research use, not for diagnosis.

    Example: detectclf serve --port 8080
    """
    output.setup_logging(quiet, verbose)
    from detectclf.config import PredictConfig, ServeConfig
    from detectclf.pipelines import serve as pipeline
    from detectclf.recipes import load_recipe

    flags = {"host": host, "port": port, "token": token, "allowed_hosts": tuple(allow_host or ()) or None}
    config = load_recipe(ServeConfig, None, assign or (), flags)
    predict = load_recipe(PredictConfig, None, (), {"runtime": runtime, "device": device, "batch_size": batch_size})

    def ready(url: str, name: str) -> None:
        if json:
            output.print_json({"url": url, "model": name})
        else:
            output.say(f"page: {url}  API: {url}docs  ({name}; Ctrl+C ends it)", quiet)
        sys.stdout.flush()  # whoever reads it from a pipe waits for this line

    pipeline.serve(config, predict, model=model, ready=ready)


def add_commands(app: typer.Typer) -> None:
    """Adds this file's command to ``app``."""
    app.command("serve")(serve)
