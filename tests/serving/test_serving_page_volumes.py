"""The page with volumes, in a real browser, and what axe finds on it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from browser_examples import FIRST, KINDS, LAST, SCREENS, Opened, drop, write_head, write_head_series, zipped
from serving_examples import png

pytest.importorskip("nibabel", reason="the extra medical is not installed")


def wait_for_study(page: Any) -> None:
    page.locator("#said", has_text="Volume: ").wait_for()
    page.locator("#stop:disabled").wait_for()


@pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)
def test_slide_through_a_volume(page_url: str, open_page: Opened, screen: dict[str, Any], tmp_path: Path) -> None:
    """One entry with slider and curve, by keyboard and for screen readers; axe finds no serious fault in any look."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = open_page(page_url, **screen)
    assert faults_of(axe, page) == [], "of the page before anything is dropped"
    page.set_input_files("#files", files=[str(write_head(tmp_path / "head.nii.gz"))])
    wait_for_study(page)
    assert "meningioma" in page.locator("#said").inner_text()
    assert page.locator("#thumbnails button").count() == page.locator("#rows tr").count() == 1
    slider, marker = page.get_by_label("Slice", exact=True), page.locator("#curve .now")
    at = int(slider.input_value())
    assert FIRST <= at <= LAST, "it opens at the best slice of the best finding"

    page.keyboard.press("ArrowLeft")
    assert int(slider.input_value()) == at - 1
    slider.focus()
    for key, number in (("Home", 0), ("End", len(KINDS) - 1), ("ArrowLeft", len(KINDS) - 2)):
        before = marker.get_attribute("x1")
        page.keyboard.press(key)
        said = slider.get_attribute("aria-valuetext")
        assert said == page.locator("#slice-at").inner_text() and said.startswith(f"slice {number} (0 to ")
        assert marker.get_attribute("x1") != before, "the curve marks the slice"
    slider.fill("0")
    assert "no brain" in slider.get_attribute("aria-valuetext")
    page.get_by_role("button", name="the best of this meningioma").click()
    assert slider.input_value() == str(at)
    assert "tumour probability 9" in slider.get_attribute("aria-valuetext")
    page.locator("#view-boxes th", has_text="meningioma").wait_for()

    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"garbage"}
    page.set_input_files("#files", files=[{"name": "a.png", "mimeType": "image/png", "buffer": png()}, broken])
    page.locator("#thumbnails button").nth(2).wait_for()
    page.locator("#stop:disabled").wait_for()
    assert faults_of(axe, page) == []
    page.goto(f"{page_url}/docs")
    assert faults_of(axe, page) == [], "of the description of the API"


def faults_of(axe: Any, page: Any) -> list[str]:
    """What axe calls serious or critical."""
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {node['html']}" for each in serious for node in each["nodes"]]


def test_folders_files_and_archives_of_series_are_volumes(page_url: str, open_page: Opened, tmp_path: Path) -> None:
    """Two series whose files lie in one folder, one in an archive, and a picture beside them."""
    folder = write_head_series(tmp_path / "dicom")
    for path in write_head_series(tmp_path / "second", SeriesInstanceUID="1.2.826.0.1.4711.2").iterdir():
        path.rename(folder / f"B{path.name}")
    (folder / "a.png").write_bytes(png())
    page = open_page(page_url)
    drop(page, folder)
    page.locator("#thumbnails button").nth(2).wait_for()
    page.locator("#stop:disabled").wait_for()  # whichever entry came first and is shown
    names = set(page.locator("#thumbnails .name").all_inner_texts())
    assert names == {"dicom", "dicom (2)", "dicom/a.png"}

    (tmp_path / "s.zip").write_bytes(zipped(write_head_series(tmp_path / "third")))
    drop(page, tmp_path / "s.zip")
    page.locator("#thumbnails button").nth(3).wait_for()
    page.locator("#stop:disabled").wait_for()
    page.locator("#filter").select_option("volumes")
    assert page.locator("#rows tr", has_text="meningioma").count() == 3

    content = json.loads(download(page, "JSON", tmp_path))
    studies = {each["study"] for each in content["studies"]}
    assert len(studies) == 3 and {each["study"] for each in content["records"]} == studies
    assert sorted(each["frame"] for each in content["records"]) == sorted([*range(len(KINDS))] * 3)
    rows = list(csv.DictReader(io.StringIO(download(page, "CSV", tmp_path).decode())))
    assert {row["study"] for row in rows} == studies


def download(page: Any, button: str, folder: Path) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    waiting.value.save_as(folder / "download")
    return (folder / "download").read_bytes()
