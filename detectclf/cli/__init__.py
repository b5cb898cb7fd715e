"""The command line: parse, call one pipeline, print. No logic here, and nothing heavy is imported at start."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

import typer

from detectclf.cli import data, models, training
from detectclf.errors import DetectclfError, one_line

EPILOG = "Research use only: not a medical device, not for diagnosis."

app = typer.Typer(
    name="detectclf",
    help="Find, box and classify brain tumours on MRI slices: a Faster R-CNN and a classifier, combined and evaluated "
    "together.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
training.add_commands(app)
models.add_commands(app)
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and stop.")
) -> None:
    if version:
        from detectclf.version import __version__

        typer.echo(f"detectclf {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def main() -> NoReturn:
    """Entry point: runs the command and turns typed errors into one line and an exit code (INTERFACE.md)."""
    # Verbosity belongs to each command, but an error may come before or after it is parsed.
    verbose = "--verbose" in sys.argv or "-v" in sys.argv
    try:
        app(standalone_mode=True)
    except DetectclfError as error:
        _stop(str(error), error.exit_code, verbose)
    except KeyboardInterrupt:
        _stop("interrupted; what was finished is saved", 130, verbose=False)
    except BrokenPipeError:
        # The reader of stdout (head, less) is gone: not an error. Keep the interpreter from flushing into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else (error.strerror or str(error))
        where = f"{error.filename}: " if error.filename else ""
        remedy = "free some space; what was finished is kept" if full else "check the path and its permissions"
        _stop(f"{where}{reason}; {remedy}", 2, verbose)
    except Exception as error:
        _stop(f"internal error: {type(error).__name__}: {error}; run again with --verbose and report it", 1, verbose)
    sys.exit(0)


def _stop(line: str, code: int, verbose: bool) -> NoReturn:
    if verbose:
        import traceback

        traceback.print_exc()
    print(f"detectclf: {one_line(line)}", file=sys.stderr)
    sys.exit(code)


__all__ = ["app", "main"]
