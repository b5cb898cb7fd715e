"""Two readings of one slice, as it is and mirrored, made one: heads are nearly symmetric, errors are not.

1. Weighted boxes fusion (Solovyev et al., "Weighted boxes fusion", Image and Vision Computing 107, 2021) of the two.
2. The box stage looks again, in both readings, from four starts beside each box, and the box becomes the mean of where
   they are moved to (after the iterative localisation of Gidaris and Komodakis, "Object detection via a multi-region
   and semantic segmentation-aware CNN model", ICCV 2015). The maps are there, so that a look costs little.

What each step is worth is in docs/log.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from detectclf.models.roi_features import Found, RoIFeatures

STARTS = ((-0.1, 0.0), (0.1, 0.0), (0.0, -0.1), (0.0, 0.1))
"""Where the second look starts from, in sides of the box beside it."""

MOST_LOOKS = 8
"""Boxes of a slice that are looked at again, best first; slices show one tumour, hardly ever three."""


def with_mirrored(images: Tensor) -> Tensor:
    """``(2 B, 1, S, S)``: ``images`` ``(B, 1, S, S)`` and after them their mirror images."""
    return torch.cat([images, images.flip(3)])


def merge_views(both: RoIFeatures, nms_iou: float) -> list[Found]:
    """What a detector found on slices and on their mirror images, as boxes of the slices, best score first.

    Boxes of one class may overlap more than ``nms_iou`` in the end; the places that they were found at did not.

    Args:
        both: of :func:`with_mirrored`.
        nms_iou: boxes of one class that overlap more than this are one, as within each reading.
    """
    count = len(both.found) // 2
    merged = []
    for plain, mirrored in zip(both.found[:count], both.found[count:], strict=True):
        back = {**mirrored, "boxes": mirrored_boxes(mirrored["boxes"], both.width)}
        merged.append(merge_found(plain, back, nms_iou))
    return _looked_again(merged, both)


def merge_found(one: Found, other: Found, nms_iou: float) -> Found:
    """Boxes of two readings of one slice, best score first.

    A box found in both is their mean, weighted by score, and has the mean score; one that is found in one reading only
    has half of its score.

    Args:
        one, other: each without boxes of one class that are about the same place.
        nms_iou: boxes of one class that overlap more than this are one.
    """
    overlaps = box_iou(one["boxes"], other["boxes"])
    overlaps[one["labels"][:, None] != other["labels"][None]] = 0
    boxes, scores, labels = (torch.cat([one[key], other[key]]) for key in ("boxes", "scores", "labels"))
    first, second, alone = _pairs(overlaps > nms_iou, scores)
    weight = (scores[first] / (scores[first] + scores[second]))[:, None]
    all_boxes = torch.cat([weight * boxes[first] + (1 - weight) * boxes[second], boxes[alone]])
    all_scores = torch.cat([(scores[first] + scores[second]) / 2, scores[alone] / 2])
    all_labels = torch.cat([labels[first], labels[alone]])
    kept = batched_nms(all_boxes, all_scores, all_labels, nms_iou)  # best first; means may have come together
    return {"boxes": all_boxes[kept], "labels": all_labels[kept], "scores": all_scores[kept]}


def _looked_again(merged: Sequence[Found], both: RoIFeatures) -> list[Found]:
    """``merged`` with the best boxes where both readings move them to.

    Boxes that come together are kept: they were found as two places, and which of the two extents is right is for their
    scores to say. Suppressing them again costs most of what the look brings (docs/log.md).
    """
    starts = [_starts(each["boxes"][:MOST_LOOKS]) for each in merged]
    labels = [each["labels"][:MOST_LOOKS].repeat(len(STARTS)) for each in merged]
    ends = both.regress([*starts, *(mirrored_boxes(boxes, both.width) for boxes in starts)], [*labels, *labels])
    done = []
    for each, here, there in zip(merged, ends[: len(merged)], ends[len(merged) :], strict=True):
        both_ends = torch.stack([here, mirrored_boxes(there, both.width)])
        # By start, then by box: -1 would be ambiguous without boxes.
        means = both_ends.reshape(2, len(STARTS), len(here) // len(STARTS), 4).mean(dim=(0, 1))
        done.append({**each, "boxes": torch.cat([means, each["boxes"][MOST_LOOKS:]])})
    return done


def _starts(boxes: Tensor) -> Tensor:
    """``(S * N, 4)``: all ``boxes`` ``(N, 4)`` moved by the first of the starts, then by the second, and so on."""
    sides = boxes[:, 2:] - boxes[:, :2]
    moves = boxes.new_tensor(STARTS)[:, None] * sides[None]
    return (boxes[None] + moves.repeat(1, 1, 2)).flatten(0, 1)


def mirrored_boxes(boxes: Tensor, width: float) -> Tensor:
    """Boxes ``(N, 4)`` xyxy on the mirror image of a picture of ``width``, in whatever unit they are in."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)


def _pairs(same: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of boxes that are one, in the first view and in the second, surest first, and of those left over.

    Args:
        same: ``(N, M)`` bool, which boxes of the first view may be one with which of the second.
        scores: ``(N + M,)`` of both; so are the indices.
    """
    count = len(same)
    rows, columns = torch.nonzero(same, as_tuple=True)
    free = torch.ones(len(scores), dtype=torch.bool)
    pairs = []
    for k in torch.argsort(scores[rows] + scores[count + columns], descending=True, stable=True).tolist():
        i, j = int(rows[k]), count + int(columns[k])
        if free[i] and free[j]:
            free[i] = free[j] = False
            pairs.append((i, j))
    chosen = torch.tensor(pairs, dtype=torch.int64, device=scores.device).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1], torch.nonzero(free)[:, 0].to(scores.device)


__all__ = ["merge_found", "merge_views", "mirrored_boxes", "with_mirrored"]
