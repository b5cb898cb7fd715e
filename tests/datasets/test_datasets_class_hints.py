"""Hints for unknown class names: none makes a tumour healthy, or a healthy slice a tumour."""

from __future__ import annotations

from pathlib import Path

import pytest
from export_examples import box, coco, image

from detectclf.audit.check import check
from detectclf.config import DataConfig
from detectclf.datasets.class_names import means_any_tumor, nearest_class
from detectclf.datasets.dataset import open_dataset
from detectclf.errors import DataError
from detectclf.types import NEGATIVE_CLASS

TUMORS = [
    "Tumor", "tumour", "Tumor_1", "1 tumor", "brain tumor detected", "has tumor", "with tumor", "tumor present",
    "tumoral", "tumo", "whole_tumor", "tumor-core", "m_tumor", "unknown tumour", "abnormal", "positive",
    "not tumor free", "non-tumor-free", "not_negative_tumor", "not notumor tumor", "tumor, not healthy, no mask",
    "notable tumor", "tumor area", "tumor yes", "Benign tumor", "Enhancing Tumor", "mass", "lesion", "tumor positive",
    "tumorr", "Tumeur", "pre-tumor",
]  # fmt: skip
HEALTHY = [
    "notumr", "non tumor", "nontumor", "no tumr", "no_tumour_found", "normal brain", "healthy_brain", "tumor-no",
    "noTumor2", "without tumor", "n0_tumor", "neg", "kein Tumor", "sin tumor", "tumor none", "tumor_negative",
    "nontumorous", "no tumor detected", "Normal Brain", "no tumor (healthy)", "no - no tumor",
]  # fmt: skip
SILENT = [
    "no glioma", "non-glioma", "not normal", "not healthy", "unhealthy", "nodule", "edema", "1", "tomor", "Tumr",
    "no finding", "tumor not present", "malignant", "metastasis", "GBM", "control", "background", "nothing",
    "tumor-free", "No", "0",
    # healthy, but too far from the name of the class
    "no tumor (tumor free)", "no_tumor_not_cropped", "Non-tumor, no lesion", "no tumor without contrast",
    "Tumor free, no lesion", "without tumor no lesion",
    # ill, perhaps
    "not a healthy brain", "not yet tumor free", "no more tumor free", "tumor, no more normal tissue",
]  # fmt: skip
TYPES = {
    "Meningoma": "meningioma",
    "gl_tumor": "glioma",
    "Pitutary": "pituitary",
    "pituitary_tumor_mass": "pituitary",
    "pituitary adenoma": "pituitary",
    "glioblastoma": "glioma",
}


@pytest.mark.parametrize("name", TUMORS)
def test_a_name_of_tumours_suggests_the_unknown_type(name: str) -> None:
    assert nearest_class(name) is None and means_any_tumor(name)


@pytest.mark.parametrize("name", HEALTHY)
def test_only_a_name_that_says_none_suggests_the_negative_class(name: str) -> None:
    assert nearest_class(name) == NEGATIVE_CLASS and not means_any_tumor(name)


@pytest.mark.parametrize("name", SILENT)
def test_what_may_mean_either_suggests_nothing(name: str) -> None:
    assert nearest_class(name) is None and not means_any_tumor(name)


@pytest.mark.parametrize(("name", "known"), TYPES.items())
def test_a_misspelt_type_suggests_the_type(name: str, known: str) -> None:
    assert nearest_class(name) == known and not means_any_tumor(name)


@pytest.mark.parametrize("name", ["Tumor", "whole_tumor", "with tumor"])
def test_the_messages_name_no_negative_class(tmp_path: Path, name: str) -> None:
    coco(tmp_path, [image(1), image(2)], [box(1, 1, [2, 2, 20, 20]), box(2, 2, [2, 2, 20, 20], 2)], ["Glioma", name])
    (found,) = [p.detail for p in check([tmp_path]).problems if p.code == "unknown_class"]
    with pytest.raises(DataError) as caught:
        open_dataset(DataConfig(sources=(tmp_path,)))
    for text in (found, str(caught.value)):
        assert "no_tumor" not in text and f"--any-tumor {name}" in text.replace("'", "")
