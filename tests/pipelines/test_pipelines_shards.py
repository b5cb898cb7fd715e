"""Predictions in shards: whole, resumed, refused, read by ``evaluate``; on Ray where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from process_ender import write_ender
from volume_examples import slice_pixels

from detectclf.config import PredictConfig, ShardConfig
from detectclf.errors import ConfigError, DataError, DetectclfError, StorageError, UnsafeError
from detectclf.inference.made_predictions import read_predictions
from detectclf.inference.plans import names_of, read_plan
from detectclf.inference.shards import records_of
from detectclf.pipelines import ray_cluster
from detectclf.pipelines.model_digest import model_digest
from detectclf.pipelines.predict import predict, shard_settings
from detectclf.pipelines.predict_ray import _from_row, _to_row
from detectclf.storage import StoredFolder

pytest.importorskip("pyarrow")

KILLED = """
import os, runpy, signal, sys
from detectclf.storage import StoredFolder

write, at, sys.argv = StoredFolder.write, sys.argv[1], ["detectclf", "predict", *sys.argv[2:]]

def writes(self, file, content):
    if file == at:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, file, content)

StoredFolder.write = writes
runpy.run_module("detectclf", run_name="__main__")
"""
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five slices and a file that is none, in three parts of two."""
    folder = tmp_path_factory.mktemp("slices")
    for number in range(5):
        Image.fromarray(slice_pixels(number)).save(folder / f"{number}.png")
    (folder / "2-broken.png").write_text("no picture")
    return folder


def in_shards(folder: Path | str, out: Path | str, **changes: Any) -> Any:
    shards = changes.pop("shards", ShardConfig(shard_size=2))
    return predict([str(folder)], changes.pop("config", PredictConfig()), out=out, shards=shards, **changes)


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    done = in_shards(folder, out)
    assert (done.done, done.failed, done.exit_code, done.file) == (5, 1, 4, str(out / "manifest.json"))
    return out


def content(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


def test_shards_hold_the_records_of_one_file(folder: Path, whole: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    predict([str(folder)], PredictConfig(), out=tmp_path)
    records = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert list(records_of(StoredFolder(str(whole)))) == records
    rows = pq.read_table([str(file) for file in sorted(whole.glob("records/*.parquet"))]).to_pylist()
    assert [{key: value for key, value in row.items() if key in records[0]} for row in rows] == records


@pytest.mark.parametrize("at", ["plan/part-000001.jsonl", "records/part-000001.json", "manifest.json"])
def test_a_run_that_is_killed_anywhere_goes_on(folder: Path, whole: Path, tmp_path: Path, at: str) -> None:
    words = [sys.executable, "-c", KILLED, at, str(folder), "--out", str(tmp_path / "out"), "--shard-size", "2"]
    assert subprocess.run(words, capture_output=True).returncode == -signal.SIGKILL
    assert in_shards(folder, tmp_path / "out", resume=True).done == 5
    assert content(tmp_path / "out") == content(whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "add --resume"),
        ({"resume": True, "frame": 0}, "settings.frame"),
        ({"resume": True, "shards": ShardConfig(shard_size=3)}, "settings.shard_size"),
        ({"resume": True, "config": PredictConfig(runtime="onnx")}, "model.runtime"),
        ({"resume": True, "folder": "elsewhere"}, "inputs.arguments"),
        ({"visualize": True}, "no pictures"),
        ({"format": "csv"}, "no pictures"),
        ({"shards": None}, "has the shards of another run"),
    ],
    ids=str,
)
def test_output_of_another_run_is_refused(folder: Path, whole: Path, change: dict[str, Any], said: str) -> None:
    before = content(whole)
    with pytest.raises(ConfigError, match=said):
        in_shards(change.get("folder", folder), whole, **{key: change[key] for key in change if key != "folder"})
    assert content(whole) == before


