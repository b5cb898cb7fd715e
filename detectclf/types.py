"""Types that every part of the package shares: class names, samples, data sets, problems, outputs of the models.

Boxes are float32 ``xyxy`` pixels of the original image everywhere inside the package: ``x`` to the right, ``y``
down, pixel ``(0, 0)`` covers ``[0, 1) x [0, 1)``, so a box round the whole image is ``(0, 0, width, height)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from detectclf.files import ByteSpan

FloatArray = npt.NDArray[np.float32]
"""float32 array; the shape is given where it is used."""

Doubles = npt.NDArray[np.float64]
"""float64 array, for probabilities and overlaps that are computed with; the shape is given where it is used."""

Pixels = npt.NDArray[np.uint8]
"""One slice: uint8 grey levels, shape ``(height, width)``."""

Mask = npt.NDArray[np.bool_]
"""bool array, true for the pixels or voxels that are meant; the shape is given where it is used."""

CANONICAL_CLASSES: tuple[str, ...] = ("glioma", "meningioma", "no_tumor", "pituitary")
"""The classes of the main data set, in the order of every table, vector and confusion matrix."""

NEGATIVE_CLASS = "no_tumor"

ANY_TUMOR = "any_tumor"
"""Label of a slice or box that shows a tumour whose type is not known. It is never among ``Dataset.classes``."""

ANY_TUMOR_INDEX = -2
"""Class index of ``ANY_TUMOR`` in targets of training."""

MOST_CLASSES = 1000
"""Most classes of a model, so that a description of a kilobyte cannot ask for gigabytes of weights and tables."""

# Keys are spellings in lower case, letters and digits only. The table is explicit, so that no spelling is guessed.
CLASS_ALIASES: dict[str, str] = {
    "glioma": "glioma",
    "gliomas": "glioma",
    "gliomatumor": "glioma",
    "gliomatumour": "glioma",
    "gl": "glioma",
    "meningioma": "meningioma",
    "meningiomas": "meningioma",
    "meningiomatumor": "meningioma",
    "meningiomatumour": "meningioma",
    "me": "meningioma",
    "notumor": "no_tumor",
    "notumors": "no_tumor",
    "notumour": "no_tumor",
    "notumours": "no_tumor",
    "no": "no_tumor",
    "none": "no_tumor",
    "normal": "no_tumor",
    "healthy": "no_tumor",
    "negative": "no_tumor",
    "pituitary": "pituitary",
    "pituitaries": "pituitary",
    "pituitarytumor": "pituitary",
    "pituitarytumour": "pituitary",
    "pituitaryadenoma": "pituitary",
    "pi": "pituitary",
    "anytumor": ANY_TUMOR,
    "anytumour": ANY_TUMOR,
}


def canonical_class(name: str) -> str | None:
    """The canonical class, or ``ANY_TUMOR``, that ``name`` is a spelling of; ``None`` for any other name."""
    return CLASS_ALIASES.get(re.sub(r"[^a-z0-9]", "", name.casefold()))


def empty_boxes() -> FloatArray:
    """No boxes, as the ``(0, 4)`` float32 array that torchvision expects for an image without boxes."""
    return np.zeros((0, 4), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One slice of a data set, with its labels.

    Attributes:
        path: image file, or the container that ``span`` points into.
        name: file name as the export gives it, unique within ``(source, split)``; used in outputs.
        split: ``train``, ``valid``, ``test`` or another name of the user's.
        label: class of the slice, or ``ANY_TUMOR``; ``None`` where nothing is known.
        boxes_xyxy: ``(N, 4)`` float32 pixels of the original image.
        box_labels: class name of each box, ``N`` of them, or ``ANY_TUMOR``.
        boxed: whether the boxes are known: ``True`` without boxes means that there are none, ``False`` that the source
            gives classes only, and the detector is not trained on the slice.
        width, height: pixels of the original image, after EXIF orientation; 0 where not known yet.
        source: the ``--data`` folder that the slice comes from.
        span: set where the image lies inside a container file.
        patient: opaque name of the patient, the same in all sources; ``None`` where it is not known. Never a name or an
            id as it stands in a file from a clinic.
        aliases: other opaque names of that patient, ascending, such as the stated one beside that of the atlas.
    """

    path: Path
    name: str
    split: str
    label: str | None
    boxes_xyxy: FloatArray = field(default_factory=empty_boxes)
    box_labels: tuple[str, ...] = ()
    boxed: bool = False
    width: int = 0
    height: int = 0
    source: str = ""
    span: ByteSpan | None = None
    patient: str | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.boxes_xyxy.shape != (len(self.box_labels), 4) or self.boxes_xyxy.dtype != np.float32:
            raise ValueError(
                f"{self.name}: boxes must be float32 of shape ({len(self.box_labels)}, 4), "
                f"not {self.boxes_xyxy.dtype} of shape {self.boxes_xyxy.shape}"
            )

    @property
    def patient_names(self) -> tuple[str, ...]:
        """All opaque names of the patient; none where the patient is not known."""
        return () if self.patient is None else (self.patient, *self.aliases)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples of one or several sources with their class names.

    Attributes:
        samples: in a deterministic order (source, split, name).
        classes: every class name; canonical ones in canonical order first, then the data set's own, in natural order.
        negative: the class that means "no tumour", or ``None`` where the data set has none.
        sources: the folders read.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    negative: str | None = None
    sources: tuple[str, ...] = ()

    def split(self, name: str) -> Dataset:
        """Only the samples of split ``name`` (perhaps none), with the same classes."""
        return Dataset(tuple(s for s in self.samples if s.split == name), self.classes, self.negative, self.sources)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits present: train, valid, test first, then others sorted."""
        present = {s.split for s in self.samples}
        first = [s for s in ("train", "valid", "test") if s in present]
        return (*first, *sorted(present - set(first)))

    @property
    def tumor_classes(self) -> tuple[str, ...]:
        """The classes without the negative one, in order."""
        return tuple(c for c in self.classes if c != self.negative)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a data set, as ``data check`` reports it.

    Attributes:
        severity: ``error`` (training on the data would go wrong) or ``warning`` (a person should look at it).
        code: stable identifier such as ``box_outside_image``.
        file: the file at fault, relative to the data set where it lies inside.
        line: 1-based line, where the format has lines.
        detail: what is wrong, with the values found.
    """

    severity: Literal["error", "warning"]
    code: str
    file: str
    line: int | None
    detail: str

    def to_record(self) -> dict[str, Any]:
        """The JSON object of the public contract."""
        return {
            "severity": self.severity,
            "code": self.code,
            "file": self.file,
            "line": self.line,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True, eq=False)
