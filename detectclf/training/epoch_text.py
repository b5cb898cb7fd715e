"""What a training says of its epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectclf.config import TrainingConfig


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """One epoch as a line of text, such as ``epoch 3/12: loss 0.4121, mAP 0.310, mAP50 0.720, 6.9 slices/s, 93 s``."""
    figures = ", ".join(f"{k} {'-' if v is None else f'{v:.3f}'}" for k, v in record["metrics"].items())
    speed = f"{record['slices_per_second']:.1f} slices/s, {record['seconds']:.0f} s"
    return f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.4f}, {figures}, {speed}"


def resumed(epoch: int, step: int, steps: int, epochs: int) -> str:
    """Where a training goes on that has done ``epoch`` of its ``epochs``, and ``step`` of ``steps`` of the next."""
    if epoch >= epochs:
        return f"resumed: {epoch} of {epochs} epochs were done before, so nothing is trained"
    within = f", after {step} of its {steps} steps" if step else ""
    return f"resumed: goes on with epoch {epoch + 1}/{epochs}{within}"


def stopped_early(epoch: int, config: TrainingConfig, metric: str, best_epoch: int | None) -> str:
    """Why a training ended before its last epoch."""
    return (
        f"stopped after epoch {epoch} of {config.epochs}: {metric} has not risen above that of epoch {best_epoch} for "
        f"{config.patience} or more epochs (training.patience={config.patience}); 0 would train all epochs"
    )
