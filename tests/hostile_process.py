"""Reads hostile files in processes of their own, with limits on processor time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

GIB = 2**30
SECONDS = 5  # of the processor: other processes of the machine do not count
ACCEPTED = 77

# One program, for the imports take seconds; each file is read in a fork of its own, so that time and memory are that
# file's alone. The limit on addresses is on top of what the imports take, most of which is never touched.
_PROGRAM = """
import json, os, resource, signal, sys
from pathlib import Path
from detectclf.errors import DetectclfError
{program}

def run(path):
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {memory},) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds} + 1))
    signal.alarm(60)
    try:
        read(path)
    except DetectclfError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException:
        import traceback
        traceback.print_exc()
        return 1
    return {accepted}

for name in sys.argv[1:]:
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(say, 2)
        code = run(Path(name))
        sys.stderr.flush()
        os._exit(code)
    os.close(say)
    words = b"".join(iter(lambda: os.read(said, 4096), b"")).decode()
    os.close(said)
    _, status, usage = os.wait4(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), words, usage.ru_maxrss * 1024]), flush=True)
"""


class Outcome(NamedTuple):
    """How reading a file ended: exit code (``ACCEPTED`` without a complaint, below 0 killed), stderr, peak bytes."""

    code: int
    words: str
    memory: int


def read_apart(program: str, paths: Sequence[Path]) -> list[Outcome]:
    """Runs ``read(path)``, which ``program`` defines, on each of ``paths`` with its imports done."""
    code = _PROGRAM.format(program=program, memory=GIB, seconds=SECONDS, accepted=ACCEPTED)
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def check_refusal(outcome: Outcome, code: int, name: str) -> None:
    """Makes sure of the exit code, and of one line on stderr with the file's name and a remedy."""
    assert outcome.code == code, outcome.words[-2000:]
    line = outcome.words.strip()
    assert line and "\n" not in line and "; " in line and name in line, "one line with file and remedy"
