"""Measures training speed of both stages: slices per second, seconds per slice and peak memory, one process each.

    python scripts/bench_training.py                     # on the embedded sample data
    python scripts/bench_training.py --data export/      # on an export

Weights start at random (speed does not depend on them), and nothing but numbers is kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

STAGES = {"detector": "train-detector", "classifier": "train-classifier"}


def main() -> None:
    """Prints one JSON line per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="an export; by default sample data is drawn")
    parser.add_argument("--limit", type=int, default=96, help="slices per split [default: 96]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of the train commands")
    parser.add_argument("--stage", choices=STAGES, action="append", help="only this one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or _sample_data(Path(folder) / "data")
        for stage in given.stage or STAGES:
            print(json.dumps({"stage": stage, **_measure(stage, data, Path(folder) / stage, given)}), flush=True)


def _sample_data(out: Path) -> Path:
    from detectclf.sample_data.export import write_sample_data

    return write_sample_data(out, n=160, seed=0)


def _measure(stage: str, data: Path, out: Path, given: argparse.Namespace) -> dict[str, float | str | None]:
    # A process per stage, so that the peak memory is its own.
    command = [sys.executable, "-m", "detectclf", STAGES[stage], "--data", str(data), "--out", str(out), "--quiet"]
    command += ["--epochs", "2", "--limit", str(given.limit), "--device", given.device, "--weights", "none"]
    for assignment in given.set:
        command += ["--set", assignment]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    # The second epoch: the first one warms caches up.
    record = json.loads((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    environment = json.loads((out / "env.json").read_text(encoding="utf-8"))
    return {
        "slices_per_second": record["slices_per_second"],
        "seconds_per_slice": round(1 / record["slices_per_second"], 4),
        "peak_memory_mib": record["peak_memory_mib"],
        "device": environment["device"],
        "precision": environment["precision"],
    }


if __name__ == "__main__":
    main()
