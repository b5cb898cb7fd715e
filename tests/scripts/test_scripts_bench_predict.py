"""``bench_predict``: every contestant gets its rows, and one that is not what it is called is refused."""

from __future__ import annotations

import bench_predict
from typer.testing import CliRunner

PASS = ("--slices", "2", "--rounds", "1", "--batch-size", "1", "--batch-size", "2", "--threads", "1")


def run(*arguments: object) -> str:
    app = bench_predict.typer.Typer()
    app.command()(bench_predict.main)
    done = CliRunner().invoke(app, [*PASS, *(str(a) for a in arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_runtimes_and_another_checkout_side_by_side(tmp_path):
    """The other checkout is this one. A folder without the package must not stand for whatever else is installed."""
    said = run("--runtime", "openvino", "--checkout", bench_predict.HERE.parents[1], "--profile")
    lines = said.splitlines()
    rows = [line.split() for line in lines if " batch " in line]
    assert [(row[0], row[2]) for row in rows] == [
        (name, size) for size in ("1", "2") for name in ("openvino", bench_predict.HERE.parents[1].name)
    ]
    assert [row[-2:] for row in rows[1::2]] == [["1.00", "1.00"]] * 2  # its own ratio
    assert "detector graph" in lines[-1]

    said = run("--runtime", "openvino", "--checkout", tmp_path)
    assert f"{tmp_path.name}: failed" in said and "has no package detectclf" in said
