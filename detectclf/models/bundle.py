"""A bundle: the stages and how they are fused, in one folder of safetensors and JSON.

``bundle.json`` describes everything. ``detector.safetensors`` and ``classifier.safetensors`` hold the weights;
``detector.onnx`` and ``classifier.onnx`` are the networks without weights, to run without torch (``models/graphs``).
``bundle.json`` has the SHA-256 of each. Nothing is ever unpickled. Graphs in int8 (``export --int8``) hold their
weights, and such a bundle has no safetensors of its stages.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from detectclf.config.base import ModelName, Probability
from detectclf.errors import ModelError
from detectclf.files import atomic_write, open_regular
from detectclf.models.bundle_arrays import (
    OOD_FILE,
    OUT_OF_FOLD_FILE,
    OODStatistics,
    OutOfFoldPredictions,
    array_files,
    load_ood,
    load_out_of_fold,
)
from detectclf.models.stage import STAGES, ModelMeta, Stage
from detectclf.models.stage_files import REMOVED, read_json, rebuild_stage, weights_bytes
from detectclf.types import MOST_CLASSES

BUNDLE_FILE = "bundle.json"
_AGAIN = "bundle the runs again"
_LARGEST_FILE = 2 * 2**30
"""Bytes: the largest network that is known to be used has 0.6 GB in float32."""
_BLOCK = 2**20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FusionParameters:
    """Parameters of the fusion, fitted on the bundling split; the formulas are in ``inference/fusion.py``.

    Attributes:
        temperature: divides the classifier's logits (Guo et al. 2017).
        class_weight: weight of the classifier's log-probabilities.
        box_weight: weight of the detector's evidence.
        bias: one number per class of the bundle, added to the fused logits.
        box_gamma: 0 leaves box scores as they are, 1 replaces them by the probability of the box's class.
        tumor_threshold: a slice is called a tumour from this probability of a tumour on; with ``None`` it gets the
            likeliest class.
        box_threshold: a box counts as a detected tumour from this fused score on.
        low_confidence: slices whose best probability is lower are flagged.
        target_sensitivity, target_false_alarm_rate: the rate that ``tumor_threshold`` was chosen for on the bundling
            split; at most one of the two. Evaluation measures the rate on other data.
        unusual_temperature: divides the log-odds of a slice that is unlike the training slices.
        unusual_negative_temperature: the same where the answer is no tumour; ``None`` for the same number.
        tumor_prior: share of tumour slices that the probabilities are for; ``None`` for that of the bundling split.
    """

    temperature: Annotated[float, Field(ge=0.01, le=100)]
    class_weight: Annotated[float, Field(ge=0, le=1000)]
    box_weight: Annotated[float, Field(ge=0, le=1000)]
    bias: Annotated[tuple[Annotated[float, Field(ge=-1000, le=1000)], ...], Field(max_length=MOST_CLASSES)]
    box_gamma: Probability
    tumor_threshold: Probability | None
    box_threshold: Probability
    low_confidence: Probability
    target_sensitivity: Probability | None = None
    target_false_alarm_rate: Probability | None = None
    unusual_temperature: Annotated[float, Field(ge=0.01, le=1e6)] = 1.0
    unusual_negative_temperature: Annotated[float, Field(ge=0.01, le=1e6)] | None = None
    tumor_prior: Probability | None = None


@dataclass
class Bundle:
    """The stages, ready to predict.

    Attributes:
        name, version: what predictions carry as ``model``.
        classes: classes of a slice, in the order of the classifier's outputs.
        negative: the class that means "no tumour", ``None`` if there is none.
        stages: kind -> stage; a detector and a classifier.
        fusion: how the outputs of the stages become one prediction.
        metadata: JSON metadata: data, metrics, versions.
        ood: recognises pictures that are not brain MRI; ``None`` if it was not fitted.
        out_of_fold: out-of-fold predictions for the training slices; ``None`` if there are none.
        graphs: kind of stage -> its graph, of a bundle on disk that has them.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    negative: str | None
    stages: dict[str, Stage]
    fusion: FusionParameters
    metadata: dict[str, Any] = field(default_factory=dict)
    ood: OODStatistics | None = None
    out_of_fold: OutOfFoldPredictions | None = None
    graphs: dict[str, Path] = field(default_factory=dict)


