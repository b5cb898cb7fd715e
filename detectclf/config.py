"""Every setting of detectclf: typed, documented and validated in one place.

:mod:`detectclf.recipes` reads their values. Below ``pipelines``, a function gets only its own sub-config.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from detectclf.types import ANY_TUMOR

_log = logging.getLogger(__name__)

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


OLD_NAMES: Mapping[str, str] = {
    "augment.healthy_half": "augment.symmetry_healthy",
    "augment.tumor_half": "augment.symmetry_tumor",
    "bundle.mirror": "bundle.tta",
}
"""Former dotted name of a setting -> its name, to read recipes and runs of earlier versions."""


def present_name(dotted: str) -> str:
    """The name of a setting that may be given by a former one, which is logged then."""
    if dotted in OLD_NAMES:
        _log.warning("setting %s is now called %s", dotted, OLD_NAMES[dotted])
    return OLD_NAMES.get(dotted, dotted)


class Settings(BaseModel):
    """Base of all settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)

    group: ClassVar[str] = ""
    """First part of the dotted names of these settings, where some of them had other names."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        renamed: dict[str, Any] = {}
        for key, value in values.items():
            name = present_name(f"{cls.group}.{key}").rpartition(".")[2] if cls.group else key
            if name in renamed:
                raise ValueError(f"{name} is given by its former name as well")
            renamed[name] = value
        return renamed


class DataConfig(Settings):
    """Which slices are used and how they are loaded."""

    sources: tuple[Path, ...] = ()
    """Folders with exports; splits of the same name are merged."""
    train_split: str = "train"
    """Split to train on."""
    valid_split: str = "valid"
    """Split for validation metrics, from which the best epoch is chosen."""
    negative_boxes: Literal["drop", "keep"] = "drop"
    """Boxes of the negative class (drawn round the whole head): drop them, or keep them as a class of boxes."""
    class_map: dict[str, str] = Field(default_factory=dict)
    """Other spellings of classes: name in the data -> class name."""
    any_tumor: tuple[str, ...] = ()
    """Names of classes in the data that mean a tumour of unknown type (``any_tumor`` always does). Such slices and
    boxes train that there is a tumour, not which; they count in figures of localisation, not in those of classes."""
    faults: Literal["stop", "fix"] = "stop"
    """Errors in the annotations: stop at the first one, or fix what can be fixed and report it."""
    patients: Path | None = None
    """Table (CSV) with the columns file and patient. Of an id only a keyed hash is kept."""
    patient_pattern: str | None = None
    """Regular expression that finds the patient's id in the name of a file, without its folders, as its one group, such
    as ^(P[0-9]+)_."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use at most this many slices of each split, spread over the classes."""
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    """Cross-validation: split all slices into this many folds, whatever their published split; slices of one patient
    and copies stay together."""
    held_out: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Folds to validate on; the others are trained on. If empty, train on all folds and validate on fold 0."""
    fold_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the folds."""
    copies: Literal["keep", "one"] = "keep"
    """Train on every copy of a slice, or (with folds only) on one of them."""
    balance: Probability = 0.0
    """How much an epoch makes up for classes of few slices: 0 takes each slice once, 1 all classes equally often."""
    lesion_masks: Path | None = None
    """Folder of tumour masks, NUMBER.png for each slice of figshare 1512427; slices find theirs by content."""
    head_maps: Path | None = None
    """Folder of label maps of whole heads (NIfTI, labels of SynthSeg), to draw slices from."""
    cache: Literal["auto", "memory", "none"] = "auto"
    """Keep decoded, resized slices in memory; auto: only if they fit into a quarter of the free memory."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Loader processes; by default none with a cache, else one per core up to 8."""

    @field_validator("faults", mode="before")
    @classmethod
    def _read_old_value(cls, value: Any) -> Any:
        if value == "mend":
            _log.warning("data.faults: mend is now called fix")
        return "fix" if value == "mend" else value

    @field_validator("patient_pattern")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        try:
            groups = 1 if value is None else re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        if groups != 1:
            raise ValueError(f"has {groups} groups instead of one, the patient's id; write (?:...) for others")
        return value

    @model_validator(mode="after")
    def _one_meaning(self) -> DataConfig:
        if both := sorted(set(self.any_tumor) & set(self.class_map)):
            raise ValueError(f"{both[0]!r} is in class_map and in any_tumor")
        return self

    @property
    def spellings(self) -> dict[str, str]:
        """Name in the data -> class, of ``class_map`` and ``any_tumor`` together."""
        return self.class_map | dict.fromkeys(self.any_tumor, ANY_TUMOR)

    @model_validator(mode="after")
    def _folds_or_none(self) -> DataConfig:
        if self.folds is None and (self.held_out or self.copies == "one"):
            raise ValueError("held_out and copies=one need folds")
        return self