def test_parts_that_nothing_describes_and_parts_that_were_lost(folder: Path, whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "records" / "part-000001.jsonl").write_text("")
    (out / "records" / "part-000002.parquet").unlink()
    with pytest.raises(DataError, match="not the file that was written"):
        list(records_of(StoredFolder(str(out))))
    in_shards(folder, out, resume=True)
    assert content(out) == content(whole)
    (out / "run.json").unlink()
    with pytest.raises(ConfigError, match="nothing describes"):
        in_shards(folder, out, resume=True)


def test_a_store_holds_the_same_files(folder: Path, whole: Path) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    in_shards(folder, "memory://bucket/out", shards=shard_settings("memory://x", None, 2, None, None))
    try:
        found = {name.removeprefix("/bucket/out/"): memory.cat(name) for name in memory.find("/bucket/out")}
        assert found == content(whole)
        assert in_shards(folder, "memory://bucket/out", resume=True).done == 5
    finally:
        memory.store.clear()


def test_a_plan_forgets_signatures_when_the_run_is_finished(folder: Path, tmp_path: Path) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    pictures, out = sorted(folder.glob("[0-9].png"))[:3], tmp_path / "out"
    names = [f"memory://signed/{path.name}?X-Amz-Signature=5e7cre7" for path in pictures]
    memory.pipe({name.removeprefix("memory:/"): path.read_bytes() for name, path in zip(names, pictures, strict=True)})
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"uri": name}) + "\n" for name in names))
    try:
        assert (
            predict([str(tmp_path / "in.jsonl")], PredictConfig(), out=out, shards=ShardConfig(shard_size=2)).done == 3
        )
    finally:
        memory.store.clear()
    assert not [file for file, text in content(out).items() if b"5e7cre7" in text]
    plan = StoredFolder(str(out))
    assert names_of(plan, 1) == ["memory://signed/2.png?removed"] and read_plan(plan) == {"parts": 2, "items": 3}
    assert [each["image"] for each in records_of(plan)] == [name.partition("?")[0] for name in names]
    resumed = predict(
        [str(tmp_path / "in.jsonl")], PredictConfig(), out=out, shards=ShardConfig(shard_size=2), resume=True
    )
    assert resumed.done == 3, "nothing is read again"


