"""Post-training quantisation of a graph to int8 by NNCF (the extra ``int8``).

Convolutions, fully connected layers and the additions between convolutions get int8; the arithmetic of boxes, their
suppression and RoIAlign stay in float32. ONNX Runtime's own quantisation was measured as well and moves the logits more
than twice as far (docs/log.md): it does not correct the bias that rounding gives to each channel.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detectclf.errors import ModelError
from detectclf.leftovers import scratch_folder
from detectclf.models.graphs.export import INPUT, quiet
from detectclf.types import Pixels

BETWEEN = {"Clip", "Relu", "Resize"}
"""Operators that may stand between a convolution and an addition that becomes int8."""


def check_installed() -> None:
    """Makes sure that what quantises is there.

    Raises:
        ModelError: it is not.
    """
    for module in ("nncf", "onnxruntime"):
        if find_spec(module) is None:
            raise ModelError(f"{module} is not installed, which --int8 needs", remedy="pip install 'detectclf[int8]'")


def quantised(graph: Path, slices: Sequence[Pixels]) -> bytes:
    """The graph in int8 as ONNX, which holds its weights itself and takes the same input.

    Args:
        graph: in float32, its weights beside it.
        slices: ``(S, S)`` uint8 each, from which the ranges of the activations are found.

    Raises:
        ModelError: the graph is damaged, or cannot be quantised.
    """
    # NNCF reports each use to its makers unless this is set: nothing leaves a machine with patients' slices.
    os.environ["NNCF_CI"] = "1"
    try:
        # It draws its own progress on stdout.
        with quiet(), redirect_stdout(io.StringIO()):
            made = _quantised(_folded(graph), slices)
    except Exception as error:
        # ONNX, ONNX Runtime and NNCF raise errors of many kinds.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise ModelError(f"cannot be quantised: {reason}", file=graph, remedy="export it without --int8") from error
    content: bytes = made.SerializeToString()
    return content


def _quantised(model: Any, slices: Sequence[Pixels]) -> Any:
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        model,
        nncf.Dataset([pixels[None, None] for pixels in slices], lambda images: {INPUT: images}),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(slices),
        ignored_scope=nncf.IgnoredScope(names=_kept_in_float(model), validate=False),
    )


def _folded(graph: Path) -> Any:
    """The graph with its weights inside, in float32, and the batch normalisations folded into the convolutions."""
    import onnx
    import onnxruntime

    with scratch_folder() as folder:
        whole, folded = folder / "whole.onnx", folder / "folded.onnx"
        onnx.save(onnx.load(str(graph)), str(whole))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(str(whole), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(folded))


def _kept_in_float(model: Any) -> list[str]:
    """Names of the nodes that NNCF must not quantise: all but convolutions, layers and what stands between them."""
    makers = {name: node for node in model.graph.node for name in node.output}

    def of_convolutions(name: str) -> bool:
        node = makers.get(name)
        if node is None:
            return False
        if node.op_type == "Add":
            return all(map(of_convolutions, node.input))
        return node.op_type == "Conv" or (node.op_type in BETWEEN and of_convolutions(node.input[0]))

    def quantised(node: Any) -> bool:
        return node.op_type in {"Conv", "Gemm", *BETWEEN} or (node.op_type == "Add" and of_convolutions(node.output[0]))

    return [node.name for node in model.graph.node if not quantised(node)]


__all__ = ["check_installed", "quantised"]