class AugmentConfig(Settings):
    """Augmentation of training slices. There are no up-down flips, because heads are never upside down in practice."""

    group: ClassVar[str] = "augment"

    enabled: bool = True
    """Whether training slices are augmented at all."""
    flip: Probability = 0.5
    """Probability of a left-right flip."""
    affine: Probability = 0.8
    """Probability of a small rotation, zoom and shift."""
    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = 12.0
    """Largest rotation to either side, degrees."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Largest zoom in or out, as a share of the size."""
    shift: Annotated[float, Field(ge=0, lt=0.5)] = 0.06
    """Largest shift, as a share of the size."""
    intensity: Probability = 0.8
    """Probability of a change of brightness, contrast and gamma."""
    strength: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Largest relative change of brightness, contrast and gamma."""
    noise: Probability = 0.2
    """Probability of Gaussian noise, which is close to the Rician noise of MRI."""
    blur: Probability = 0.1
    """Probability of a slight blur."""
    bias_field: Probability = 0.2
    """Probability of a bias field: a smooth change of intensity over the slice, as in MRI."""
    ghosting: Probability = 0.05
    """Probability of ghosting along one axis, as from motion in MRI."""
    tone: Probability = 0.0
    """Probability of a random tone curve, possibly inverted, as if from another sequence or scanner."""
    symmetry_healthy: Probability = 0.0
    """Probability that a slice whose tumours all lie on one side becomes its healthy half, mirrored into a whole."""
    symmetry_tumor: Probability = 0.0
    """Probability that such a slice becomes its half with the tumours, mirrored into a whole, so that not only healthy
    slices are symmetric."""
    paint: Probability = 0.0
    """Probability that a lesion is painted into a slice without a tumour, which then shows a tumour of unknown type.
    Its shape is that of a mask (data.lesion_masks), else random."""
    recontrast: Probability = 0.0
    """Probability that grey levels are mapped at random, those of a lesion apart from those around it, so that contrast
    is no evidence. The lesion is a mask (data.lesion_masks), else the ellipse in its box."""
    strip: Probability = 0.0
    """Probability that skull and scalp are made black, where the brain can be found."""
    drawn: Probability = 0.0
    """Probability that a slice is replaced by one of its class that is drawn from data.head_maps."""
    min_visibility: Annotated[float, Field(gt=0, le=1)] = 0.3
    """A box is dropped if less than this share of its area is left in the picture."""

    @property
    def symmetry(self) -> bool:
        """Whether symmetry augmentation is on."""
        return self.enabled and self.symmetry_healthy + self.symmetry_tumor > 0

    @model_validator(mode="after")
    def _one_half_at_most(self) -> AugmentConfig:
        if self.symmetry_healthy + self.symmetry_tumor > 1:
            raise ValueError("symmetry_healthy and symmetry_tumor add up to more than 1")
        return self


class ModelConfig(Settings):
    """What the settings of every stage have in common."""

    arch: str
    """Architecture."""
    weights: str = "default"
    """default (the library's pretrained weights), none, or a path to safetensors, a plain state dict, or a run."""


class DetectorConfig(ModelConfig):
    """The detector: a torchvision Faster R-CNN."""

    arch: str = "fasterrcnn_mobilenet_v2_fpn"
    """A row of the DETECTORS table, or fasterrcnn_timm:NAME."""
    image_size: Annotated[int, Field(ge=64, le=2048)] = 320
    """Longer side of the network's input, pixels."""
    anchor_sizes: tuple[tuple[float, ...], ...] | None = None
    """Anchor sides in input pixels, one tuple per feature level; by default those of the architecture."""
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height of an anchor divided by its width."""
    pyramid_channels: Annotated[int, Field(ge=16, le=512)] | None = None
    """Channels of a lean detector's feature pyramid; by default the architecture's own."""
    head_width: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Width of a lean detector's box head; by default the architecture's own."""
    frozen: tuple[str, ...] = ()
    """Parts of the backbone (dotted module names) that keep their pretrained weights, such as its first stages."""
    proposals_train: Annotated[int, Field(ge=10)] = 200
    """Region proposals kept per slice after non-maximum suppression in training."""
    proposals_test: Annotated[int, Field(ge=10)] = 60
    """Region proposals kept per slice after non-maximum suppression in prediction."""
    roi_samples: Annotated[int, Field(ge=8)] = 64
    """Proposals per slice that the box head is trained on."""
    rpn_samples: Annotated[int, Field(ge=8)] = 128
    """Anchors per slice that the proposal network is trained on."""
    score_threshold: Probability = 0.01
    """Lowest score of a predicted box; low because mAP also counts boxes of low scores."""
    nms_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU above which non-maximum suppression drops the lower-scoring of two boxes of a class."""
    max_boxes: Annotated[int, Field(ge=1)] = 20
    """Most boxes per slice."""
    box_loss: Literal["smooth_l1", "giou", "ciou"] = "smooth_l1"
    """Loss of the box regression in the box head."""


class ClassifierConfig(ModelConfig):
    """The classifier of whole slices."""

    arch: str = "mobilenet_v2"
    """A row of the CLASSIFIERS table, or timm:NAME."""
    image_size: Annotated[int, Field(ge=32, le=1024)] | None = None
    """Side of the square input, pixels; by default the architecture's own."""
    frozen: tuple[str, ...] = ()
    """Parts of the backbone (dotted module names) that keep their pretrained weights, such as its first stages."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout before the last layer; by default the architecture's own."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of each label spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weigh the loss by inverse class frequency."""


class RefinerConfig(ModelConfig):
    """The refiner, which takes a crop around each proposed box."""

    arch: str = "mobilenet_v2"
    """mobilenet_v2, or timm:NAME."""
    image_size: Annotated[int, Field(ge=64, le=512, multiple_of=32)] = 128
    """Side of a crop, pixels of the network's input; a multiple of 32."""
    slice_size: Annotated[int, Field(ge=64, le=2048)] = 512
    """Longer side of a slice after resizing, before it is cropped, pixels."""
    context: Annotated[float, Field(gt=1, le=5)] = 2.0
    """Side of a crop divided by the longer side of its box."""
    pyramid_channels: Annotated[int, Field(ge=16, le=512)] = 64
    """Channels of the feature pyramid."""
    head_width: Annotated[int, Field(ge=16, le=4096)] = 128
    """Width of the layer that predicts the box."""
    frozen: tuple[str, ...] = ()
    """Parts of the backbone (dotted module names) that keep their pretrained weights, such as its first stages."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout before the layers that predict class and quality."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of each label spread over all classes."""


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
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop early after this many epochs without improvement; 0 turns early stopping off."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of Python, NumPy, torch, loaders and augmentation."""


class DetectorRecipe(Settings):
    """All settings of ``train-detector``."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: DetectorConfig = DetectorConfig()
    training: TrainingConfig = TrainingConfig()


class ShowRecipe(Settings):
    """All settings of ``data show --augmented``."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()


class ClassifierRecipe(Settings):
    """All settings of ``train-classifier``."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ClassifierConfig = ClassifierConfig()
    training: TrainingConfig = TrainingConfig(batch_size=32, lr=8e-4, backbone_lr=4e-4, ema_decay=0.98)


class RefinerRecipe(Settings):
    """All settings of ``train-refiner``."""

    detector: Path | None = None
    """Run of a detector; its proposals beside the tumours are used as hard negatives."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: RefinerConfig = RefinerConfig()
    training: TrainingConfig = TrainingConfig(epochs=20, batch_size=32, lr=1e-3, backbone_lr=4e-4, ema_decay=0.98)


class BundleConfig(Settings):
    """How runs are joined."""

    group: ClassVar[str] = "bundle"

    name: str = "detectclf"
    """Name of the model in predictions."""
    version: str = "1"
    """Version of the model in predictions, after the name."""
    sensitivity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Choose the operating point for this sensitivity to tumours on the bundling split."""
    max_false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Instead of sensitivity: choose the operating point so that at most this share of healthy slices is called a
    tumour."""
    low_confidence: Probability = 0.6
    """Slices whose best probability is lower are flagged for review by a human."""
    tta: bool = False
    """Test-time augmentation: also run on mirrored slices, and regress each box a second time. Doubles the time."""
    keep_fingerprints: Literal["all", "compact", "none"] = "all"
    """Fingerprints of the training slices (4 KB each) in the bundle, so that evaluations can detect leakage; compact:
    without those of slices that the atlas of figshare 1512427 knows by their number, whose copies are then not found
    where they were cropped or much changed in contrast."""
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
    """auto, cpu, cuda, cuda:N or mps."""


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


class BundleRecipe(Settings):
    """All settings of ``bundle``."""

    data: DataConfig = DataConfig()
    bundle: BundleConfig = BundleConfig()
    predict: PredictConfig = PredictConfig()
    evaluate: EvaluateConfig = EvaluateConfig(bootstrap=500)


class EvaluateRecipe(Settings):
    """All settings of ``evaluate``."""

    data: DataConfig = DataConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    predict: PredictConfig = PredictConfig()


__all__ = [
    "AugmentConfig",
    "BundleConfig",
    "BundleRecipe",
    "ClassifierConfig",
    "ClassifierRecipe",
    "DataConfig",
    "DetectorConfig",
    "DetectorRecipe",
    "EvaluateConfig",
    "EvaluateRecipe",
    "ModelConfig",
    "PredictConfig",
    "RefinerConfig",
    "RefinerRecipe",
    "Settings",
    "ShowRecipe",
    "TrainingConfig",
]
