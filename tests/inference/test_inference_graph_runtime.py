"""Graphs that do not fit their bundle are refused; a predictor outlives its files, and finds them through links."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detectclf.errors import ConfigError, ModelError
from detectclf.inference.loading import default_bundle, load
from detectclf.inference.runtimes.engines import EngineName
from detectclf.inference.runtimes.graph_runtime import GraphRuntime
from detectclf.models.bundle import Bundle, load_bundle
from detectclf.sample_data.slices import sample_slice

ENGINES: tuple[EngineName, ...] = ("openvino", "onnx")
NAN = np.nan


@pytest.fixture(scope="module")
def packaged() -> Bundle:
    return load_bundle(default_bundle())


def graph_of(**outputs: np.ndarray) -> bytes:
    """A graph that gives the same values for each slice of its input."""
    nodes = [
        helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["grey", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = {"axes": np.array([1, 2, 3]), "zero": np.array(0, np.float32)}
    described = []
    for name, values in outputs.items():
        kind, sum_name = (TensorProto.FLOAT, name) if name != "labels" else (TensorProto.INT64, "labels.float")
        constants |= {f"{name}.values": values[None].astype(np.float32), f"{name}.shape": np.array([-1, *values.shape])}
        constants[f"{name}.shape"][1:] = 1
        nodes.append(helper.make_node("Reshape", ["nothing", f"{name}.shape"], [f"{name}.nothing"]))
        nodes.append(helper.make_node("Add", [f"{name}.nothing", f"{name}.values"], [sum_name]))
        if name == "labels":
            nodes.append(helper.make_node("Cast", [sum_name], [name], to=kind))
        described.append(helper.make_tensor_value_info(name, kind, ["B", *values.shape]))
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 1, "S", "T"])
    weights = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "constant", [images], described, weights)
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    ).SerializeToString()
    return content


def opened(bundle: Bundle, folder: Path, engine: EngineName, **changes: Any) -> GraphRuntime:
    """The runtime of a bundle whose graphs give two boxes and even logits, but for ``changes``."""
    assert bundle.ood is not None
    outputs = {
        "boxes": [[0, 0, 9, 9], [1, 1, 20, 20]],
        "labels": [0, 2],
        "scores": [0.9, 0.2],
        "features": np.zeros(bundle.ood.mean.shape),
        "logits": np.zeros(4),
        **changes,
    }
    arrays = {name: np.array(values, dtype=np.float64) for name, values in outputs.items()}
    (folder / "classifier.onnx").write_bytes(graph_of(logits=arrays.pop("logits")))
    (folder / "detector.onnx").write_bytes(graph_of(**arrays))
    onnx.checker.check_model(str(folder / "detector.onnx"))
    graphs = {kind: folder / f"{kind}.onnx" for kind in ("detector", "classifier")}
    return GraphRuntime(replace(bundle, graphs=graphs), engine, "cpu")


SLICES = np.zeros((2, 8, 8), np.uint8)


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_that_fit_are_given(packaged: Bundle, tmp_path: Path, engine: EngineName) -> None:
    found = opened(packaged, tmp_path, engine, scores=[0.9, 0]).run(SLICES, SLICES)
    assert [(len(each.boxes), each.labels.tolist()) for each in found] == [(1, [0])] * 2


# What a graph gives, and what the line says of it.
MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "a label beyond the classes": ({"labels": [0, 3]}, "detector.onnx: the graph has not the 3 classes"),
    "a label below 0": ({"labels": [0, -1]}, "detector.onnx: the graph has not the 3 classes"),
    "another network's features": ({"features": np.zeros(5)}, "out-of-distribution statistics"),
    "a classifier of other classes": ({"logits": np.zeros(2)}, "classifier.onnx: the graph has not the 4 classes"),
    # What weights that are too large for float16 give; without a word, the slice would have no box, or be usual.
    "scores that are no numbers": ({"scores": [NAN, NAN]}, "detector.onnx: the graph gives numbers"),
    "boxes that are no numbers": ({"boxes": [[NAN, 0, 9, 9], [1, 1, 20, 20]]}, "not finite"),
    "features that are no numbers": ({"features": np.full(224, NAN)}, "not finite"),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_that_do_not_fit_are_refused(packaged: Bundle, tmp_path: Path, engine: EngineName, name: str) -> None:
    changes, words = MISFITS[name]
    with pytest.raises(ModelError, match=words):
        opened(packaged, tmp_path, engine, **changes).run(SLICES, SLICES)


PIXELS = sample_slice(1, "meningioma", "axial").pixels


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_bundle_of_links_is_opened(tmp_path: Path, engine: EngineName) -> None:
    """As in the caches of model hubs, where each file links to one that is named by its digest."""
    blobs, bundle = tmp_path / "blobs", tmp_path / "bundle"
    shutil.copytree(default_bundle(), blobs)
    bundle.mkdir()
    for number, file in enumerate(sorted(blobs.iterdir())):
        file.rename(blobs / str(number))
        (bundle / file.name).symlink_to(f"../blobs/{number}")
    assert load(bundle, runtime=engine).predict(PIXELS).label == "meningioma"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_predictor_outlives_its_files(tmp_path: Path, engine: EngineName) -> None:
    """One that was loaded from a temporary folder, or whose bundle is being replaced: batches compile later."""
    model = load(shutil.copytree(default_bundle(), tmp_path / "bundle"), runtime=engine)
    shutil.rmtree(tmp_path / "bundle")
    assert [each.label for each in model.predict_many([PIXELS] * 2)] == ["meningioma"] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_forked_process_does_not_open_other_files(tmp_path: Path, change: str) -> None:
    """It opens the graphs itself, and those of a new bundle would give other answers than its parent's."""
    folder = shutil.copytree(default_bundle(), tmp_path / "bundle")
    model = load(folder, runtime="openvino")
    graph = folder / "detector.onnx"
    if change == "removed":
        graph.unlink()
    else:
        graph.write_bytes(graph.read_bytes() + b" ")
    said = tmp_path / "said"
    child = os.fork()
    if child == 0:
        try:
            model.predict(PIXELS)
        except ModelError as error:
            said.write_text(str(error), encoding="utf-8")
        os._exit(0)
    os.waitpid(child, 0)
    assert "changed or removed" in said.read_text(encoding="utf-8")
    assert model.predict(PIXELS).label == "meningioma"  # the parent has it open


def test_a_runtime_that_is_none_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="'openvino', 'onnx' or 'torch'") as caught:
        load(runtime="tensorrt")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
