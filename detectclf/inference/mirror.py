"""Two readings of one slice, as it is and mirrored, made one: heads are nearly symmetric, errors are not.

Weighted boxes fusion (Solovyev et al., "Weighted boxes fusion", Image and Vision Computing 107, 2021) of two views.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

SAME_BOX_IOU = 0.55
"""Boxes of one class in both views that overlap more than this are one; the paper's value."""

Found = dict[str, Tensor]
"""``boxes`` ``(N, 4)`` xyxy, ``labels`` ``(N,)``, ``scores`` ``(N,)``."""


def merge_mirrored(plain: Found, mirrored: Found, width: int) -> Found:
    """What a detector found on a slice and on its mirror image, as boxes of the slice, best score first.

    A box found in both views is their mean, weighted by score, and has the mean score; one that is found in one view
    only has half of its score.

    Args:
        plain, mirrored: each without boxes of one class that are about the same place.
        width: of the network's input, pixels.
    """
    back = mirrored["boxes"].clone()
    back[:, [0, 2]] = width - mirrored["boxes"][:, [2, 0]]
    overlaps = box_iou(plain["boxes"], back)
    overlaps[plain["labels"][:, None] != mirrored["labels"][None]] = 0
    boxes = torch.cat([plain["boxes"], back])
    scores, labels = (torch.cat([plain[key], mirrored[key]]) for key in ("scores", "labels"))
    first, second, alone = _pairs(overlaps, scores)
    weight = (scores[first] / (scores[first] + scores[second]))[:, None]
    all_boxes = torch.cat([weight * boxes[first] + (1 - weight) * boxes[second], boxes[alone]])
    all_scores = torch.cat([(scores[first] + scores[second]) / 2, scores[alone] / 2])
    all_labels = torch.cat([labels[first], labels[alone]])
    order = torch.argsort(all_scores, descending=True, stable=True)
    return {"boxes": all_boxes[order], "labels": all_labels[order], "scores": all_scores[order]}


def _pairs(overlaps: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of boxes that are one, in the first view and in the second, surest first, and of those left over.

    Args:
        overlaps: ``(N, M)`` of the first view's boxes with the second's.
        scores: ``(N + M,)`` of both; so are the indices.
    """
    count = len(overlaps)
    rows, columns = torch.nonzero(overlaps > SAME_BOX_IOU, as_tuple=True)
    free = torch.ones(len(scores), dtype=torch.bool)
    pairs = []
    for k in torch.argsort(scores[rows] + scores[count + columns], descending=True, stable=True).tolist():
        i, j = int(rows[k]), count + int(columns[k])
        if free[i] and free[j]:
            free[i] = free[j] = False
            pairs.append((i, j))
    chosen = torch.tensor(pairs, dtype=torch.int64, device=scores.device).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1], torch.nonzero(free)[:, 0].to(scores.device)
