"""Decoding in threads leaves the program's warning filters as they were."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from detectclf.imaging.intensity import decoding


def test_filters_come_back_after_threads() -> None:
    before = list(warnings.filters)

    def decode(number: int) -> int:
        with decoding(Path("x.png"), "PNG image"):
            return sum(range(number * 100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, range(2000)))
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    "module", ["pydicom.pixels", "PIL.Image", "detectclf.imaging.dicom"]
)  # pydicom blames its caller
def test_decoders_do_not_warn(module: str) -> None:
    with warnings.catch_warnings(record=True) as caught, decoding(Path("x.dcm"), "DICOM image"):
        warnings.warn_explicit("odd value", UserWarning, "x.py", 1, module=module)
    assert not caught


def test_other_modules_still_warn() -> None:
    with pytest.warns(UserWarning, match="mine"), decoding(Path("x.dcm"), "DICOM image"):
        warnings.warn_explicit("mine", UserWarning, "x.py", 1, module="host.program")
