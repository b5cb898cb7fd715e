"""Checks the licences of everything that an installation of detectclf brings, and exits 1 where one is not allowed.

``python scripts/licences.py [EXTRA ...]`` looks at the distributions of this environment that detectclf needs, with the
extras, and the ones that these need. Not allowed are the GPL and AGPL (the LGPL is, and GCC's runtime exception),
licences against commercial use, and no stated licence at all. Inside wheels it looks at the names of bundled libraries,
at how a bundled FFmpeg says it was built, and at bills of materials; a library under another name is not found.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

_REFUSED = re.compile(
    r"(?<!L)\bA?GPL|(?<!Lesser )(?<!Library or Lesser )\bGeneral Public Licen[cs]e|Affero|non[- ]?commercial"
    r"|\bBY[- ]NC|\bNC-|\b(academic|educational|research|personal|evaluation) (use|purposes)|\bAFPL\b|Aladdin"
    r"|\bSSPL\b|Server Side Public|\bBUSL\b|Business Source|Commons Clause|Elastic License|\bnonfree\b",
    re.IGNORECASE,
)
# Programs may be linked with such libraries under any licence.
_EXCEPTIONS = re.compile(r"\bGPL-3\.0(-or-later|-only)? WITH GCC-exception-3\.1", re.IGNORECASE)
_INNERMOST = re.compile(r"\(([^()]* (?:OR|AND) [^()]*)\)")
_LIBRARIES = re.compile(
    r"^(lib)?(x264|x265|imagequant|xvidcore|fdk-?aac|rubberband|frei0r|vidstab|gsl|fftw3\w*|readline"
    r"|postproc|poppler|gs|mupdf|umfpack|cholmod|glpk|mysqlclient)\b[-.\d]"
)
_SHARED = re.compile(r"\.(so(\.\d+)*|dylib|dll|pyd)$")
# Its libraries, and the program itself, which some wheels bring.
_FFMPEG = re.compile(r"^((lib)?(avcodec|avutil|avformat)[-.].*\.(so(\.\d+)*|dylib|dll)|ffmpeg([-.\d].*)?)$")
_BUILT = (b"--enable-gpl", b"--enable-nonfree")

KNOWN: dict[str, str] = {
    # The CUDA libraries of torch, which its wheels for Linux need: NVIDIA allows to use and to pass them on.
    "cuda-toolkit": "NVIDIA's licence of the CUDA toolkit",
    # Only for the tests of the page; it holds axe-core, which is under the MPL-2.0.
    "axe-playwright-python": "MIT",
    # Of mlflow.
    "huey": "MIT",
}
"""Distributions that state no licence -> what their files say, looked up by hand."""


def distributions(root: str, extras: Sequence[str] = ()) -> Iterator[Distribution]:
    """The installed distributions that ``root`` needs with its ``extras``, each once; those not installed are left out.

    A requirement may be left out on purpose, by ``pip install --no-deps``.
    """
    seen: set[tuple[str, str]] = set()
    given: set[str] = set()
    waiting = [(root, "", *extras)]
    while waiting:
        name, *wanted = waiting.pop()
        plain = re.sub(r"[-_.]+", "-", name).lower()
        new = [extra for extra in wanted if (plain, extra) not in seen]
        seen.update((plain, extra) for extra in new)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        if plain not in given:
            given.add(plain)
            yield found
        needs = [Requirement(line) for line in found.requires or ()]
        waiting += [(need.name, "", *need.extras) for need in needs if any(_applies(need, extra) for extra in new)]


def _applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def faults(found: Distribution) -> Iterator[str]:
    """What is wrong with the licences of a distribution, by its metadata and by what its wheel holds."""
    name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
    stated = _stated(found.metadata)
    if not stated and name not in KNOWN:
        yield "states no licence"
    yield from (f"is under {text[:80]!r}" for text in stated if not _allowed(text))
    for file in found.files or ():
        if _SHARED.search(file.name) and _LIBRARIES.search(file.name):
            yield f"holds {file.name}"
        elif _FFMPEG.search(file.name):
            content = file.locate().read_bytes()
            yield from (f"holds {file.name}, built with {flag.decode()}" for flag in _BUILT if flag in content)
        elif file.parent.name == "sboms" and file.suffix == ".json":
            bill = json.loads(file.read_text(encoding="utf-8"))
            yield from (f"holds parts under {text!r}" for text in _of_bill(bill) if not _allowed(text))


def _stated(metadata: Mapping[str, str]) -> list[str]:
    """The licences in a distribution's metadata: its expression, else classifiers and the field of old versions."""
    if expression := metadata.get("License-Expression"):
        return [expression]
    classifiers = getattr(metadata, "get_all")("Classifier", [])  # noqa: B009 - unknown to the type of a mapping
    named = [text.rpartition("::")[2].strip() for text in classifiers if text.startswith("License ::")]
    # The field may hold a whole text, whose first lines name it; later ones are those of bundled parts.
    lines = [line.strip() for line in (metadata.get("License") or "").splitlines() if line.strip()]
    return [text for text in [*named, *lines[:3]] if text != "UNKNOWN"]


def _of_bill(bill: object) -> Iterator[str]:
    """The licences in a bill of materials (CycloneDX), without parts that a build may leave out."""
    components = bill.get("components") if isinstance(bill, dict) else None
    for component in components if isinstance(components, list) else []:
        for entry in () if component.get("scope") == "optional" else component.get("licenses") or ():
            licence = entry.get("license") or {}
            text = entry.get("expression") or licence.get("id") or licence.get("name")
            if text:
                yield str(text)


def _allowed(text: str) -> bool:
    """Whether a licence, or one of the alternatives in an expression, is allowed."""
    while inner := _INNERMOST.search(text):
        text = text.replace(inner[0], " permissive " if _allowed(inner[1]) else " GPL ")
    return any(not _REFUSED.search(_EXCEPTIONS.sub("", choice)) for choice in re.split(r"\bOR\b", text))


def main(extras: Sequence[str]) -> int:
    """Prints each fault in a line; returns the exit code."""
    count, wrong = 0, 0
    for found in distributions("detectclf", extras):
        count += 1
        for fault in faults(found):
            wrong += 1
            print(f"{found.metadata['Name']} {found.version}: {fault}", file=sys.stderr)
    print(f"licences of {count} distributions: {f'{wrong} not allowed' if wrong else 'all allowed'}")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
