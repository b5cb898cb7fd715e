"""``bench``: what it says of each runtime, and of those that cannot run the bundle. No test looks at a time."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from detectclf.inference.loading import default_bundle

SHORT = ("--slices", 2, "--batch-size", 1, "--batch-size", 2)


def without_graphs(folder: Path) -> Path:
    """The packaged bundle as one without graphs."""
    bundle = folder / "bundle"
    shutil.copytree(default_bundle(), bundle)
    record = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    for name in ("detector.onnx", "classifier.onnx"):
        (bundle / name).unlink()
        del record["sha256"][name]
    (bundle / "bundle.json").write_text(json.dumps(record), encoding="utf-8")
    return bundle


@pytest.mark.parametrize(("runtime", "bundle"), [("openvino", ["default"]), ("onnx", []), ("torch", [])])
def test_one_row_for_each_batch_size(cli, runtime, bundle):
    """The packaged bundle, by name, as for --model, or by naming none."""
    said = cli("bench", *bundle, "--runtime", runtime, *SHORT, "--device", "cpu", "--json")
    assert said.code == 0, said.err
    document = said.document
    assert document["unavailable"] == {} and document["slices"] == 2
    assert document["model"].startswith("detectclf-default ")
    assert (
        document["machine"]["cpu"]
        and document["machine"]["cores"] >= 1
        and document["versions"]["onnxruntime" if runtime == "onnx" else runtime]
    )
    assert [(s["runtime"], s["device"], s["batch_size"]) for s in document["speeds"]] == [
        (runtime, "cpu", 1),
        (runtime, "cpu", 2),
    ]
    for speed in document["speeds"]:
        assert 0 < speed["ms_per_slice"] <= speed["ms_per_slice_p90"]
        assert speed["slices_per_second"] > 0 and speed["loading_s"] > 0 and speed["threads"] >= 1
    first, second = (speed["peak_memory_mib"] for speed in document["speeds"])
    assert 20 < first <= second  # of its own process, and not of this one


def test_a_runtime_that_cannot_run_the_bundle_is_named_in_the_table(cli, tmp_path):
    said = cli("bench", without_graphs(tmp_path), "--runtime", "openvino", "--runtime", "torch", *SHORT)
    assert said.code == 0, said.err
    assert said.out.startswith("bundle detectclf-default ") and f"({tmp_path / 'bundle'}): 2 drawn" in said.out
    rows = {line.split()[0]: line for line in said.out.splitlines()[3:] if line.split()}
    assert list(rows) == ["runtime", "torch", "openvino"]
    assert "not available" in rows["openvino"] and "has no graphs" in rows["openvino"]


REFUSED = {
    "no bundle": (("bench", "nowhere/", *SHORT), "nowhere"),
    "a batch that is larger than a pass": (("bench", "--slices", 2, "--batch-size", 4), "--slices 4"),
    "no such runtime": (("bench", "--runtime", "tensorflow", *SHORT), "use openvino, onnx, torch"),
    "no batch": (("bench", "--batch-size", 0), "--batch-size"),
    "a device that no runtime has": (
        ("bench", "--runtime", "openvino", "--device", "cuda", *SHORT),
        "OpenVINO does not run on 'cuda'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_timed_is_refused_in_one_line(cli, case):
    arguments, reason = REFUSED[case]
    said = cli(*arguments)
    assert (said.code, said.out) == (2, "")
    assert reason in said.err and said.err.count("\n") == 1


def test_a_process_that_dies_is_a_reason(tmp_path):
    """As with a wheel whose instructions the processor lacks: it ends without an answer."""
    from detectclf.pipelines.bench_process import Worker
    from detectclf.progress import Progress

    with Progress("timing", show=False) as progress:
        command = [sys.executable, "-c", "import os, sys; print('no AVX2', file=sys.stderr, flush=True); os._exit(7)"]
        worker = Worker("torch", command, tmp_path / "log", progress)
        with worker:
            assert worker.error == "its process ended with code 7: no AVX2"
            worker.measure(1, warm_up=True)
