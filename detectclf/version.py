"""The version of the package, which every module can import, and of the packages that it needs."""

from __future__ import annotations

import re

__version__ = "0.1.0"

_LIBRARY = re.compile(r"\.so(\.\d+)*\b|\.dll\b|\.dylib\b")
_TOGETHER = "install both in one command: pip install --force-reinstall torch torchvision, see README.md"


def installed_version(package: str) -> str | None:
    """Version of an installed package by the name of its distribution, ``None`` where it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def unmet_requirements() -> list[str]:
    """A line for each package that detectclf needs and that is missing or of another version, with the remedy.

    Those of the extras are left out, and so is all where detectclf runs from a folder without being installed.
    """
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        stated = [Requirement(line) for line in metadata.requires("detectclf") or ()]
    except metadata.PackageNotFoundError:
        return []
    needed = [r for r in stated if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [line for line in (unmet(str(r.specifier), r.name, installed_version(r.name)) for r in needed) if line]


def unmet(needed: str, package: str, installed: str | None) -> str | None:
    """Why version ``installed`` of a package, ``None`` for none, is not one of ``needed``; ``None`` where it is."""
    from packaging.specifiers import SpecifierSet

    if installed is not None and SpecifierSet(needed).contains(installed, prereleases=True):
        return None
    found = "is not installed" if installed is None else f"{installed} is installed, detectclf needs {needed}"
    return f"{package} {found}; run: pip install '{package}{needed}'"


def install_fault(error: Exception) -> str | None:
    """Why ``error`` is one of the installation, with the remedy, in one line; ``None`` for any other error.

    A package that is missing or cannot be loaded: torchvision beside another torch, a library of the system that is not
    there, a compiled part of another version.
    """
    said = " ".join(str(error).split())
    # A library that cannot be opened is an OSError without a number. Pillow has others of that kind, one with the path
    # of a picture; its type is told by the name, because Pillow may be what cannot be loaded.
    picture = type(error).__name__ == "UnidentifiedImageError"
    opening = isinstance(error, OSError) and error.errno is None and not picture and bool(_LIBRARY.search(said))
    loading = isinstance(error, ImportError) or opening
    theirs = loading and not (getattr(error, "name", None) or "").startswith("detectclf")
    if theirs and isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name!r} is missing; install detectclf again with all it needs, see README.md"
    if "torchvision" in said or "undefined symbol" in said:
        if found := torch_mismatch():
            return found
        if theirs or "operator torchvision::" in said:
            torch, vision = installed_version("torch"), installed_version("torchvision")
            return f"torch {torch} and torchvision {vision} do not work together ({said}); {_TOGETHER}"
    if theirs:
        return f"a package cannot be loaded ({said}); see `detectclf doctor`, or install detectclf again"
    return None


def torch_mismatch() -> str | None:
    """Why the installed torch and torchvision cannot work together, with the remedy; ``None`` where they can.

    torchvision is compiled for one version of torch, and for the CPU or for one version of CUDA. With another torch its
    operators are missing: ``operator torchvision::nms does not exist``.
    """
    torch, vision = installed_version("torch"), installed_version("torchvision")
    if torch is None or vision is None:
        return None
    return mismatch_of(torch, vision, _needed_torch())


def mismatch_of(torch: str, vision: str, needed: str | None) -> str | None:
    """As :func:`torch_mismatch`, of the versions ``torch`` and ``vision``, where torchvision needs torch ``needed``."""
    number, _, build = torch.partition("+")
    builds = {build, vision.partition("+")[2]}
    if needed is not None and number != needed:
        reason = f"torchvision {vision} needs torch {needed}, and torch {torch} is installed"
    elif "cpu" in builds and len(builds) > 1:
        reason = f"torch {torch} and torchvision {vision} are builds for different devices"
    else:
        return None
    return f"{reason}; {_TOGETHER}"


def _needed_torch() -> str | None:
    """The one version of torch that the installed torchvision states."""
    from importlib import metadata

    stated = [re.match(r"torch\s*\(?==\s*([\w.]+)", line) for line in metadata.requires("torchvision") or ()]
    return next((found[1] for found in stated if found), None)
