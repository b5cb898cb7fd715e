"""torch and torchvision that cannot work together are named, with the remedy, before an operator is missing."""

from __future__ import annotations

import pytest

from detectclf.version import mismatch_of, torch_mismatch


@pytest.mark.parametrize(
    ("torch", "vision", "needed", "expected"),
    [
        ("2.14.0", "0.29.0", "2.14.0", None),
        ("2.14.0+cpu", "0.29.0+cpu", "2.14.0", None),
        ("2.14.0+cu130", "0.29.0+cu130", "2.14.0", None),
        ("2.14.0", "0.29.0+cu130", "2.14.0", None),  # the registry's build brings CUDA
        ("2.14.0", "0.29.0", None, None),
        ("2.13.0", "0.29.0", "2.14.0", "torchvision 0.29.0 needs torch 2.14.0, and torch 2.13.0 is installed"),
        ("2.13.0+cpu", "0.29.0", "2.14.0", "torchvision 0.29.0 needs torch 2.14.0, and torch 2.13.0+cpu is installed"),
        # The CPU build of torch first, then torchvision from the registry: what ends in "torchvision::nms".
        ("2.14.0+cpu", "0.29.0", "2.14.0", "torch 2.14.0+cpu and torchvision 0.29.0 are builds for different devices"),
        ("2.14.0+cpu", "0.29.0+cu130", "2.14.0", "builds for different devices"),
    ],
)
def test_a_pair_that_cannot_work_is_named(torch: str, vision: str, needed: str | None, expected: str | None) -> None:
    found = mismatch_of(torch, vision, needed)
    assert (found is None) is (expected is None), found
    if found is not None and expected is not None:
        assert expected in found and "install both in one command" in found and "\n" not in found


def test_the_pair_that_is_installed_here_works() -> None:
    assert torch_mismatch() is None