class StageOutputs:
    """Outputs of the stages for one slice, before calibration and fusion.

    Attributes:
        classifier_logits: ``(K,)`` float32, in the order of the bundle's classes.
        boxes_xyxy: ``(N, 4)`` float32 pixels of the original image, the detector's boxes, best score first; boxes of
            one class may overlap.
        box_labels: class name of each box.
        scores: ``(N,)`` float32 in [0, 1], the detector's scores.
        features: ``(D,)`` float32 statistics of the detector's feature maps, for out-of-distribution detection, or
            ``None``.
    """

    classifier_logits: FloatArray
    boxes_xyxy: FloatArray
    box_labels: tuple[str, ...]
    scores: FloatArray
    features: FloatArray | None = None

    def moved(self, left: int, top: int) -> StageOutputs:
        """The same outputs with every box moved right by ``left`` and down by ``top`` pixels.

        This takes the boxes of a slice to the larger picture that the slice was cropped from.
        """
        if not (left or top):
            return self
        by = np.array([left, top] * 2, dtype=np.float32)
        return replace(self, boxes_xyxy=self.boxes_xyxy + by)


@dataclass(frozen=True, slots=True, eq=False)
class StagePredictions:
    """What each stage predicts on its own, from which evaluation measures each stage.

    Attributes:
        outputs: of the stages.
        classifier_probabilities: class -> calibrated probability by the classifier alone.
        detector_label: class of the slice by the detector alone; ``None`` where it has no box and no negative class.
    """

    outputs: StageOutputs
    classifier_probabilities: dict[str, float]
    detector_label: str | None


CLASS_BOX_CONFLICT = "class_box_conflict"
"""Flag: the detector alone predicts a tumour of another class than the slice's."""
LOW_CONFIDENCE = "low_confidence"
"""Flag: the probability of the slice's class is below the bundle's ``low_confidence``."""
TUMOR_WITHOUT_BOX = "tumor_without_box"
"""Flag: the slice's class is a tumour, and no tumour box reaches ``box_threshold``."""
NOT_A_BRAIN_MRI = "not_a_brain_mri"
"""Flag: the picture is out of distribution, so it is refused: it has no class, no probabilities and no boxes."""
SEVERAL_SLICES = "several_slices"
"""Flag: the picture shows several heads; the largest and clearest one was judged."""
CROPPED = "cropped"
"""Flag: the picture shows more than a slice, such as a page; the head that was found in it was judged."""
ORIENTATION = "orientation"
"""Flag: the head seems to be turned by 90 degrees or upside down."""
ARTEFACTS = "artefacts"
"""Flag: strong noise, stripes or single white and black pixels were removed from the slice before it was judged."""
UNUSUAL_INPUT = "unusual_input"
"""Flag: a brain MRI unlike those that the model was trained on, such as another sequence or a skull-stripped one."""

Novelty = Literal["usual", "unusual", "outside"]
"""How a picture compares with the training slices: like them, a brain MRI unlike them, or no brain MRI."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FusedOutputs:
    """Class and boxes of one slice, by all stages together.

    Attributes:
        label: the slice's class; ``None`` where nothing was predicted, or the picture is refused.
        probabilities: class -> calibrated probability, summing to 1; empty where there is no class.
        boxes_xyxy: ``(N, 4)`` float32 pixels of the original image, inside it, best score first.
        box_labels, scores: class name and float32 score in [0, 1] of each box.
        box_threshold: least score of a box that is drawn and counts as a detected tumour.
        flags: reasons for a person to look at the slice, such as ``class_box_conflict``.
        before_fusion: predictions of each stage alone, or ``None`` where they were not kept.
    """

    label: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    boxes_xyxy: FloatArray = field(default_factory=empty_boxes)
    box_labels: tuple[str, ...] = ()
    scores: FloatArray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    box_threshold: float = 0.5
    flags: tuple[str, ...] = ()
    before_fusion: StagePredictions | None = None

    @property
    def judged(self) -> bool:
        """Whether the picture was answered: ``False`` for one that is refused, as it is not a brain MRI."""
        return NOT_A_BRAIN_MRI not in self.flags

    @property
    def confidence(self) -> float | None:
        """Probability of :attr:`label`."""
        return None if self.label is None else self.probabilities[self.label]


def order_classes(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` without repeats: canonical classes in canonical order, then the others, "grade 2" before "grade 10"."""
    present = set(names)
    known = [c for c in CANONICAL_CLASSES if c in present]
    return (*known, *sorted(present - set(known), key=_natural))


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sorts numbers inside a name by their value, and the rest as text."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", name)
    return [(part[0] not in "0123456789", int(part) if part[0] in "0123456789" else 0, part) for part in parts], name
