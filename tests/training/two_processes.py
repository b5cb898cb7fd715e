"""Run by torchrun from test_training_distributed.py: trains both tasks, in as many processes as it is started with.

With ``for-ever`` it trains on until it is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from training_helpers import Watch, classification_task, detection_task, train, training, write_samples

# Odd numbers: the last batch of an epoch has to be filled up, and evaluation repeats a slice to even it out.
SLICES = 11


def train_both(folder: Path) -> None:
    """Run directories ``classifier``, ``parts`` and ``detector`` in ``folder``, from slices in ``folder/slices``.

    ``parts`` is the same training as ``classifier``, stopped in its first epoch and resumed.
    """
    samples = write_samples(folder / "slices", SLICES)
    train(classification_task(samples, norm="group", dropout=0.0), training(), folder / "classifier")
    watch = Watch(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None)
    try:
        train(classification_task(samples, norm="group", dropout=0.0), training(), folder / "parts", progress=watch)
    except KeyboardInterrupt:
        train(classification_task(samples, norm="group", dropout=0.0), training(), folder / "parts", resume=True)
    # The backbone's BatchNorm stands still, and every anchor and proposal is taken: nothing depends on the process.
    task = detection_task(samples, rpn_samples=4096, roi_samples=512)
    train(task, training(epochs=2, freeze_epochs=2, accumulate=2), folder / "detector")


def train_for_ever(folder: Path) -> None:
    """A run directory ``for-ever`` in ``folder``, with a file named after each process beside it."""
    (folder / f"{os.getpid()}.pid").touch()
    settings = training(epochs=100_000, save_every_steps=1)
    train(classification_task(write_samples(folder / str(os.getpid()), SLICES)), settings, folder / "for-ever")


if __name__ == "__main__":
    {"both": train_both, "for-ever": train_for_ever}[sys.argv[1]](Path(sys.argv[2]))
