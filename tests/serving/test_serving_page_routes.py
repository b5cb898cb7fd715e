"""What the page asks its server for: volumes line by line, activation maps; limits, and nothing left on disk."""

from __future__ import annotations

import base64
import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving_examples import files, png
from starlette.testclient import TestClient
from volume_examples import NAME, PATIENT, write_nifti, write_series

from detectclf.inference.predictor import Predictor
from detectclf.serving import page, volumes
from detectclf.serving.batching import Upload


def sent(*paths: Path) -> list[tuple[str, tuple[str, bytes]]]:
    return files(*((path.name, path.read_bytes()) for path in paths))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_volumes_come_slice_by_slice_then_pictures(client: TestClient, tmp_path: Path, temporary: Path) -> None:
    pytest.importorskip("nibabel", reason="the extra medical is not installed")
    series = write_series(tmp_path / "series", 3)  # more files than the four that pictures of a request may be
    beside = files(("b.png", png()), ("broken.png", b"garbage"), ("refused.zip", b"PK\3\4 no archive"))
    answer = client.post("/page/volumes", files=[*sent(write_nifti(tmp_path / "a.nii", 2), *series), *beside])
    assert answer.status_code == 200, answer.text
    refused, *made = lines(answer.text)
    assert refused["record"]["image"] == "refused.zip" and refused["record"]["error"]
    kinds = ["started", *["record"] * 2, "study", "started", *["record"] * 3, "study", "record", "record"]
    assert [next(iter(line)) for line in made] == kinds
    assert made[0]["started"] == {"study": "a", "slices": 2, "file": "a.nii"}
    assert [line["record"]["frame"] for line in made[5:8]] == [0, 1, 2]
    shown = Image.open(io.BytesIO(base64.b64decode(made[6]["png"])))
    assert np.asarray(shown)[0, 0] == 1, "the pixels of that slice"
    assert made[6]["tumor"] is None, "noise is no brain"
    assert made[8]["study"]["study"] == "series-1" and made[8]["judged"] is False
    assert [line["record"]["error"] is None for line in made[9:]] == [True, False]
    assert NAME not in answer.text and PATIENT not in answer.text and str(temporary) not in answer.text
    assert not list(temporary.iterdir())


def test_volumes_of_the_page_wait_for_others(client: TestClient, tmp_path: Path) -> None:
    lock = client.app.state.service.volumes
    client.portal.call(lock.acquire)
    try:
        answer = client.post("/page/volumes", files=files(("a.nii", b"garbage")))
    finally:
        client.portal.call(_released, lock)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0


async def _released(lock: Any) -> None:
    lock.release()


def test_a_volume_stops_with_its_client(client: TestClient, tmp_path: Path, temporary: Path) -> None:
    """The place is free and the folder gone as soon as nobody takes the lines any more."""
    pytest.importorskip("nibabel", reason="the extra medical is not installed")
    service = client.app.state.service
    content = write_nifti(tmp_path / "a.nii", 20).read_bytes()

    async def left() -> tuple[str, bool]:
        answer = page._volume_lines(service, [Upload("a.nii", len(content), lambda: content)])
        first = await anext(answer)
        held = service.volumes.locked()
        await answer.aclose()
        return first, held

    first, held = client.portal.call(left)
    assert "started" in first and held
    assert not service.volumes.locked() and not list(temporary.iterdir())


def test_steps_end_where_nobody_waits(client: TestClient, temporary: Path) -> None:
    stop = threading.Event()
    stop.set()
    steps = volumes.steps_of(client.app.state.service, [Upload("a.nii", 1, lambda: b"")], lambda: volumes._check(stop))
    with pytest.raises(volumes._Stopped):
        next(steps)
    assert not list(temporary.iterdir())


def test_an_activation_map_is_that_of_the_model(client: TestClient, predictor: Predictor) -> None:
    content = png()
    answer = client.post("/page/explain", files=files(("slice.png", content)))
    assert answer.status_code == 200, answer.text
    made = answer.json()
    explained = predictor.predict(content, explain=True)
    assert made["class"] == explained.label and made["evidence"] and made["seconds"] > 0
    assert made["fit"] == explained.heatmap_fit, "how far such maps can be trusted"
    layer = np.asarray(Image.open(io.BytesIO(base64.b64decode(made["png"]))))
    assert layer.shape == (*explained.heatmap.shape, 4)
    assert np.abs(layer[..., 3] / 255 - explained.heatmap).max() < 0.01, "as opaque as the map is high"


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (files(("a.png", b"garbage")), 422, "a.png"),  # the reason, as of any picture
        (files(("a.png", b"1"), ("b.png", b"2")), 413, "one picture at a time"),
        ([], 415, "multipart"),
    ],
)
def test_what_cannot_be_explained(client: TestClient, sent: list[Any], status: int, words: str) -> None:
    answer = client.post("/page/explain", files=sent)
    assert words in answer.text and answer.status_code == status


def test_style_and_scripts_and_nothing_else(client: TestClient) -> None:
    """All modules that the page's script asks for are there; no other file of the package is."""
    assert client.get("/static/page.js").headers["content-type"].startswith("text/javascript")
    for name in ("page.js", "view.js", "requests.js", "list.js"):
        for part in client.get(f"/static/{name}").text.split('from "./')[1:]:
            assert client.get("/static/" + part.partition('"')[0]).status_code == 200
    for name in ("..%2fpage.py", "page.py", "%2e%2e/guard.py", ""):
        assert client.get(f"/static/{name}").status_code == 404
