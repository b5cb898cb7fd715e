"""Slices per second of ``predict`` in shards by each engine on this machine, which take turns.

Of each run it says the rate of the whole command, start and end included, and that between its first finished part and
its last one, which is what a long run comes to; and of both the processor time of all its processes, which other work
on the machine hardly changes. (Linux may give Ray, which has more sessions, more of a busy machine.) Linux only.

Usage: scripts/bench_engines.py [FOLDER] [--slices 600] [--shard-size 50] [--rounds 3] [--ray-cpus 2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ENGINES = ("local", "ray")


def main() -> None:
    """Prints one JSON line per run, then one with the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="of slices; drawn ones by default")
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--shard-size", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray-cpus", type=float, default=2)
    arguments = parser.parse_args()
    rates: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder), arguments.folder, arguments.slices)
        for turn in range(arguments.rounds):
            # The other one first in every second round: what fills caches is not always the same.
            for engine in ENGINES if turn % 2 == 0 else reversed(ENGINES):
                rate = run(manifest, f"{folder}/{engine}-{turn}", engine, arguments)
                rates[engine].append(rate)
                print(json.dumps({"round": turn, "engine": engine} | rate), flush=True)
    print(json.dumps(summary(rates)))


def write_manifest(folder: Path, slices: str | None, count: int) -> Path:
    """A manifest of so many slices, of ``slices`` again and again where there are fewer."""
    if slices is None:
        from PIL import Image

        from detectclf.sample_data.slices import sample_slice

        kinds = ("glioma", "meningioma", "no_tumor", "pituitary")
        files = [folder / f"{number:03d}.png" for number in range(min(count, 100))]
        for number, file in enumerate(files):
            Image.fromarray(sample_slice(number, kinds[number % 4], "axial").pixels).save(file)
    else:
        from detectclf.inference.items import item_names

        files = [Path(name).resolve() for name in item_names([slices])]
    manifest = folder / "manifest.jsonl"
    rows = (json.dumps({"image": str(files[number % len(files)])}) for number in range(count))
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def run(manifest: Path, out: str, engine: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Slices per second of one command, and between its first part and its last."""
    words = ["predict", manifest, "--out", out, "--quiet", "--batch-size", arguments.batch_size]
    words += ["--shard-size", arguments.shard_size, "--engine", engine]
    words += ["--ray-cpus", arguments.ray_cpus] if engine == "ray" else []
    began = time.monotonic()
    command = [sys.executable, "-m", "detectclf", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    used: dict[int, float] = {}
    marks: list[tuple[int, float]] = []  # parts that are finished, processor seconds so far
    while process.poll() is None:
        note_processor_time(process.pid, used)
        parts = len(list(Path(out, "records").glob("part-*.json")))
        if parts and (not marks or parts > marks[-1][0]):
            marks.append((parts, sum(used.values())))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{engine} ended with {process.returncode}")
    seconds = time.monotonic() - began
    ends = sorted(file.stat().st_mtime for file in Path(out, "records").glob("part-*.json"))
    (first, used_first), (last, used_last) = marks[0], marks[-1]
    return {
        "slices_per_s": round(arguments.slices / seconds, 2),
        "slices_per_s_without_start": round((arguments.slices - arguments.shard_size) / (ends[-1] - ends[0]), 2),
        "slices_per_cpu_s": round(arguments.slices / sum(used.values()), 2),
        "slices_per_cpu_s_without_start": round((last - first) * arguments.shard_size / (used_last - used_first), 2),
    }


def note_processor_time(pid: int, used: dict[int, float]) -> None:
    """Notes the processor seconds of a process and all below it; those of a process that ended stay as they are."""
    tick = os.sysconf("SC_CLK_TCK")
    parents, times = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has ended
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                number = int(entry.name)
                parents[number], times[number] = int(fields[1]), (int(fields[11]) + int(fields[12])) / tick
    tree = {pid}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    used.update({number: times[number] for number in tree if number in times})


def summary(rates: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of each engine, and Ray's over the local engine's."""
    medians = {
        engine: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for engine, found in rates.items()
    }
    ratios = {key: round(medians["ray"][key] / medians["local"][key], 3) for key in medians["ray"]}
    return {"medians": medians, "ray_over_local": ratios}


if __name__ == "__main__":
    main()
