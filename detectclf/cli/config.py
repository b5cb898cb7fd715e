"""``detectclf config ...``: find a setting."""

# No `from __future__ import annotations` here: typer would have to compile every annotation again at each start.

from typing import Annotated, Literal

import typer

from detectclf.cli import options, output

app = typer.Typer(help="List every setting, with its default and what it means.", rich_markup_mode=None)


@app.callback()
def _only_group() -> None:
    """A group even with one command, so that ``config show`` stays its name."""


@app.command()
def show(
    stage: Annotated[
        Literal["detector", "classifier", "bundle", "evaluate", "serve"],
        typer.Option(help="Settings of which: a stage's training, or the command."),
    ] = "detector",
    find: Annotated[
        str | None, typer.Option(help="Only settings with this in their name or meaning, such as rate.", metavar="TEXT")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List every setting with default, allowed values, unit and meaning.

    Example: detectclf config show --stage classifier --find rate
    """
    output.setup_logging(quiet, verbose)
    from dataclasses import asdict

    from detectclf.pipelines import settings as pipeline

    found = pipeline.show_settings(stage, find or "")
    if json:
        output.print_json([asdict(setting) for setting in found])
    else:
        output.say(pipeline.settings_table(stage, found))
