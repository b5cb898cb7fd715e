"""``detectclf serve`` under load, beside the plain ``Predictor`` in the same run.

    python scripts/bench_serve.py                                 # 8 clients for 60 s
    python scripts/bench_serve.py --clients 1000 --seconds 30     # a crowd; --no-wait: one that ignores Retry-After

Starts the real server on this machine. Each client sends one drawn slice after the other over a connection of its own,
and, told 429 or 503, waits as long as Retry-After says. The clients share the cores with the server, as does whatever
else runs. So the predictor runs before the server and after it, and on a busy machine only the processor's time counts.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from PIL import Image

from detectclf.inference.loading import load
from detectclf.inference.predictor import Predictor
from detectclf.sample_data.slices import sample_slice

PATIENCE = 120.0
"""Seconds after which a client gives up."""
KINDS = ("glioma", "meningioma", "pituitary", "no_tumor")


class Answered(NamedTuple):
    """Status, seconds from the first byte sent to the last one received, and seconds to wait before the next try."""

    status: int
    seconds: float
    wait: float


class Alone(NamedTuple):
    """The plain predictor: slices a second, and seconds of the processor for one."""

    rate: float
    cpu: float


@dataclass(slots=True)
class Tally:
    """What all clients have got: answers, and failures by their kind."""

    answers: list[Answered] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def seconds_of(self, *statuses: int) -> list[float]:
        """Sorted seconds of the answers with these statuses."""
        return sorted(each.seconds for each in self.answers if each.status in statuses)


def main(
    clients: Annotated[int, typer.Option(help="That send at the same time.")] = 8,
    seconds: Annotated[float, typer.Option(help="For which they begin new requests.")] = 60.0,
    model: Annotated[Path | None, typer.Option(help="Bundle [default: the packaged one].")] = None,
    plain: Annotated[float, typer.Option(help="Seconds of the plain predictor, before and after; 0 for none.")] = 10.0,
    wait: Annotated[bool, typer.Option(help="Wait as long as Retry-After says.")] = True,
) -> None:
    """Prints answers a second, quantiles, statuses and memory; exit code 1 where anything but 429 and 503 failed."""
    pictures = [drawn(seed, kind) for seed in range(2) for kind in KINDS]
    predictor = load(model) if plain else None
    alone = [] if predictor is None else [by_itself(predictor, pictures, plain)]
    with running(model) as (process, port):
        requests = [multipart(picture, port) for picture in pictures]
        asyncio.run(crowd(port, requests[:1], clients=1, seconds=1.0, wait=wait))  # what is made at the first request
        before, started, used = resident(process.pid), time.monotonic(), processor(process.pid)
        tally, during = asyncio.run(watched(process.pid, port, requests, clients, seconds, wait))
        passed, used = time.monotonic() - started, processor(process.pid) - used
        after = asyncio.run(crowd(port, requests[:1], clients=1, seconds=1.0, wait=wait))
        memory = (before, during, resident(process.pid))
    alone += [] if predictor is None else [by_itself(predictor, pictures, plain)]
    show(tally, passed, used, memory, alone)
    alive = bool(after.seconds_of(200)) and not after.failures
    print(f"afterwards: {'answers' if alive else 'DOES NOT ANSWER'}")
    if not alive or tally.failures or {each.status for each in tally.answers} - {200, 429, 503}:
        raise typer.Exit(1)


def show(tally: Tally, seconds: float, used: float, memory: tuple[int, int, int], alone: list[Alone]) -> None:
    """Prints the figures of a run, in which the server has ``used`` so many seconds of the processor."""
    good, refused = tally.seconds_of(200), tally.seconds_of(429, 503)
    rate = len(good) / seconds
    statuses = dict(sorted(Counter(each.status for each in tally.answers).items()))
    print(f"answers: {len(good)} in {seconds:.1f} s, {rate:.2f} a second; by status {statuses}")
    print(f"failures: {dict(tally.failures) or 'none'}")
    for name, taken in (("answers", good), ("refusals", refused)):
        if taken:
            p50, p99 = statistics.median(taken), taken[min(len(taken) - 1, int(0.99 * len(taken)))]
            print(f"{name}: p50 {p50:.3f} s, p99 {p99:.3f} s, longest {taken[-1]:.3f} s")
    print("resident memory: before {} MiB, half-way {} MiB, at the end {} MiB".format(*memory))
    if alone:
        mean, cpu = statistics.mean(each.rate for each in alone), statistics.mean(each.cpu for each in alone)
        told = ", ".join(f"{each.rate:.2f}" for each in alone)
        print(f"plain Predictor, batches of 8: {told} slices a second; the server's {rate / mean:.2f} of their mean")
        own = used / max(1, len(good))
        told = f"server {1000 * own:.0f} ms an answer, plain {1000 * cpu:.0f} ms a slice"
        print(f"processor: {told}, {own / cpu:.2f} times as much")


def drawn(seed: int, kind: str) -> bytes:
    """A drawn slice as PNG."""
    content = io.BytesIO()
    Image.fromarray(sample_slice(seed, kind, "axial").pixels).save(content, "PNG")
    return content.getvalue()


def by_itself(predictor: Predictor, pictures: list[bytes], seconds: float) -> Alone:
    """``predict_many`` in batches of 8, for about ``seconds``."""
    list(predictor.predict_many(pictures, batch_size=8))
    started, used, done = time.monotonic(), time.process_time(), 0
    while (passed := time.monotonic() - started) < seconds:
        done += len(list(predictor.predict_many(islice(cycle(pictures), 16), batch_size=8)))
    return Alone(done / passed, (time.process_time() - used) / done)


@contextmanager
def running(model: Path | None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server in a process of its own, and its port."""
    flags = [] if model is None else ["--model", str(model)]
    command = [sys.executable, "-m", "detectclf", "serve", "--port", "0", "--json", "--quiet", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the server did not start")
            yield process, int(json.loads(line)["url"].rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()


def resident(pid: int) -> int:
    """Resident memory of a process, MiB; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) // 1024 if found else 0


def processor(pid: int) -> float:
    """Seconds of the processor that a process has used, over all threads; 0 where the system does not say."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def multipart(picture: bytes, port: int) -> bytes:
    """A whole request."""
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="slice.png"\r\n\r\n'
    body = part + picture + b"\r\n--x--\r\n"
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body


async def watched(
    pid: int, port: int, requests: list[bytes], clients: int, seconds: float, wait: bool
) -> tuple[Tally, int]:
    """The tally of a crowd, and the resident memory of the server half-way."""
    work = asyncio.ensure_future(crowd(port, requests, clients=clients, seconds=seconds, wait=wait))
    await asyncio.sleep(seconds / 2)
    during = resident(pid)
    return await work, during


async def crowd(port: int, requests: list[bytes], *, clients: int, seconds: float, wait: bool) -> Tally:
    """What ``clients`` get that send at the same time."""
    tally, end = Tally(), time.monotonic() + seconds
    each = [client(port, requests[i % len(requests)], end, tally, wait) for i in range(clients)]
    await asyncio.gather(*each)
    return tally


async def client(port: int, request: bytes, end: float, tally: Tally, wait: bool) -> None:
    """Sends a request once, and again until ``end``; a connection that the server ended is made anew."""
    told = 0.0
    while True:
        writer = None
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), PATIENCE)
            told = 0.0
            while not told:  # else the server may end the connection meanwhile
                answered = await asyncio.wait_for(ask(reader, writer, request), PATIENCE)
                tally.answers.append(answered)
                told = answered.wait if wait else 0.0
                if time.monotonic() >= end:
                    return
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            tally.failures[f"{'connecting: ' if writer is None else ''}{type(error).__name__}"] += 1
        finally:
            if writer is not None:
                writer.close()
        await asyncio.sleep(min(told, max(0.0, end - time.monotonic())))
        if time.monotonic() >= end:
            return


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answered:
    """One request."""
    started = time.monotonic()
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = re.search(r"^content-length: (\d+)", head, re.MULTILINE)
    await reader.readexactly(int(length[1]) if length else 0)
    after = re.search(r"^retry-after: (\d+)", head, re.MULTILINE)
    return Answered(int(head.split()[1]), time.monotonic() - started, float(after[1]) if after else 0.0)


if __name__ == "__main__":
    typer.run(main)
