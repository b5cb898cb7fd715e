"""Trainings that are killed and stopped at random go on to the bit; the whole of it is ``scripts/kill_test``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="forks processes that use the libraries of the Mac's frameworks")
def test_a_training_that_is_killed_and_stopped_goes_on_to_the_bit(tmp_path: Path) -> None:
    script = ["scripts/kill_test.py", "--only", "classifier-2", "--kills", "4", "--stops", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *script, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # On a busy machine a kill at any moment may meet a save as well.
    assert re.search(r"^4 kills, [1-4] kills inside a save, 1 stops", done.stdout, re.MULTILINE), done.stdout
    assert not (tmp_path / "out").exists()
