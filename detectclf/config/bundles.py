"""Settings of what is done with trained networks: bundling, prediction, evaluation."""

from __future__ import annotations

import logging
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from detectclf.config.base import ModelName, Probability, Settings

_log = logging.getLogger(__name__)


class BundleConfig(Settings):
    """How runs are joined."""

    group: ClassVar[str] = "bundle"

    name: ModelName = "detectclf"
    """Name of the model in predictions."""
    version: ModelName = "1"
    """Version of the model in predictions, after the name."""
    sensitivity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Choose the operating point for this sensitivity to tumours on the bundling split."""
    max_false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Instead of sensitivity: choose the operating point so that at most this share of healthy slices is called a
    tumour."""
    tumor_prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of tumour slices among those that probabilities are for, such as 0.5; by default the share in the bundling
    split, in which tumours are often more frequent than where the model is used. A slice is then called a tumour from a
    probability of 0.5 on, unless an operating point is set."""
    unusual_temperature: Annotated[float, Field(ge=1)] = 1.25
    """Divides the log-odds of slices that are unlike the training slices, so that they are less sure; 1 leaves them."""
    unusual_negative_temperature: Annotated[float, Field(ge=1)] = 1.75
    """The same where the answer is no tumour: on another sequence or scanner a tumour is more often overlooked than
    imagined."""
    low_confidence: Probability = 0.6
    """Slices whose best probability is lower are flagged for review by a human."""
    keep_fingerprints: Literal["all", "compact", "none"] = "all"
    """Fingerprints of the training slices (4 KB each) in the bundle, so that evaluations can detect leakage; compact:
    without those of slices that the atlas of figshare 1512427 knows by their number, whose copies are then not found
    where they were cropped or much changed in contrast."""
    export: bool = True
    """Write the graphs with which the bundle predicts without torch."""
    licences: dict[str, str] = Field(default_factory=dict)
    """Licences for the model card: what -> licence, such as data -> CC BY 4.0."""
    box_threshold: Probability = 0.5
    """Lowest fused score of a box that is drawn and counts as a detected tumour."""

    @field_validator("keep_fingerprints", mode="before")
    @classmethod
    def _read_old_value(cls, value: Any) -> Any:
        if isinstance(value, bool):
            _log.warning("bundle.keep_fingerprints: %s is now called %s", value, "all" if value else "none")
            return "all" if value else "none"
        return value


class PredictConfig(Settings):
    """How predictions are made."""

    batch_size: Annotated[int, Field(ge=1)] = 8
    """Slices per forward pass."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps; auto is the CPU for bundles with graphs, else the first of cuda, mps, cpu."""
    runtime: Literal["auto", "openvino", "onnx", "torch"] = "auto"
    """What computes the networks: OpenVINO, ONNX Runtime or torch; auto is OpenVINO on the CPU, torch elsewhere."""


class EvaluateConfig(Settings):
    """How metrics and their confidence intervals are computed."""

    bootstrap: Annotated[int, Field(ge=0)] = 2000
    """Bootstrap resamples of source groups for the 95 % confidence intervals; 0 leaves intervals out."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the resampling."""
    worst: Annotated[int, Field(ge=0)] = 12
    """Number of worst mistakes shown as pictures in the report."""
    risk: Probability = 0.02
    """Accepted error rate among the slices that are not referred to a human."""


__all__ = ["BundleConfig", "EvaluateConfig", "PredictConfig"]
