"""constraints.txt pins everything that the package needs, within its open ranges and with hashes."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRAS = ("medical", "onnx", "serve")


def _pinned() -> dict[str, list[Requirement]]:
    pinned: dict[str, list[Requirement]] = {}
    text = re.sub(r"^#.*\n", "", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    for block in re.split(r"\n(?=\S)", text.strip()):
        pin, *hashes = (line.strip().rstrip("\\").strip() for line in block.splitlines())
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), pin
        requirement = Requirement(pin)
        pinned.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pinned


def _needed() -> list[Requirement]:
    text = (ROOT / "pyproject.toml").read_text()
    lists = [re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)]
    lists += [re.search(rf"^{extra} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL) for extra in EXTRAS]
    return [Requirement(line) for found in lists if found for line in re.findall(r'"([^"]+)"', found[1])]


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned, needed = _pinned(), _needed()
    assert len(needed) > 25
    for need in needed:
        pins = pinned[canonicalize_name(need.name)]
        versions = [next(iter(pin.specifier)).version for pin in pins]
        assert any(need.specifier.contains(version) for version in versions), need
    assert not {"av", "supervision"} & pinned.keys(), "PyAV's wheel holds libraries under the GPL"


def test_no_registry_is_named() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text and "index" not in text
