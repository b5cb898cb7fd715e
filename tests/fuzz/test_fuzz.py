"""A few changed files for every reader, and all that ``scripts/fuzz`` ever found. It runs as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_target import survives
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings

CASES = sorted((Path(__file__).parent / "cases").glob("*/*"))


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pydicom")
    pytest.importorskip("nibabel")
    target = TARGETS[name]

    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(content=target.inputs(tmp_path))
    def check(content: bytes) -> None:
        survives(target, tmp_path, content)

    check()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_what_was_found_stays_mended(tmp_path: Path, case: Path) -> None:
    target = TARGETS[case.parent.name]
    target.seeds(tmp_path)
    survives(target, tmp_path, case.read_bytes())


def test_every_target_has_a_seed_that_is_read(tmp_path: Path) -> None:
    """A target whose genuine file is refused would test nothing."""
    pytest.importorskip("pydicom")
    for name, target in TARGETS.items():
        (tmp_path / name).mkdir()
        for seed in target.seeds(tmp_path / name):
            target.run(tmp_path / name, seed)
