"""Drawn slices, clients of the application with the packaged model, and servers in processes of their own."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image
from starlette.testclient import TestClient

from detectclf.config import ServeConfig
from detectclf.inference.predictor import Predictor
from detectclf.sample_data.slices import sample_slice
from detectclf.serving.app import create_app
from detectclf.serving.service import Service

ADDRESS = "http://127.0.0.1:8080"


def png(kind: str = "meningioma", seed: int = 1) -> bytes:
    """A drawn slice as PNG."""
    content = io.BytesIO()
    Image.fromarray(sample_slice(seed, kind, "axial").pixels).save(content, "PNG")
    return content.getvalue()


def files(*named: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Names and contents, as the client sends them."""
    return [("files", each) for each in named]


@contextmanager
def serving(predictor: Predictor, **settings: object) -> Iterator[TestClient]:
    """A client of an application with these settings."""
    service = Service(predictor, ServeConfig(**settings))
    with TestClient(create_app(service), base_url=ADDRESS) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextmanager
def serve_in_a_process(*flags: str) -> Iterator[Running]:
    """``detectclf serve`` on a free port, once it answers; killed at the end.

    Nothing reads what it says until it ends, so it must say less than the 64 KiB that a pipe holds (no ``--verbose``).
    """
    command = [sys.executable, "-m", "detectclf", "serve", "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("page: http://127.0.0.1:"), process.stderr.read()
        yield Running(process, int(line.split("/")[2].rpartition(":")[2]))
    finally:
        process.kill()
        process.communicate()
