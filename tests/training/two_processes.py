"""Run by torchrun from test_training_distributed.py: trains both tasks, in as many processes as it is started with."""

from __future__ import annotations

import sys
from pathlib import Path

from training_helpers import classification_task, detection_task, train, training, write_samples

# Odd numbers: the last batch of an epoch has to be filled up, and evaluation repeats a slice to even it out.
SLICES = 11


def train_both(folder: Path) -> None:
    """Run directories ``classifier`` and ``detector`` in ``folder``, from slices in ``folder/slices``."""
    samples = write_samples(folder / "slices", SLICES)
    train(classification_task(samples, norm="group", dropout=0.0), training(), folder / "classifier")
    # The backbone's BatchNorm stands still, and every anchor and proposal is taken: nothing depends on the process.
    task = detection_task(samples, rpn_samples=4096, roi_samples=512)
    train(task, training(epochs=2, freeze_epochs=2, accumulate=2), folder / "detector")


if __name__ == "__main__":
    train_both(Path(sys.argv[1]))
