"""The page in a real browser: Chromium by Playwright, where both are installed."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_examples import png

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser's driver is not installed (playwright)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

EVIL = "<img src=x onerror=document.title=1>.png"
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone, dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "is_mobile": True},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)
def test_drop_view_sort_and_download(running: Any, browser: Any, screen: dict[str, Any], tmp_path: Path) -> None:
    server, faults = running(), []
    page = browser.new_context(**screen).new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda asked: faults.append(asked.url) if not _is_ours(asked.url, server.url) else None)
    page.goto(server.url)
    assert page.get_by_role("note").inner_text() == "Research use, not for diagnosis"

    page.get_by_role("button", name="Show an example").click()
    page.locator("#view-boxes th", has_text="meningioma").wait_for()
    sent = [{"name": "a.png", "mimeType": "image/png", "buffer": png("glioma", 3)}]
    sent.append({"name": EVIL, "mimeType": "image/png", "buffer": b"garbage"})
    page.set_input_files("#files", files=sent)
    page.locator("#thumbnails button").nth(2).wait_for()
    page.locator("#rows tr", has_text=EVIL).wait_for()
    assert page.title().startswith("detectclf"), "a name is text"

    names = page.locator("#thumbnails .name").all_inner_texts()
    page.locator("#thumbnails button").first.click()
    for key, name in (
        ("ArrowRight", names[1]),
        ("ArrowDown", names[2]),
        ("ArrowRight", names[2]),
        ("ArrowLeft", names[1]),
    ):
        page.keyboard.press(key)
        assert page.locator("#view-title").inner_text() == name
        assert page.locator("#thumbnails [aria-current=true] .name").all_inner_texts() == [name]

    page.get_by_label("boxes").uncheck()
    page.locator("#window").fill("100")
    page.get_by_role("button", name="class", exact=True).click()
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    page.get_by_label("show").select_option("error")
    assert page.locator("#rows tr").count() == 1
    page.get_by_label("show").select_option("all")
    for name in ("JSON", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        download.value.save_as(tmp_path / name)
    records = json.loads((tmp_path / "JSON").read_text())
    assert {record["image"] for record in records} == {"drawn meningioma 1.png", "a.png", EVIL}
    assert (tmp_path / "CSV").read_text().startswith("image,class,confidence,p_glioma,")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0, "nothing to scroll sideways"
    assert faults == []
    page.context.close()


HAND_OVER = """([kind, base64]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], "image.png", { type: "image/png" }));
  const event = kind === "drop" ? new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true })
    : new ClipboardEvent(kind, { clipboardData: data, bubbles: true });
  document.getElementById("drop").dispatchEvent(event);
}"""


def test_dropped_and_pasted_pictures_and_archives(running: Any, browser: Any) -> None:
    page = browser.new_context().new_page()
    page.goto(running().url)
    for kind, name in (("drop", "image.png"), ("paste", "pasted 2.png")):
        page.evaluate(HAND_OVER, [kind, base64.b64encode(png()).decode()])
        page.locator("#rows tr", has_text=name).wait_for()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as pack:
        for i in range(3):
            pack.writestr(f"series/{i}.png", png(seed=i))
    page.set_input_files(
        "#files", files=[{"name": "s.zip", "mimeType": "application/zip", "buffer": content.getvalue()}]
    )
    for i in range(3):
        page.locator("#rows tr", has_text=f"s.zip/series/{i}.png").wait_for()
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#results").is_hidden()
    page.context.close()


def _is_ours(url: str, server: str) -> bool:
    return url.startswith((server, "blob:", "data:"))


def test_stop_and_token(running: Any, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTCLF_TOKEN", "correct-horse-battery")
    page = browser.new_context().new_page()
    page.goto(running("--batch-size", "1").url)
    content = png()
    many = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": content} for i in range(100)]
    page.set_input_files("#files", files=many)
    for token in ("wrong", "correct-horse-battery"):
        page.get_by_label("This server asks for a token").fill(token)
        page.get_by_role("button", name="Use it").click()
    page.locator("#thumbnails button", has_text="0.png").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Show an example").click()
    page.locator("#thumbnails button", has_text="drawn").wait_for()
    page.locator("#stop:disabled").wait_for()
    assert page.locator("#thumbnails button").count() < 100
    assert page.locator("#rows tr", has_text="not read").count() == 0
    page.context.close()
