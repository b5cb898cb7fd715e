"""Kills workers, nodes and drivers of ``predict --engine ray`` on a real cluster of two nodes and a real S3 server.

Both run on this machine. After every kill the run goes on, and its records have to be exactly those of a run that
nothing happened to: none lost, none twice, none different.

Shown on two busy cores on 2026-11-26: ``driver-killed`` is exact; of ``worker-killed`` and ``node-killed`` the records
were (before parts counted their attempts), and their Parquet files were not compared; ``one-machine`` did not come to
its end.

Usage: scripts/test_ray [--pictures 60] [CASE...]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARD = 4


def main() -> int:
    """Runs the cases; exit code 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--pictures", type=int, default=60)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder, s3_server() as (endpoint, bucket), ExitStack() as stack:
        os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        inputs = write_inputs(Path(folder), bucket, arguments.pictures)
        wanted = f"s3://{bucket}/wanted"
        local_engine(inputs, wanted)
        started = stack.enter_context(cluster())
        for name in arguments.cases or CASES:
            began = time.monotonic()
            out = f"s3://{bucket}/out-{name}"
            try:
                said = CASES[name](inputs, out, started)
                wrong = differences(wanted, out)
            except Exception as error:  # each case is reported
                said, wrong = "", f"{type(error).__name__}: {error}"
            failed += bool(wrong)
            print(f"{name}: {wrong or 'exact'}; {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


@contextmanager
def s3_server() -> Iterator[tuple[str, str]]:
    """moto's server on a free port of this machine, with a bucket: its address and the bucket's name."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    s3fs.S3FileSystem(endpoint_url=endpoint, key="k", secret="s").mkdir("slices")
    try:
        yield endpoint, "slices"
    finally:
        server.stop()


def write_inputs(folder: Path, bucket: str, count: int) -> list[str]:
    """A prefix of pictures with two bad ones, a WebDataset shard in S3, and a manifest here; as arguments."""
    import io
    import tarfile

    import fsspec
    from PIL import Image

    from detectclf.sample_data.slices import sample_slice

    store = fsspec.filesystem("s3")
    kinds = ("glioma", "meningioma", "no_tumor", "pituitary")
    pictures: dict[str, bytes] = {}
    for number in range(count):
        content = io.BytesIO()
        Image.fromarray(sample_slice(number, kinds[number % 4], "axial").pixels).save(content, "PNG")
        pictures[f"{number:04d}.png"] = content.getvalue()
    third = count // 3
    names = sorted(pictures)
    store.pipe({f"{bucket}/in/{name}": pictures[name] for name in names[:third]})
    store.pipe({f"{bucket}/in/bad-1.png": b"no picture", f"{bucket}/in/bad-2.png": b"\x89PNG"})
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as pack:
        for name in names[third : 2 * third]:
            entry = tarfile.TarInfo(name)
            entry.size = len(pictures[name])
            pack.addfile(entry, io.BytesIO(pictures[name]))
    store.pipe(f"{bucket}/shards/train-000000.tar", shard.getvalue())
    for name in names[2 * third :]:
        (folder / name).write_bytes(pictures[name])
    lines = [json.dumps({"image": name}) for name in names[2 * third :]]
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return [f"s3://{bucket}/in", f"s3://{bucket}/shards/train-000000.tar", str(folder / "manifest.jsonl")]


@contextmanager
def cluster() -> Iterator[Any]:
    """Two nodes: the driver's with one CPU, and another one with one."""
    from ray.cluster_utils import Cluster

    started = Cluster()
    started.add_node(num_cpus=1, include_dashboard=False)  # within 30 s, else Ray gives up: not on a busy machine
    started.last = started.add_node(num_cpus=1)
    try:
        yield started
    finally:
        started.shutdown()


def local_engine(inputs: list[str], out: str) -> int:
    """Predicts what is left by the local engine; its exit code."""
    words = ["predict", *inputs, "--out", out, "--shard-size", str(SHARD), "--batch-size", "2", "--resume", "--quiet"]
    return subprocess.run([sys.executable, "-m", "detectclf", *words], check=False).returncode


def start(inputs: list[str], out: str, address: str) -> subprocess.Popen[str]:
    """A driver in a process of its own."""
    words = ["predict", *inputs, "--out", out, "--engine", "ray", "--ray-address", address, "--ray-cpus", "1"]
    words += ["--shard-size", str(SHARD), "--batch-size", "2", "--resume", "--json"]
    return subprocess.Popen([sys.executable, "-m", "detectclf", *words], text=True, stderr=subprocess.PIPE)


def finished(out: str) -> int:
    """Parts that are finished."""
    from detectclf.storage import StoredFolder

    return sum(name.endswith(".json") for name in StoredFolder(out).sizes("records"))


def wait_for(out: str, parts: int, driver: subprocess.Popen[str]) -> int:
    """Waits until so many parts are finished; how many are."""
    deadline = time.monotonic() + 300
    while (found := finished(out)) < parts and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def run(inputs: list[str], out: str, address: str, meanwhile: Callable[[subprocess.Popen[str]], str]) -> str:
    """Starts a driver, does something, waits for its end; what was done and the exit code."""
    driver = start(inputs, out, address)
    try:
        done = meanwhile(driver)
        said = driver.communicate(timeout=400)[1]
    finally:
        driver.kill()
    if driver.returncode not in (4, -signal.SIGKILL, 130):  # 4: there are bad files
        raise RuntimeError(f"exit {driver.returncode}: {said[-600:]}")
    return f"{done}exit {driver.returncode}"


def worker_killed(inputs: list[str], out: str, started: Any) -> str:
    """The process of an actor is killed, three times."""

    def kill(driver: subprocess.Popen[str]) -> str:
        killed = []
        for parts in (1, 3, 5):
            found = wait_for(out, parts, driver)
            workers = actors()
            if workers:
                os.kill(workers[0], signal.SIGKILL)
                killed.append(f"{workers[0]} at {found}")
            time.sleep(3)
        return f"killed actors {', '.join(killed)}; "

    return run(inputs, out, started.address, kill)


def actors() -> list[int]:
    """Processes of actors below this one, by what Ray calls them."""
    rows = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    table = [(int(row[0]), int(row[1]), row[2]) for line in rows.splitlines() if len(row := line.split(None, 2)) == 3]
    ours = {os.getpid()}
    while more := {pid for pid, parent, _ in table if parent in ours} - ours:
        ours |= more
    return [pid for pid, _, words in table if pid in ours and words.startswith("ray::MapWorker")]


def node_killed(inputs: list[str], out: str, started: Any) -> str:
    """A node is killed with all that runs on it, and another one comes."""

    def kill(driver: subprocess.Popen[str]) -> str:
        found = wait_for(out, 2, driver)
        started.remove_node(started.last, allow_graceful=False)
        started.last = started.add_node(num_cpus=1)
        return f"killed a node at {found} parts; "

    return run(inputs, out, started.address, kill)


def driver_killed(inputs: list[str], out: str, started: Any) -> str:
    """The driver is killed twice and interrupted once; the same command goes on."""
    done = []
    for parts, number in ((1, signal.SIGKILL), (4, signal.SIGTERM), (7, signal.SIGKILL)):

        def kill(driver: subprocess.Popen[str], parts: int = parts, number: int = number) -> str:
            found = wait_for(out, parts, driver)
            driver.send_signal(number)
            return f"signal {number} at {found} parts; "

        done.append(run(inputs, out, started.address, kill))
    done.append(run(inputs, out, started.address, lambda driver: ""))
    return ", ".join(done)


def one_machine(inputs: list[str], out: str, started: Any) -> str:
    """The same command without a cluster; and by the local engine where it was stopped."""
    driver = start(inputs, out, "local")
    wait_for(out, 2, driver)
    driver.kill()
    driver.communicate()
    found = finished(out)
    return f"killed Ray's driver at {found} parts, the local engine went on; exit {local_engine(inputs, out)}"


def differences(wanted: str, out: str) -> str:
    """What is wrong with the records of ``out``; empty where they are those that are wanted."""
    import pyarrow.parquet as pq

    from detectclf.inference.shards import records_of
    from detectclf.storage import StoredFolder, open_stored

    first, second = (list(records_of(StoredFolder(each))) for each in (wanted, out))
    images = [record["image"] for record in second]
    if len(set(images)) != len(images):
        return f"{len(images) - len(set(images))} records twice"
    if first != second:
        return f"{len(first)} records are wanted and {len(second)} there; or they differ"
    rows = 0
    for name in sorted(StoredFolder(out).sizes("records")):
        if name.endswith(".parquet"):
            with open_stored(f"{out}/records/{name}") as file:
                rows += pq.read_metadata(file).num_rows
    return "" if rows == len(second) else f"{rows} rows of Parquet, {len(second)} records"


CASES: dict[str, Callable[[list[str], str, Any], str]] = {
    "worker-killed": worker_killed,
    "node-killed": node_killed,
    "driver-killed": driver_killed,
    "one-machine": one_machine,
}

if __name__ == "__main__":
    sys.exit(main())
