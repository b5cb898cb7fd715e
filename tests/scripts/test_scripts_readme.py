"""The README's figures come from docs/results/, never from a keyboard."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def test_readme_is_what_the_results_say() -> None:
    check = [sys.executable, str(ROOT / "scripts" / "update_readme.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr or "run scripts/update_readme.py"


def test_every_picture_and_page_that_the_readme_links_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_page_of_a_package_index_has_no_broken_picture_or_link() -> None:
    tomllib = pytest.importorskip("tomllib")  # a page shows no file of the repository
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]["hooks"]
    for each in hooks["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    assert "![" not in text and "docs/images" not in text
    assert [link for link in re.findall(r"\]\(([^)]*)\)", text) if not link.startswith("http")] == []
    assert "More: guides, the public contract (commands" in text


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "scripts" / "update_readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _part(samples: int | None, patients: int | None, accuracy: float | None, note: str | None) -> dict[str, Any]:
    figures = None if samples is None else {"accuracy": accuracy}
    return {"samples": samples, "patients": patients, "combined": figures, "intervals": {}, "note": note}


def _result(new: dict[str, Any] | None) -> dict[str, Any]:
    report: dict[str, Any] = {
        "data": {"samples": 9, "evaluated": 9, "patients": 3},
        "combined": {"accuracy": 0.9},
        "intervals": {"combined.accuracy": [0.8, 0.95]},
        "clean": _part(6, 2, 0.8, None),
        "speed": {"images_per_second": None},
    }
    if new is not None:
        report |= {"new_patients": new, "unknown_patients": _part(2, 0, 1.0, None), "by_source": []}
    return {"title": "T", "command": "c", "machine": "m", "report": report}


SHARED = "no slice of a new patient: all 7 slices with a known patient are of patients in training"
RESULTS = [
    (
        "new patients stand first",
        _part(5, 3, 0.75, "no healthy slice among them"),
        "patients",
        ["| New patients | 5 | 3 | 75.0 %", "| All slices | 9 | 3 | 90.0 % (80.0 to 95.0)", "New patients: no healthy"],
    ),
    (
        "none are new",
        _part(0, 0, None, SHARED),
        "results",
        [f"For comparison with other work; it shares all patients with the training slices: {SHARED}."],
    ),
    (
        "no list of training patients",
        _part(None, None, None, "not known: the model keeps no list"),
        "results",
        ["For comparison with other work; not known: the model keeps no list."],
    ),
    ("made before patients were looked at", None, "results", ["**T**\n\n| figure | all 9 slices"]),
]


@pytest.mark.parametrize(("why", "new", "block", "told"), RESULTS, ids=[case[0] for case in RESULTS])
def test_a_result_says_whose_slices_it_is_of(why: str, new: dict[str, Any] | None, block: str, told: list[str]) -> None:
    script, result = _script(), _result(new)
    assert script._block_of("any", result) == block
    text = (script.by_patient if block == "patients" else script.comparison)(result)
    for line in told:
        assert line in text, text
    if block == "patients":
        assert text.index("| New patients") < text.index("| Patient unknown") < text.index("| All slices")
