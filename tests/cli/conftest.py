"""The command line in this process, and one tiny trained model that the tests of this folder share."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from detectclf.cli import main

SMALL = ("--epochs", "1", "--device", "cpu")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout, which has to be exactly one JSON document."""
        return json.loads(self.out)


def run_cli(*arguments: object) -> Outcome:
    """Runs ``detectclf ARGUMENTS`` through its real entry point, with its own stdout and stderr."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    logger = logging.getLogger("detectclf")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    sys.argv = ["detectclf", *(str(a) for a in arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
        # The command sets up the lines of the process for itself; tests that come after look for theirs.
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
    assert isinstance(stop.value.code, int)
    return Outcome(stop.value.code, out.getvalue(), err.getvalue())


@dataclass(frozen=True, slots=True)
class Trained:
    """Sample data, two runs and their bundle, and what the commands that made them said."""

    data: Path
    detector: Path
    classifier: Path
    bundle: Path
    said: dict[str, Outcome]


@pytest.fixture(scope="session")
def cli() -> Callable[..., Outcome]:
    """``cli("data", "stats", folder)`` -> :class:`Outcome`."""
    return run_cli


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Every stage of the way, as small as it gets: what it learns is of no use."""
    root = tmp_path_factory.mktemp("trained")
    data, detector, classifier, bundle = (root / name for name in ("data", "detector", "classifier", "bundle"))
    steps: dict[str, tuple[object, ...]] = {
        "sample": ("data", "sample", "--out", data, "--n", 24),
        "train-detector": (
            *("train-detector", "--data", data, "--config", "demo-detector", "--set", "model.image_size=96"),
            *(*SMALL, "--out", detector),
        ),
        "train-classifier": (
            *("train-classifier", "--data", data, "--config", "demo-classifier", "--set", "model.image_size=64"),
            *(*SMALL, "--out", classifier),
        ),
        "bundle": (
            *("bundle", "--detector", detector, "--classifier", classifier, "--data", data, "--out", bundle),
            *("--device", "cpu", "--set", "evaluate.bootstrap=20"),
        ),
    }
    said = {}
    for name, arguments in steps.items():
        said[name] = run_cli(*arguments, "--json")
        assert said[name].code == 0, said[name].err
    return Trained(data, detector, classifier, bundle, said)
