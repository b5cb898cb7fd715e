"""More than the server can do: who has no place hears so at once, who has one is answered, and nobody blocks others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import bench_serve
import pytest
from serving_examples import Running, serve_in_a_process
from test_serving_server import DIRECTLY, figure, post, reaches

from detectclf.config import ServeConfig
from detectclf.inference.predictor import Predictor
from detectclf.serving.problems import ProblemError
from detectclf.serving.service import Service

UPLOAD = b"POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and head of the next answer, whose body is read as well."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, f"the connection ended after {head!r}"
        head += byte
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while length > 0:
        length -= len(connection.recv(length))
    return int(head.split()[1]), head.lower()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """With places for two requests."""
    with serve_in_a_process("--set", "max_uploads=2", "--set", "max_request_bytes=1000000") as server:
        yield server


def test_beyond_the_bound_it_says_so_before_the_body_comes(server: Running) -> None:
    whole, body = post(1), b"x" * 100_000
    with server.connect() as first, server.connect() as other, server.connect() as late:
        for connection in (first, other):
            connection.sendall(whole[:-100])
        assert reaches(server, "detectclf_requests_in_hand", 2)
        for route in (b"predict", b"volumes", b"predict"):
            late.sendall(UPLOAD % route + b"Content-Length: %d\r\n\r\n" % len(body))
            status, head = answer(late)  # and not a byte of the body was sent
            assert status == 429 and int(head.partition(b"retry-after: ")[2].split()[0]) >= 1
            late.sendall(body)  # is dropped, and the connection serves for the next one
        with DIRECTLY.open(f"{server.url}/healthz", timeout=60) as health:
            assert health.status == 200
        for connection in (first, other):
            connection.sendall(whole[-100:])
            assert answer(connection)[0] == 200
        late.sendall(whole)
        assert answer(late)[0] == 200, "and there is a place again"


def test_a_second_volume_is_refused_before_its_body_comes(server: Running) -> None:
    with server.connect() as first, server.connect() as second:
        first.sendall(UPLOAD % b"volumes" + b"Content-Length: 1000\r\n\r\n--x")
        assert reaches(server, "detectclf_requests_in_hand", 1)
        second.sendall(UPLOAD % b"volumes" + b"Content-Length: 1000\r\n\r\n")
        assert answer(second)[0] == 429
        second.sendall(b"x" * 1000)
        second.sendall(post(1))
        assert answer(second)[0] == 200, "pictures go on beside it"


def test_a_crowd_gets_answers_or_429_and_nothing_else(server: Running) -> None:
    """300 clients that ignore Retry-After: none fails, and the server answers after."""
    tally = asyncio.run(bench_serve.crowd(server.port, [post(1)], clients=300, seconds=0.5, wait=False))
    assert not tally.failures and {each.status for each in tally.answers} == {200, 429}
    assert all(each.wait >= 1 for each in tally.answers if each.status == 429)
    after = asyncio.run(bench_serve.crowd(server.port, [post(1)], clients=1, seconds=0.01, wait=True))
    assert [each.status for each in after.answers] == [200]
    assert figure(server, "detectclf_requests_in_hand") == 0


@pytest.mark.parametrize("length", [b"Content-Length: 8000000", b"Transfer-Encoding: chunked\r\n\r\n7a1200"])
def test_a_client_that_sends_too_much_hears_why(server: Running, length: bytes) -> None:
    """Many clients send all before they listen; a connection that is closed meanwhile would tell them nothing."""
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    ends = b"\r\n0\r\n\r\n" if b"chunked" in length else b""
    with server.connect() as connection:
        connection.sendall(UPLOAD % b"predict" + length + b"\r\n" + (b"" if ends else b"\r\n"))
        connection.sendall(part + b"x" * (8_000_000 - len(part)) + ends)
        assert answer(connection)[0] == 413
        connection.sendall(post(1))
        assert answer(connection)[0] == 200, "what was too much has been dropped"


def test_a_slow_machine_has_fewer_places(predictor: Predictor) -> None:
    service = Service(predictor, ServeConfig(max_uploads=8, timeout=100))
    try:
        for seconds, places in ((0.1, 8), (2.5, 4), (1000.0, 1)):
            service.batcher._load.seconds_per_picture = seconds
            with ExitStack() as stack:
                for _ in range(places):
                    stack.enter_context(service.place())
                with pytest.raises(ProblemError, match="too_many_uploads"):
                    stack.enter_context(service.place())
            assert service.in_hand == 0
    finally:
        service.batcher.close()
