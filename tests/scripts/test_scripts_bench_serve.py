"""``bench_serve``: a real server under a few clients, and the figures of the run."""

from __future__ import annotations

import bench_serve
from typer.testing import CliRunner


def test_figures_of_a_short_run():
    app = bench_serve.typer.Typer()
    app.command()(bench_serve.main)
    done = CliRunner().invoke(app, ["--clients", "2", "--seconds", "1", "--plain", "0.2"])
    assert done.exit_code == 0, done.output
    for words in (
        "by status {200: ",
        "failures: none",
        "answers: p50",
        "MiB, half-way",
        "of their mean",
        "ms a slice",
    ):
        assert words in done.output
    assert done.output.splitlines()[-1] == "afterwards: answers"
