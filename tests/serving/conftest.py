"""One application with the packaged model for each module, and servers in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from serving_examples import Running, serve_in_a_process, serving
from starlette.testclient import TestClient

from detectclf.inference.loading import load
from detectclf.inference.predictor import Predictor


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return load(device="cpu")


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[TestClient]:
    """A client of the server as it is by default, but with small limits."""
    limits = {"max_files": 4, "max_file_bytes": 2**20, "max_request_bytes": 2**21, "max_unpacked_bytes": 2**21}
    with serving(predictor, **limits) as client:
        yield client


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    """``running("--set", ...)`` starts ``detectclf serve`` on a free port and waits until it answers."""
    with ExitStack() as stack:
        yield lambda *flags: stack.enter_context(serve_in_a_process(*flags))


@pytest.fixture
def cli_line() -> Callable[..., tuple[int, str]]:
    """``cli_line("serve", ...)`` -> exit code and last line of stderr of a command that fails."""

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "detectclf", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.splitlines()[-1]

    return run
