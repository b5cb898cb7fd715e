"""The long run of the fuzz targets in ``tests/fuzz``: many inputs a target, each target in a process with limits.

``scripts/fuzz [--inputs 10000] [--minutes M] [TARGET ...]``. The shortest input of each kind of failure is written to
``fuzz-found/TARGET/``; mended, it belongs into ``tests/fuzz/cases/TARGET/``, which the tests read. Exits 1 on findings.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/fuzz")]

MEMORY = 2**30
SECONDS = 10
BATCH = 250  # inputs between two looks at the clock


class TooSlow(BaseException):
    """An input takes too long."""


def _too_slow(number: int, frame: FrameType | None) -> NoReturn:
    raise TooSlow


def fuzz(name: str, inputs: int, seconds: float, found: Path) -> int:
    """Runs one target in this process; returns the number of kinds of failure."""
    from fuzz_target import survives
    from fuzz_targets import NATIVE, TARGETS
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as run_with_seed

    target = (TARGETS | NATIVE)[name]
    shortest: dict[str, bytes] = {}
    done = 0
    warnings.simplefilter("error")
    logging.disable()
    signal.signal(signal.SIGALRM, _too_slow)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        strategy = target.inputs(folder)
        for seed in target.seeds(folder):
            target.run(folder, seed)  # imports what it needs, before the limit on memory
        deadline = time.monotonic() + seconds
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        current = found / f"{name}.current"

        @settings(max_examples=BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(content=strategy)
        def check(content: bytes) -> None:
            nonlocal done
            done += 1
            current.write_bytes(content)  # of a crash nothing else is left
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                survives(target, folder, content)
            except (Exception, TooSlow) as error:
                kind = _kind(error)
                if len(content) < len(shortest.get(kind, content + b"x")):
                    shortest[kind] = content
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        for number in range(-(-inputs // BATCH)):
            if time.monotonic() < deadline:
                run_with_seed(number)(check)()
        current.unlink(missing_ok=True)
    for kind, content in shortest.items():
        (found / name).mkdir(exist_ok=True)
        (found / name / hashlib.sha256(content).hexdigest()[:12]).write_bytes(content)
        print(f"{name}: {kind}")
    print(f"{name}: {done} inputs, {len(shortest)} kinds of failure", flush=True)
    return len(shortest)


def _kind(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = next((f for f in reversed(frames) if "/detectclf/" in f.filename), frames[-1])
    return f"{type(error).__name__} at {Path(own.filename).name}:{own.lineno}: {str(error)[:160]!r}"


def main() -> int:
    """Runs the targets one after another, each in a process of its own; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="names of targets; all of them by default")
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs of each target")
    parser.add_argument("--minutes", type=float, default=60.0, help="most minutes for each target")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="folder of findings")
    parser.add_argument("--here", action="store_true", help="in this process, one target")
    given = parser.parse_args()
    given.found.mkdir(exist_ok=True, parents=True)
    if given.here:
        return min(1, fuzz(given.targets[0], given.inputs, given.minutes * 60, given.found))
    from fuzz_targets import NATIVE, TARGETS

    failed = []
    for name in given.targets or [*TARGETS, *NATIVE]:
        options = ["--inputs", str(given.inputs), "--minutes", str(given.minutes), "--found", str(given.found)]
        code = subprocess.run([sys.executable, __file__, "--here", *options, name], check=False).returncode
        if code:
            failed.append(name)
        if code < 0:
            with contextlib.suppress(ValueError):
                print(f"{name}: ended by {signal.Signals(-code).name}, see {given.found / name}.current")
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
