"""What ``data check`` prints for a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectclf.audit.check import Audit, check
from detectclf.pipelines.check import audit_text
from detectclf.sample_data.export import write_sample_data
from detectclf.types import Problem


def audit_of(*problems: Problem) -> Audit:
    return Audit(problems, (), (), {}, {}, ("export",))


def outside(number: int) -> Problem:
    return Problem("error", "box_outside_image", "a.json", number, f"box {number} leaves the image")


def test_many_problems_of_a_kind_are_one_line_with_their_number_and_examples() -> None:
    other = Problem("warning", "missing_split", "export", None, "there is no split test")
    audit = audit_of(*map(outside, range(1, 31)), other)
    lines = audit_text(audit).splitlines()
    assert [line for line in lines if line.startswith(("error", "warning", "list"))] == [
        "error: a.json:1: box 1 leaves the image [box_outside_image]; and 29 more such as a.json:2, a.json:3",
        "warning: export: there is no split test [missing_split]",
        "list all with --verbose or --json",
    ]
    assert "  error   box_outside_image x 30" in lines
    everything = audit_text(audit, everything=True)
    assert (
        "error: a.json:30: box 30 leaves the image [box_outside_image]" in everything and "list all" not in everything
    )


def test_a_few_problems_of_a_kind_are_a_line_each() -> None:
    text = audit_text(audit_of(*map(outside, range(1, 4))))
    assert text.count("leaves the image [box_outside_image]") == 3 and "more" not in text


@pytest.mark.parametrize("inside", [False, True], ids=["by its name", "from inside"])
def test_a_problem_of_the_data_set_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    data = write_sample_data(tmp_path / "export", n=12, seed=0)
    for file in (data / "test").iterdir():
        file.unlink()
    (data / "test").rmdir()
    monkeypatch.chdir(data if inside else tmp_path)
    folder = Path() if inside else Path("export")
    (problem,) = [p for p in check([folder]).problems if p.code == "missing_split"]
    assert problem.file == (str(data) if inside else "export")
