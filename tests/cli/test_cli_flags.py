"""The flags of every command are a promise: this file notices when one goes or changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from detectclf.cli import app
from detectclf.config import BundleRecipe, ClassifierRecipe, DetectorRecipe
from detectclf.recipes import load_recipe, shipped_recipes

GOLDEN = Path(__file__).parents[1] / "golden" / "cli_flags.txt"


def commands(group, path=()):
    """``(words, command)`` of every command below ``group``."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def flags() -> str:
    """One line per command, then one per parameter: names, metavar, default, whether it may be repeated."""
    lines = []
    for words, command in COMMANDS.items():
        lines.append(" ".join(words))
        for parameter in command.params:
            names = "/".join([*parameter.opts, *parameter.secondary_opts])
            facts = [f"metavar {parameter.metavar}"] if parameter.metavar else []
            facts += ["required"] if parameter.required else []
            facts += [f"default {parameter.default}"] if parameter.default not in (None, False) else []
            facts += ["repeatable"] if getattr(parameter, "multiple", False) or parameter.nargs == -1 else []
            lines.append("  " + ", ".join([names, *facts]))
    return "\n".join(lines) + "\n"


def test_flags_are_those_of_the_golden_file():
    """After a change that is meant: run this file with ``DETECTCLF_REGENERATE=1``, then read the diff."""
    if os.environ.get("DETECTCLF_REGENERATE"):
        GOLDEN.write_text(flags(), encoding="utf-8")
    assert flags() == GOLDEN.read_text(encoding="utf-8"), "a change that is meant: run with DETECTCLF_REGENERATE=1"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_an_example_and_the_common_flags(cli, words):
    said = cli(*words, "--help")
    assert said.code == 0 and said.err == ""
    assert f"Example: detectclf {' '.join(words)}" in " ".join(said.out.split())
    for flag in ("--json", "--quiet", "--verbose", "--help"):
        assert flag in said.out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is_and_its_default(words):
    for parameter in COMMANDS[words].params:
        assert parameter.help or parameter.name == "help", f"{parameter.name} has no help"
        hidden = parameter.default is None and not parameter.required and not getattr(parameter, "is_flag", False)
        if hidden and parameter.name in ("arch", "epochs", "device", "seed", "limit", "weights", "model", "batch_size"):
            assert "[default: " in parameter.help, f"{parameter.name} does not say its default"


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from detectclf.cli import main; sys.argv = ['detectclf', '--help']\n"
        "try: main()\n"
        "except SystemExit: print([m for m in ('torch', 'numpy', 'pydantic', 'yaml', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(cli):
    from detectclf import __version__

    assert cli("--version").out == f"detectclf {__version__}\n"


def test_no_arguments_print_the_help(cli):
    said = cli()
    assert said.code == 0 and said.out.startswith("Usage: detectclf")


def test_a_closed_stdout_is_no_internal_error():
    command = f'"{sys.executable}" -m detectclf --version >&-'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_behind_stdout_is_told_of():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "detectclf", "--help"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"disk is full" in done.stderr


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads(name):
    kinds = {
        "detector": DetectorRecipe,
        "classifier": ClassifierRecipe,
        "bundle": BundleRecipe,
    }
    kind = next(kinds[word] for word in kinds if word in name)
    assert isinstance(load_recipe(kind, name), kind)
