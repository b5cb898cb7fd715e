"""Commands on data and predictions in stores, and URLs that carry a signature."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

fsspec = pytest.importorskip("fsspec", reason="stores need fsspec (extra cloud)")

EVALUATE = ("--device", "cpu", "--set", "evaluate.bootstrap=20")
TRAIN = ("--arch", "mlp", "--weights", "none", "--set", "model.image_size=32", "--device", "cpu")
FIRST, SECOND = "5e7cre7-one", "5e7cre7-two"


@pytest.fixture(scope="module")
def shards(cli, trained, tmp_path_factory) -> Path:
    """The sample data in tar files."""
    folder = tmp_path_factory.mktemp("shards") / "out"
    said = cli("data", "convert", trained.data, "--to", "webdataset", "--out", folder)
    assert said.code == 0, said.err
    return folder


@pytest.fixture(scope="module")
def report(cli, trained, tmp_path_factory):
    """The evaluation on the folder itself."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    said = cli("evaluate", "--data", trained.data, "--model", trained.bundle, "--out", out, *EVALUATE, "--json")
    assert said.code == 0, said.err
    return said.document


@pytest.mark.parametrize("source", ["{}", "file://{}", "file://{}/*/*.tar", "{}/*/*.tar"])
def test_evaluate_takes_shards_of_this_machine_and_of_stores(cli, trained, shards, report, tmp_path, source) -> None:
    words = ("--data", source.format(shards), "--model", trained.bundle, "--out", tmp_path / "out")
    said = cli("evaluate", *words, *EVALUATE, "--json")
    assert said.code == 0, said.err
    for part in ("detection", "classification", "combined", "stages", "intervals"):
        assert said.document[part] == report[part]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/") > 1, "pictures of mistakes are read from the shards"


@pytest.mark.parametrize("source", ["file://{}", "{}/*/*.tar"])
def test_bundle_takes_them_too(cli, trained, shards, tmp_path, source) -> None:
    words = ("--detector", trained.detector, "--classifier", trained.classifier, "--data", source.format(shards))
    words += ("--out", tmp_path / "out", "--report", tmp_path / "report", "--no-export", *EVALUATE)
    said = cli("bundle", *words, "--json")
    assert said.code == 0, said.err
    assert said.document["fusion"] == trained.said["bundle"].document["fusion"]
    assert (tmp_path / "report" / "report.html").read_text(encoding="utf-8").count("data:image/") > 1


