"""glibc is told to keep freed memory, once, and nobody's own settings are overruled."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

# Frees and takes a 48 MiB buffer again and again: how many pages the kernel had to hand out, in MiB.
PROBE = """
import resource, sys
from detectclf.models.memory import keep_freed_memory
import numpy as np
done = keep_freed_memory() if sys.argv[1] == "keep" else None
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(48 * 2**20, np.uint8)
before = faults()
for _ in range(10):
    np.ones(48 * 2**20, np.uint8)
print(done, (faults() - before) * resource.getpagesize() // 2**20)
"""


def probe(mode: str, **environment: str) -> tuple[str, int]:
    """What keep_freed_memory said, and MiB of fresh pages."""
    # No huge pages: they would make a page fault out of 2 MiB.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "NUMPY_MADVISE"))}
    wanted = inherited | {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PROBE, mode], env=wanted, capture_output=True, text=True, check=True, cwd=root
    )
    said, pages = done.stdout.split()
    return said, int(pages)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
def test_buffers_are_taken_from_memory_that_was_freed() -> None:
    assert probe("leave")[1] >= 400, "the probe does not show what it should"
    said, pages = probe("keep")
    assert said == "True"
    assert pages < 40


def test_settings_of_the_environment_win() -> None:
    assert probe("keep", MALLOC_TRIM_THRESHOLD_="100000")[0] == "False"
