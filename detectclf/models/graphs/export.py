"""Writes the networks of :mod:`detectclf.models.graphs.networks` as ONNX; their weights stay in the safetensors.

An initializer of such a graph names a place in the ``.safetensors`` of its stage (``external_data`` of the ONNX
standard), which ONNX Runtime and OpenVINO both read. So a bundle holds its weights once.
"""

from __future__ import annotations

import json
import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectclf.errors import ModelError
from detectclf.models.stage import Stage

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

INPUT = "images"
"""Name of the input of every graph: ``(B, 1, S, S)`` uint8."""

OUTPUTS = {"detector": ("boxes", "labels", "scores", "features"), "classifier": ("logits",)}
"""Kind of stage -> names of the outputs of its graph."""

FEWEST_SHARED = 16
"""Tensors with fewer numbers are kept in the graph."""


def graph_bytes(stage: Stage, weights: Path) -> bytes:
    """The graph of a stage as ONNX.

    Args:
        stage: its network is on the CPU.
        weights: the file of its weights, which will lie beside the graph.

    Raises:
        ModelError: the architecture has no form in ONNX.
    """
    import onnx_ir as ir

    model = _exported(stage)
    _use_weights_of_file(model, stage.network, weights)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _exported(stage: Stage) -> ir.Model:
    """The graph of a stage with weights of its own, in float32."""
    import torch
    from onnxscript import optimizer

    from detectclf.models.graphs.operators import onnx_translations

    size = stage.preprocessing.size
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _network(stage),
                (torch.zeros(2, 1, size, size, dtype=torch.uint8),),
                dynamo=True,
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1, max=4096)}},
                input_names=[INPUT],
                output_names=list(OUTPUTS[stage.kind]),
                custom_translation_table=onnx_translations(),
                # It would fold the batch normalisations into new weights, and the bundle would hold both.
                optimize=False,
                verbose=False,
            )
            assert program is not None
            optimizer.fold_constants(program.model)
            optimizer.remove_unused_nodes(program.model)
    except Exception as error:
        # The exporter raises errors of many kinds.
        raise ModelError(
            f"the {stage.kind} {stage.meta.arch} cannot be exported: {str(error).strip().splitlines()[0]}",
            remedy="bundle it with --no-export, and predict with --runtime torch",
        ) from error
    model: ir.Model = program.model
    _forget_sources(model)
    return model


def _network(stage: Stage) -> nn.Module:
    from detectclf.models.graphs.networks import ClassifierGraph, DetectorGraph

    network = DetectorGraph(stage.network) if stage.kind == "detector" else ClassifierGraph(stage.network)
    return network.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks about its own workings to itself."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.__trace", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _forget_sources(model: ir.Model) -> None:
    """Removes the exporter's notes on where each node comes from: they name files of this machine."""
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()


def _use_weights_of_file(model: ir.Model, network: nn.Module, weights: Path) -> None:
    """Makes the initializers refer to the tensors of ``weights``, which are found by their values.

    Names would not do, since the exporter renames tensors and makes copies of some.
    """
    import onnx_ir as ir

    places = _places(weights)
    by_value: dict[Any, str] = {}
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().contiguous().numpy()
        by_value.setdefault((array.dtype.name, array.shape, array.tobytes()), name)
    for value in list(model.graph.initializers.values()):
        assert value.const_value is not None
        array = value.const_value.numpy()
        found = by_value.get((array.dtype.name, array.shape, array.tobytes())) if array.size >= FEWEST_SHARED else None
        if found is None:
            continue
        kind, offset, length = places[found]
        stored = ir.DataType.FLOAT16 if kind == "F16" else value.const_value.dtype
        tensor = ir.ExternalTensor(
            weights.name, offset, length, stored, shape=ir.Shape(array.shape), name=str(value.name),
            base_dir=weights.parent,
        )  # fmt: skip
        if stored == value.const_value.dtype:
            value.const_value = tensor
        else:
            _cast(model.graph, value, tensor)


def _cast(graph: ir.Graph, value: ir.Value, stored: ir.ExternalTensor) -> None:
    """Replaces the initializer ``value`` by ``stored``, cast to its type where the graph uses it."""
    import onnx_ir as ir

    name = str(value.name)
    half = ir.Value(name=f"{name}.stored", type=ir.TensorType(stored.dtype), shape=stored.shape, const_value=stored)
    stored.name = f"{name}.stored"
    assert value.dtype is not None
    node = ir.node("Cast", [half], {"to": int(value.dtype)}, num_outputs=1)
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(value.dtype), value.shape
    ir.convenience.replace_all_uses_with(value, node.outputs[0])
    del graph.initializers[name]
    node.outputs[0].name = name
    graph.register_initializer(half)
    graph.insert_before(graph[0], node)


def _places(file: Path) -> dict[str, tuple[str, int, int]]:
    """Tensor -> its type, offset in the file and length in bytes (the format of safetensors)."""
    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], 8 + size + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
    }


__all__ = ["INPUT", "OUTPUTS", "graph_bytes"]
