"""Settings of a training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from detectclf.config.base import NonNegative, Settings


class TrainingConfig(Settings):
    """How a network is trained."""

    epochs: Annotated[int, Field(ge=1)] = 12
    """Passes over the training slices."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Slices per step over all processes together, so that two processes give the same result as one."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches per optimiser step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimiser."""
    lr: Annotated[float, Field(gt=0)] = 6e-4
    """Peak learning rate of the new layers."""
    backbone_lr: Annotated[float, Field(gt=0)] = 3e-4
    """Peak learning rate of the pretrained layers."""
    weight_decay: NonNegative = 0.02
    """Decoupled weight decay (not on norms and biases)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""
    warmup_epochs: NonNegative = 0.5
    """Epochs of linear warm-up before the cosine."""
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Learning rate at the end of the cosine, as a share of the peak. Averaged weights of a rate that is still high fit
    the sources of the training slices less closely; 0 fits them best."""
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    """Number of epochs, from the first on, in which the pretrained layers are frozen."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of the exponential moving average of weights, reached after a warm-up; 0 turns it off."""
    clip_norm: NonNegative = 5.0
    """Gradients are clipped to this norm; 0 turns clipping off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Mixed precision; auto is bf16 if the device is fast in it (also recent CPUs), fp16 on older GPUs, else fp32."""
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between evaluations. The last epoch is always evaluated; the best epoch is one of the evaluated ones."""
    save_every_steps: Annotated[int, Field(ge=0)] = 0
    """Steps between checkpoints within an epoch, to lose less when the training is killed; 0 saves at the end of each
    epoch only. SIGINT and SIGTERM save anyway."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop early after this many epochs without improvement; 0 turns early stopping off."""
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Also tell the figures of each epoch, and settings without paths, to these. MLflow goes where MLFLOW_TRACKING_URI
    says; Weights & Biases stays offline, in the run, unless WANDB_MODE says otherwise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, mps or xla (a TPU, through torch_xla)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of Python, NumPy, torch, loaders and augmentation."""


__all__ = ["TrainingConfig"]
