"""Cross-entropy where some tumours are of unknown type: for these the classes of tumours are summed out.

This is the maximum of the marginal likelihood for partial labels (Jin & Ghahramani, "Learning with Multiple Labels",
2002): the loss of such a row is -log of the summed probability of all tumour classes. It teaches that there is a tumour
and says nothing about which.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from detectclf.types import ANY_TUMOR_INDEX


def marginal_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    tumors: Sequence[int],
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    counted: Tensor | None = None,
) -> Tensor:
    """Mean loss over the rows; without tumours of unknown type that of ``functional.cross_entropy``.

    No shape depends on the labels.

    Args:
        logits: ``(N, K)`` float32.
        labels: ``(N,)`` int64, below ``K``, or ``ANY_TUMOR_INDEX`` for a tumour of unknown type.
        tumors: indices of the tumour classes among the ``K``.
        class_weights: ``(K,)`` weights of the classes. A tumour of unknown type weighs 1, as the mean slice does under
            balanced weights.
        label_smoothing: share of each known label spread over the classes. It is left out of unknown ones: what is
            spread over the tumour classes would be a claim about the type.
        counted: ``(N,)`` which rows count, of labels that were filled up to a fixed length; all by default.
    """
    losses = functional.cross_entropy(
        logits,
        labels,
        weight=class_weights,
        label_smoothing=label_smoothing,
        ignore_index=ANY_TUMOR_INDEX,
        reduction="none",
    )
    unknown = labels == ANY_TUMOR_INDEX
    weights = torch.ones_like(logits[:, 0])
    if class_weights is not None:
        weights = torch.where(unknown, weights, class_weights[labels.clamp(min=0)])
    if tumors:
        marginal = logits.logsumexp(dim=1) - logits[:, list(tumors)].logsumexp(dim=1)
        losses = torch.where(unknown, marginal, losses)
    if counted is not None:
        losses, weights = losses * counted, weights * counted
    return losses.sum() / weights.sum()


__all__ = ["marginal_cross_entropy"]
