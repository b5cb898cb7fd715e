"""The page of a server with a token, in a real browser: nothing without it, and work that is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_examples import Opened, write_head
from serving_examples import png, serve_in_a_process

TOKEN = "correct-horse-battery"
EXPECTED = "401", "429"
"""Statuses that the browser warns of: no token yet; and the page waits until the server has seen what was stopped."""


@pytest.fixture(scope="module")
def guarded(browser: Any) -> Iterator[str]:
    """The page of a server that asks for a token, and takes slice by slice so that there is time to stop it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DETECTCLF_TOKEN", TOKEN)
        with serve_in_a_process("--batch-size", "1") as running:
            yield running.url


def give(page: Any, token: str) -> None:
    page.get_by_label("This server asks for a token").fill(token)
    page.get_by_role("button", name="Use it").click()


def test_a_token_is_asked_for_and_pictures_are_stopped(guarded: str, open_page: Opened) -> None:
    page = open_page(guarded, expected=EXPECTED)
    content = png()
    many = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": content} for i in range(100)]
    page.set_input_files("#files", files=many)
    for token in ("wrong", TOKEN):
        give(page, token)
    page.locator("#thumbnails button", has_text="0.png").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Show an example").click()
    page.locator("#thumbnails button", has_text="drawn").wait_for()
    page.locator("#stop:disabled").wait_for()
    assert page.locator("#thumbnails button").count() < 100
    assert page.locator("#rows tr", has_text="not read").count() == 0


def test_a_volume_is_stopped(guarded: str, open_page: Opened, tmp_path: Path) -> None:
    """What is done of it stays, and says that it is not all; the next volume is taken at once."""
    pytest.importorskip("nibabel", reason="the extra medical is not installed")
    page = open_page(guarded, expected=EXPECTED)
    page.set_input_files("#files", files=[str(write_head(tmp_path / "a.nii", times=10))])
    give(page, TOKEN)
    page.locator("#slice-at", has_text="probability").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator("#rows tr", has_text="not finished").wait_for()
    assert "of 80 slices" in page.locator("#thumbnails").inner_text()
    page.set_input_files("#files", files=[str(write_head(tmp_path / "b.nii"))])
    page.locator("#rows tr", has_text="meningioma").wait_for()
