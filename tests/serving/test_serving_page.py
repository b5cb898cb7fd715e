"""The page with pictures, in a real browser: Chromium by Playwright, where both are installed."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from browser_examples import SCREENS, Opened, drop, zipped
from PIL import Image
from serving_examples import png

EVIL = "<img src=x onerror=document.title=1>.png"
FORMULA = "=HYPERLINK(1)+.png"


def picture(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def download(page: Any, button: str, folder: Path) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    waiting.value.save_as(folder / "download")
    return (folder / "download").read_bytes()


@pytest.mark.parametrize("screen", [SCREENS["light"], SCREENS["phone"]], ids=["light", "phone"])
def test_view_sort_and_filter(page_url: str, open_page: Opened, screen: dict[str, Any]) -> None:
    page = open_page(page_url, **screen)
    page.get_by_role("button", name="Show an example").click()
    page.locator("#view-boxes th", has_text="meningioma").wait_for()
    page.set_input_files("#files", files=[picture("a.png", png("glioma", 3)), picture(EVIL, b"garbage")])
    page.locator("#thumbnails button").nth(2).wait_for()
    page.locator("#rows tr", has_text=EVIL).wait_for()
    page.locator("#state", has_text="2 of 2 slices done; ").wait_for()
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

    page.get_by_role("button", name="class", exact=True).click()
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    page.locator("#filter").select_option("error")
    assert page.locator("#rows tr").count() == 1
    page.locator("#filter").select_option("all")
    page.locator("#rows button").last.click()
    assert page.locator("#view-title").bounding_box()["y"] > 0, "it is seen, also where the list is below it"
    page.get_by_label("name", exact=True).fill("A.PNG")
    assert page.locator("#rows tr").all_inner_texts()[0].startswith("a.png")


def test_keyboard_alone(page_url: str, open_page: Opened) -> None:
    """From the top of the page to an example, its boxes and the next entry; the focus is never lost to a redraw."""
    page = open_page(page_url)
    for _ in range(2):
        while page.evaluate("document.activeElement.id") != "example":
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator("#stop:disabled").wait_for()
    page.locator("#thumbnails button").nth(1).wait_for()
    assert page.evaluate("document.activeElement.id") == "example"
    while page.evaluate("document.activeElement.id") != "boxes":
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert not page.get_by_label("boxes").is_checked()
    for key in ("ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
        assert page.locator("#thumbnails button").nth(int(key == "ArrowDown")).get_attribute("aria-current") == "true"
    while page.evaluate("document.activeElement.closest('#thumbnails') === null"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"


def shown(page: Any) -> str:
    return page.evaluate("document.getElementById('picture').toDataURL()")


def test_window_boxes_and_activation_map(page_url: str, open_page: Opened) -> None:
    """Each changes the picture, and back; the map is asked for once, and only when somebody wants to see it."""
    page = open_page(page_url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.get_by_role("button", name="Show an example").click()
    page.locator("#view-boxes th", has_text="meningioma").wait_for()
    page.wait_for_function("document.getElementById('picture').width > 300")
    plain = shown(page)
    page.get_by_label("boxes").uncheck()
    without = shown(page)
    page.get_by_label("window").fill("100")
    narrow = shown(page)
    page.get_by_role("button", name="Reset").click()
    assert shown(page) == without and len({plain, without, narrow}) == 3
    assert "explain" not in asked

    page.get_by_label("activation map").check()
    page.locator("#map-said", has_text="Computing").wait_for()
    page.locator("#map-said", has_text="What in this slice speaks for “meningioma”").wait_for()
    over = shown(page)
    page.get_by_label("opacity").fill("10")
    faint = shown(page)
    page.get_by_label("activation map").uncheck()
    assert shown(page) == without and len({without, over, faint}) == 3
    page.get_by_label("activation map").check()
    assert shown(page) == faint and asked.count("explain") == 1


def test_downloads(page_url: str, open_page: Opened, tmp_path: Path) -> None:
    page = open_page(page_url)
    page.set_input_files("#files", files=[picture(FORMULA, png()), picture("broken.png", b"garbage")])
    page.locator("#thumbnails button").nth(1).wait_for()
    records = {record["image"]: record for record in json.loads(download(page, "JSON", tmp_path))}
    assert records.keys() == {FORMULA, "broken.png"} and records["broken.png"]["error"] is not None
    rows = list(csv.DictReader(io.StringIO(download(page, "CSV", tmp_path).decode())))
    assert {row["image"] for row in rows} == {f"'{FORMULA}", "broken.png"}, "no cell is a formula"
    row = next(row for row in rows if row["class"])
    assert float(row["p_meningioma"]) == records[FORMULA]["probabilities"]["meningioma"]
    boxes = list(csv.DictReader(io.StringIO(download(page, "Boxes CSV", tmp_path).decode())))
    assert int(row["boxes"]) == len(boxes) > 0 and boxes[0]["image"] == f"'{FORMULA}"
    assert float(boxes[0]["x1"]) == records[FORMULA]["boxes"][0]["xyxy"][0]
    with zipfile.ZipFile(io.BytesIO(download(page, "Pictures", tmp_path))) as pack:
        assert pack.testzip() is None
        assert pack.namelist() == [f"001 {FORMULA}.pred.png"]
        assert Image.open(pack.open(pack.namelist()[0])).size[0] == 1024
    assert Image.open(io.BytesIO(download(page, "Save picture", tmp_path))).size[0] == 1024


PASTE = """(base64) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], "image.png", { type: "image/png" }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
}"""


def test_dropped_and_pasted_pictures_folders_and_archives(page_url: str, open_page: Opened, tmp_path: Path) -> None:
    page = open_page(page_url)
    folder = tmp_path / "folder" / "inner"
    folder.mkdir(parents=True)
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes(png(seed=int(name[0])))
    (folder / "notes.txt").write_text("no picture")
    (tmp_path / "dropped.png").write_bytes(png())
    (tmp_path / "s.zip").write_bytes(zipped(folder))
    drop(page, tmp_path / "dropped.png", tmp_path / "folder", tmp_path / "s.zip")
    wanted = ["dropped.png", "folder/inner/1.png", "folder/inner/2.png"]
    wanted += ["s.zip/inner/1.png", "s.zip/inner/2.png"]
    for name in wanted:
        page.locator("#rows tr", has_text=name).wait_for()
    page.evaluate(PASTE, base64.b64encode(png()).decode())
    page.locator("#rows tr", has_text="pasted").wait_for()
    assert page.locator("#rows tr").count() == len(wanted) + 1
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#results").is_hidden()
