"""Kills workers, nodes and drivers of ``predict --engine ray`` on a real cluster of two nodes and a real S3 server.

Both run on this machine. After every kill the run goes on, and its records have to be exactly those of a run that
nothing happened to: none lost, none twice, none different.

Kills come at random moments after a number of finished parts; ``--seed`` repeats them as far as the machine does.

Usage: scripts/test_ray [--pictures 60] [--seed N] [CASE...]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARD = 4
BUCKET = "slices"
PART_S = 1.0
"""About what a part takes."""


def main() -> int:
    """Runs the cases; exit code 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = stack.enter_context(s3_server())
        os.environ |= {"AWS_ENDPOINT_URL": store.endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        inputs = write_inputs(Path(folder), arguments.pictures)
        wanted = f"s3://{BUCKET}/wanted"
        local_engine(inputs, wanted)
        here = Machines(stack.enter_context(cluster()), store)
        for name in arguments.cases or CASES:
            began = time.monotonic()
            out = f"s3://{BUCKET}/out-{name}"
            try:
                said = CASES[name](inputs, out, here)
                wrong = differences(wanted, out)
            except Exception as error:  # each case is reported
                said, wrong = "", f"{type(error).__name__}: {error}"
            failed += bool(wrong)
            print(f"{name}: {wrong or 'exact'}; {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


class Store:
    """moto's S3 server on a free port of this machine; what it holds outlives its stops."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._port = 0
        self.start()
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it, at the same address as before."""
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        """Stops it; nobody listens at its address then."""
        self._server.stop()


@dataclass
class Machines:
    """What the cases may break."""

    cluster: Any
    store: Store


@contextmanager
def s3_server() -> Iterator[Store]:
    """An S3 server with a bucket."""
    import s3fs

    store = Store()
    s3fs.S3FileSystem(endpoint_url=store.endpoint, key="k", secret="s").mkdir(BUCKET)
    try:
        yield store
    finally:
        store.stop()


def write_inputs(folder: Path, count: int) -> list[str]:
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
    store.pipe({f"{BUCKET}/in/{name}": pictures[name] for name in names[:third]})
    store.pipe({f"{BUCKET}/in/bad-1.png": b"no picture", f"{BUCKET}/in/bad-2.png": b"\x89PNG"})
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as pack:
        for name in names[third : 2 * third]:
            entry = tarfile.TarInfo(name)
            entry.size = len(pictures[name])
            pack.addfile(entry, io.BytesIO(pictures[name]))
    store.pipe(f"{BUCKET}/shards/train-000000.tar", shard.getvalue())
    for name in names[2 * third :]:
        (folder / name).write_bytes(pictures[name])
    lines = [json.dumps({"image": name}) for name in names[2 * third :]]
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return [f"s3://{BUCKET}/in", f"s3://{BUCKET}/shards/train-000000.tar", str(folder / "manifest.jsonl")]


@contextmanager
def cluster() -> Iterator[Any]:
    """Two nodes: the driver's with one CPU, and another one with one."""
    from ray.cluster_utils import Cluster

    started = Cluster()
    node_of(started, include_dashboard=False)
    started.last = node_of(started)
    try:
        yield started
    finally:
        started.shutdown()


def node_of(started: Any, **options: Any) -> Any:
    """One more node with one CPU; Ray gives it 30 s to start, which a busy machine may not do at once."""
    for _ in range(4):
        try:
            return started.add_node(num_cpus=1, **options)
        except Exception as error:  # as Ray has it
            print(f"a node did not start ({error})", flush=True)
    return started.add_node(num_cpus=1, **options)


def local_engine(inputs: list[str], out: str) -> int:
    """Predicts what is left by the local engine; its exit code."""
    return subprocess.run([sys.executable, "-m", "detectclf", *local_words(inputs, out)], check=False).returncode


def local_words(inputs: list[str], out: str) -> list[str]:
    """The command for the local engine."""
    return ["predict", *inputs, "--out", out, "--shard-size", str(SHARD), "--batch-size", "2", "--resume", "--quiet"]


def start(inputs: list[str], out: str, address: str) -> subprocess.Popen[str]:
    """A driver in a process of its own."""
    words = ["predict", *inputs, "--out", out, "--engine", "ray", "--ray-address", address, "--ray-cpus", "1"]
    words += ["--shard-size", str(SHARD), "--batch-size", "2", "--resume", "--json"]
    command = [sys.executable, "-m", "detectclf", *words]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(out: str) -> int:
    """Parts that are finished."""
    from detectclf.storage import StoredFolder

    return sum(name.endswith(".json") for name in StoredFolder(out).sizes("records"))


def wait_for(out: str, parts: int, driver: subprocess.Popen[str]) -> int:
    """Waits until so many parts are finished, and a random moment more; how many were."""
    deadline = time.monotonic() + 300
    while (found := finished(out)) < parts and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(random.uniform(0, PART_S))
    return found


def run(
    inputs: list[str],
    out: str,
    address: str,
    meanwhile: Callable[[subprocess.Popen[str]], str],
    ends: tuple[int, ...] = (4, -signal.SIGKILL, 130),  # 4: there are bad files
) -> str:
    """Starts a driver, does something, waits for its end; what was done, the exit code, and what the driver said."""
    driver = start(inputs, out, address)
    try:
        done = meanwhile(driver)
        printed, said = driver.communicate(timeout=400)
    finally:
        driver.kill()
    if driver.returncode not in ends:
        raise RuntimeError(f"exit {driver.returncode}: {said[-600:]}")
    if driver.returncode == 4:
        json.loads(printed)  # and nothing of Ray's own
    if driver.returncode in (1, 2) and "--resume" not in said:
        raise RuntimeError(f"exit {driver.returncode} without a remedy: {said[-600:]}")
    line = f" ({said.strip().splitlines()[-1]})" if driver.returncode in (1, 2) else ""
    return f"{done}exit {driver.returncode}{line}"


def worker_killed(inputs: list[str], out: str, here: Machines) -> str:
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

    return run(inputs, out, here.cluster.address, kill)


def actors() -> list[int]:
    """Processes of actors below this one, by what Ray calls them."""
    rows = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    table = [(int(row[0]), int(row[1]), row[2]) for line in rows.splitlines() if len(row := line.split(None, 2)) == 3]
    ours = {os.getpid()}
    while more := {pid for pid, parent, _ in table if parent in ours} - ours:
        ours |= more
    return [pid for pid, _, words in table if pid in ours and words.startswith("ray::MapWorker")]


def node_killed(inputs: list[str], out: str, here: Machines) -> str:
    """A node is killed with all that runs on it, and another one comes."""

    def kill(driver: subprocess.Popen[str]) -> str:
        found = wait_for(out, 2, driver)
        here.cluster.remove_node(here.cluster.last, allow_graceful=False)
        here.cluster.last = node_of(here.cluster)
        return f"killed a node at {found} parts; "

    return run(inputs, out, here.cluster.address, kill)


def driver_killed(inputs: list[str], out: str, here: Machines) -> str:
    """The driver is killed twice and interrupted once; the same command goes on."""
    done = []
    for parts, number in ((1, signal.SIGKILL), (4, signal.SIGTERM), (7, signal.SIGKILL)):

        def kill(driver: subprocess.Popen[str], parts: int = parts, number: int = number) -> str:
            found = wait_for(out, parts, driver)
            driver.send_signal(number)
            return f"signal {number} at {found} parts; "

        done.append(run(inputs, out, here.cluster.address, kill))
    done.append(run(inputs, out, here.cluster.address, lambda driver: ""))
    return ", ".join(done)


def one_machine(inputs: list[str], out: str, here: Machines) -> str:
    """The same command without a cluster, killed and given again."""
    killed = run(inputs, out, "local", killed_at(2, out))
    return f"{killed}, then {run(inputs, out, 'local', lambda driver: '')}"


def in_turns(inputs: list[str], out: str, here: Machines) -> str:
    """Both engines work on one output, each killed in the middle but the last."""
    done = [run(inputs, out, here.cluster.address, killed_at(3, out))]
    local = subprocess.Popen([sys.executable, "-m", "detectclf", *local_words(inputs, out)])
    done.append(f"local: {killed_at(6, out)(local)}exit {local.wait()}")
    done.append(run(inputs, out, "local", killed_at(9, out)))
    return ", ".join([*done, f"local: exit {local_engine(inputs, out)}"])


def head_killed(inputs: list[str], out: str, here: Machines) -> str:
    """The head of a cluster is killed, and with it the cluster; the command ends, and goes on with another one."""
    with cluster() as other:

        def kill(driver: subprocess.Popen[str]) -> str:
            found = wait_for(out, 3, driver)
            other.remove_node(other.head_node, allow_graceful=False)
            return f"killed the head at {found} parts; "

        began = time.monotonic()
        done = run(inputs, out, other.address, kill, ends=(1, 2))  # 1: Ray itself ends the process
        done += f" after {time.monotonic() - began:.0f} s"
    return f"{done}, then {run(inputs, out, here.cluster.address, lambda driver: '')}"


def store_stopped(inputs: list[str], out: str, here: Machines) -> str:
    """The S3 server is stopped for longer than it is waited for; the command ends, and goes on when it is back."""

    def stop(driver: subprocess.Popen[str]) -> str:
        found = wait_for(out, 3, driver)
        here.store.stop()
        try:
            driver.wait(400)
        finally:
            here.store.start()
        return f"stopped S3 at {found} parts; "

    began = time.monotonic()
    done = run(inputs, out, here.cluster.address, stop, ends=(2,))
    done += f" after {time.monotonic() - began:.0f} s"
    return f"{done}, then {run(inputs, out, here.cluster.address, lambda driver: '')}"


def killed_at(parts: int, out: str) -> Callable[[subprocess.Popen[Any]], str]:
    """Kills a driver after so many finished parts."""

    def kill(driver: subprocess.Popen[Any]) -> str:
        found = wait_for(out, parts, driver)
        driver.kill()
        return f"killed at {found} parts; "

    return kill


def differences(wanted: str, out: str) -> str:
    """What is wrong with ``out``; empty where it holds the records of ``wanted`` to the byte, and nothing else."""
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    from detectclf.inference.shards import records_of
    from detectclf.storage import StoredFolder

    first, second = (list(records_of(StoredFolder(each))) for each in (wanted, out))
    images = [record["image"] for record in second]
    if len(set(images)) != len(images):
        return f"{len(images) - len(set(images))} records twice"
    if first != second:
        return f"{len(first)} records are wanted and {len(second)} there; or they differ"
    store = fsspec.filesystem("s3")
    store.invalidate_cache()
    files, others = (
        {name.rpartition("/")[2]: content for name, content in store.cat(store.find(f"{each}/records")).items()}
        for each in (out, wanted)
    )
    if files != others:
        changed = [name for name in {*files, *others} if files.get(name) != others.get(name)]
        return f"other files than are wanted: {', '.join(sorted(changed)[:5])}"
    tables = [pq.read_table(pa.BufferReader(files[name])) for name in sorted(files) if name.endswith(".parquet")]
    rows = [row for table in tables for row in table.to_pylist()]
    if [{key: row[key] for key in record} for row, record in zip(rows, second, strict=True)] != second:
        return "the rows of Parquet are not the records"
    return ""


CASES: dict[str, Callable[[list[str], str, Machines], str]] = {
    "worker-killed": worker_killed,
    "node-killed": node_killed,
    "driver-killed": driver_killed,
    "one-machine": one_machine,
    "in-turns": in_turns,
    "store-stopped": store_stopped,
    "head-killed": head_killed,
}

if __name__ == "__main__":
    sys.exit(main())
