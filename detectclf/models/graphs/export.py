"""Writes the networks of :mod:`detectclf.models.graphs.networks` as ONNX; their weights stay in the safetensors.

An initializer of such a graph names a place in the ``.safetensors`` of its stage (``external_data`` of the ONNX
standard), which ONNX Runtime and OpenVINO both read. So a bundle holds its weights once.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.errors import ModelError
from detectclf.models.stage import Stage

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

INPUT = "images"
"""Name of the input of every graph: ``(B, 1, S, S)`` uint8."""

OUTPUTS = {"detector": ("boxes", "labels", "scores", "features"), "classifier": ("logits",)}
"""Kind of stage -> names of the outputs of its graph."""


def graph_bytes(stage: Stage, weights: Path) -> bytes:
    """The graph of a stage as ONNX.

    Args:
        stage: its network may be on any device.
        weights: the file of its weights, which will lie beside the graph.

    Raises:
        ModelError: the architecture has no form in ONNX.
    """
    import onnx_ir as ir

    from detectclf.models.graphs.shared_weights import share_weights

    model = _exported(stage)
    share_weights(model, stage.network, weights)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _exported(stage: Stage) -> ir.Model:
    """The graph of a stage with weights of its own, in float32."""
    import torch
    from onnxscript import optimizer

    from detectclf.models.graphs.operators import onnx_translations

    size = stage.preprocessing.size
    try:
        with quiet(), torch.no_grad():
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

    own = copy.deepcopy(stage.network).cpu()  # the bundle's may be in use on another device
    network = DetectorGraph(own) if stage.kind == "detector" else ClassifierGraph(own)
    return network.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the remarks of exporters and quantisers about their own workings to themselves."""
    # The import of torch, which NNCF may be the first to do, sets the level of "torch" again, but not of what is below.
    names = ("torch", "torch.__trace", "torch.utils.cpp_extension", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
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


__all__ = ["INPUT", "OUTPUTS", "graph_bytes", "quiet"]
