"""Takes the weights out of a graph: its initializers refer to tensors in a file of safetensors instead."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

if TYPE_CHECKING:
    from torch import nn

FEWEST_SHARED = 16
"""Tensors with fewer numbers are kept in the graph."""


class _Place(NamedTuple):
    """Where a tensor lies in a file of safetensors: its type there, offset and length in bytes."""

    type: str
    offset: int
    length: int


def share_weights(model: ir.Model, network: nn.Module, weights: Path) -> None:
    """Makes the initializers of ``model`` refer to the tensors of ``network`` in the file ``weights``.

    They are found by their values, since the exporter renames tensors and makes copies of some. Where the file has a
    tensor in float16, or the graph its transpose, nodes of the graph make one from the other; runtimes do that once.
    """
    places = _places(weights)
    known: dict[tuple[Any, ...], tuple[str, bool]] = {}
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().numpy()
        known.setdefault(_value(array), (name, False))
        if array.ndim == 2:
            known.setdefault(_value(array.T), (name, True))
    for value in list(model.graph.initializers.values()):
        assert value.const_value is not None
        array = value.const_value.numpy()
        name, transposed = known.get(_value(array), ("", False)) if array.size >= FEWEST_SHARED else ("", False)
        if name:
            _refer(model.graph, value, weights, places[name], transposed)


def _value(array: npt.NDArray[Any]) -> tuple[Any, ...]:
    """What tells tensors apart."""
    return array.dtype.name, array.shape, hashlib.blake2b(np.ascontiguousarray(array).data).digest()


def _refer(graph: ir.Graph, value: ir.Value, weights: Path, place: _Place, transposed: bool) -> None:
    """Replaces the initializer ``value`` by the tensor at ``place``, changed to its type and shape."""
    assert value.const_value is not None and value.dtype is not None
    name, shape, wanted = str(value.name), value.const_value.shape.numpy(), value.dtype
    stored_type = ir.DataType.FLOAT16 if place.type == "F16" else wanted
    stored_name = f"{name}.stored"
    shape = shape[::-1] if transposed else shape
    tensor = ir.ExternalTensor(
        weights.name, place.offset, place.length, stored_type, shape=ir.Shape(shape), name=stored_name,
        base_dir=weights.parent,
    )  # fmt: skip
    stored = ir.Value(name=stored_name, type=ir.TensorType(stored_type), shape=tensor.shape, const_value=tensor)
    nodes: list[ir.Node] = []
    if stored_type != wanted:
        nodes.append(ir.node("Cast", [stored], {"to": int(wanted)}))
    if transposed:
        nodes.append(ir.node("Transpose", [nodes[-1].outputs[0] if nodes else stored], {"perm": [1, 0]}))
    made = nodes[-1].outputs[0] if nodes else stored
    ir.convenience.replace_all_uses_with(value, made)
    del graph.initializers[name]
    if nodes:
        made.name, made.type, made.shape = name, ir.TensorType(wanted), value.shape
        graph.insert_before(graph[0], nodes)
    graph.register_initializer(stored)


def _places(file: Path) -> dict[str, _Place]:
    """Tensor -> where it lies in the file (the format of safetensors)."""
    with file.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    start = 8 + size
    return {
        name: _Place(
            entry["dtype"], start + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }


__all__ = ["share_weights"]
