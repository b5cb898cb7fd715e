"""Licences of installed distributions: each way to state one, and what wheels hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import licences
import pytest


def install(folder: Path, name: str, metadata: str = "License-Expression: MIT", **files: bytes) -> None:
    """A distribution as an installer leaves it; in the names of files, ``__`` is a slash and ``_dot_`` a point."""
    info = folder / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n{metadata}\n")
    lines = []
    for key, content in files.items():
        file = folder / key.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        lines.append(f"{file.relative_to(folder).as_posix()},,\n")
    (info / "RECORD").write_text("".join(lines))


BILL = json.dumps({"components": [{"licenses": [{"license": {"id": "GPL-2.0-only"}}]}, {"name": "x"}]}).encode()
NAMED = json.dumps({"components": [{"licenses": [{"license": {"name": "GNU GPL v3"}}]}]}).encode()
CASES: dict[str, tuple[str, dict[str, bytes], str | None]] = {
    "permissive": ("License-Expression: BSD-3-Clause AND MIT", {}, None),
    "old field": ("License: MIT License", {}, None),
    "classifier": ("Classifier: License :: OSI Approved :: Apache Software License", {}, None),
    "nothing": ("License: UNKNOWN", {}, "states no licence"),
    "GPL": ("License-Expression: GPL-3.0-or-later", {}, "is under 'GPL-3.0-or-later'"),
    "AGPL": ("License-Expression: AGPL-3.0-only", {}, "AGPL"),
    "GPL beside MIT": ("License-Expression: MIT AND GPL-2.0-only", {}, "GPL-2.0"),
    "GPL or MIT": ("License-Expression: MIT OR GPL-2.0-only", {}, None),  # the user chooses
    "a choice in brackets": ("License-Expression: GPL-2.0-only AND (MIT OR Zlib)", {}, "GPL-2.0"),
    "GPL in brackets": ("License-Expression: MIT AND (Zlib OR GPL-2.0-only)", {}, None),
    "only the GPL in brackets": ("License-Expression: MIT AND (AGPL-3.0-only OR GPL-2.0-only)", {}, "GPL-2.0"),
    "an author": ("License: Copyright Alexander Buslaev", {}, None),
    "GCC's runtime": ("License-Expression: MIT AND GPL-3.0-or-later WITH GCC-exception-3.1", {}, None),
    "LGPL": ("License-Expression: LGPL-2.1-or-later", {}, None),
    "LGPL in words": ("License: GNU Lesser General Public License v3", {}, None),
    "GPL in words": ("License: GNU General Public License v3", {}, "General Public"),
    "GPL as classifier": ("Classifier: License :: OSI Approved :: GNU General Public License v2 (GPLv2)", {}, "GPLv2"),
    "not for commerce": ("License: CC BY-NC 4.0", {}, "BY-NC"),
    "not for commerce in words": ("License: for non-commercial use only", {}, "non-commercial"),
    "not for commerce, with blanks": ("License: CC BY NC 4.0", {}, "BY NC"),
    "not for commerce as classifier": ("Classifier: License :: Free for non-commercial use", {}, "non-commercial"),
    "for schools": ("Classifier: License :: Free For Educational Use", {}, "Educational"),
    "for universities": ("License: free for academic use only", {}, "academic"),
    "Ghostscript's of old": ("Classifier: License :: Aladdin Free Public License (AFPL)", {}, "AFPL"),
    "Ghostscript in a wheel": ("License-Expression: MIT", {"p_dot_libs__libgs-1a2b_dot_so_dot_10": b""}, "libgs"),
    "Poppler in a wheel": ("License-Expression: MIT", {"p_dot_libs__libpoppler_dot_so_dot_1": b""}, "libpoppler"),
    "CHOLMOD on a Mac": ("License-Expression: MIT", {"p__libcholmod_dot_5_dot_dylib": b""}, "libcholmod"),
    "the program FFmpeg": (
        "License-Expression: BSD-2-Clause",
        {"p__binaries__ffmpeg-linux-v7_dot_0_dot_2": b"\0--enable-gpl\0"},
        "--enable-gpl",
    ),
    "a module about FFmpeg": ("License-Expression: MIT", {"p__ffmpeg_dot_py": b"flag = 'enable'"}, None),
    "a bill with names": ("License-Expression: MIT", {"p-1_dot_dist-info__sboms__a_dot_json": NAMED}, "GPL v3"),
    "x264 in a wheel": (
        "License-Expression: BSD-3-Clause",
        {"av_dot_libs__libx264-d6533a8d_dot_so_dot_165": b""},
        "x264",
    ),
    "x265 on Windows": ("License-Expression: BSD-3-Clause", {"av_dot_libs__libx265-215-ab_dot_dll": b""}, "x265"),
    "FFmpeg built with the GPL": (
        "License-Expression: MIT",
        {"v__libavcodec-5e6_dot_so_dot_62": b"\0--enable-shared --enable-gpl\0"},
        "--enable-gpl",
    ),
    "FFmpeg without it": ("License-Expression: MIT", {"v__libavcodec_dot_so_dot_62": b"--enable-shared"}, None),
    "bill of materials": ("License-Expression: MIT", {"p-1_dot_dist-info__sboms__a_dot_json": BILL}, "GPL-2.0-only"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    metadata, files, fault = CASES[case]
    install(tmp_path, "p", metadata, **files)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (found,) = licences.distributions("p")
    said = list(licences.faults(found))
    assert said == [] if fault is None else len(said) == 1 and fault in said[0]


def test_what_is_needed_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = 'Requires-Dist: a\nRequires-Dist: B_c[x]; extra == "more"\nRequires-Dist: absent\nRequires-Dist: root[more]'
    install(tmp_path, "root", f"License-Expression: MIT\n{needs}; extra == 'all'")
    install(tmp_path, "a", 'Requires-Dist: never; python_version < "3"\nRequires-Dist: root')  # a circle
    install(tmp_path, "B_c", 'Requires-Dist: d; extra == "x"')
    install(tmp_path, "d")
    install(tmp_path, "never")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    names = {
        extras: {found.metadata["Name"] for found in licences.distributions("root", extras)}
        for extras in [(), ("all",)]
    }
    assert names == {(): {"root", "a"}, ("all",): {"root", "a", "B_c", "d"}}
