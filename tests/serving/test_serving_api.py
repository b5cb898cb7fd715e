"""The HTTP API with the real model: records, problem details, limits, archives, models, health and figures."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from serving_examples import files, png, serving
from starlette.testclient import TestClient

from detectclf.inference.predictor import Predictor


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as pack:
        for name, inside in members:
            pack.writestr(name, inside)
    return content.getvalue()


def encrypted(content: bytes) -> bytes:
    """``content`` with the flag of encryption set in its list of files."""
    at = content.index(b"PK\1\2") + 8
    return content[:at] + bytes([content[at] | 1]) + content[at + 1 :]


def test_records_are_those_of_the_predictor(client: TestClient, predictor: Predictor) -> None:
    sent = [("a.png", png()), ("b.png", png("no_tumor", 2))]
    answer = client.post("/v1/predict", files=files(*sent))
    assert answer.status_code == 200
    records = answer.json()
    assert [record.pop("image") for record in records] == ["a.png", "b.png"]
    for record, (_, content) in zip(records, sent, strict=True):
        alone = predictor.predict(content).to_record()
        assert list(record) == [key for key in alone if key != "image"]
        assert (record["class"], record["flags"], record["error"]) == (alone["class"], alone["flags"], None)
        assert record["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-4)


def test_a_broken_picture_costs_only_itself(client: TestClient) -> None:
    answer = client.post("/v1/predict", files=files(("good.png", png()), ("bad.png", b"no picture")))
    good, bad = answer.json()
    assert answer.status_code == 200 and good["error"] is None
    assert bad["error"].startswith("bad.png: ") and bad["class"] is None and "\n" not in bad["error"]


NAMES = [
    ("C:\\Users\\me\\scan.png", "scan.png", "a path of Windows"),
    ("../../etc/passwd", "passwd", "a path out of its folder"),
    ("<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png", "markup stays text"),
    ("a\u202eb.png", "a\\u202eb.png", "a name that would be shown backwards"),
    ("scän.png", "scän.png", "not ASCII"),
    ("/", "upload", "no name at all"),
]


@pytest.mark.parametrize(("given", "shown", "why"), NAMES, ids=[why for _, _, why in NAMES])
def test_uploads_are_named_by_their_file_name(client: TestClient, given: str, shown: str, why: str) -> None:
    answer = client.post("/v1/predict", files=files((given, b"no picture")))
    assert answer.json()["records"][0]["image"] == shown
    assert answer.headers["content-type"].startswith("application/"), "never read as a page"


def boundary(content: bytes, kind: str = "multipart/form-data; boundary=x") -> dict[str, object]:
    return {"content": content, "headers": {"content-type": kind}}


PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
PROBLEMS = [
    ({"files": files(("bad.png", b"no picture"))}, 422, "unreadable", "garbage"),
    ({"files": files(("empty.png", b""))}, 422, "unreadable", "an empty file"),
    ({"files": files(*[(f"{i}.png", b"x") for i in range(5)])}, 413, "too_many_files", "more files than the limit"),
    ({"files": files(("big.png", b"x" * (2**20 + 1)))}, 413, "file_too_large", "a file over the limit"),
    ({"files": files(("big.png", b"x" * 2**21))}, 413, "request_too_large", "a request over the limit"),
    ({"files": files(("z.zip", packed(*[(f"{i}.png", b"x") for i in range(5)])))}, 413, "too_many_files", "in a zip"),
    ({"files": files(("z.zip", packed(("a.png", b"0" * 2**21))))}, 422, "unsafe", "a zip bomb"),
    ({"files": files(("z.zip", encrypted(packed(("a.png", b"x")))))}, 422, "unreadable", "a zip with a password"),
    ({"files": files(("z.zip", packed(("notes.txt", b"x"))))}, 422, "unreadable", "a zip without pictures"),
    ({"files": files(("z.zip", packed(("a.png", png()))[:-30]))}, 422, "unreadable", "a zip that is cut off"),
    ({"files": files(("a.png", b"x")), "data": {"frame": "1"}}, 400, "bad_multipart", "a field that is not known"),
    ({"content": b"{}"}, 415, "not_multipart", "no multipart"),
    (boundary(b"", "multipart/form-data"), 400, "bad_multipart", "no boundary"),
    (boundary(b"--x--\r\n"), 400, "no_files", "no part"),
    (boundary(b"garbage"), 400, "bad_multipart", "no part begins"),
    (boundary(PART.replace(b'name="files"; ', b"") + b"x\r\n--x--\r\n"), 400, "bad_multipart", "a part without a name"),
]


@pytest.mark.parametrize(("request_", "status", "code", "why"), PROBLEMS, ids=[row[3] for row in PROBLEMS])
def test_problems_are_problem_details(
    client: TestClient, request_: dict[str, object], status: int, code: str, why: str
) -> None:
    answer = client.post("/v1/predict", **request_)
    document = answer.json()
    assert (answer.status_code, document["status"], document["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["detail"] and "\n" not in document["detail"] and document["title"] and document["type"]


def test_a_body_longer_than_it_says_is_refused_while_it_comes(client: TestClient) -> None:
    def endless() -> object:
        yield PART
        for _ in range(40):
            yield b"x" * 2**16

    answer = client.post("/v1/predict", content=endless(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")


def test_pictures_in_an_archive_are_told_apart_by_their_path(client: TestClient) -> None:
    inside = [("p/a.png", png()), ("q/a.png", b"bad"), ("__MACOSX/p/._a.png", b"x"), ("readme.txt", b"x")]
    answer = client.post("/v1/predict", files=files(("series.zip", packed(*inside))))
    good, bad = answer.json()
    assert good["image"] == "series.zip/p/a.png" and good["error"] is None
    assert bad["image"] == "series.zip/q/a.png" and bad["error"] is not None


def test_large_uploads_do_not_touch_a_disk(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500), dtype=np.uint8)).save(noise, "PNG")
    assert len(noise.getvalue()) > 2 * 2**20, "more than Starlette keeps in memory"
    monkeypatch.setattr(tempfile, "tempdir", "/there/is/no/such/folder")
    with serving(predictor) as client:
        (record,) = client.post("/v1/predict", files=files(("noise.png", noise.getvalue()))).json()
    assert record["flags"] == ["not_a_brain_mri"]


def test_paths_and_methods_that_do_not_exist(client: TestClient) -> None:
    for method, path, status in (("GET", "/v2", 404), ("GET", "/v1/predict", 405), ("POST", "/static/../x", 404)):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_models_health_and_figures(client: TestClient, predictor: Predictor) -> None:
    (model,) = client.get("/v1/models").json()
    assert model["model"] == predictor.name and model["classes"] == list(predictor.names.classes)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.get("/patient-jane-doe")
    text = client.get("/metrics").text
    assert 'detectclf_requests_total{method="GET",route="/v1/models",status="200"} 1.0' in text
    assert "jane" not in text and "scan.png" not in text, "only patterns of paths"
    for line in text.splitlines():
        assert line.startswith("# ") or float(line.rpartition(" ")[2]) >= 0


def test_the_document_of_the_api_is_whole_and_nothing_comes_from_elsewhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/volumes", "/v1/models", "/healthz", "/readyz", "/metrics"} == set(document["paths"])
    schemas = document["components"]["schemas"]
    for reference in {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}:
        assert reference in schemas, reference
    for path in ("/", "/docs", "/static/page.css", "/static/page.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "https://" not in answer.text and "//cdn" not in answer.text, path
    assert "Research use, not for diagnosis" in client.get("/").text
    assert "/v1/predict" in client.get("/docs").text


def test_the_page_gets_a_line_for_each_picture_with_what_to_show(client: TestClient) -> None:
    example = client.get("/page/example/glioma")
    answer = client.post("/page/predict", files=files(("a.png", example.content), ("bad.png", b"x")))
    good, bad = (json.loads(line) for line in answer.text.splitlines())
    assert good["record"]["image"] == "a.png" and good["png"] and good["box_threshold"] == 0.5 and good["judged"]
    assert bad["record"]["error"] and bad["png"] is None
    assert client.get("/page/example/nothing").json()["code"] == "invalid_request"


def test_time_is_up(predictor: Predictor) -> None:
    with serving(predictor, timeout=0.001) as hasty:
        answer = hasty.post("/v1/predict", files=files(("a.png", png())))
        assert (answer.status_code, answer.json()["code"]) == (503, "timed_out")
        line = json.loads(hasty.post("/page/predict", files=files(("a.png", png()))).text)
        assert line["problem"]["code"] == "timed_out"


def test_a_full_queue_says_when_to_come_again(predictor: Predictor) -> None:
    with serving(predictor, max_waiting=1) as narrow:
        answer = narrow.post("/v1/predict", files=files(("a.png", png()), ("b.png", png())))
        assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert narrow.post("/v1/predict", files=files(("a.png", png()))).status_code == 200, "and goes on"


def test_memory_for_uploads_is_limited(predictor: Predictor) -> None:
    with serving(predictor, max_memory_bytes=1000) as small:
        for path in ("/v1/predict", "/page/predict"):
            answer = small.post(path, files=files(("a.png", png())))
            assert (answer.status_code, answer.json()["code"]) == (429, "out_of_memory")
