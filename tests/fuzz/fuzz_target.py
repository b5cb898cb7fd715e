"""What a target of fuzzing is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz_inputs import changed_bytes, changed_json
from hypothesis import strategies as st

from detectclf.errors import DetectclfError


@dataclass(frozen=True, slots=True)
class Target:
    """What is fuzzed.

    Attributes:
        seeds: makes genuine files in an empty folder, and returns their contents.
        run: reads a file of these bytes in that folder.
        json: its files are JSON, of which values are changed as well.
    """

    seeds: Callable[[Path], Sequence[bytes]]
    run: Callable[[Path, bytes], object]
    json: bool = False

    def inputs(self, folder: Path) -> st.SearchStrategy[bytes]:
        """Genuine and changed files."""
        seeds = self.seeds(folder)
        changed = changed_bytes(seeds)
        return st.one_of(changed_json(seeds), changed) if self.json else changed


def survives(target: Target, folder: Path, content: bytes) -> None:
    """Reads ``content``; whatever is not a typed error of one line is raised."""
    with contextlib.suppress(DetectclfError):
        target.run(folder, content)
