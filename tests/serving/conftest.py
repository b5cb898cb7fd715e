"""One application with the packaged model for each module, and servers in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browser_examples import Opened, chromium, opened
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for each module; not for the session, since Playwright's event loop would stand in others' way."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page_url(browser: Any) -> Iterator[str]:
    """The page of one server for each module."""
    with serve_in_a_process() as running:
        yield running.url


@pytest.fixture
def open_page(browser: Any) -> Iterator[Opened]:
    """``open_page(url, color_scheme="dark")`` -> the page; at the end of the test what must hold of it is checked."""
    with ExitStack() as stack:
        yield lambda url, **screen: stack.enter_context(opened(browser, url, **screen))


@pytest.fixture
def cli_line() -> Callable[..., tuple[int, str]]:
    """``cli_line("serve", ...)`` -> exit code and last line of stderr of a command that fails."""

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "detectclf", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.splitlines()[-1]

    return run


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server keeps what lies on disk meanwhile."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
