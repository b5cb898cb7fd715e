"""Two readings of one slice, as it is and mirrored, made one: heads are nearly symmetric, errors are not.

Weighted boxes fusion (Solovyev et al., "Weighted boxes fusion", Image and Vision Computing 107, 2021) of two views.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

Found = dict[str, Tensor]
"""``boxes`` ``(N, 4)`` xyxy, ``labels`` ``(N,)``, ``scores`` ``(N,)``."""


def merge_mirrored(plain: Found, mirrored: Found, width: int, nms_iou: float) -> Found:
    """What a detector found on a slice and on its mirror image, as boxes of the slice, best score first.

    A box found in both views is their mean, weighted by score, and has the mean score; one that is found in one view
    only has half of its score.

    Args:
        plain, mirrored: each without boxes of one class that are about the same place.
        width: of the network's input, pixels.
        nms_iou: boxes of one class that overlap more than this are one, as within each view.
    """
    back = mirrored["boxes"].clone()
    back[:, [0, 2]] = width - mirrored["boxes"][:, [2, 0]]
    overlaps = box_iou(plain["boxes"], back)
    overlaps[plain["labels"][:, None] != mirrored["labels"][None]] = 0
    boxes = torch.cat([plain["boxes"], back])
    scores, labels = (torch.cat([plain[key], mirrored[key]]) for key in ("scores", "labels"))
    first, second, alone = _pairs(overlaps > nms_iou, scores)
    weight = (scores[first] / (scores[first] + scores[second]))[:, None]
    all_boxes = torch.cat([weight * boxes[first] + (1 - weight) * boxes[second], boxes[alone]])
    all_scores = torch.cat([(scores[first] + scores[second]) / 2, scores[alone] / 2])
    all_labels = torch.cat([labels[first], labels[alone]])
    kept = batched_nms(all_boxes, all_scores, all_labels, nms_iou)  # best first; means may have come together
    return {"boxes": all_boxes[kept], "labels": all_labels[kept], "scores": all_scores[kept]}


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
