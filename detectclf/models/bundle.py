"""A bundle: the stages and how they are fused, in one folder of safetensors and JSON.

``bundle.json`` describes all of it; ``detector.safetensors``, ``classifier.safetensors`` and, where there is a refining
stage, ``refiner.safetensors`` hold the weights, whose SHA-256 is in ``bundle.json``. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from detectclf.errors import ModelError
from detectclf.files import atomic_write
from detectclf.models.knowledge import (
    OOD_FILE,
    OUT_OF_FOLD_FILE,
    OODStatistics,
    OutOfFoldPredictions,
    knowledge_files,
    load_ood,
    load_out_of_fold,
)
from detectclf.models.rebuild import rebuild_classifier, rebuild_detector, rebuild_refiner
from detectclf.models.saved import ModelMeta, read_json, weights_bytes

if TYPE_CHECKING:
    from detectclf.models.classifiers import Classifier
    from detectclf.models.detectors import Detector
    from detectclf.models.refiner import Refiner

BUNDLE_FILE = "bundle.json"
DETECTOR_FILE, CLASSIFIER_FILE, REFINER_FILE = (
    "detector.safetensors",
    "classifier.safetensors",
    "refiner.safetensors",
)
_AGAIN = "bundle the runs again"


@dataclass(frozen=True)
class FusionParameters:
    """Numbers of the fusion, fitted on the bundling split; the formulas are in ``inference/fusion.py``.

    Attributes:
        temperature: divides the classifier's logits (Guo et al. 2017).
        class_weight: of the classifier's log-probabilities.
        box_weight: of the detector's evidence.
        bias: one number per class of the bundle, added to the fused logits.
        box_gamma: 0 leaves box scores as they are, 1 replaces them by the probability of the box's class.
        tumor_threshold: probability of a tumour from which a slice is called one; ``None`` takes the likeliest class.
        box_threshold: fused score from which a box counts as a claim of a tumour.
        low_confidence: slices whose best probability is lower are flagged.
        refiner_weight: of the refiner's evidence.
        refined_score_weights: exponents of the detector's score, the refiner's quality and its probability of the
            class, in the score of a refined box; they sum to 1.
        refined_box_weight: weight of the refined box against the detector's in the box given out.
        mirror: whether detector and classifier also read the mirror image of each slice (``inference/mirror.py``).
        target_sensitivity, target_false_alarm_rate: what ``tumor_threshold`` was set for on the bundling split, if
            anything; at most one of the two. What it turns out to be elsewhere is measured by evaluation.
    """

    temperature: float
    class_weight: float
    box_weight: float
    bias: tuple[float, ...]
    box_gamma: float
    tumor_threshold: float | None
    box_threshold: float
    low_confidence: float
    target_sensitivity: float | None = None
    target_false_alarm_rate: float | None = None
    refiner_weight: float = 0.0
    refined_score_weights: tuple[float, float, float] = (0.75, 0.25, 0.0)
    refined_box_weight: float = 0.5
    tta: bool = False


@dataclass
class Bundle:
    """The stages, ready to predict.

    Attributes:
        name, version: what predictions carry as ``model``.
        classes: of a slice, in the order of the classifier's outputs.
        negative: the class that means "no tumour", ``None`` where there is none.
        detector, detector_meta: the box stage; its classes are ``detector_meta.classes``.
        classifier, classifier_meta: the class stage.
        fusion: how both become one answer.
        facts: free JSON facts: data, metrics, versions.
        ood: tells other pictures from brain MRI, ``None`` where it was not fitted.
        out_of_fold: out-of-fold words on training slices, ``None`` where there are none.
        refiner, refiner_meta: the stage that reads places again, ``None`` where there is none.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    negative: str | None
    detector: Detector
    detector_meta: ModelMeta
    classifier: Classifier
    classifier_meta: ModelMeta
    fusion: FusionParameters
    facts: dict[str, Any] = field(default_factory=dict)
    refiner: Refiner | None = None
    refiner_meta: ModelMeta | None = None
    ood: OODStatistics | None = None
    out_of_fold: OutOfFoldPredictions | None = None

    def parts(self) -> dict[str, tuple[Detector | Classifier | Refiner, ModelMeta]]:
        """Name -> model and description of every stage there is."""
        parts: dict[str, tuple[Detector | Classifier | Refiner, ModelMeta]] = {
            "detector": (self.detector, self.detector_meta),
            "classifier": (self.classifier, self.classifier_meta),
        }
        if self.refiner is not None and self.refiner_meta is not None:
            parts["refiner"] = (self.refiner, self.refiner_meta)
        return parts


# Former name of a number of the fusion -> its name: bundles of earlier versions are read.
_OLD_FUSION_NAMES = {
    "place_weight": "refiner_weight",
    "place_weights": "refined_score_weights",
    "place_mix": "refined_box_weight",
    "mirror": "tta",
}


