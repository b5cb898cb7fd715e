"""Packages that are missing, or that cannot work with another or with detectclf, are named with the remedy."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from PIL import UnidentifiedImageError

from detectclf.version import install_fault, mismatch_of, torch_mismatch, unmet, unmet_requirements


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


@pytest.mark.parametrize(
    ("needed", "installed", "expected"),
    [
        (">=4.9,<5", "4.9.0.80", None),
        (">=4.9,<5", "5.0.0", "opencv 5.0.0 is installed, detectclf needs >=4.9,<5"),  # it has no HOGDescriptor
        (">=4.9,<5", "4.8.1", "opencv 4.8.1 is installed"),
        (">=4.9,<5", None, "opencv is not installed"),
        (">=4.9,<5", "4.10.0rc1", None),  # who installs a release candidate wants it
        (">=4.9,<6", "5.0.0+local.1", None),
    ],
)
def test_a_package_that_does_not_suit_is_named(needed: str, installed: str | None, expected: str | None) -> None:
    found = unmet(needed, "opencv", installed)
    assert (found is None) is (expected is None), found
    if found is not None and expected is not None:
        assert found.startswith(expected)
        assert found.endswith(f"run: pip install 'opencv{needed}'")


def test_all_that_is_needed_is_installed_here() -> None:
    assert unmet_requirements() == []


MISSING = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
sys.argv = ["detectclf", *{arguments!r}]
from detectclf.cli import main
main()
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("pydantic", ["config", "show"]),
        ("typing_inspection", ["config", "show"]),  # what a package of ours needs
    ],
)
def test_a_missing_package_is_no_internal_error(module: str, arguments: list[str]) -> None:
    code = MISSING.format(module=module, arguments=arguments)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == 2, said
    assert f"the Python package {module!r} is missing; install detectclf again" in said.stderr
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("operator torchvision::nms does not exist"), "torch and torchvision do not work together"),
        (ImportError("/x/torchvision/_C.so: undefined symbol: _ZN3"), "torch and torchvision do not work together"),
        (ModuleNotFoundError("No module named 'torchvision'", name="torchvision"), "package 'torchvision' is missing"),
        (ImportError("libGL.so.1: cannot open shared object file: No such file"), "a package cannot be loaded (libGL"),
        (
            ModuleNotFoundError("No module named 'scipy'", name="scipy"),
            "'scipy' is missing; install detectclf again",
        ),
        (ImportError("numpy.core.multiarray\nfailed to import"), "a package cannot be loaded (numpy.core.multiarray"),
        (OSError("libcudart.so.12: cannot open shared object file"), "a package cannot be loaded (libcudart.so.12"),
        (OSError("libomp.dylib: image not found"), "a package cannot be loaded (libomp.dylib"),
        (OSError("image file is truncated"), None),
        (OSError("unrecognized data stream contents when reading image file /a/b.sources/x"), None),  # no .so
        (UnidentifiedImageError("cannot identify image file '/data/mri.sorted/1.png'"), None),
        (UnidentifiedImageError("cannot identify image file '/data/lib.so'"), None),  # a picture, whatever its name
        (OSError(28, "No space left on device"), None),
        (ImportError("cannot import name 'x'", name="detectclf.models"), None),  # a fault of ours
        (RuntimeError("shape [2, 3] is invalid"), None),
    ],
)
def test_errors_of_the_installation_are_named(error: Exception, expected: str | None) -> None:
    found = re.sub(r"(torch|torchvision) [\d.]+\S*", r"\1", install_fault(error) or "")
    assert (expected is None and not found) or (expected is not None and expected in found), found
    assert "\n" not in found