def test_volumes_have_studies(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    from volume_examples import write_nifti

    write_nifti(tmp_path / "head.nii.gz", 3)
    done = in_shards(tmp_path / "head.nii.gz", tmp_path / "out")
    (study,) = (
        json.loads(line) for line in (tmp_path / "out/records/part-000000.studies.jsonl").read_text().splitlines()
    )
    assert (study["study"], study["slices"], study["records"]) == (
        str(tmp_path / "head"), 3, "records/part-000000.jsonl"
    )  # fmt: skip
    assert done.done == 3 and done.studies is not None


def test_what_evaluate_reads(folder: Path, whole: Path, tmp_path: Path) -> None:
    digest = model_digest(None, ())
    predict([str(folder)], PredictConfig(), out=tmp_path)
    for out in (str(whole), str(tmp_path)):
        found = read_predictions(out, digest, 0.5)
        assert [each.to_record() for each in found] == list(records_of(StoredFolder(str(whole))))
    with pytest.raises(DataError, match="by another model"):
        read_predictions(str(whole), "0" * 64, 0.5)
    with pytest.raises(DataError, match=r"has no run\.json"):
        read_predictions(str(folder), digest, 0.5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((None, None, "10.0.0.1:1", None), "add --engine ray"),
        (("local", 5, None, 2.0), "add --engine ray"),
        (("ray", None, None, 0.0), "ray_cpus"),
    ],
)
def test_flags_that_do_not_go_together(flags: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        shard_settings("out", *flags)


def ended(folder: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``predict --resume`` where files called ``ends*.png`` end every process that opens them."""
    ender = write_ender(folder.parent / f"{folder.name}-ender")
    paths = os.pathsep.join([str(ender), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "detectclf", "predict", str(folder), "--out", str(out), "--resume", *words]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)


def errors_in(out: Path) -> list[tuple[str, bool]]:
    """Each picture, and whether its record says that it ended processes."""
    found = records_of(StoredFolder(str(out)))
    return [(Path(each["image"]).name, "ended without a word" in (each["error"] or "")) for each in found]


@pytest.fixture
def deadly(tmp_path: Path) -> Path:
    """Four pictures in two parts, one of which ends the process that reads it."""
    for number, name in enumerate(("a", "b", "ends", "z")):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(slice_pixels(number)).save(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


DEADLY = [("a.png", False), ("b.png", False), ("ends.png", True), ("z.png", False)]


def test_a_picture_that_ends_its_process_becomes_a_record(deadly: Path, tmp_path: Path) -> None:
    assert ended(deadly, tmp_path / "out", "--shard-size", "2").returncode == -signal.SIGKILL
    assert (tmp_path / "out/records/part-000001.attempts").read_text() == "1"
    done = ended(deadly, tmp_path / "out", "--shard-size", "2")
    assert done.returncode == 4, done.stderr
    assert errors_in(tmp_path / "out") == DEADLY
    assert not list(tmp_path.rglob("*.attempts"))


def test_a_part_whose_workers_end_for_another_reason_is_given_up(folder: Path, whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "records/part-000001.json").unlink()
    (out / "records/part-000001.attempts").write_text("10")
    with pytest.raises(DataError, match="ended 10 times"):
        in_shards(folder, out, resume=True)
    (out / "records/part-000002.attempts").write_text("1")  # of one that ended right after its last file
    in_shards(folder, out, resume=True)
    assert content(out) == content(whole), "tried again, and nothing left behind"


@needs_ray
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", r"nobody listens at 127\.0\.0\.1:9;"),
        ("me:secret@127.0.0.1:9", r"nobody listens at 127\.0\.0\.1:9;"),
        ("ray://me:secret@127.0.0.1:9", r"ray:// \(Ray's client\) is not supported; name the cluster itself"),
        ("127.0.0.1:PORT", "does not answer as a Ray cluster does; check --ray-address"),
        ("nonsense", "no Ray cluster at nonsense"),
    ],
)
def test_an_address_without_a_cluster(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.setattr("detectclf.pipelines.ray_cluster._ANSWER_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = address.replace("PORT", str(silent.getsockname()[1]))
        with pytest.raises(DetectclfError, match=said) as caught:
            in_shards(folder, tmp_path / "out", shards=ShardConfig(engine="ray", ray_address=address))
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": PredictConfig(runtime="openvino", device="cuda")}, "cuda"),
        ({"model": Path("nowhere")}, "no such folder"),
        ({"folder": "no-columns.csv"}, r"no-columns\.csv: has no column with pictures"),
        ({"folder": "no-rows.csv"}, "no input"),
        ({"folder": "memory://bucket/misspelt"}, "is not there"),
    ],
    ids=["device", "model", "columns", "rows", "uri"],
)
def test_what_cannot_begin_leaves_no_output(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    """Else the same command, put right, would be refused as that of another run."""
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    Path("no-columns.csv").write_text("id\n1\n")
    Path("no-rows.csv").write_text("image\n")
    with pytest.raises(DetectclfError, match=said):
        in_shards(change.pop("folder", folder), "out", **change)
    assert not Path("out").exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_is_not_installed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'detectclf\[ray\]'"):
        in_shards(folder, tmp_path / "out", shards=ShardConfig(engine="ray"))


@needs_ray
def test_ray_gives_the_same_files(folder: Path, whole: Path, tmp_path: Path) -> None:
    """The engine for real, on this machine alone; ``scripts/test_ray`` kills what there is to kill on a cluster."""
    words = ["predict", folder, "--out", tmp_path / "out", "--engine", "ray", "--shard-size", 2, "--ray-cpus", 1]
    done = subprocess.run(
        [sys.executable, "-m", "detectclf", *map(str, words)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 4 and done.stdout == f"predictions: {tmp_path / 'out' / 'manifest.json'}\n", done.stderr
    of_ours = ("predicting: ", f"{tmp_path / 'out'}: 1 could not be read")  # the first on a slow machine
    lines = [line for line in done.stderr.splitlines() if not line.startswith(of_ours)]
    assert all("Set ray log level" in line for line in lines), "nothing else of Ray's own"
    assert content(tmp_path / "out") == content(whole)


@pytest.mark.parametrize("ended", [False, True], ids=["in the middle", "at the end"])
def test_a_head_that_is_gone_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ended: bool
) -> None:
    """Ray ends the process without a word."""
    monkeypatch.setattr(ray_cluster, "_CHECK_EVERY_S", 0.01)
    over = threading.Event()
    if ended:
        over.set()
    ray_cluster._watch("127.0.0.1:9", over)
    assert ["127.0.0.1:9: the head of the Ray cluster is gone" in each for each in caplog.messages] == [True] * (
        not ended
    )


@pytest.mark.parametrize(
    "error",
    [
        StorageError("does not answer (X)", file="s3://b/out", remedy="go on with --resume when it answers"),
        UnsafeError("a bomb", file=Path("a.zip")),
        DataError("names no picture", file="m.csv", line=3, remedy="complete it"),
    ],
)
def test_what_a_worker_raises_is_raised_by_the_driver(error: DetectclfError) -> None:
    """Ray keeps neither the type of an exception nor what caused it."""
    again = _from_row(json.loads(json.dumps(_to_row(error))))
    assert (type(again), str(again)) == (type(error), str(error))


def test_another_failure_of_a_worker_says_what_it_was() -> None:
    found = _from_row(json.loads(json.dumps(_to_row(OSError(28, "No space left on device")))))
    assert "a worker failed (OSError: [Errno 28] No space left on device)" in str(found)


@needs_ray
def test_nodes_of_another_version_are_refused(folder: Path, tmp_path: Path) -> None:
    patched = "import runpy; from detectclf.pipelines import predict_ray; predict_ray.__version__ = '9.9'; "
    words = [str(folder), "--out", str(tmp_path / "out"), "--engine", "ray", "--ray-cpus", "1"]
    run = f"import sys; sys.argv[1:1] = ['predict']; {patched}runpy.run_module('detectclf', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", run, *words], capture_output=True, text=True, timeout=280)
    assert done.returncode == 2 and "the driver 9.9; install one version on all nodes" in done.stderr, done.stderr


@needs_ray
def test_a_picture_that_ends_its_worker_is_not_tried_for_ever(deadly: Path, tmp_path: Path) -> None:
    done = ended(deadly, tmp_path / "out", "--engine", "ray", "--shard-size", "2", "--ray-cpus", "1")
    assert done.returncode == 4, done.stderr
    assert errors_in(tmp_path / "out") == DEADLY


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("run.json", {"model": 3}, "not the description of a prediction"),
        ("run.json", {"settings": None}, "not the description of a prediction"),
        ("run.json", {"finished": None}, "not the description of a prediction"),
        ("run.json", {"model": {}}, "by another model"),
        ("manifest.json", {"parts": None}, "manifest.json: is damaged; give the predict command again with --resume"),
        ("manifest.json", {"parts": [{"part": "../x", "files": {}}]}, "is damaged"),
        ("records/part-000001.jsonl", None, r"remove records/part-000001\.json and .* --resume"),
    ],
)
def test_output_that_was_damaged_is_one_line(
    whole: Path, tmp_path: Path, file: str, content: dict[str, Any] | None, said: str
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    was = (out / file).read_text()
    (out / file).write_text(was[:-30] if content is None else json.dumps(json.loads(was) | content))
    with pytest.raises(DataError, match=said):
        read_predictions(str(out), model_digest(None, ()), 0.5)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "7", '{"parts": "x"}'], ids=["cut", "deep", "number", "text"])
def test_a_damaged_plan_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(DataError, match="is damaged; choose another --out"):
        read_plan(StoredFolder(str(tmp_path)))


def test_damaged_names_of_a_part_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "part-000000.jsonl").write_text('"a.png"\n"b')
    with pytest.raises(DataError, match=r"part-000000\.jsonl: is damaged"):
        names_of(StoredFolder(str(tmp_path)), 0)
