"""The operators of the graphs that torch has in another form: non-maximum suppression of a whole batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op("detectclf::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    """Greedy non-maximum suppression, each row of its own.

    Unlike torchvision's, its output has the shape of its input, so that a graph of it takes batches of any size.

    Args:
        boxes: ``(N, M, 4)`` xyxy.
        scores: ``(N, M)``; a box whose score is not positive is not kept.
        iou: boxes that overlap a better one by more than this are suppressed.
        most: boxes that are kept of each row, at most.

    Returns:
        ``(N, M)``: the scores of the boxes that are kept, 0 for the others.
    """
    kept = torch.zeros_like(scores)
    for row, (own_boxes, own_scores) in enumerate(zip(boxes, scores, strict=True)):
        candidates = torch.where(own_scores > 0)[0]
        best = candidates[nms(own_boxes[candidates], own_scores[candidates], iou)[:most]]
        kept[row, best] = own_scores[best]
    return kept


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, most: int) -> Tensor:
    return torch.empty_like(scores)


def onnx_translations() -> dict[Any, Any]:
    """How the exporter of torch writes the operators above: operator -> function that makes ONNX nodes."""
    from onnxscript import opset18

    op: Any = opset18  # its types know no values of a graph that is still being made

    def suppressed(boxes: Any, scores: Any, iou: float, most: int) -> Any:
        selected = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, op.Constant(value_ints=[1])),
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[iou]),
            op.Constant(value_floats=[0.0]),
        )
        # Columns of the selection: row, class (there is one), box.
        places = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
        nothing = op.Mul(scores, op.Constant(value_float=0.0))
        return op.ScatterND(nothing, places, op.GatherND(scores, places))

    return {torch.ops.detectclf.suppress.default: suppressed}


__all__ = ["onnx_translations", "suppress"]
