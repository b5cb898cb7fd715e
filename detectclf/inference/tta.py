"""Test-time augmentation of the detector: a slice and its mirror image, merged; heads are nearly symmetric.

1. **Weighted boxes fusion** (Solovyev et al., "Weighted boxes fusion", Image and Vision Computing 107, 2021) merges the
   detections on both images.
2. **Box refinement.** The box head regresses each merged box again, on both images, from four shifted copies of it; the
   box becomes the mean of the eight results (after the iterative localisation of Gidaris and Komodakis, "Object
   detection via a multi-region and semantic segmentation-aware CNN model", ICCV 2015). This is cheap, since the feature
   maps are there already.

docs/log.md has what each step gains.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from detectclf.models.roi_features import Found, RoIFeatures

SHIFTS = ((-0.1, 0.0), (0.1, 0.0), (0.0, -0.1), (0.0, 0.1))
"""Shifts to the right and down of the copies that box refinement starts from, in sides of the box."""

MOST_REFINED = 8
"""Boxes that are refined on each slice, best first. A slice shows one tumour, hardly ever three."""


def with_mirrored(images: Tensor) -> Tensor:
    """``(2 B, 1, S, S)``: ``images`` ``(B, 1, S, S)``, then their mirror images."""
    return torch.cat([images, images.flip(3)])


def merge_mirrored(features: RoIFeatures, nms_iou: float) -> list[Found]:
    """The detections on each slice, merged with those on its mirror image and refined, best score first.

    Refinement may move boxes of one class closer together than ``nms_iou``; before it they are further apart.

    Args:
        features: of the images that :func:`with_mirrored` gives.
        nms_iou: boxes of one class with a larger IoU are duplicates, as on each image alone.
    """
    count = len(features.found) // 2
    merged = []
    for plain, mirrored in zip(features.found[:count], features.found[count:], strict=True):
        back = {**mirrored, "boxes": mirrored_boxes(mirrored["boxes"], features.width)}
        merged.append(weighted_boxes_fusion(plain, back, nms_iou))
    return _refined(merged, features)


def weighted_boxes_fusion(one: Found, other: Found, nms_iou: float) -> Found:
    """Two sets of detections on one slice, merged; best score first.

    Two boxes that match become their mean, weighted by score, with the mean score; a box without a match keeps half of
    its score.

    Args:
        one, other: each without duplicates.
        nms_iou: boxes of one class with a larger IoU match.
    """
    overlaps = box_iou(one["boxes"], other["boxes"])
    overlaps[one["labels"][:, None] != other["labels"][None]] = 0
    boxes, scores, labels = (torch.cat([one[key], other[key]]) for key in ("boxes", "scores", "labels"))
    first, second, alone = _pairs(overlaps > nms_iou, scores)
    weight = (scores[first] / (scores[first] + scores[second]))[:, None]
    all_boxes = torch.cat([weight * boxes[first] + (1 - weight) * boxes[second], boxes[alone]])
    all_scores = torch.cat([(scores[first] + scores[second]) / 2, scores[alone] / 2])
    all_labels = torch.cat([labels[first], labels[alone]])
    kept = batched_nms(all_boxes, all_scores, all_labels, nms_iou)  # best first; two means may be duplicates
    return {"boxes": all_boxes[kept], "labels": all_labels[kept], "scores": all_scores[kept]}


def _refined(merged: Sequence[Found], features: RoIFeatures) -> list[Found]:
    """``merged`` with the best boxes of each slice refined on both images.

    Boxes that become duplicates are kept: they were two detections, and their scores decide which extent is right. A
    second suppression loses most of what refinement gains (docs/log.md).
    """
    starts = [_shifted(each["boxes"][:MOST_REFINED]) for each in merged]
    labels = [each["labels"][:MOST_REFINED].repeat(len(SHIFTS)) for each in merged]
    mirrored_starts = [mirrored_boxes(boxes, features.width) for boxes in starts]
    ends = features.regress([*starts, *mirrored_starts], [*labels, *labels])
    done = []
    for each, plain, mirrored in zip(merged, ends[: len(merged)], ends[len(merged) :], strict=True):
        both_ends = torch.stack([plain, mirrored_boxes(mirrored, features.width)])
        # By shift, then by box; -1 would be ambiguous where there are no boxes.
        means = both_ends.reshape(2, len(SHIFTS), len(plain) // len(SHIFTS), 4).mean(dim=(0, 1))
        done.append({**each, "boxes": torch.cat([means, each["boxes"][MOST_REFINED:]])})
    return done


def _shifted(boxes: Tensor) -> Tensor:
    """``(S * N, 4)``: all ``boxes`` ``(N, 4)`` moved by the first shift, then by the second, and so on."""
    sides = boxes[:, 2:] - boxes[:, :2]
    moves = boxes.new_tensor(SHIFTS)[:, None] * sides[None]
    return (boxes[None] + moves.repeat(1, 1, 2)).flatten(0, 1)


def mirrored_boxes(boxes: Tensor, width: float) -> Tensor:
    """Boxes ``(N, 4)`` xyxy on the mirror image of a picture of ``width``, in the unit of ``width``."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)


def _pairs(same: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy one-to-one matching, highest sum of scores first.

    Args:
        same: ``(N, M)`` bool, which boxes of the first set may match which of the second.
        scores: ``(N + M,)`` of both sets.

    Returns:
        Indices into ``scores``: of matched boxes in the first set, of their matches, and of boxes without a match.
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


__all__ = ["merge_mirrored", "mirrored_boxes", "weighted_boxes_fusion", "with_mirrored"]
