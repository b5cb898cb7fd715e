"""Progress: nothing when quiet, few lines without a terminal, a bar with one."""

from __future__ import annotations

import io
import logging
import sys
import time

import pytest

from detectclf import progress as progress_module
from detectclf.progress import Progress, working


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _work(steps: int, **options: bool) -> None:
    with Progress("reading slices", steps, **options) as progress:
        for step in range(steps):
            progress.advance(detail="" if step else "the first")
        progress.note("half way")


def test_quiet_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    _work(3, show=False)
    assert capsys.readouterr() == ("", "")


def test_short_work_says_only_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    _work(3, show=True)
    assert capsys.readouterr() == ("", "half way\n")


def test_long_work_says_how_long_it_takes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 7))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: float(next(clock)))
    _work(4, show=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["reading slices: 2 of 4, 14 s left", "reading slices: 4 of 4, 0 s left", "half way"]


def test_work_without_steps_says_that_it_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "PAUSE_S", 0.05)
    monkeypatch.setattr(logging.getLogger("detectclf"), "level", logging.INFO)
    logging.getLogger("detectclf").manager._clear_cache()  # type: ignore[attr-defined]
    with working("measuring"):
        time.sleep(0.5)
    assert "measuring: 0 s so far\n" in capsys.readouterr().err
    with working("measuring"), Progress("reading", 1, show=True):
        time.sleep(0.2)
    assert capsys.readouterr().err == "", "a piece of work that counts its steps speaks for itself"


def test_a_terminal_shows_a_bar_and_lines_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    _work(3, show=True)
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "half way" in shown and "3/3" in shown


@pytest.mark.parametrize(("level", "shown"), [(logging.INFO, True), (logging.ERROR, False)])
def test_the_log_decides_where_nothing_is_said(level: int, shown: bool) -> None:
    logger = logging.getLogger("detectclf")
    before = logger.level
    logger.setLevel(level)
    try:
        assert Progress("x", 1).show is shown
    finally:
        logger.setLevel(before)
