"""Decoding in threads leaves the program's warning filters as they were."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detectclf.imaging.intensity import decoding


def test_filters_come_back_after_threads() -> None:
    before = list(warnings.filters)

    def decode(number: int) -> int:
        with decoding(Path("x.png"), "PNG image"):
            return sum(range(number * 100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, range(2000)))
    assert list(warnings.filters) == before
