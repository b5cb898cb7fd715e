"""A browser for the page: real drops, volumes to drop, and what has to hold of every page that a test opened."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from volume_examples import write_dicom

from detectclf.sample_data.slices import sample_slice

SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}

KINDS = ("", "", "no_tumor", "no_tumor", "meningioma", "meningioma", "meningioma", "no_tumor")
"""What the slices of a volume show; the first ones are noise."""
FIRST, LAST = 4, 6
"""Slices of its tumour."""

Opened = Callable[..., Any]


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium of the system, driven by Playwright; skips the test where one of them is not installed."""
    reason = "the browser's driver is not installed (playwright)"
    driver = pytest.importorskip("playwright.sync_api", reason=reason)
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, url: str, expected: tuple[str, ...] = (), **screen: Any) -> Iterator[Any]:
    """The page at ``url``, which asks for nothing from elsewhere, fails nowhere and is no wider than the screen.

    Args:
        browser: from :func:`chromium`.
        url: of the page.
        expected: parts of what the browser may warn of.
        screen: of Playwright's contexts, such as ``viewport`` and ``color_scheme``.
    """
    faults: list[str] = []
    context = browser.new_context(**screen)
    context.set_default_timeout(90_000)  # milliseconds; many other tests may run beside
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    own = (url, "blob:", "data:")
    page.on("request", lambda asked: None if asked.url.startswith(own) else faults.append(asked.url))
    page.goto(url)
    yield page
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0, "nothing to scroll sideways"
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    note = page.get_by_role("note")
    assert note.inner_text() == "Research use, not for diagnosis"
    assert note.bounding_box()["y"] >= 0, "in sight, however far one scrolls"
    unexpected = [fault for fault in faults if not any(part in fault for part in expected)]
    assert unexpected == [], unexpected
    context.close()


def drop(page: Any, *paths: Path) -> None:
    """Drops files and folders as a file manager does."""
    debugger = page.context.new_cdp_session(page)
    box = page.locator("#drop").bounding_box()
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": box["x"] + 20, "y": box["y"] + 20}
        debugger.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    debugger.detach()


def frames() -> list[np.ndarray]:
    """The slices of a drawn head, one above the other, ``(H, W)`` uint8."""
    drawn = {kind: sample_slice(1, kind, "axial").pixels for kind in set(KINDS) if kind}
    side = next(iter(drawn.values())).shape
    found = []
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng(number)
        noise = rng.integers(-4, 5, side) if kind else rng.integers(0, 256, side)
        found.append(np.clip(drawn[kind].astype(int) + noise if kind else noise, 0, 255).astype(np.uint8))
    return found


def write_head(path: Path, times: int = 1) -> Path:
    """A drawn head as a NIfTI volume, 5 mm apart; ``times`` of them on one another."""
    import nibabel

    volume = np.stack([frame[::-1, ::-1].T for frame in frames() * times], axis=-1).astype(np.int16)
    image = nibabel.Nifti1Image(volume, np.diag([1.0, 1.0, 5.0, 1.0]))
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


def write_head_series(folder: Path, **tags: Any) -> Path:
    """A drawn head as a folder with a DICOM series."""
    for number, frame in enumerate(frames()):
        shape = {"Rows": frame.shape[0], "Columns": frame.shape[1], "PixelSpacing": [1, 1]}
        write_dicom(folder / f"IM{number:04}", number, PixelData=frame.tobytes(), **shape, **tags)
    return folder


def zipped(folder: Path) -> bytes:
    """The files of a folder as a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as pack:
        for path in sorted(folder.iterdir()):
            pack.write(path, f"{folder.name}/{path.name}")
    return content.getvalue()