def test_predictions_of_a_store_are_evaluated_on_data_of_a_store(cli, trained, shards, report, tmp_path) -> None:
    pytest.importorskip("pyarrow")
    made = f"file://{tmp_path}/made"
    words = ("--model", trained.bundle, "--device", "cpu", "--out", made, "--shard-size", 2)
    said = cli("predict", f"file://{trained.data}/test/*.jpg", *words)
    assert said.code == 0, said.err
    words = ("--data", f"file://{shards}", "--model", trained.bundle, "--predictions", made)
    said = cli("evaluate", *words, *EVALUATE, "--out", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    for figure in ("accuracy", "mAP", "mAP50", "nll"):
        assert said.document["combined"][figure] == pytest.approx(report["combined"][figure], abs=1e-6)


class SignedHandler(SimpleHTTPRequestHandler):
    """Files of a folder, for requests with the signature."""

    signature = FIRST

    def do_GET(self) -> None:
        self._answer(super().do_GET)

    def do_HEAD(self) -> None:
        self._answer(super().do_HEAD)

    def _answer(self, answer) -> None:
        if parse_qs(urlsplit(self.path).query).get("X-Amz-Signature") == [type(self).signature]:
            answer()
        else:
            self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


class Signed:
    """A store whose files are named with a signature, which may change."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        if kind == "http":
            pytest.importorskip("aiohttp")
            self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SignedHandler, directory=str(folder)))
            threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def urls(self, signature: str) -> list[str]:
        """The names of the shards; those of another signature are not there any more."""
        files = sorted(str(path.relative_to(self.folder)) for path in self.folder.glob("*/*.tar"))
        query = f"X-Amz-Credential=K%2Fs3&X-Amz-Signature={signature}"
        if self.kind == "http":
            SignedHandler.signature = signature
            return [f"http://127.0.0.1:{self.server.server_port}/{file}?{query}" for file in files]
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        memory.pipe({f"/signed/{file}?{query}": (self.folder / file).read_bytes() for file in files})
        return [f"memory://signed/{file}?{query}" for file in files]

    def close(self) -> None:
        """Ends the server."""
        if self.kind == "http":
            self.server.shutdown()
            self.server.server_close()
        else:
            fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["memory", "http"])
def signed(request, shards) -> Iterator[Signed]:
    store = Signed(request.param, shards)
    yield store
    store.close()


def found_in(folder: Path) -> list[str]:
    """Files that hold a signature."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and b"5e7cre7" in path.read_bytes()]


def data(urls: list[str]) -> list[str]:
    return [word for url in urls for word in ("--data", url)]


def test_a_signature_is_written_and_printed_nowhere_and_the_run_goes_on(cli, signed, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detectclf.store_calls._PAUSES_S", (0.01,))
    run, urls = tmp_path / "run", signed.urls(FIRST)
    outcomes = [cli("train-classifier", *data(urls), *TRAIN, "--epochs", 1, "--out", run, "--verbose")]
    assert outcomes[0].code == 0, outcomes[0].err
    command = json.loads((run / "env.json").read_text())["command"]
    assert command[1:4] == ["train-classifier", "--data", urls[0].partition("?")[0] + "?removed"]

    more = ("train-classifier", "--out", run, "--resume", "--epochs", 2, "--verbose")
    outcomes.append(cli(*more))
    assert outcomes[-1].code == 2 and "was not kept" in outcomes[-1].err and "--data" in outcomes[-1].err
    again = signed.urls(SECOND)
    outcomes.append(cli(*more, *data(urls)))
    assert outcomes[-1].code == 2, "the first signature is not good any more"
    outcomes.append(cli(*more, *data(again)))
    assert outcomes[-1].code == 0, outcomes[-1].err
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2

    listed = "[" + ", ".join(f'"{url}"' for url in again) + "]"
    outcomes.append(cli("train-classifier", f"--set=data.sources={listed}", *TRAIN, "--epochs", 1, "--out", "other"))
    assert outcomes[-1].code == 0, outcomes[-1].err
    outcomes.append(cli("data", "check", again[0], "--verbose"))
    outcomes.append(cli("config", "show", "--stage", "classifier", "--set", f"data.sources={listed}"))
    outcomes.append(cli("train-classifier", *data(again), "--set", f"data.source=[{again[0]}]", "--verbose"))
    assert "5e7cre7" not in "".join(each.out + each.err for each in outcomes)
    assert found_in(tmp_path) == []


def test_a_signature_stays_out_of_reports_and_bundles(cli, trained, signed, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    urls = data(signed.urls(FIRST))
    words = ("--detector", trained.detector, "--classifier", trained.classifier, "--no-export", *EVALUATE)
    outcomes = [
        cli("bundle", *words, *urls, "--out", "bundle", "--report", "report", "--verbose"),
        cli("evaluate", *urls, "--model", trained.bundle, "--out", "evaluation", *EVALUATE, "--verbose"),
    ]
    assert [each.code for each in outcomes] == [0, 0], outcomes[0].err + outcomes[1].err
    assert "5e7cre7" not in "".join(each.out + each.err for each in outcomes)
    assert found_in(tmp_path) == []


def test_a_signature_stays_out_of_searches(cli, signed, tmp_path, monkeypatch) -> None:
    pytest.importorskip("optuna", reason="the search is Optuna's (extra tune)")
    monkeypatch.chdir(tmp_path)
    words = ("tune", "--stage", "classifier", "--trials", 1, "--epochs", 1, *TRAIN, "--out", "search", "--verbose")
    outcomes = [cli(*words, *data(signed.urls(signature))) for signature in (FIRST, SECOND)]
    assert [each.code for each in outcomes] == [0, 0], outcomes[0].err + outcomes[1].err
    assert "5e7cre7" not in "".join(each.out + each.err for each in outcomes)
    assert found_in(tmp_path) == []


@pytest.mark.parametrize("signed", ["memory"], indirect=True)
def test_a_prediction_goes_on_whatever_the_signature(cli, trained, signed, tmp_path) -> None:
    words = ("--model", trained.bundle, "--device", "cpu", "--out", tmp_path / "out")
    assert cli("predict", signed.urls(FIRST)[0], *words).code == 0
    said = cli("predict", signed.urls(SECOND)[0], *words, "--resume")
    assert said.code == 0, said.err
    assert found_in(tmp_path) == []


@pytest.mark.parametrize("signed", ["http"], indirect=True)
def test_shards_go_on_with_fresh_signatures(cli, trained, signed, tmp_path, monkeypatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    words = ("in.jsonl", "--model", trained.bundle, "--device", "cpu", "--out", "out", "--shard-size", 2)

    def predicted(urls: list[str], *more: str):
        Path("in.jsonl").write_text("".join(json.dumps({"uri": url}) + "\n" for url in urls))
        said = cli("predict", *words, *more)
        assert "5e7cre7" not in said.out + said.err
        return said

    old, new = signed.urls(FIRST), signed.urls(SECOND)
    said = predicted(old)
    assert said.code == 2 and "access is refused; give freshly signed URLs" in said.err
    said = predicted(old, "--resume")
    assert said.code == 2 and "give freshly signed URLs" in said.err, "those given now are as old"
    said = predicted(new[::-1], "--resume")
    assert said.code == 0, said.err
    Path("in.jsonl").unlink()
    assert found_in(tmp_path) == []

    Path("out/records/part-000000.json").unlink()
    said = predicted([url.partition("?")[0] + "?removed" for url in new], "--resume")
    assert said.code == 2 and "as an input of predict" in said.err, "a part was lost, and the run knows no signature"
    said = predicted(new, "--resume")
    assert said.code == 0, said.err
    Path("in.jsonl").unlink()
    assert found_in(tmp_path) == []


@pytest.mark.parametrize(
    "uri",
    ["s3://AKIAX:wJal/5e7cre7@bucket/x.png", "https://me:p@5e7cre7@h/x.png"],
    ids=["a key with a slash", "a password with an @"],
)
@pytest.mark.parametrize("more", [(), ("--shard-size", 1)], ids=["one file", "shards"])
def test_passwords_in_a_manifest_are_refused_and_written_nowhere(cli, trained, tmp_path, uri, more) -> None:
    if more:
        pytest.importorskip("pyarrow")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"uri": each}) + "\n" for each in ("https://h/a.png", uri)))
    done = cli("predict", rows, "--model", trained.bundle, "--out", tmp_path / "out", *more)
    assert done.code == 2 and f"{rows}:2: a name must not hold credentials; give" in done.err, done.err
    assert "5e7cre7" not in done.out + done.err
    assert found_in(tmp_path) == [str(rows)]
