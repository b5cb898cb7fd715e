"""What the driver of a sharded prediction costs: listing a manifest, finding what is finished, Ray's tasks.

Usage: python scripts/bench_shards.py [--rows 1000000] [--ray]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

SHARD = 1000


def main() -> None:
    """Prints one JSON line per number of rows, then one for the check of as many finished records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--ray", action="store_true", help="send as many parts to actors that do nothing as well")
    parser.add_argument("--check", nargs=2, metavar=("OUT", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--idle", type=int, metavar="PARTS", help=argparse.SUPPRESS)
    parser.add_argument("--listing", nargs=2, metavar=("MANIFEST", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.listing:
        print(json.dumps(listing(*arguments.listing)))
    elif arguments.check:
        print(json.dumps(resume_check(arguments.check[0], int(arguments.check[1]))))
    elif arguments.idle:
        print(json.dumps(idle_parts(arguments.idle)))
    else:
        measure(arguments.rows, with_ray=arguments.ray)


def measure(most: int, *, with_ray: bool) -> None:
    """Each measurement in a process of its own, since memory is the most that a process ever had."""
    with tempfile.TemporaryDirectory() as folder:
        for rows in (most // 100, most // 10, most):
            for suffix in ("csv", "parquet"):
                manifest, out = write_manifest(Path(folder), rows, suffix), f"{folder}/{rows}-{suffix}"
                print(json.dumps({"rows": rows, "manifest": suffix} | alone("--listing", manifest, out)), flush=True)
                manifest.unlink()
                if rows < most or suffix == "csv":
                    shutil.rmtree(out)
        print(json.dumps(alone("--check", out, most)), flush=True)
    if with_ray:
        print(json.dumps(alone("--idle", -(-most // SHARD))), flush=True)


def alone(*words: Any) -> dict[str, Any]:
    """What this script says in a process of its own."""
    command = [sys.executable, __file__, *map(str, words)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(json.loads(said.splitlines()[-1]))


def write_manifest(folder: Path, rows: int, suffix: str) -> Path:
    """A manifest of names as a bucket has them."""
    file = folder / f"{rows}.{suffix}"
    names = (f"s3://slices/hospital/{number // 1000:05d}/scan-{number:09d}.png" for number in range(rows))
    if suffix == "csv":
        with file.open("w", encoding="utf-8") as stream:
            stream.write("image\n")
            stream.writelines(name + "\n" for name in names)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetWriter(file, pa.schema({"image": pa.string()})) as writer:
            while some := list(islice(names, 100_000)):
                writer.write_table(pa.table({"image": some}))
    return file


def listing(manifest: str, out: str) -> dict[str, Any]:
    """Makes the plan of a manifest; seconds, and MiB beyond what the imports took."""
    from detectclf.inference.items import item_names
    from detectclf.inference.plans import write_plan
    from detectclf.inference.shards import check_arrow
    from detectclf.storage import StoredFolder

    check_arrow()
    with measured() as figures:
        plan = write_plan(StoredFolder(out), item_names([manifest]), SHARD)
    return plan | figures


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Seconds, processor seconds, and MiB beyond what the process took before, of what is done inside."""
    figures: dict[str, float] = {}
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = peak_kib()
    began, used = time.monotonic(), time.process_time()
    yield figures
    figures["seconds"] = round(time.monotonic() - began, 1)
    figures["processor_seconds"] = round(time.process_time() - used, 1)
    figures["more_mib"] = round((peak_kib() - before) / 1024, 1)


def peak_kib() -> int:
    """The most memory that this process had since the peak was last forgotten. Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def resume_check(out: str, rows: int) -> dict[str, Any]:
    """Finds the finished parts of a plan and writes their manifest, which is what ``--resume`` and the end of a run do.

    All parts but the first have the first one's files, by links: only their names and sizes are looked at.
    """
    from detectclf.inference.plans import names_of, part_name, read_plan
    from detectclf.inference.shards import finished_parts, write_manifest, write_part
    from detectclf.storage import StoredFolder

    folder = StoredFolder(out)
    classes = ("glioma", "meningioma", "no_tumor", "pituitary")
    answer = {"class": "glioma", "confidence": 0.25, "probabilities": dict.fromkeys(classes, 0.25), "flags": []}
    answer |= {"boxes": [], "width": 512, "height": 512, "model": "m 1", "error": None}
    parts = (read_plan(folder) or {})["parts"]
    names, records = names_of(folder, 0), Path(out, "records")
    done = write_part(folder, 0, [{"image": name} | answer for name in names], [], classes, len(names))
    for number in range(1, parts):
        files = {name.replace(part_name(0), part_name(number)): about for name, about in done["files"].items()}
        for name, first in zip(files, done["files"], strict=True):
            os.link(records / first, records / name)
        text = json.dumps(done | {"part": number, "files": files}) + "\n"
        (records / f"{part_name(number)}.json").write_text(text)
    with measured() as checked:
        finished = finished_parts(folder, parts)
    with measured() as written:
        write_manifest(folder, finished)
    found = sum(part["records"] for part in finished.values())
    return {"finished_records": found, "of": rows, "check": checked, "manifest": written}


class Idle:
    """An actor that hands back the parts it gets."""

    def __init__(self, **_: Any) -> None:
        pass

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """The parts of a batch, as if they were predicted."""
        return {"done": [json.dumps({"part": int(number)}) for number in batch["part"]]}


def idle_parts(parts: int) -> dict[str, Any]:
    """Sends parts to actors that do nothing: what Ray itself costs, all of it on this machine."""
    from detectclf.config import PredictConfig, ShardConfig
    from detectclf.pipelines import predict_ray
    from detectclf.storage import StoredFolder

    predict_ray._Worker = Idle  # type: ignore[assignment, misc]
    config = ShardConfig(engine="ray", ray_cpus=1)
    with predict_ray.ray_engine(StoredFolder("."), PredictConfig(), config, None, None, None) as engine:
        sum(1 for _ in engine(range(10)))  # its actors and imports
        with measured() as figures:
            found = {part["part"] for part in engine(range(parts))}
    return {"parts_by_ray": len(found), "of": parts} | figures


if __name__ == "__main__":
    main()