# What earlier versions wrote for their third stage, by two generations of names, also where a bundle had none.
_REFINER_PARAMETERS = {
    "refiner_weight",
    "refined_score_weights",
    "refined_box_weight",
    "place_weight",
    "place_weights",
    "place_mix",
}


class _Content(BaseModel):
    """The content of ``bundle.json``, with the file's own keys; each kind of stage adds one for its description."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("fusion", mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kept = {key: value for key, value in values.items() if key not in _REFINER_PARAMETERS}
        mirrored = [kept.pop(name, False) for name in ("tta", "mirror")]
        if any(mirrored):
            _log.warning(
                "this bundle was fitted with mirror images, which are not used any more: bundle its runs again"
            )
        return kept

    format: Literal["detectclf-bundle"] = "detectclf-bundle"
    # 2: boxes are fused by other rules, and the detector also runs on the mirrored slice; parameters of 1 do not fit.
    # 3: with TTA the detector's boxes differ, and a refiner moves fewer of them; parameters of 2 do not fit.
    # 4: the numbers of the fusion have other names; 3 is read as well.
    format_version: Literal[3, 4] = 4
    name: ModelName
    version: ModelName
    classes: tuple[str, ...] = Field(min_length=1, max_length=MOST_CLASSES)
    negative: str | None
    fusion: FusionParameters
    sha256: dict[str, str]
    # The file's key is the former name.
    metadata: dict[str, Any] = Field(alias="facts")

    @property
    def stages(self) -> dict[str, ModelMeta]:
        """Kind -> description of the stages in the bundle."""
        return {kind: getattr(self, kind) for kind in STAGES}


_DESCRIPTIONS: dict[str, Any] = dict.fromkeys(STAGES, (ModelMeta, ...))
_Record = create_model("_Record", __base__=_Content, **_DESCRIPTIONS)


def save_bundle(folder: Path, bundle: Bundle, *, half: bool = True, graphs: bool = False) -> None:
    """Writes a bundle into ``folder``, the description last, so that half a bundle does not look like one.

    Args:
        folder: created if missing.
        bundle: the stages and their fusion.
        half: store matrices and filters in float16, which halves the files.
        graphs: also write the graphs, with which it predicts without torch; takes some seconds for each.

    Raises:
        DataError: the files cannot be written.
        ModelError: a network has no form as a graph.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BUNDLE_FILE).unlink(missing_ok=True)
    files = []
    for kind, stage in bundle.stages.items():
        atomic_write(folder / weights_file(kind), weights_bytes(stage.network, half=half))
        files.append(weights_file(kind))
        if graphs:
            from detectclf.models.graphs.export import graph_bytes

            atomic_write(folder / graph_file(kind), graph_bytes(stage, folder / weights_file(kind)))
            files.append(graph_file(kind))
    describe_bundle(folder, bundle, files)


def describe_bundle(folder: Path, bundle: Bundle, files: Sequence[str]) -> None:
    """Writes the arrays of a bundle, then ``bundle.json``, which makes ``folder`` one.

    Args:
        folder: has the weights and graphs.
        bundle: the stages and their fusion.
        files: names of the weights and graphs, whose SHA-256 is recorded.

    Raises:
        DataError: the files cannot be written.
    """
    arrays = array_files(bundle.ood, bundle.out_of_fold)
    for name, array in arrays.items():
        atomic_write(folder / name, array)
    own = ("name", "version", "classes", "negative", "fusion")
    content: dict[str, Any] = {name: getattr(bundle, name) for name in own}
    content |= {kind: stage.meta for kind, stage in bundle.stages.items()}
    content |= {"sha256": {name: sha256(folder / name) for name in (*files, *arrays)}, "facts": bundle.metadata}
    record = _Record.model_validate(content)
    atomic_write(folder / BUNDLE_FILE, record.model_dump_json(indent=2, by_alias=True) + "\n")


