"""What the driver of a sharded prediction costs: memory of listing a manifest, seconds of finding what is finished.

Usage: python scripts/bench_shards.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHARD = 1000


def main() -> None:
    """Prints one JSON line per number of rows, then one for the check of as many finished records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--listing", nargs=2, metavar=("MANIFEST", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.listing:
        print(json.dumps(listing(*arguments.listing)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for rows in (arguments.rows // 100, arguments.rows // 10, arguments.rows):
            out = f"{folder}/{rows}"
            for suffix in ("csv", "parquet"):
                manifest = write_manifest(Path(folder), rows, suffix)
                # A process of its own, since memory is the most that a process ever had.
                words = [sys.executable, __file__, "--listing", str(manifest), f"{out}-{suffix}"]
                said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
                print(json.dumps({"rows": rows, "manifest": suffix} | json.loads(said)), flush=True)
        print(json.dumps(resume_check(f"{out}-csv", arguments.rows)), flush=True)


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

        pq.write_table(pa.table({"image": list(names)}), file, row_group_size=100_000)
    return file


def listing(manifest: str, out: str) -> dict[str, Any]:
    """Makes the plan of a manifest; seconds, and MiB beyond what the imports took."""
    from detectclf.inference.items import item_names
    from detectclf.inference.shards import check_arrow, write_plan
    from detectclf.storage import StoredFolder

    check_arrow()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    plan = write_plan(StoredFolder(out), item_names([manifest]), SHARD)
    seconds = time.monotonic() - began
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return plan | {"seconds": round(seconds, 1), "more_mib": round(mib, 1)}


def resume_check(out: str, rows: int) -> dict[str, Any]:
    """Seconds of finding the finished parts of a plan, which is what ``--resume`` does before it goes on."""
    from detectclf.inference.shards import finished_parts, names_of, read_plan, write_part
    from detectclf.storage import StoredFolder

    folder = StoredFolder(out)
    classes = ("glioma", "meningioma", "no_tumor", "pituitary")
    answer = {"class": "glioma", "confidence": 0.25, "probabilities": dict.fromkeys(classes, 0.25), "flags": []}
    answer |= {"boxes": [], "width": 512, "height": 512, "model": "m 1", "error": None}
    parts = (read_plan(folder) or {})["parts"]
    for number in range(parts):
        names = names_of(folder, number)
        write_part(folder, number, [{"image": name} | answer for name in names], [], classes, len(names))
    began = time.monotonic()
    finished = finished_parts(folder, parts)
    return {"finished_records": sum(part["records"] for part in finished.values()), "of": rows, "check_seconds": round(
        time.monotonic() - began, 2
    )}  # fmt: skip


if __name__ == "__main__":
    main()
