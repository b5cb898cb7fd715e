"""The command line: parse, call one pipeline, print. No logic here, and nothing heavy is imported at start."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, NoReturn

import typer

from detectclf.cache import keep_library_folders
from detectclf.cli import config, data, export, models, predicting, serving, speed, training
from detectclf.errors import DetectclfError, one_line
from detectclf.uris import without_secrets
from detectclf.version import install_fault, unmet_requirements

# The base of every error about flags: click's own in older versions of typer, typer's in newer ones.
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]

EPILOG = (
    "Exit codes: 0 done, 2 invalid input or usage, 3 refused as unsafe, 4 part of a batch failed, 130 interrupted. "
    "Research use only: not a medical device, not for diagnosis."
)

app = typer.Typer(
    name="detectclf",
    help="Find, box and classify brain tumours on MRI slices: a Faster R-CNN and a classifier, combined and evaluated "
    "together.",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
training.add_commands(app)
models.add_commands(app)
predicting.add_commands(app)
speed.add_commands(app)
serving.add_commands(app)
export.add_commands(app)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context, version: bool = typer.Option(False, "--version", "-V", help="Print the version and stop.")
) -> None:
    if version:
        from detectclf.version import __version__

        typer.echo(f"detectclf {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def main() -> NoReturn:
    """Entry point: runs the command and turns typed errors into one line and an exit code (docs/interface.md)."""
    # Verbosity belongs to each command, but an error may come before or after it is parsed.
    verbose = "--verbose" in sys.argv or "-v" in sys.argv
    _open_missing_streams()
    keep_library_folders()
    try:
        code = _run()
    except USAGE_ERROR as error:
        _stop(_usage_line(error), 2, verbose=False)
    except DetectclfError as error:
        _stop(str(error), error.exit_code, verbose)
    except KeyboardInterrupt:
        _stop("interrupted; what was finished is saved", 130, verbose=False)
    except BrokenPipeError:
        # The reader of stdout (head, less) is gone: not an error. Keep the interpreter from flushing into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if fault := install_fault(error):
            _stop(fault, 2, verbose)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else (error.strerror or str(error))
        where = f"{error.filename}: " if error.filename else ""
        remedy = "free some space; what was finished is kept" if full else "check the path and its permissions"
        _stop(f"{where}{reason}; {remedy}", 2, verbose)
    except Exception as error:
        if fault := install_fault(error):
            _stop(fault, 2, verbose)
        remedy = "; ".join(unmet_requirements()) or "run again with --verbose and report it"
        _stop(f"internal error: {type(error).__name__}: {error}; {remedy}", 1, verbose)
    sys.exit(code)


def _run() -> int:
    if "_DETECTCLF_COMPLETE" in os.environ:  # a shell asks what may follow
        app(prog_name="detectclf")
    # Not `app()`: that one prints usage errors in several lines and exits 1 where the reader of stdout is gone.
    command = typer.main.get_command(app)
    try:
        with command.make_context("detectclf", sys.argv[1:]) as context:
            command.invoke(context)
    except typer.Exit as stop:
        sys.stdout.flush()
        return stop.exit_code
    # Here and not at the end of the interpreter, so that a full disk is reported.
    sys.stdout.flush()
    return 0


def _usage_line(error: Any) -> str:
    command = error.ctx.command_path if error.ctx is not None else "detectclf"
    # One line, also where a list of choices follows; and without pydantic's name for a refusal.
    reason = " ".join(error.format_message().split()).replace("Value error, ", "", 1).rstrip(".")
    return f"{reason}; see `{command} --help`"


def _open_missing_streams() -> None:
    # Started with a closed stdout or stderr (`>&-`, some schedulers), Python has None there.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.StringIO())


def _stop(line: str, code: int, verbose: bool) -> NoReturn:
    if verbose:
        import traceback

        print(without_secrets(traceback.format_exc()), end="", file=sys.stderr)
    print(f"detectclf: {one_line(without_secrets(line))}", file=sys.stderr)
    sys.exit(code)


__all__ = ["app", "main"]
