"""One application with the packaged model for each module, and servers in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from serving_examples import Running, serving
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
    started: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> Running:
        command = [sys.executable, "-m", "detectclf", "serve", "--port", "0", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        line = process.stdout.readline()
        assert line.startswith("page: http://127.0.0.1:"), process.stderr.read()
        return Running(process, int(line.split("/")[2].rpartition(":")[2]))

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def cli_line() -> Callable[..., tuple[int, str]]:
    """``cli_line("serve", ...)`` -> exit code and last line of stderr of a command that fails."""

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "detectclf", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.splitlines()[-1]

    return run
