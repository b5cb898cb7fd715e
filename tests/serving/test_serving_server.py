"""The server as a process: SIGTERM loses no answer, clients that leave stop the work, slow ones are ended."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from serving_examples import Running, png
from volume_examples import write_nifti

Start = Callable[..., Running]


def post(pictures: int, name: str = "jane-doe-{}.png") -> bytes:
    """A whole request with this many pictures."""
    drawn = png()
    parts = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
        % (name.format(i).encode(), drawn)
        for i in range(pictures)
    )
    body = parts + b"--x--\r\n"
    head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def everything(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    content = b""
    while block := connection.recv(2**16):
        content += block
    return content


DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""``urlopen`` remembers the proxies of the test that used it first."""


def fetched(url: str | urllib.request.Request) -> bytes:
    with DIRECTLY.open(url, timeout=60) as response:
        return bytes(response.read())


def figure(server: Running, name: str) -> float:
    text = fetched(f"{server.url}/metrics").decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def reaches(server: Running, name: str, least: float) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if figure(server, name) >= least:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl+C"])
def test_it_answers_what_it_has_before_it_ends(running: Start, sent: signal.Signals) -> None:
    server = running("--batch-size", "2", "--set", "timeout=3000")  # or a busy machine has no place for all
    many, one = post(24), post(1)
    crowd = [server.connect() for _ in range(16)]
    with server.connect() as connection:
        for other in crowd:
            other.sendall(one)
        connection.sendall(many)
        assert reaches(server, "detectclf_batch_pictures_sum", 18), "it has all requests, and some of the many pictures"
        server.process.send_signal(sent)
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    for other in crowd:
        with other:
            assert everything(other).startswith(b"HTTP/1.1 200 "), "of many clients as well"
    assert head.startswith(b"HTTP/1.1 200 ")
    records = json.loads(body)
    assert [record["image"] for record in records] == [f"jane-doe-{i}.png" for i in range(24)]
    assert all(record["error"] is None for record in records)
    out, err = server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert "jane" not in out + err and "Traceback" not in err
    with pytest.raises(OSError):
        server.connect()


def test_the_log_names_no_volume(running: Start, tmp_path: Path) -> None:
    """In the command line it says which file is 4-D; on a server that is the name that somebody gave his upload."""
    pytest.importorskip("nibabel", reason="the extra medical is not installed")
    content = write_nifti(tmp_path / "jane-doe.nii", 3, times=2).read_bytes()
    server = running()
    for route in ("predict", "volumes"):
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="jane-doe.nii"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        sent = urllib.request.Request(f"{server.url}/v1/{route}", part + content + b"\r\n--x--\r\n", kind)
        assert b"jane-doe" in fetched(sent)
    server.process.send_signal(signal.SIGTERM)
    out, err = server.process.communicate(timeout=60)
    assert "jane" not in out + err


def test_a_client_that_leaves_stops_its_work(running: Start) -> None:
    server = running("--batch-size", "2")
    with server.connect() as connection:
        connection.sendall(post(64))
        assert reaches(server, "detectclf_batch_pictures_count", 1)
    assert reaches(server, 'detectclf_pictures_total{outcome="cancelled"}', 1)
    assert figure(server, "detectclf_waiting_pictures") == 0
    with server.connect() as connection:
        connection.sendall(post(1).replace(b"Host:", b"Connection: close\r\nHost:"))
        assert everything(connection).startswith(b"HTTP/1.1 200 "), "and the next one is answered"
    server.process.terminate()
    assert server.process.communicate(timeout=60) == ("", ""), "it says nothing of that"


SLOW = [
    (b"", b"", "nothing comes"),
    (b"GET /healthz HTTP/1.1\r\nHost: loc", b"", "half a head"),
    (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea", b"HTTP/1.1 200 ", "half of a second head"),
    (post(1)[:-200], b"HTTP/1.1 408 ", "half a body"),
    (b"garbage\r\n\r\n", b"HTTP/1.1 400 ", "no HTTP"),
]


def test_slow_clients_are_ended(running: Start) -> None:
    server = running("--set", "idle_timeout=0.5")
    for sent, begins, why in SLOW:
        with server.connect() as connection:
            connection.sendall(sent)
            answer = everything(connection)
            assert answer.startswith(begins) and bool(answer) == bool(begins), why
    with server.connect() as connection:
        for _ in range(3):  # longer than the limit, all together
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b'{"status":"ok"}'):
                block = connection.recv(2**16)
                assert block, "patient with those that are not slow"
                answer += block
            time.sleep(0.2)
    assert len(answers_not_taken(server)) < 2000 * len(fetched(f"{server.url}/static/page.js"))


def answers_not_taken(server: Running) -> bytes:
    """What is left of 2,000 answers for a client that first takes none: they would fill the memory."""
    with server.connect() as connection:
        connection.sendall(b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
        time.sleep(1.5)
        try:
            return everything(connection)
        except ConnectionError:
            return b""


def test_a_port_that_is_taken(running: Start, cli_line: Callable[..., tuple[int, str]]) -> None:
    server = running()
    code, line = cli_line("serve", "--port", str(server.port))
    assert code == 2 and f"port {server.port}" in line and "another --port" in line