def load_bundle(folder: Path) -> Bundle:
    """The bundle in ``folder``, its networks in evaluation mode on the CPU; torch is loaded when one of them is used.

    Raises:
        ModelError: not a bundle, corrupted, its stages do not belong together, or it has a refiner, which earlier
            versions ran as a third stage.
    """
    file = folder / BUNDLE_FILE
    content = read_json(file, missing="not a bundle: it has no bundle.json", remedy="make one with `detectclf bundle`")
    if isinstance(content, dict) and content.pop("refiner", None) is not None:
        raise ModelError(
            f"has a refiner, {REMOVED}",
            file=file,
            remedy="bundle its runs again without it, or use the detectclf that made it",
        )
    try:
        record = _Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"not a bundle: {where}: {first['msg']}", file=file, remedy=_AGAIN) from error
    _check_record(record, file)
    arrays = [name for name in (OOD_FILE, OUT_OF_FOLD_FILE) if name in record.sha256]
    graphs = {kind: folder / graph_file(kind) for kind in record.stages if graph_file(kind) in record.sha256}
    weights = [weights_file(k) for k in record.stages if weights_file(k) in record.sha256 or k not in graphs]
    for name in (*weights, *arrays, *map(graph_file, graphs)):
        _check_sum(folder / name, record.sha256.get(name))
    classes = len(record.classes)
    return Bundle(
        name=record.name,
        version=record.version,
        classes=record.classes,
        negative=record.negative,
        stages={
            kind: rebuild_stage(meta, folder / weights_file(kind), kind)
            if weights_file(kind) in weights
            else Stage(meta, lambda: _no_weights(folder))
            for kind, meta in record.stages.items()
        },
        fusion=record.fusion,
        metadata=record.metadata,
        ood=load_ood(folder / OOD_FILE) if OOD_FILE in arrays else None,
        out_of_fold=load_out_of_fold(folder / OUT_OF_FOLD_FILE, classes) if OUT_OF_FOLD_FILE in arrays else None,
        graphs=graphs if len(graphs) == len(record.stages) else {},
    )


def weights_file(kind: str) -> str:
    """Name of the file with the weights of a kind of stage."""
    return f"{kind}.safetensors"


def graph_file(kind: str) -> str:
    """Name of the file with the graph of a kind of stage."""
    return f"{kind}.onnx"


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        UnsafeError: not a regular file, or larger than 2 GiB.
        DataError: not there, or not permitted.
    """
    found = hashlib.sha256()
    with open_regular(file, limit_bytes=_LARGEST_FILE) as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _no_weights(folder: Path) -> NoReturn:
    raise ModelError(
        "has graphs in int8 only, which torch cannot run, and activation maps need torch",
        file=folder,
        remedy="use --runtime openvino or onnx on the CPU, or the bundle that it was exported from",
    )


def _check_record(record: _Content, file: Path) -> None:
    if record.classes != record.stages["classifier"].classes or len(record.fusion.bias) != len(record.classes):
        raise ModelError("classes of bundle, classifier and fusion differ", file=file, remedy=_AGAIN)
    if record.negative is not None and record.negative not in record.classes:
        raise ModelError(f"its negative class {record.negative[:80]!r} is no class", file=file, remedy=_AGAIN)


def _check_sum(file: Path, wanted: str | None) -> None:
    remedy = "copy or bundle it again"
    if not file.is_file():
        raise ModelError("is missing from the bundle", file=file, remedy=remedy)
    if sha256(file) != wanted:
        raise ModelError("corrupted: not the file that was bundled", file=file, remedy=remedy)


__all__ = [
    "Bundle",
    "FusionParameters",
    "describe_bundle",
    "graph_file",
    "load_bundle",
    "save_bundle",
    "sha256",
    "weights_file",
]