class _Record(BaseModel):
    """What ``bundle.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("fusion", mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {_OLD_FUSION_NAMES.get(key, key): value for key, value in values.items()}

    format: Literal["detectclf-bundle"] = "detectclf-bundle"
    # 2: boxes are fused by other rules, and a mirrored slice is read by the detector too; parameters of 1 do not fit.
    # 3: with ``mirror`` the detector's boxes are other ones, and a refiner moves fewer; parameters of 2 do not fit.
    format_version: Literal[3] = 3
    name: str
    version: str
    classes: tuple[str, ...] = Field(min_length=1)
    negative: str | None
    detector: ModelMeta
    classifier: ModelMeta
    refiner: ModelMeta | None = None
    fusion: FusionParameters
    sha256: dict[str, str]
    facts: dict[str, Any]


def save_bundle(folder: Path, bundle: Bundle, *, half: bool = True) -> None:
    """Writes a bundle into ``folder``, the description last, so that half a bundle does not look like one.

    Args:
        folder: made where it is not there.
        bundle: both stages and their fusion.
        half: store matrices and filters in float16, which halves the files.

    Raises:
        DataError: the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BUNDLE_FILE).unlink(missing_ok=True)
    sums = {}
    for stage, (model, _) in bundle.parts().items():
        name = f"{stage}.safetensors"
        content = weights_bytes(model, half=half)
        atomic_write(folder / name, content)
        sums[name] = hashlib.sha256(content).hexdigest()
    for name, content in knowledge_files(bundle.ood, bundle.out_of_fold).items():
        atomic_write(folder / name, content)
        sums[name] = hashlib.sha256(content).hexdigest()
    record = _Record(
        name=bundle.name,
        version=bundle.version,
        classes=bundle.classes,
        negative=bundle.negative,
        detector=bundle.detector_meta,
        classifier=bundle.classifier_meta,
        refiner=bundle.refiner_meta,
        fusion=bundle.fusion,
        sha256=sums,
        facts=bundle.facts,
    )
    atomic_write(folder / BUNDLE_FILE, TypeAdapter(_Record).dump_json(record, indent=2).decode() + "\n")


def load_bundle(folder: Path) -> Bundle:
    """The bundle in ``folder``, its models in evaluation mode on the CPU.

    Raises:
        ModelError: not a bundle, corrupted, or its parts do not belong together.
    """
    file = folder / BUNDLE_FILE
    content = read_json(file, missing="not a bundle: it has no bundle.json", remedy="make one with `detectclf bundle`")
    try:
        record = _Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"not a bundle: {where}: {first['msg']}", file=file, remedy="bundle the runs again") from error
    _check_parts(record, file)
    extra = [name for name in (OOD_FILE, OUT_OF_FOLD_FILE) if name in record.sha256]
    for name in (DETECTOR_FILE, CLASSIFIER_FILE, *([REFINER_FILE] if record.refiner else []), *extra):
        _check_sum(folder / name, record.sha256.get(name))
    classes = len(record.classes)
    return Bundle(
        name=record.name,
        version=record.version,
        classes=record.classes,
        negative=record.negative,
        detector=rebuild_detector(record.detector, folder / DETECTOR_FILE),
        detector_meta=record.detector,
        classifier=rebuild_classifier(record.classifier, folder / CLASSIFIER_FILE),
        classifier_meta=record.classifier,
        fusion=record.fusion,
        facts=record.facts,
        refiner=None if record.refiner is None else rebuild_refiner(record.refiner, folder / REFINER_FILE),
        refiner_meta=record.refiner,
        ood=load_ood(folder / OOD_FILE) if OOD_FILE in extra else None,
        out_of_fold=load_out_of_fold(folder / OUT_OF_FOLD_FILE, classes) if OUT_OF_FOLD_FILE in extra else None,
    )


def looks_like_bundle(folder: Path) -> bool:
    """Whether ``folder`` holds a ``bundle.json``."""
    return (folder / BUNDLE_FILE).is_file()


def _check_parts(record: _Record, file: Path) -> None:
    if (REFINER_FILE in record.sha256) != (record.refiner is not None):
        raise ModelError("names a refiner in one place only", file=file, remedy=_AGAIN)
    weights = np.array([*record.fusion.refined_score_weights, record.fusion.refined_box_weight])
    if not ((weights >= 0) & (weights <= 1)).all():  # also where one is not a number
        raise ModelError("weights of the fusion are not from 0 to 1", file=file, remedy=_AGAIN)
    if record.classes != record.classifier.classes or len(record.fusion.bias) != len(record.classes):
        raise ModelError("classes of bundle, classifier and fusion differ", file=file, remedy="bundle the runs again")


def _check_sum(file: Path, wanted: str | None) -> None:
    remedy = "copy or bundle it again"
    if not file.is_file():
        raise ModelError("is missing from the bundle", file=file, remedy=remedy)
    if hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
        raise ModelError("corrupted: not the file that was bundled", file=file, remedy=remedy)


__all__ = ["Bundle", "FusionParameters", "load_bundle", "looks_like_bundle", "save_bundle"]
